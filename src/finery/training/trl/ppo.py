"""Proximal policy optimization, a trainer of our own on transformers.Trainer: TRL has none.

A batch of rollouts is drawn, scored and turned into advantages once, then visited `num_iterations` times in mini
batches; each mini batch is one optimizer step, and one global step of the trainer. The data set that the trainer sees
is only a count of micro batches: in one process number n is part n % parts of step n // parts, whatever came between.
Several processes each draw and keep their share of a batch; a mini batch is an equal number of rows from each.

Dimensions: B completions, T tokens, C completion tokens, I iterations.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import stdev
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, TrainingArguments

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.models import chat, loading
from finery.models.generation import Completion, Sampling, generate
from finery.training import rollouts, scoring, world
from finery.training import rows as data
from finery.training.rollouts import Fate, Rollout
from finery.training.specs import PpoSpec
from finery.training.tally import Tally
from finery.training.trl import ppo_math, setup
from finery.training.trl.ppo_model import ActorCritic, Reference, actor_critic
from finery.training.trl.steps import ExactTrainer

_UNUSED = frozenset({"label_names", "label_smoothing_factor", "neftune_noise_alpha", "train_sampling_strategy"})
"""Options of TrainingArguments for what happens here without transformers."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rollouts with all that the loss needs, prompts padded on the left and completions on the right."""

    ids_BT: Tensor
    mask_BT: Tensor
    mask_BC: Tensor
    """1 at completion tokens that are learned from, 0 elsewhere."""
    old_BC: Tensor
    """Log-probabilities under the policy that drew them."""
    values_BC: Tensor
    """Of the critic when the rollouts were scored."""
    advantages_BC: Tensor
    returns_BC: Tensor

    def part(self, rows: Tensor) -> "Batch":
        """Some of the rows, without the columns that are padding in all of them."""
        num_tokens = self.mask_BT.shape[1]
        num_completion = self.mask_BC.shape[1]
        first, last = self.mask_BT[rows].any(dim=0).nonzero()[[0, -1], 0].tolist()
        num_cut = num_tokens - 1 - last
        cut = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        return Batch(
            **{
                name: tensor[:, first : last + 1] if name.endswith("_BT") else tensor[:, : num_completion - num_cut]
                for name, tensor in cut.items()
            }
        )


class FineryPpoTrainer(ExactTrainer):
    """PPO whose rollouts are drawn from a generator of their own and recorded."""

    model: ActorCritic
    task: PpoSpec
    rows: list[dict[str, Any]]
    prompt_ids: list[list[int]]
    visits: list[int]
    """Rows in the order of their turn."""
    sampling: Sampling
    sampler: torch.Generator
    scorer: scoring.Scorer
    reference: Reference | None
    sample_interval: int
    samples_per_step: int
    next_temperature: float
    """Of the next completions; those of the present batch are read at the temperature that they were drawn with."""
    beta: float
    """Present coefficient of the divergence, here and below under the names that `steps.Controls` knows."""
    epsilon_low: float
    epsilon_high: float
    entropy_coef: float
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any):
        self.tally = Tally()
        self._batch: Batch | None = None
        self._order_IB: Tensor | None = None
        self._total_train_tokens = 0
        super().__init__(*args, **kwargs)

    @property
    def _weights(self) -> list[float]:
        return [spec.weight for spec in self.task.rewards]

    def exact_state(self) -> dict[str, Any]:
        return {
            **super().exact_state(),
            "sampler": self.sampler.get_state(),
            "batch": None if self._batch is None else asdict(self._batch),
            "order": self._order_IB,
            "temperature": self.sampling.temperature,
        }

    def restore_exact_state(self, state: Mapping[str, Any]) -> None:
        super().restore_exact_state(state)
        device = self.accelerator.device
        self.sampler.set_state(state["sampler"])
        self.sampling = replace(self.sampling, temperature=state.get("temperature", self.sampling.temperature))
        if state["batch"] is not None:
            self._batch = Batch(**{name: tensor.to(device) for name, tensor in state["batch"].items()})
            self._order_IB = state["order"].to(device)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self.model.save(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, self.model.actor)
        self.model.load_critic(Path(resume_from_checkpoint))

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """As for any model, with the critic's parameters in groups of their own where it has its own rate."""
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        rate = self.task.critic.learning_rate
        if is_new and rate is not None:
            critic = {id(parameter) for parameter in self.model.critic.parameters()}
            for group in list(optimizer.param_groups):
                mine = [one for one in group["params"] if id(one) in critic]
                group["params"] = [one for one in group["params"] if id(one) not in critic]
                if mine:
                    optimizer.add_param_group({**group, "params": mine, "lr": rate})
        return optimizer

    def _prepare_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        step, part = divmod(int(inputs["number"]) // world.size(), self.args.gradient_accumulation_steps)
        step_of_batch = step % self.task.steps_per_batch
        if step_of_batch == 0 and part == 0:
            self._batch = self._draw_batch(step)
            self._order_IB = torch.stack([self._shuffled() for _ in range(self.task.num_iterations)])
        assert self._batch is not None
        assert self._order_IB is not None
        size = (self.task.mini_batch_size or self.task.num_completions) // world.size()
        mini = self._order_IB.flatten()[step_of_batch * size : (step_of_batch + 1) * size]
        # Rows of like length together, so that a micro batch has little padding.
        mini = mini[self._batch.mask_BT[mini].sum(dim=1).argsort(stable=True)]
        micro = mini.tensor_split(self.args.gradient_accumulation_steps)[part]
        # The mean over processes, since gradients are averaged over them.
        num_tokens = world.summed(self._batch.mask_BC[mini].sum()).clamp(min=1) / world.size()
        return {"batch": self._batch.part(micro), "num_tokens": num_tokens}

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Share of a micro batch in policy loss + value_coef * value loss - entropy_coef * entropy.

        Each is a mean over the tokens of the whole mini batch.
        """
        batch: Batch = inputs["batch"]
        is_counted_BC = batch.mask_BC.bool()
        logprobs_BC, entropies_BC, values_BC = model(
            batch.ids_BT, batch.mask_BT, is_counted_BC.shape[1], self.sampling.temperature, self.entropy_coef > 0
        )
        # What stands at padding has no bounds, and infinity times a mask of 0 is not 0.
        logprobs_BC = torch.where(is_counted_BC, logprobs_BC, batch.old_BC)
        policy_BC, is_clipped_BC = ppo_math.policy_losses(
            logprobs_BC, batch.old_BC, batch.advantages_BC, clip_low=self.epsilon_low, clip_high=self.epsilon_high
        )
        value_BC, is_value_clipped_BC = ppo_math.value_losses(
            values_BC, batch.values_BC, batch.returns_BC, self.task.value_clip
        )
        parts = {
            "policy_loss": policy_BC,
            "value_loss": value_BC,
            "entropy": entropies_BC,
            "clip_fraction": is_clipped_BC,
            "value_clip_fraction": is_value_clipped_BC,
        }
        sums = {name: part_BC[is_counted_BC].sum() for name, part_BC in parts.items()}
        for name, total in sums.items():
            self.tally.add(name, total.item(), is_counted_BC.sum().item())
        self.tally.add("entropy_loss", 0.0 - self.entropy_coef * sums["entropy"].item(), is_counted_BC.sum().item())
        self._note_policy(logprobs_BC.detach(), batch)
        loss = sums["policy_loss"] + self.task.value_coef * sums["value_loss"]
        if self.entropy_coef > 0:
            loss = loss - self.entropy_coef * sums["entropy"]
        share: Tensor = loss / inputs["num_tokens"]
        return share

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        self.tally.increase("num_tokens", self._total_train_tokens)
        super().log({**logs, **self.tally.take()}, *args, **kwargs)

    def _note_policy(self, logprobs_BC: Tensor, batch: Batch) -> None:
        mask_BC = batch.mask_BC
        rollouts.note_policy(
            self.tally,
            logprobs_BC=logprobs_BC,
            old_logprobs_BC=batch.old_BC,
            mask_BC=mask_BC,
            ratio_BX=(logprobs_BC - batch.old_BC).exp(),
            ratio_mask_BX=mask_BC,
        )

    def _shuffled(self) -> Tensor:
        num = self.task.num_completions // world.size()
        return torch.randperm(num, generator=self.sampler, device=self.sampler.device)

    def _draw_batch(self, step: int) -> Batch:
        """This process's share of rollouts of the policy as it is, with their advantages; `step` counts the optimizer
        steps before."""
        drawn = self._draw(step)
        completions = [one.completion for one in drawn]
        device = self.accelerator.device
        ids_BT, mask_BT = _padded([self.prompt_ids[one.row] for one in drawn], completions, device)
        drawn_BC = pad_sequence([torch.tensor(one.logprobs, device=device) for one in completions], batch_first=True)
        scores_B = torch.tensor([one.reward(self._weights) for one in drawn], device=device)
        is_scored_B = scores_B.isfinite()
        is_cut_B = torch.tensor([not one.is_finished for one in completions], device=device)
        scores_B = torch.where(is_scored_B, scores_B, 0.0) - self.task.missing_eos_penalty * is_cut_B
        mask_BC = mask_BT[:, -drawn_BC.shape[1] :] * is_scored_B[:, None]
        old_BC, values_BC = self._read(ids_BT, mask_BT, mask_BC.shape[1])
        reference_BC = self._reference_logprobs(ids_BT, mask_BT, mask_BC.shape[1])
        kl_BC = torch.zeros_like(old_BC)
        if reference_BC is not None:
            # At padding it may be infinite, which no mask makes zero again.
            estimates_BC = ppo_math.kl_estimates(old_BC, reference_BC, self.task.kl_estimator)
            kl_BC = estimates_BC.masked_fill(mask_BC == 0, 0)
        rewards_BC = ppo_math.token_rewards(scores_B, kl_BC, mask_BC, self.beta)
        if self.task.whiten_rewards:
            rewards_BC = ppo_math.whiten(rewards_BC, mask_BC, shift_mean=False, total=world.summed)
        advantages_BC, returns_BC = ppo_math.gae(
            rewards_BC, values_BC, mask_BC, gamma=self.task.gamma, gae_lambda=self.task.gae_lambda
        )
        if self.task.whiten_advantages:
            advantages_BC = ppo_math.whiten(advantages_BC, mask_BC, total=world.summed)
        batch = Batch(ids_BT, mask_BT, mask_BC, old_BC, values_BC, advantages_BC, returns_BC)
        self._total_train_tokens += int(mask_BT.sum().item())
        everyone = world.gathered(drawn)
        self._note_batch(everyone, batch, ppo_math.masked_mean(kl_BC, mask_BC, world.summed))
        rollouts.note_mismatch(self.tally, old_BC, drawn_BC, mask_BC)
        self._record(everyone, drawn, batch, reference_BC, step + 1)
        return batch

    def _draw(self, step: int) -> list[Rollout]:
        """Scored completions for the prompts whose turn it is."""
        self.sampling = replace(self.sampling, temperature=self.next_temperature)
        num = self.task.prompts_per_batch
        start = step // self.task.steps_per_batch * num
        group = self.task.rollout.completions_per_prompt
        visited = world.own([row for row in self.visits[start : start + num] for _ in range(group)])
        num_watched = max(0, self._num_recorded(step + 1) - world.rank() * len(visited))
        with self.phases.during("generating"), self.accelerator.autocast():
            started = time.perf_counter()
            completions = generate(
                self.model.actor,
                [self.prompt_ids[row] for row in visited],
                self.sampling,
                generator=self.sampler,
                with_logprobs=True,
                num_watched=num_watched,
            )
            rollouts.note_speed(self.tally, completions, time.perf_counter() - started)
        ids = [one.token_ids for one in completions]
        texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        with self.phases.during("rewarding"):
            columns = self.scorer.score(texts, [self.rows[row] for row in visited], step=step + 1)
        rollouts.note_scorer(self.tally, self.scorer.metrics())
        scores = zip(*columns, strict=True)
        return [Rollout(*parts) for parts in zip(visited, completions, texts, scores, strict=True)]

    @torch.no_grad()
    def _read(self, ids_BT: Tensor, mask_BT: Tensor, num_completion: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities and values of the completions, each (B, C), in parts of a micro batch."""
        with self.phases.during("forward"), self.accelerator.autocast():
            found = [
                self.model(ids, mask, num_completion, self.sampling.temperature, False)
                for ids, mask in self._micro_batches(ids_BT, mask_BT)
            ]
        logprobs, _, values = (torch.cat(parts) for parts in zip(*found, strict=True))
        return logprobs, values

    def _reference_logprobs(self, ids_BT: Tensor, mask_BT: Tensor, num_completion: int) -> Tensor | None:
        """Log-probabilities of the completions under the reference, (B, C); None without one."""
        if self.reference is None:
            return None
        with self.phases.during("reference"), self.accelerator.autocast():
            parts = [
                self.reference.logprobs(ids, mask, num_completion, self.sampling.temperature)
                for ids, mask in self._micro_batches(ids_BT, mask_BT)
            ]
        return torch.cat(parts)

    def _micro_batches(self, ids_BT: Tensor, mask_BT: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.task.micro_batch_size or (self.task.mini_batch_size or self.task.num_completions) // world.size()
        return zip(ids_BT.split(size), mask_BT.split(size), strict=True)

    def _note_batch(self, drawn: list[Rollout], batch: Batch, kl: float) -> None:
        """Measure a batch of rollouts, of which `batch` is this process's share, and steer the coefficient of the
        divergence by it."""
        rollouts.note(self.tally, drawn, self._weights)
        rewards = [one.reward(self._weights) for one in drawn]
        self._note_moments("reward", rewards)
        for index, name in enumerate(scoring.names(self.task.rewards)):
            self._note_moments(f"reward/{name}", [one.rewards[index] for one in drawn])
        counted = batch.mask_BC.bool()
        columns = torch.stack(
            [batch.advantages_BC[counted], batch.values_BC[counted], batch.returns_BC[counted]], dim=1
        )
        advantages, values, returns = world.joined(columns).unbind(dim=1)
        self._note_moments("advantage", advantages.tolist())
        self._note_moments("value", values.tolist())
        explained = ppo_math.explained_variance(values, returns, torch.ones_like(values))
        if math.isfinite(explained):
            self.tally.add("explained_variance", explained)
        if self.reference is None:
            return
        self.tally.add("kl_divergence", kl)
        self.tally.add("kl_coef", self.beta)
        num_counted = int(world.summed(counted.any(dim=1).sum()).item())
        if self.task.kl_target is not None and num_counted:
            self.beta = ppo_math.adapted_kl_coef(
                self.beta,
                kl,
                target=self.task.kl_target,
                horizon=self.task.kl_horizon,
                num_completions=num_counted,
            )

    def _note_moments(self, name: str, values: list[float]) -> None:
        """Mean and standard deviation over what is a number."""
        known = [value for value in values if math.isfinite(value)]
        if known:
            self.tally.add(f"{name}_mean", sum(known), len(known))
        if len(known) > 1:
            self.tally.add(f"{name}_std", stdev(known))

    def _num_recorded(self, step: int) -> int:
        """How many completions of the batch of this step are kept for people to read."""
        return self.samples_per_step if rollouts.is_due(step, self.task.steps_per_batch, self.sample_interval) else 0

    def _record(
        self, everyone: list[Rollout], own: list[Rollout], batch: Batch, reference_BC: Tensor | None, step: int
    ) -> None:
        """Keep rollouts for people to read, if this batch serves a step whose turn it is; `own` are of this process."""
        num = self._num_recorded(step)
        if not num:
            return
        fates = []
        for row, one in enumerate(own):
            advantages_C, mask_C = batch.advantages_BC[row], batch.mask_BC[row]
            kl = None
            if reference_BC is not None:
                kl = rollouts.divergences(one.completion.policy_logprobs, reference_BC[row].tolist())
            mean = ppo_math.masked_mean(advantages_C, mask_C)
            fates.append(Fate(mean, advantages_C[mask_C.bool()].tolist() or None, kl))
        fates = world.gathered(fates)
        if world.rank() > 0:
            return
        rollouts.keep(
            self.finery_run,
            list(zip(everyone, fates, strict=True))[:num],
            self.rows,
            tokenizer=self.processing_class,
            names=scoring.names(self.task.rewards),
            weights=self._weights,
            group_size=self.task.rollout.completions_per_prompt,
            step=step,
        )


def make_trainer(task: PpoSpec, run: Run, loaded: setup.Loaded) -> FineryPpoTrainer:
    """A trainer that is ready to start or to resume."""
    rows = data.read_rows(run, task.data.train)
    stop_ids = chat.stop_ids(loaded.tokenizer)
    num_batches = math.ceil(task.optim.steps / task.steps_per_batch)
    cut = setup.batches(task.mini_batch_size or task.num_completions, task.micro_batch_size)
    arguments = {
        **setup.common_arguments(task.optim, task.model, run),
        **cut,
        "per_device_train_batch_size": 1,  # a number, which stands for a micro batch
    }
    critic = task.critic
    model = actor_critic(
        loaded.model,
        loaded.lora,
        is_separate=critic.kind == "separate",
        reward_model=_reward_model(task, run, loaded) if critic.start == "reward_model" else None,
    )
    trainer = FineryPpoTrainer(
        model,
        args=setup.with_native(TrainingArguments, arguments, task.native, unused=_UNUSED),
        train_dataset=_Numbers(task.optim.steps * cut["gradient_accumulation_steps"] * world.size()),
        data_collator=lambda features: features[0],
        processing_class=loaded.tokenizer,
    )
    trainer.task = task
    trainer.rows = rows
    trainer.prompt_ids = data.prompts(
        rows, loaded.tokenizer, max_tokens=task.data.max_prompt_tokens, ref=task.data.train
    )
    trainer.visits = data.visits(
        run.spec,
        len(rows),
        num=num_batches,
        size=task.prompts_per_batch,
        shuffle=task.data.shuffle,
        steps_per_batch=task.steps_per_batch,
    )
    trainer.sampling = Sampling(
        max_new_tokens=task.rollout.max_new_tokens,
        stop_ids=stop_ids,
        temperature=task.rollout.temperature,
        top_p=task.rollout.top_p,
        top_k=task.rollout.top_k,
    )
    trainer.next_temperature = task.rollout.temperature
    trainer.scorer = scoring.Scorer(task.rewards, run)
    trainer.sampler = torch.Generator(trainer.accelerator.device).manual_seed(world.seed(run.seed))
    trainer.reference = Reference(model) if task.kl_coef > 0 else None
    trainer.beta, trainer.entropy_coef = task.kl_coef, task.entropy_coef
    trainer.epsilon_low, trainer.epsilon_high = task.clip_low, task.clip_high
    monitoring = run.spec.job["monitoring"]
    trainer.sample_interval = monitoring["sample_interval"]
    trainer.samples_per_step = monitoring["samples_per_step"]
    return trainer


def _reward_model(task: PpoSpec, run: Run, loaded: setup.Loaded) -> PreTrainedModel:
    """The reward model that the critic starts from, as weights that can be trained."""
    ref = next(spec.params["model"] for spec in task.rewards if spec.name == "reward_model")
    path = loading.materialize(run.input(ref), ref)
    model = loading.load_reward_model(path, dtype=str(loaded.model.dtype).removeprefix("torch."))
    if model.config.vocab_size != loaded.model.config.vocab_size:
        raise InvalidSpec(
            f"critic.start: the reward model {ref} has {model.config.vocab_size} tokens and the actor "
            f"{loaded.model.config.vocab_size}; a critic reads the actor's tokens, so start it from the actor"
        )
    return model


class _Numbers(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Counts micro batches; what is in them is decided when their turn comes."""

    def __init__(self, num: int):
        self._num = num

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return {"number": torch.tensor(number)}


def _padded(
    prompts: Sequence[Sequence[int]], completions: Sequence[Completion], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids and mask, each (B, T): prompts padded on the left, completions on the right.

    The mask comes from lengths, since padding may be the same token as the end of sequence.
    """
    left, right = max(map(len, prompts)), max(len(one.token_ids) for one in completions)
    ids, mask = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        own = [*prompt, *completion.token_ids]
        before, after = [0] * (left - len(prompt)), [0] * (right - len(completion.token_ids))
        ids.append([*before, *own, *after])
        mask.append([*before, *[1] * len(own), *after])
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
