"""What training on a CPU keeps in memory otherwise than on a GPU, measured: one place for all of it.

Owns: figures of a process that trains with the engine trl in float32. Does not own: the memory of a model (planner).
"""

from dataclasses import replace
from typing import Final

from finery.planner.memory import Kernels, Step
from finery.planner.phases import GENERATES, Algorithm, Phase

INTERPRETER_BYTES: Final = 545 * 2**20
"""Resident memory of a training process before its model: Python, torch, transformers, peft and TRL with what their
libraries map. Read from VmRSS of a child just before its first forward pass, less the model: 540 to 550 MiB on Linux
with Python 3.11, torch 2.13, transformers 5.23 and TRL 1.16."""
HOLES: Final = 1.5
"""What activations and logits come to with the holes that the C library's allocator leaves between blocks of other
sizes: after one step 1.0 to 1.2, after six 1.3 to 1.6. Fitted on jobs of 6 steps."""
_ROLLOUT_LOGITS: Final = 20.0
_PREFERENCE_LOGITS: Final = 16.0
_SFT_LOGITS: Final = 12.0
_COPIES_OF_EMBEDDING: Final = 3
_PREFERENCES: Final = frozenset({"dpo", "kto", "orpo"})


def kernels(algorithm: Algorithm) -> Kernels:
    """What float32 operations of a CPU leave for the backward pass.

    A norm keeps its input and the normed value, a gated MLP gate, up, activation and product; rotation keeps only its
    result. Bytes of a logit are what is alive at its fullest moment: 12 (SFT), 16 (preferences, which measure the
    entropy, too) and 20 (rollouts, divided by the temperature). There is no `foreach`, so that the optimizer needs no
    copy.
    """
    if algorithm in GENERATES:
        logits = _ROLLOUT_LOGITS
    else:
        logits = _PREFERENCE_LOGITS if algorithm in _PREFERENCES else _SFT_LOGITS
    return Kernels(norm=8.0, rope_copies=False, activation_function=8.0, logits=logits, workspace=0.0, step=0.0)


def update_bytes(step: Step) -> float:
    """Bytes that an update takes beyond weights, gradients and states.

    An embedding that is the head, too, gets two gradients, which are added up beside both; and one copy of the largest
    tensor is made where the first step is looked at.
    """
    if step.adapter is not None:
        return 0.0
    copies = _COPIES_OF_EMBEDDING if step.shape.is_tied else 1
    return copies * step.shape.embedding * step.trained


def accumulation_bytes(step: Step) -> float:
    """Bytes that the gradient of a head which is the embedding takes beside gradients that are kept."""
    is_added = step.adapter is None and (step.keeps_gradients or step.accumulates) and step.shape.is_tied
    return (_COPIES_OF_EMBEDDING - 1) * step.shape.embedding * step.trained if is_added else 0.0


def with_cache(step: Step, tokens: float) -> Step:
    """A step whose completions read their prompts from a shared cache.

    Each layer keeps keys and values of prompt and completion once more for each completion: behind each other, and
    repeated for the heads that share them.

    Args:
        step: Of the completions; a layer's norms take the share of the cache.
        tokens: Of the cache, over the tokens of the step.
    """
    extra = tokens * 2 * (step.shape.heads + step.shape.kv_heads) * step.shape.head_dim * step.compute
    return replace(step, kernels=replace(step.kernels, norm=step.kernels.norm + extra / step.shape.norm_width))


def completed(phase: Phase, policy: Step) -> Phase:
    """A phase with the process itself, the holes of its allocator, and what gradients and an update take beside.

    Args:
        phase: Of a step.
        policy: The step of the model that is trained.
    """
    parts = {**phase.parts, "interpreter": float(INTERPRETER_BYTES)}
    parts |= {name: parts[name] * HOLES for name in ("activations", "logits") if name in parts}
    if phase.name == "update":
        is_updating = "gradients" in parts and not parts.get("activations")
        parts["workspace"] += update_bytes(policy) if is_updating else accumulation_bytes(policy)
    return Phase(phase.name, parts)
