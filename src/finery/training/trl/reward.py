"""Reward model with TRL's RewardTrainer."""

from typing import Any

import torch
from torch import Tensor
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
        train_dataset=preference.visited(pairs, run, task.data, num_visits=task.optim.steps * task.batch_size),
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
