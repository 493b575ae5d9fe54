"""What a step of an algorithm does one after the other, and the memory of one device in each of these phases.

Pure. A phase has what is always there (weights, states, a reference model), and what it alone needs. Owns: which models
an algorithm holds and when each works. Does not own: the memory of one model's training step (memory).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from finery.core.errors import InvalidSpec
from finery.planner.memory import Peak, Step, layer_activations, peak, resting

Algorithm = Literal["pretrain", "sft", "reward", "dpo", "kto", "orpo", "ppo", "grpo", "rloo"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("pretrain", "sft", "reward", "dpo", "kto", "orpo", "ppo", "grpo", "rloo")
GENERATES: Final = frozenset({"ppo", "grpo", "rloo"})
"""Algorithms that learn from completions of their own."""
REFERS: Final = frozenset({"dpo", "kto", "ppo", "grpo", "rloo"})
"""Algorithms with a reference model."""
PAIRS: Final = frozenset({"reward", "dpo", "orpo"})
"""A row is two sequences, which pass the model together."""
_FORWARD_LOGITS: Final = 6.0
"""Bytes for each token and entry of the vocabulary without gradients: logits, and in float32."""


_ENGINE_BYTES: Final = 2.0
"""Of a weight in an engine."""


@dataclass(frozen=True)
class Rollout:
    """How completions are generated."""

    sequences: int
    """At the same time on one device."""
    seq_len: int
    """Prompt and completion together."""
    cache: float = 2.0
    """Bytes of an element of the cache."""
    has_own_weights: bool = False
    """Whether an engine beside the trainer holds a copy of the weights; else the trainer's are used."""
    tensor: int = 1
    """Devices that share the engine's copy and cache."""
    num_devices: int = 0
    """Devices that only generate; 0 generates on those that train."""
    share: float | None = None
    """Share of the device that the engine takes for weights and cache, as vLLM's gpu_memory_utilization; None takes
    what the sequences need."""


@dataclass(frozen=True)
class Phase:
    """A part of a step on one device, in bytes."""

    name: str
    parts: Mapping[str, float]

    @property
    def allocated(self) -> float:
        """All parts together."""
        return sum(self.parts.values())


def timeline(
    algorithm: Algorithm,
    policy: Step,
    *,
    rollout: Rollout | None = None,
    critic: Step | None = None,
    kl: bool = True,
    offloads_reference: bool = False,
    offloads_between: bool = False,
    device_bytes: float | None = None,
) -> tuple[Phase, ...]:
    """The phases of a step, in their order.

    Args:
        algorithm: What is trained.
        policy: The step of the model that is trained; its micro batch counts rows.
        rollout: How completions are generated, for algorithms that generate.
        critic: The step of a separate critic (PPO); None has a head on the policy.
        kl: Whether there is a reference model. One with update matrices is its own reference without them.
        offloads_reference: Whether the reference waits in host memory.
        offloads_between: Whether all that trains waits there during rollouts, and critic and policy while the
            other is trained (verl's `offload_parameters` and `offload_optimizer`).
        device_bytes: Memory of the device, for a `rollout` with a share.

    Raises:
        InvalidSpec: an algorithm that generates has no rollout, or a share has no device.
    """
    rollout = _checked(algorithm, rollout, device_bytes)
    trained = replace(policy, micro_batch=2 * policy.micro_batch) if algorithm in PAIRS else policy
    if algorithm == "reward":  # a head of one value in place of the vocabulary
        trained = replace(trained, kernels=replace(trained.kernels, logits=0.0))
    if algorithm not in REFERS:
        return (Phase("update", _parts(peak(trained))),)
    has_reference = kl and policy.adapter is None
    rest = _resting(trained)
    reference = rest["weights"] if has_reference and not offloads_reference else 0.0
    others = {"reference": reference} if reference else {}
    if critic is not None:
        beside = _resting(critic)
        others |= {"critic": beside["weights"] + beside["optimizer"] + beside.get("gradients", 0.0)}
    waiting, beside_update = {**rest, **others}, others
    if offloads_between:
        waiting, beside_update = {"workspace": rest["workspace"]}, {}
    found = []
    passed = _forward(trained) if rollout is not None or kl else {}
    if rollout is not None:
        taken = _generating(policy, rollout, device_bytes)
        found.append(Phase("generate", taken if rollout.num_devices else {**waiting, **taken}))
        found.append(Phase("score", {**waiting, "weights": rest["weights"], **passed}))
    if kl:
        refers = "reference" if has_reference else "weights"
        found.append(Phase("reference", {**waiting, refers: rest["weights"], **passed}))
    if critic is not None:
        mine = {name: value for name, value in beside_update.items() if name != "critic"}
        kept = {} if offloads_between else {"policy": sum(rest.values())}
        found.append(Phase("update critic", {**kept, **mine, **_parts(peak(critic))}))
    found.append(Phase("update", {**_parts(peak(trained)), **beside_update}))
    return tuple(found)


def _checked(algorithm: Algorithm, rollout: Rollout | None, device_bytes: float | None) -> Rollout | None:
    if algorithm not in GENERATES:
        return None
    if rollout is None:
        raise InvalidSpec(f"{algorithm} generates completions; say how many sequences at once and how long")
    if rollout.share is not None and device_bytes is None:
        raise InvalidSpec("a share of a device needs the device's memory")
    return rollout


def fullest(phases: tuple[Phase, ...]) -> Phase:
    """The phase that decides whether a job fits."""
    return max(phases, key=lambda phase: phase.allocated)


def _parts(found: Peak) -> dict[str, float]:
    return {
        "weights": found.weights,
        "gradients": found.gradients,
        "optimizer": found.optimizer,
        "activations": found.activations,
        "logits": found.logits,
        "workspace": found.workspace,
    }


def _resting(step: Step) -> dict[str, float]:
    """What a model that trains holds between its updates."""
    weights, states, held = resting(step)
    rest = {"weights": weights, "optimizer": states, "workspace": step.kernels.workspace}
    return {**rest, "gradients": held} if held else rest


def _forward(step: Step) -> dict[str, float]:
    """A pass without gradients: one layer at a time, and the logits."""
    logits = step.seq_len * step.micro_batch / step.split.context * step.shape.vocabulary / step.split.tensor
    return {"activations": layer_activations(step), "logits": logits * min(_FORWARD_LOGITS, step.kernels.logits)}


def _generating(step: Step, rollout: Rollout, device_bytes: float | None) -> dict[str, float]:
    copy = step.shape.parameters * _ENGINE_BYTES / rollout.tensor if rollout.has_own_weights else 0.0
    if rollout.share is not None and device_bytes is not None:
        taken = rollout.share * device_bytes
        return {"rollout weights": copy, "cache": max(0.0, taken - copy)}
    kept = rollout.sequences * rollout.seq_len * step.shape.kv_elements_per_token * rollout.cache
    kept /= step.shape.cache_shares(rollout.tensor)
    if step.split.zero == 3 and not rollout.has_own_weights and step.split.shards > 1:
        copy = step.shape.parameters * step.weights  # gathered for as long as it generates
    return {"rollout weights": copy, "cache": kept} if copy else {"cache": kept}
