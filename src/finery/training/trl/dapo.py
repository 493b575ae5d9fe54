"""Decoupled clip and dynamic sampling policy optimization with TRL's GRPOTrainer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trl import GRPOConfig

from finery.core.rundir import Run
from finery.models.generation import Completion
from finery.training import rows as data
from finery.training import world
from finery.training.rollouts import Rollout
from finery.training.specs import DapoSpec
from finery.training.trl import groups, setup
from finery.training.trl.grpo import FineryGrpoTrainer, loss_arguments

_OVERLONG = "overlong"
"""Name of the punishment among the rewards."""
_SAME = 1e-8
"""Rewards closer than this are equal, as for TRL's share of groups without a deviation."""


class FineryDapoTrainer(FineryGrpoTrainer):
    """GRPO whose groups of equal rewards give way to other prompts."""

    task: DapoSpec
    spares: list[int]
    """Rows that take the place of others, in order."""
    num_spares_used: int = 0

    def exact_state(self) -> dict[str, Any]:
        return {**super().exact_state(), "num_spares_used": self.num_spares_used}

    def restore_exact_state(self, state: Mapping[str, Any]) -> None:
        super().restore_exact_state(state)
        self.num_spares_used = state["num_spares_used"]

    def draw_batch(self, rows: Sequence[int]) -> list[Rollout]:
        size, weights = self.task.rollout.completions_per_prompt, self.reward_weights.tolist()
        drawn = super().draw_batch(rows)
        self._note_drawn(drawn)
        num_rounds, num_resampled = 1, 0
        while num_rounds < self.task.dynamic_sampling_rounds:
            equal = [
                start for start in range(0, len(drawn), size) if teaches_nothing(drawn[start : start + size], weights)
            ]
            if not equal:
                break
            spares = [row for row in self._next_spares(len(equal)) for _ in range(size)]
            own = world.own(spares)
            fresh = world.gathered(self.draw(own, num_watched=len(own) if self.num_recorded else 0))
            self._note_drawn(fresh)
            for number, start in enumerate(equal):
                drawn[start : start + size] = fresh[number * size : (number + 1) * size]
            num_rounds += 1
            num_resampled += len(equal)
        self.tally.add("generation_rounds", num_rounds)
        self.tally.add("groups_resampled", num_resampled)
        return drawn

    def score(
        self, completions: Sequence[Completion], texts: Sequence[str], rows: Sequence[dict[str, Any]]
    ) -> list[tuple[float, ...]]:
        scores = super().score(completions, texts, rows)
        if self.task.overlong != "soft":
            return scores
        limit = self.task.rollout.max_new_tokens
        buffer = self.task.overlong_buffer or max(1, limit // 5)
        return [
            (*parts, overlong_punishment(len(completion.token_ids), limit=limit, buffer=buffer))
            for parts, completion in zip(scores, completions, strict=True)
        ]

    def _note_drawn(self, drawn: Sequence[Rollout]) -> None:
        """Mean reward before groups are replaced: `reward_mean` is of what the loss sees, which leans to the middle."""
        weights = self.reward_weights.tolist()
        rewards = [reward for reward in (rollout.reward(weights) for rollout in drawn) if math.isfinite(reward)]
        self.tally.add("drawn_reward_mean", math.fsum(rewards), len(rewards))

    def _next_spares(self, num: int) -> list[int]:
        found = self.spares[self.num_spares_used : self.num_spares_used + num]
        self.num_spares_used += num
        return found


def teaches_nothing(group: Sequence[Rollout], weights: Sequence[float]) -> bool:
    """Whether all completions that have a reward have the same one, so that no advantage is left."""
    rewards = [reward for reward in (rollout.reward(weights) for rollout in group) if math.isfinite(reward)]
    return not rewards or math.isclose(min(rewards), max(rewards), rel_tol=0, abs_tol=_SAME)


def overlong_punishment(length: int, *, limit: int, buffer: int) -> float:
    """Soft overlong punishment (arXiv:2503.14476, equation 13): 0, then falling to -1 over the last `buffer` tokens."""
    return -max(0.0, length - (limit - buffer)) / buffer


def make_trainer(task: DapoSpec, run: Run, loaded: setup.Loaded) -> FineryDapoTrainer:
    """A trainer that is ready to start or to resume."""
    extra = {_OVERLONG: 1.0} if task.overlong == "soft" else {}
    trainer: FineryDapoTrainer = groups.make(
        FineryDapoTrainer, GRPOConfig, task, run, loaded, extra_rewards=extra, beta=task.kl_coef, **loss_arguments(task)
    )
    num_batches = math.ceil(task.optim.steps / task.steps_per_batch)
    num_spares = num_batches * task.prompts_per_step * (task.dynamic_sampling_rounds - 1)
    # Another seed than that of the visits, or the spare prompts would be those of the same batch.
    trainer.spares = data.order(len(trainer.rows), num_spares, seed=run.seed + 1, shuffle=task.data.shuffle)
    return trainer
