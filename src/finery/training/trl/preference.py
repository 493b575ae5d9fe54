"""Preference data as tokens, and log-probabilities of answers computed only where an answer is."""

import functools
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
from finery.training.specs import DataSpec
from finery.training.trl import rows as data


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt, as tokens."""

    prompt_ids: list[int]
    completion_ids: list[int]


def pairs(run: Run, spec: DataSpec, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Pairs with `prompt_ids`, `chosen_ids`, `rejected_ids` and the row's `margin`, None where it has none.

    Raises:
        InvalidSpec: the data are no preference pairs, or truncation leaves none.
    """
    rows = data.read_rows(run, spec.train)
    _check_columns(rows, spec.train, ("prompt", "chosen", "rejected"), "preference")
    made = []
    for row in rows:
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
        InvalidSpec: the data are neither labelled answers nor pairs, or truncation leaves none.
    """
    rows = data.read_rows(run, spec.train)
    if "chosen" in rows[0]:
        _check_columns(rows, spec.train, ("prompt", "chosen", "rejected"), "preference")
        rows = [
            {"prompt": row["prompt"], "completion": row[key], "label": key == "chosen"}
            for row in rows
            for key in ("chosen", "rejected")
        ]
    _check_columns(rows, spec.train, ("prompt", "completion", "label"), "unpaired")
    made = []
    for row in rows:
        answer = _answer(tokenizer, row["prompt"], row["completion"], spec)
        if answer.completion_ids:
            made.append(
                {"prompt_ids": answer.prompt_ids, "completion_ids": answer.completion_ids, "label": row["label"]}
            )
    return _told(made, len(rows), run, spec)


def visited(rows: list[dict[str, Any]], run: Run, spec: DataSpec, *, num_visits: int) -> Dataset:
    """Rows in the order in which they are visited."""
    return Dataset.from_list(rows).select(data.order(len(rows), num_visits, seed=run.seed, shuffle=spec.shuffle))


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


def labelled_columns(forward: Any, labels_BT: Tensor, *args: Any, **kwargs: Any) -> FusedCausalLMOutput:
    """What TRL's fused head would give, from logits of the columns in which some row has a label.

    Dimensions: B rows, T tokens, S = T - 1 predicted tokens, C columns with a label, V vocabulary.

    Args:
        forward: Of a causal language model, or the model.
        labels_BT: -100 where a token's log-probability is not asked for.
        args, kwargs: What the model is called with.
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
    fields = {}
    for name, values_BC in found_BC.items():
        values_BS = values_BC.new_zeros(targets_BS.shape).index_copy(1, columns_C, values_BC)
        fields[name] = values_BS.masked_fill(~is_label_BS, 0)
    return FusedCausalLMOutput(**fields, label_mask=is_label_BS, aux_loss=getattr(output, "aux_loss", None))


def score_labels_only(model: PreTrainedModel) -> None:
    """Replace TRL's fused head, which off a GPU projects every token, by one that projects the columns with a label.

    Relies on TRL 1.16 calling `model(..., labels=labels, fused_lm_head=True)` for a `FusedCausalLMOutput`, whose fields
    have a column for each token but the first and are zero where there is no label. On a GPU TRL's head stays: its
    kernel takes the labelled tokens alone.

    Args:
        model: Causal language model to which TRL has added its head; of an adapter, what it wraps.
    """
    if model.device.type == "cuda":
        return
    plain = type(model).forward

    @functools.wraps(plain)
    def forward(self: PreTrainedModel, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return plain(self, *args, **kwargs)
        return labelled_columns(functools.partial(plain, self), kwargs.pop("labels"), *args, **kwargs)

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
