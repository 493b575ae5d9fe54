"""Reward model with TRL's RewardTrainer."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardConfig, RewardTrainer

from finery.core import checkpoints
from finery.core.rundir import Run
from finery.training.specs import RewardModelSpec
from finery.training.trl import preference, setup
from finery.training.trl.steps import ExactTrainer

_UNUSED = frozenset(
    {
        "chat_template_path",
        "dataset_num_proc",
        "eos_token",
        "label_smoothing_factor",
        "model_init_kwargs",
        "pad_to_multiple_of",
        "pad_token",
        "train_sampling_strategy",
        "trust_remote_code",
    }
)
"""Options of RewardConfig for what happens here without TRL: rows, padding."""


class FineryRewardTrainer(ExactTrainer, RewardTrainer):
    """Reward model whose rows are tokens already."""

    checkpoint_kind: checkpoints.Kind = "reward"

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def compute_loss(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """TRL's, of scores computed with less padding."""
        return super().compute_loss(functools.partial(_score, model), *args, **kwargs)


def _score(
    model: torch.nn.Module, *, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any
) -> SequenceClassifierOutput:
    """Scores (B, 1) of rows (B, T); long and short rows take passes of their own where that saves padding."""
    lengths_B = attention_mask.sum(dim=1)
    order_B = lengths_B.argsort(descending=True, stable=True)
    cut = best_cut(lengths_B[order_B].tolist())
    scores = []
    for rows in (order_B[:cut], order_B[cut:]) if cut else (order_B,):
        longest = int(lengths_B[rows[0]])
        part = {"input_ids": input_ids[rows, :longest], "attention_mask": attention_mask[rows, :longest]}
        scores.append(model(**part, **kwargs).logits)
    return SequenceClassifierOutput(logits=torch.cat(scores)[order_B.argsort()])


def best_cut(lengths: Sequence[int]) -> int | None:
    """After how many rows to begin a second pass, so that least is padded; None where it would save under a tenth.

    Args:
        lengths: Tokens of each row, longest first.
    """
    whole = len(lengths) * lengths[0]
    costs = {cut: cut * lengths[0] + (len(lengths) - cut) * lengths[cut] for cut in range(1, len(lengths))}
    cut = min(costs, key=lambda cut: costs[cut], default=None)
    return cut if cut is not None and costs[cut] <= 0.9 * whole else None


def make_trainer(task: RewardModelSpec, run: Run, loaded: setup.Loaded) -> FineryRewardTrainer:
    """A trainer that is ready to start or to resume."""
    pairs = preference.pairs(run, task.data, loaded.tokenizer)
    has_margin = task.use_margin and all(pair["margin"] is not None for pair in pairs)
    arguments = {
        **setup.common_arguments(task.optim, task.model, run),
        **setup.batches(task.batch_size, task.micro_batch_size),
        "center_rewards_coefficient": task.center_rewards_coefficient or None,
        "max_length": None,
        "disable_dropout": True,
    }
    return FineryRewardTrainer(
        loaded.model,
        args=setup.with_native(RewardConfig, arguments, task.native, unused=_UNUSED),
        train_dataset=preference.visited(pairs, run, task.data, num=task.optim.steps, size=task.batch_size),
        processing_class=loaded.tokenizer,
        data_collator=_Collator(loaded.tokenizer.pad_token_id, has_margin=has_margin),
        peft_config=loaded.lora,
    )


class _Collator:
    """Chosen rows, then rejected ones, and by how much their scores must differ."""

    def __init__(self, pad_id: int, *, has_margin: bool):
        self._pad_id = pad_id
        self._has_margin = has_margin

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Tensor]:
        prompts = [feature["prompt_ids"] for feature in features]
        answers = [feature[key] for key in ("chosen_ids", "rejected_ids") for feature in features]
        batch = preference.sequences(prompts * 2, answers, self._pad_id)
        del batch["completion_mask"]
        if self._has_margin:
            batch["margin"] = torch.tensor([float(feature["margin"]) for feature in features])
        return batch
