"""REINFORCE leave-one-out with TRL's RLOOTrainer."""

from typing import Any

from torch import Tensor
from trl import RLOOConfig, RLOOTrainer

from finery.core.rundir import Run
from finery.training.specs import RlooSpec
from finery.training.trl import groups, setup
from finery.training.trl.groups import GroupTrainer


class FineryRlooTrainer(GroupTrainer, RLOOTrainer):
    """RLOO on rollouts of our own."""

    def _generate_single_turn(self, *_: Any, **__: Any) -> list[list[int]]:
        return [rollout.completion.token_ids for rollout in self._rollouts]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        # For the metrics; TRL keeps their sums only.
        output["old_per_token_logps"] = self._logprobs
        if self.beta:
            output["ref_per_token_logps"] = self._reference_logprobs
        return output

    def ratios(self, log_ratio_BC: Tensor, mask_BC: Tensor) -> tuple[Tensor, Tensor]:
        return (log_ratio_BC * mask_BC).sum(dim=1, keepdim=True).exp(), mask_BC.any(dim=1, keepdim=True)


def make_trainer(task: RlooSpec, run: Run, loaded: setup.Loaded) -> FineryRlooTrainer:
    """A trainer that is ready to start or to resume."""
    more = {
        **groups.reference_arguments(task),
        "epsilon": task.clip_low,
        "epsilon_high": task.clip_high,
        "normalize_advantages": task.normalize_advantages,
        "mask_truncated_completions": task.mask_truncated,
    }
    trainer: FineryRlooTrainer = groups.make(FineryRlooTrainer, RLOOConfig, task, run, loaded, **more)
    return trainer
