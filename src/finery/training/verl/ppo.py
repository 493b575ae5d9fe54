"""verl's synchronous trainer of policies, watched: what it logs, draws and saves reaches the run.

Relies on verl 0.9.1 calling `_compute_metrics` once per step with what it trained on, and then `logger.log`; on
`role_worker_mapping` being filled by `_init_resource_pool_mgr`; and on `_save_checkpoint` writing into
`<default_local_dir>/global_step_<n>`.
"""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple

import numpy as np
import ray
import torch
import transfer_queue as tq
from omegaconf import DictConfig
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from finery.core.rundir import Run
from finery.models.generation import Completion
from finery.training import rollouts, scoring
from finery.training.rollouts import Fate, Rollout
from finery.training.scoring import RewardFailed
from finery.training.tally import Tally
from finery.training.verl import metrics
from finery.training.verl.prompts import PolicyTask
from finery.training.verl.recorder import Recorder
from finery.training.verl.rewards import ERRORS, FAILURE
from finery.training.verl.shards import Probed
from finery.training.verl.workers import LOSS_FIELDS, WatchedActorWorker, WatchedTrainingWorker

_FIELDS: Final = (
    *("uid", "responses", "advantages", "rm_scores", "index", "extra_fields"),
    *("old_log_probs", "rollout_log_probs", "entropy"),
)


_POLL_SECONDS: Final = 0.1
"""Between two looks at whether all completions of a step are there; verl's 2 s are most of a short step."""
_NUM_ROUNDS: Final = 4
"""With a group_filter, as many prompts as this many batches have are drawn for a step at most; DAPO names its own."""


class Drawn(NamedTuple):
    """A completion of a step and what became of it."""

    uid: str
    rollout: Rollout
    fate: Fate


class _Rounds:
    """Bounds how many groups of a step are left out because all of their completions have the same reward: verl would
    draw for ever where no group teaches anything."""

    def __init__(self, filtered: Callable[[str], tuple[set[str], Counter[float]]], most: int):
        self._filtered = filtered
        self._most = most
        self._left_out: set[str] = set()

    def begin(self) -> None:
        self._left_out = set()

    def filtered(self, partition: str) -> tuple[set[str], Counter[float]]:
        """What verl's buffer would leave out, as long as that is not too much."""
        found, rewards = self._filtered(partition)
        if len(self._left_out | found) > self._most:
            return set(), Counter()
        self._left_out |= found
        return found, rewards


class WatchedTrainer(PPOTrainer):
    """Mix-in of verl's trainers."""

    config: DictConfig
    finery_run: Run
    task: PolicyTask
    rows: list[dict[str, Any]]
    recorder: Recorder
    global_steps: int
    _rounds: "_Rounds | None" = None
    _carries_loss = True

    def __init__(self, config: DictConfig):
        super().__init__(config)
        self.replay_buffer.poll_interval = _POLL_SECONDS

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        watched = {
            **dict.fromkeys((Role.Actor, Role.ActorRollout, Role.ActorRolloutRef), WatchedActorWorker),
            Role.Critic: WatchedTrainingWorker,
        }
        for role in self.role_worker_mapping:
            if role in watched:
                self.role_worker_mapping[role] = ray.remote(watched[role])

    def on_train_begin(self) -> None:
        """Report from here on."""
        self.logger.logger["finery"] = self
        self.recorder.begin((self.global_steps - 1) * self.task.steps_per_batch)
        if self.replay_buffer.filter_groups_metric is not None:
            num_rounds = getattr(self.task, "dynamic_sampling_rounds", _NUM_ROUNDS)
            most = (num_rounds - 1) * self.config.data.train_batch_size
            self._rounds = _Rounds(self.replay_buffer._dapo_filtered_keys, most)
            self.replay_buffer._dapo_filtered_keys = self._rounds.filtered
        super().on_train_begin()

    def log(self, data: Mapping[str, Any], step: int) -> None:
        """What verl calls at the end of each step, as one of its loggers."""
        if "actor/grad_norm" not in data:
            return
        values = metrics.ours(data)
        if not self._carries_loss:  # means over no token
            values = {name: value for name, value in values.items() if not math.isnan(value)}
        values.update(self._tally.take())
        self.recorder.step(step, values)

    def on_sample_begin(self) -> None:
        """Look for the groups of a step."""
        if self._rounds is not None:
            self._rounds.begin()
        super().on_sample_begin()

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """As of verl, but a step whose completions were all cut, and carry no loss, does not end the run: verl refuses
        to compare their log-probabilities with those of the draw."""
        correction = self.config.algorithm.get("rollout_correction")
        self._carries_loss = True
        if getattr(self.task, "mask_truncated", False):
            masks = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"])
            self._carries_loss = any(bool(row.any()) for row in masks["response_mask"].unbind())
        if not self._carries_loss and correction is not None:
            self.config.algorithm.rollout_correction = None
        try:
            return super()._compute_advantage(batch, metrics)
        finally:
            if correction is not None:
                self.config.algorithm.rollout_correction = correction

    def _compute_metrics(self, batch: Any, values: Any, timing_raw: Any, *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, values, timing_raw, *args, **kwargs)
        is_padding = [bool(tag.get("is_padding", False)) for tag in batch.tags]
        keys = [key for key, is_out in zip(batch.keys, is_padding, strict=True) if not is_out]
        self._tally = Tally()
        drawn = self._drawn(keys, batch.partition_id)
        self._measure(drawn, timing_raw.get("gen", 0.0))
        self._keep(drawn)

    def _drawn(self, keys: Sequence[str], partition: str) -> list[Drawn]:
        """The completions of a step, those of a prompt behind each other."""
        wanted = [*_FIELDS, *(["ref_log_prob"] if self.use_reference_policy else [])]
        if not self.config.actor_rollout_ref.rollout.calculate_log_probs:
            wanted.remove("rollout_log_probs")
        data = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=wanted)
        extras = _plain(data["extra_fields"])
        tokens = [row.tolist() for row in data["responses"].unbind()]
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        per_token = {name: [row.tolist() for row in data[name].unbind()] for name in wanted if name in _PER_TOKEN}
        names = scoring.names(self.task.rewards)
        found = []
        for at, (uid, index, extra) in enumerate(zip(_plain(data["uid"]), _plain(data["index"]), extras, strict=True)):
            info = extra.get("reward_extra_info", {})
            if info.get(FAILURE):
                raise RewardFailed(str(info[FAILURE]))
            self._tally.increase("reward_errors", float(info.get(ERRORS, 0.0)))
            completion = Completion(
                token_ids=tokens[at],
                logprobs=per_token.get("rollout_log_probs", per_token["old_log_probs"])[at],
                is_finished=self._is_finished(tokens[at], extra),
                policy_logprobs=per_token["old_log_probs"][at],
                entropies=per_token["entropy"][at],
            )
            parts = tuple(float(info[name]) for name in names)
            fate = self._fate({name: values[at] for name, values in per_token.items()})
            found.append(Drawn(str(uid), Rollout(int(index), completion, texts[at], parts), fate))
        first = {one.uid: number for number, one in reversed(list(enumerate(found)))}
        return sorted(found, key=lambda one: first[one.uid])

    def _is_finished(self, tokens: Sequence[int], extra: Mapping[str, Any]) -> bool:
        if "is_finished" in extra:
            return bool(extra["is_finished"])
        return len(tokens) < self.task.rollout.max_new_tokens or tokens[-1] == self.tokenizer.eos_token_id

    def _fate(self, values: Mapping[str, list[float]]) -> Fate:
        advantages = values["advantages"]
        kl = None
        if "ref_log_prob" in values:
            kl = rollouts.divergences(values["old_log_probs"], values["ref_log_prob"])
        is_one = len(set(advantages)) <= 1
        mean = fmean(advantages) if advantages else 0.0
        return Fate(mean, None if is_one else advantages, kl)

    def _measure(self, drawn: Sequence[Drawn], seconds: float) -> None:
        tally, weights = self._tally, [spec.weight for spec in self.task.rewards]
        rollouts.note(tally, [one.rollout for one in drawn], weights)
        groups: dict[str, list[float]] = defaultdict(list)
        for one in drawn:
            groups[one.uid].append(one.rollout.reward(weights))
        rewards = [reward for group in groups.values() for reward in group]
        spreads = [stdev(group) if len(group) > 1 else 0.0 for group in groups.values()]
        tally.add("reward_mean", fmean(rewards))
        tally.add("reward_std", _spread(rewards))
        if len(groups) < len(rewards):
            tally.add("zero_std_fraction", fmean(spread < 1e-8 for spread in spreads))
        for name, parts in zip(
            scoring.names(self.task.rewards), zip(*(one.rollout.rewards for one in drawn), strict=True), strict=True
        ):
            tally.add(f"reward/{name}_mean", fmean(parts))
            tally.add(f"reward/{name}_std", _spread(parts))
        advantages = [one.fate.advantage for one in drawn]
        tally.add("advantage_mean", fmean(advantages))
        tally.add("advantage_std", _spread(advantages))
        if seconds:
            num_tokens = sum(len(one.rollout.completion.token_ids) for one in drawn)
            tally.add("generation_tokens_per_second", num_tokens, seconds)

    def _keep(self, drawn: Sequence[Drawn]) -> None:
        monitoring = self.finery_run.spec.job["monitoring"]
        step, num = (self.global_steps - 1) * self.task.steps_per_batch + 1, monitoring["samples_per_step"]
        if num and rollouts.is_due(step, self.task.steps_per_batch, monitoring["sample_interval"]):
            rollouts.keep(
                self.finery_run,
                [(one.rollout, one.fate) for one in drawn][:num],
                self.rows,
                tokenizer=self.tokenizer,
                names=scoring.names(self.task.rewards),
                weights=[spec.weight for spec in self.task.rewards],
                group_size=self.task.rollout.completions_per_prompt,
                step=step,
            )

    def save(self, step: int, path: Path) -> None:
        """Have verl write a checkpoint, and move it to where ours lie."""
        native = Path(self.config.trainer.default_local_dir) / f"global_step_{step}"
        now, self.global_steps = self.global_steps, step
        try:
            self._save_checkpoint()
        finally:
            self.global_steps = now
        os.rename(native, path)

    def is_finite(self) -> bool:
        """Whether all weights of the policy are."""
        return all(self.actor_rollout_wg.is_finite())

    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.actor_rollout_wg.rate()[0])

    def scale_rate(self, factor: float) -> float:
        """Multiply the schedule of the learning rate, that of a critic as well."""
        if self.use_critic:
            self.critic_wg.scale_rate(factor)
        return float(self.actor_rollout_wg.scale_rate(factor)[0])

    def set_loss(self, name: str, value: float) -> None:
        """Change a live setting of the loss, or of the reward's KL term."""
        if name == "kl_coef" and self.config.algorithm.use_kl_in_reward:
            self.kl_ctrl_in_reward.value = value
            return
        self.actor_rollout_wg.set_loss({LOSS_FIELDS[name]: value})
        self.config.actor_rollout_ref.actor[LOSS_FIELDS[name]] = value

    def probe_next(self) -> None:
        """Look at the gradients of the next step."""
        self.actor_rollout_wg.probe_next()

    def take_probed(self) -> Probed | None:
        """What was seen of them."""
        found: Probed | None = self.actor_rollout_wg.take_probed()[0]
        return found


_PER_TOKEN: Final = ("advantages", "old_log_probs", "rollout_log_probs", "entropy", "ref_log_prob")


class WatchedSync(WatchedTrainer, PPOTrainerSync):
    """Draws and trains in turn."""


class WatchedColocated(WatchedTrainer, PPOTrainerColocateAsync):
    """Draws ahead, on the same accelerators."""


class WatchedSeparate(WatchedTrainer, PPOTrainerSeparateAsync):
    """Draws ahead, on accelerators of its own."""


TRAINERS: Final[dict[str, Any]] = {
    "sync": WatchedSync,
    "colocate_async": WatchedColocated,
    "separate_async": WatchedSeparate,
}
"""By `trainer.v1.trainer_mode`. verl asks for that name in many places, so they are not registered under others."""


def settings(task: PolicyTask) -> dict[str, float]:
    """Live settings of a task and their values at the start."""
    names = ("kl_coef", "entropy_coef", "clip_low", "clip_high")
    found = {name: float(getattr(task, name)) for name in names if hasattr(task, name)}
    return {"learning_rate": task.optim.learning_rate, **found}


def _plain(values: Any) -> list[Any]:
    """A list of what TransferQueue gives as tensors, as stacks or as lists."""
    if isinstance(values, torch.Tensor):
        return list(values.tolist())
    return [getattr(value, "data", value) for value in (values.tolist() if isinstance(values, np.ndarray) else values)]


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else math.nan
