"""REINFORCE leave-one-out with TRL's RLOOTrainer."""

from typing import Any

import torch
from torch import Tensor
from trl import RLOOConfig, RLOOTrainer

from finery.core.rundir import Run
from finery.training.specs import RlooSpec
from finery.training.trl import groups, setup
from finery.training.trl.groups import GroupTrainer


class FineryRlooTrainer(GroupTrainer, RLOOTrainer):
    """RLOO on rollouts of our own.

    With one optimizer step per batch of rollouts the policy that is trained is the one that drew them. TRL reads it
    twice then, and takes the ratio of the two; here it is read once, and the ratio is 1 in any number format.
    """

    _inputs: dict[str, Any] | None = None
    """Of the micro batch whose loss is being computed, where its own log-probabilities are the old ones."""

    def _generate_single_turn(self, *_: Any, **__: Any) -> list[list[int]]:
        return [rollout.completion.token_ids for rollout in self._rollouts]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if self.num_iterations > 1:  # for the metrics; TRL keeps their sums only
            output["old_per_token_logps"] = self._logprobs
        if self.beta:
            output["ref_per_token_logps"] = self._reference_logprobs
        return output

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        self._inputs = inputs if self.num_iterations == 1 else None
        loss = super()._compute_loss(model, inputs)
        self._inputs = None
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        if self._inputs is None and self.num_iterations == 1 and not self.beta:
            return input_ids.new_zeros((len(input_ids), logits_to_keep), dtype=torch.float32), None, None
        found = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        if self._inputs is not None:
            self._inputs["old_logps"] = (found[0].detach() * self._inputs["completion_mask"]).sum(dim=1)
        return found

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
