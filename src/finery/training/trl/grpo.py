"""Group relative policy optimization and its sequence-level form (GSPO) with TRL's GRPOTrainer."""

from typing import Any

import torch
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from finery.core.rundir import Run
from finery.training.specs import DapoSpec, GrpoSpec, GspoSpec
from finery.training.trl import groups, setup
from finery.training.trl.groups import GroupTrainer

_CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
"""Losses with a flat region on both sides."""


class FineryGrpoTrainer(GroupTrainer, GRPOTrainer):
    """GRPO on rollouts of our own."""

    epsilon_high: float

    def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        return [rollout.completion.token_ids for rollout in self._rollouts], None

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        if self.loss_type != "cispo":
            return super()._compute_loss(model, inputs)
        # TRL's bound of CISPO is the ratio itself; ours is its distance from 1, as everywhere.
        clip_high: float = self.epsilon_high
        self.epsilon_high = 1 + clip_high
        loss = super()._compute_loss(model, inputs)
        self.epsilon_high = clip_high
        return loss

    def ratios(self, log_ratio_BC: Tensor, mask_BC: Tensor) -> tuple[Tensor, Tensor]:
        if self.importance_sampling_level == "token":
            return log_ratio_BC.exp(), mask_BC
        mean_B1 = (log_ratio_BC * mask_BC).sum(dim=1, keepdim=True) / mask_BC.sum(dim=1, keepdim=True).clamp(min=1)
        return mean_B1.exp(), mask_BC.any(dim=1, keepdim=True)

    def _note_clipping(self, ratio_BX: Tensor, ratio_mask_BX: Tensor, advantages_B1: Tensor) -> None:
        if self.loss_type in _CLIPPED:
            super()._note_clipping(ratio_BX, ratio_mask_BX, advantages_B1)


def make_trainer(task: GrpoSpec | GspoSpec, run: Run, loaded: setup.Loaded) -> FineryGrpoTrainer:
    """A trainer that is ready to start or to resume."""
    more = {**loss_arguments(task), **groups.reference_arguments(task)}
    trainer: FineryGrpoTrainer = groups.make(FineryGrpoTrainer, GRPOConfig, task, run, loaded, **more)
    return trainer


def loss_arguments(task: GrpoSpec | GspoSpec | DapoSpec) -> dict[str, Any]:
    """Options of GRPOConfig for advantages and loss."""
    return {
        "loss_type": task.loss_type,
        "importance_sampling_level": task.ratio_level,
        "scale_rewards": task.scale_rewards,
        "epsilon": task.clip_low,
        "epsilon_high": task.clip_high,
        "delta": task.max_ratio,
        "entropy_coef": task.entropy_coef,
        "top_entropy_quantile": task.top_entropy_quantile,
        "mask_truncated_completions": task.mask_truncated,
    }
