"""Preference data as tokens, the reference, and log-probabilities of answers computed only where an answer is."""

import copy
import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.utils import FusedCausalLMOutput

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.models import chat
from finery.training import rows as data
from finery.training.specs import DataSpec
from finery.training.trl import setup
from finery.training.trl.steps import ExactTrainer


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt, as tokens."""

    prompt_ids: list[int]
    completion_ids: list[int]


class ReferencedTrainer(ExactTrainer):
    """Mix-in of the trainers with a reference model, which `native.sync_ref_model` moves."""

    def exact_state(self) -> dict[str, Any]:
        """With the reference, where it is no longer the start."""
        state = super().exact_state()
        if self.args.sync_ref_model:
            state["reference"] = self.ref_model.state_dict()
        return state

    def restore_exact_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `exact_state`."""
        super().restore_exact_state(state)
        if self.args.sync_ref_model:
            self.ref_model.load_state_dict(state["reference"])


def reference(loaded: setup.Loaded, native: Mapping[str, Any]) -> PreTrainedModel | None:
    """A frozen copy of the start; None with LoRA, where it is the model with its adapter switched off.

    Raises:
        InvalidSpec: it shall move, and has no weights of its own.
    """
    if loaded.lora is None:
        return copy.deepcopy(loaded.model).requires_grad_(False)
    if native.get("sync_ref_model"):
        raise InvalidSpec(
            "native.sync_ref_model needs a reference model of its own, but with model.lora it is the model with its "
            "adapter switched off; remove one of the two"
        )
    return None


def pairs(run: Run, spec: DataSpec, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Pairs with `prompt_ids`, `chosen_ids`, `rejected_ids` and the row's `margin`, None where it has none.

    Raises:
        InvalidSpec: the data are no preference pairs, the chat template does not fit, or truncation leaves none.
    """
    rows = data.read_rows(run, spec.train)
    _check_columns(rows, spec.train, ("prompt", "chosen", "rejected"), "preference")
    made = []
    for number, row in enumerate(rows, start=1):
        with data.naming_row(number, spec.train):
            chosen, rejected = (_answer(tokenizer, row["prompt"], row[key], spec) for key in ("chosen", "rejected"))
        if chosen.completion_ids and rejected.completion_ids:
            made.append(
                {
                    "prompt_ids": chosen.prompt_ids,
                    "chosen_ids": chosen.completion_ids,
                    "rejected_ids": rejected.completion_ids,
                    "margin": row.get("margin"),
                }
            )
    return _told(made, len(rows), run, spec)


def labelled(run: Run, spec: DataSpec, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Answers with `prompt_ids`, `completion_ids` and `label`; a preference pair is two of them.

    Raises:
        InvalidSpec: the data are neither labelled answers nor pairs, the chat template does not fit, or truncation
            leaves none.
    """
    rows = data.read_rows(run, spec.train)
    answers_per_row = 2 if "chosen" in rows[0] else 1
    if answers_per_row == 2:
        _check_columns(rows, spec.train, ("prompt", "chosen", "rejected"), "preference")
        rows = [
            {"prompt": row["prompt"], "completion": row[key], "label": key == "chosen"}
            for row in rows
            for key in ("chosen", "rejected")
        ]
    _check_columns(rows, spec.train, ("prompt", "completion", "label"), "unpaired")
    made = []
    for index, row in enumerate(rows):
        with data.naming_row(index // answers_per_row + 1, spec.train):
            answer = _answer(tokenizer, row["prompt"], row["completion"], spec)
        if answer.completion_ids:
            made.append(
                {"prompt_ids": answer.prompt_ids, "completion_ids": answer.completion_ids, "label": row["label"]}
            )
    return _told(made, len(rows), run, spec)


def visited(rows: list[dict[str, Any]], run: Run, spec: DataSpec, *, num: int, size: int) -> Dataset:
    """Rows in the order in which they are visited, in `num` batches of `size`."""
    return Dataset.from_list(rows).select(data.visits(run.spec, len(rows), num=num, size=size, shuffle=spec.shuffle))


def padded(rows: list[list[int]], value: int) -> Tensor:
    """Rows padded on the right to the longest of them."""
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def sequences(prompts: list[list[int]], completions: list[list[int]], pad_id: int) -> dict[str, Tensor]:
    """Prompts with their completions as TRL's collators give them, with masks from lengths: padding may be the same
    token as the end of sequence."""
    both = list(zip(prompts, completions, strict=True))
    return {
        "input_ids": padded([prompt + completion for prompt, completion in both], pad_id),
        "attention_mask": padded([[1] * (len(prompt) + len(completion)) for prompt, completion in both], 0),
        "completion_mask": padded([[0] * len(prompt) + [1] * len(completion) for prompt, completion in both], 0),
    }


def labelled_columns(
    forward: Any, labels_BT: Tensor, *args: Any, with_squares: bool = False, **kwargs: Any
) -> FusedCausalLMOutput:
    """What TRL's fused head would give, from logits of the columns in which some row has a label.

    Dimensions: B rows, T tokens, S = T - 1 predicted tokens, C columns with a label, V vocabulary.

    Args:
        forward: Of a causal language model, or the model.
        labels_BT: -100 where a token's log-probability is not asked for.
        args, kwargs: What the model is called with.
        with_squares: Give `log_sum_sq_probs` too.
    """
    targets_BS = labels_BT[:, 1:]
    is_label_BS = targets_BS != -100
    columns_C = is_label_BS.any(dim=0).nonzero()[:, 0]
    output = forward(*args, **kwargs, logits_to_keep=columns_C)
    logits_BCV = output.logits.float()
    logprobs_BCV = logits_BCV.log_softmax(dim=-1)
    targets_BC = targets_BS[:, columns_C].clamp(min=0)
    found_BC = {
        "log_probs": logprobs_BCV.gather(2, targets_BC[..., None])[..., 0],
        "is_top1": logits_BCV.argmax(dim=-1) == targets_BC,
    }
    with torch.no_grad():
        found_BC["entropy"] = -(logprobs_BCV.exp() * logprobs_BCV).sum(dim=-1)
        found_BC["mean_logits"] = logits_BCV.mean(dim=-1)
        if with_squares:
            found_BC["log_sum_sq_probs"] = (2 * logprobs_BCV).logsumexp(dim=-1)
    fields = {}
    for name, values_BC in found_BC.items():
        values_BS = values_BC.new_zeros(targets_BS.shape).index_copy(1, columns_C, values_BC)
        fields[name] = values_BS.masked_fill(~is_label_BS, 0)
    return FusedCausalLMOutput(**fields, label_mask=is_label_BS, aux_loss=getattr(output, "aux_loss", None))


def score_labels_only(
    model: PreTrainedModel,
    *,
    within: Callable[[], AbstractContextManager[None]] = nullcontext,
    with_squares: bool = False,
) -> None:
    """Replace TRL's fused head, which off a GPU projects every token, by one that projects the columns with a label.

    Relies on TRL 1.16 calling `model(..., labels=labels, fused_lm_head=True)` for a `FusedCausalLMOutput`, whose fields
    have a column for each token but the first and are zero where there is no label. On a GPU TRL's head stays: its
    kernel takes the labelled tokens alone.

    Args:
        model: Causal language model to which TRL has added its head; of an adapter, what it wraps.
        within: What to compute in. A model that accelerate has prepared loses its mixed precision here; one that is
            prepared when training starts gets it then.
        with_squares: As of `labelled_columns`.
    """
    if model.device.type == "cuda":
        return
    plain = type(model).forward

    @functools.wraps(plain)
    def forward(self: PreTrainedModel, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return plain(self, *args, **kwargs)
        with within():
            labels_BT = kwargs.pop("labels")
            return labelled_columns(
                functools.partial(plain, self), labels_BT, *args, with_squares=with_squares, **kwargs
            )

    model.forward = MethodType(forward, model)


def _answer(tokenizer: PreTrainedTokenizerBase, prompt: Any, text: str, spec: DataSpec) -> Answer:
    prompt_ids, completion_ids = chat.render_completion(tokenizer, prompt, text)
    prompt_ids = prompt_ids[-spec.max_prompt_tokens :]
    return Answer(prompt_ids, completion_ids[: max(0, spec.max_tokens - len(prompt_ids))])


def _check_columns(rows: list[dict[str, Any]], ref: str, columns: tuple[str, ...], format: str) -> None:
    for number, row in enumerate(rows, start=1):
        missing = [column for column in columns if column not in row]
        if missing:
            raise InvalidSpec(
                f"row {number} of {ref} has no {missing[0]!r}; this algorithm needs data of the format {format}, with "
                f"{', '.join(columns)}"
            )


def _told(made: list[dict[str, Any]], num_rows: int, run: Run, spec: DataSpec) -> list[dict[str, Any]]:
    """What truncation left, said aloud when it is less than there was."""
    if not made:
        raise InvalidSpec(f"data.max_tokens ({spec.max_tokens}) cuts every answer off; raise it")
    if len(made) < num_rows:
        run.note(f"{num_rows - len(made)} of {num_rows} rows were left out: data.max_tokens cuts an answer", "warning")
    return made
