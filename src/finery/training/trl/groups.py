"""What GRPO's and RLOO's trainers share: rollouts drawn by our generator, scored by our rewards, measured and recorded.

TRL's trainers keep the advantages and the loss. Relies on these internals of TRL 1.16, the same in GRPOTrainer and
RLOOTrainer: `_generate_and_score_completions(inputs)` begins a batch; `_tokenize_prompts(prompts)` gives (prompt ids,
images, other fields); `_calculate_rewards(...)` gives a tensor (completions, rewards), NaN where there is no score;
`_compute_loss` asks `_get_per_token_logps_and_entropies` once; `_step` counts micro batches and `_buffered_inputs`
holds the rollouts that the next ones use.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from finery.core.rundir import Run
from finery.models import chat
from finery.models.generation import Completion, Sampling, generate
from finery.training import rollouts, scoring, world
from finery.training import rows as data
from finery.training.rollouts import Fate, Rollout
from finery.training.specs.groups import GroupSpec, ReferencedSpec
from finery.training.tally import Tally
from finery.training.trl import setup
from finery.training.trl.logprobs import completion_logprobs
from finery.training.trl.steps import ExactTrainer

UNUSED = frozenset(
    {
        "cache_implementation",
        "chat_template_kwargs",
        "ds3_gather_for_generation",
        "generation_batch_size",
        "generation_kwargs",
        "log_completions_hub_repo",
        "log_multimodal",
        "log_unique_prompts",
        "max_tool_calling_iterations",
        "min_p",
        "model_init_kwargs",
        "num_completions_to_print",
        "num_generations_eval",
        "pad_to_multiple_of",
        "repetition_penalty",
        "transformers_continuous_batching_config",
        "trust_remote_code",
        "use_transformers_continuous_batching",
        "use_transformers_paged",
    }
)
"""Options of TRL's configs for what happens here without TRL: rows, rollouts, records of them."""

_REMEMBERED = ("old_logps", "old_per_token_logps", "ref_per_token_logps")
"""Log-probabilities that TRL keeps with a batch: of the completion (RLOO), of its tokens."""

_MEASURED_HERE = frozenset(
    {
        "clip_ratio/high_max",
        "clip_ratio/high_mean",
        "clip_ratio/low_mean",
        "clip_ratio/low_min",
        "clip_ratio/region_mean",
        "completions/clipped_ratio",
        "completions/max_length",
        "completions/mean_length",
        "completions/min_length",
        "kl",
    }
)
"""Metrics of TRL that have one of ours in their place: TRL takes means over micro batches, whatever their size."""


class GroupTrainer(ExactTrainer):
    """Mix-in of the trainers whose rollouts are drawn from a generator of their own."""

    task: GroupSpec
    rows: list[dict[str, Any]]
    prompt_ids: list[list[int]]
    sampling: Sampling
    sampler: torch.Generator
    scorer: scoring.Scorer
    sample_interval: int
    samples_per_step: int
    temperature: float
    next_temperature: float
    """Of the next completions; those of the present batch are read at the temperature that they were drawn with."""
    _entropy_bonus_enabled = False

    def __init__(self, *args: Any, **kwargs: Any):
        self.tally = Tally()
        self._rollouts: list[Rollout] = []
        self._reference_logprobs: Tensor | None = None
        super().__init__(*args, **kwargs)

    def exact_state(self) -> dict[str, Any]:
        state = {
            **super().exact_state(),
            "last_entropy": getattr(self, "_last_world_entropy", None),
            "step": self._step,
            "buffered_inputs": self._buffered_inputs,
            "sampler": self.sampler.get_state(),
            "temperature": self.temperature,
        }
        if self.args.sync_ref_model:
            state["reference"] = self.accelerator.unwrap_model(self.ref_model).state_dict()
        return state

    def restore_exact_state(self, state: Mapping[str, Any]) -> None:
        super().restore_exact_state(state)
        if state["last_entropy"] is not None:
            self._last_world_entropy = state["last_entropy"]
        self._step = state["step"]
        self._buffered_inputs = state["buffered_inputs"]
        self.sampler.set_state(state["sampler"])
        self.temperature = state.get("temperature", self.temperature)
        if self.args.sync_ref_model:
            self.accelerator.unwrap_model(self.ref_model).load_state_dict(state["reference"])

    def draw(self, rows: Sequence[int], *, num_watched: int) -> list[Rollout]:
        """A scored completion for the prompt of each of these rows, of the first so many with what is recorded of
        their tokens."""
        if not rows:
            return []
        with self.phases.during("generating"):
            started = time.perf_counter()
            completions = generate(
                self.accelerator.unwrap_model(self.model),
                [self.prompt_ids[row] for row in rows],
                replace(self.sampling, temperature=self.temperature),
                generator=self.sampler,
                with_logprobs=True,
                num_watched=num_watched,
            )
            rollouts.note_speed(self.tally, completions, time.perf_counter() - started)
        ids = [completion.token_ids for completion in completions]
        texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        with self.phases.during("rewarding"):
            scores = self.score(completions, texts, [self.rows[row] for row in rows])
        return [Rollout(*fields) for fields in zip(rows, completions, texts, scores, strict=True)]

    def score(
        self, completions: Sequence[Completion], texts: Sequence[str], rows: Sequence[dict[str, Any]]
    ) -> list[tuple[float, ...]]:
        """Unweighted scores of each completion, in the order of `reward_func_names`."""
        columns = self.scorer.score(texts, rows, step=self.state.global_step + 1)
        rollouts.note_scorer(self.tally, self.scorer.metrics())
        return list(zip(*columns, strict=True))

    def draw_batch(self, rows: Sequence[int]) -> list[Rollout]:
        """The rollouts of a step in all processes, each from the rows whose turn it is; a row is repeated for each
        completion."""
        before = world.rank() * len(rows)  # at least: processes with more rows come first
        return world.gathered(self.draw(rows, num_watched=max(0, self.num_recorded - before)))

    @property
    def num_recorded(self) -> int:
        """How many completions of the present batch are kept for people to read."""
        step = self.state.global_step + 1
        return self.samples_per_step if rollouts.is_due(step, self.task.steps_per_batch, self.sample_interval) else 0

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        # TRL's sampler repeats prompts; ExactTrainer's does not.
        return super(ExactTrainer, self)._get_train_sampler(train_dataset)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.temperature = self.next_temperature
        everyone = self.draw_batch([int(one["prompt"]) for one in inputs])
        self._rollouts = list(world.own(everyone))
        visited = [{"prompt": str(rollout.row)} for rollout in self._rollouts]
        self._reference_logprobs = None
        output: dict[str, Any] = super()._generate_and_score_completions(visited)
        device = self.accelerator.device
        logprobs = [torch.tensor(rollout.completion.logprobs, device=device) for rollout in self._rollouts]
        output["sampling_per_token_logps"] = pad_sequence(logprobs, batch_first=True)
        _leave_out(output, [math.isnan(sum(one.rewards)) for one in everyone])
        rollouts.note(self.tally, everyone, self.reward_weights.tolist())
        advantages = world.joined(output["advantages"])
        self.tally.add("advantage_mean", advantages.mean().item())
        self.tally.add("advantage_std", advantages.std().item())
        self._record(everyone, advantages.tolist())
        return output

    def _record(self, drawn: Sequence[Rollout], advantages: Sequence[float]) -> None:
        """Keep rollouts for people to read, if this batch serves a step whose turn it is."""
        num = self.num_recorded
        if not num:
            return
        divergences: list[list[float] | None] = [None] * len(self._rollouts)
        if self._reference_logprobs is not None:
            pairs = zip(self._rollouts, self._reference_logprobs.tolist(), strict=True)
            divergences = [rollouts.divergences(one.completion.policy_logprobs, others) for one, others in pairs]
        divergences = world.gathered(divergences)
        if world.rank() > 0:
            return
        fates = [Fate(advantage, None, kl) for advantage, kl in zip(advantages, divergences, strict=True)]
        rollouts.keep(
            self.finery_run,
            list(zip(drawn, fates, strict=True))[:num],
            self.rows,
            tokenizer=self.processing_class,
            names=self.reward_func_names,
            weights=self.reward_weights.tolist(),
            group_size=self.task.rollout.completions_per_prompt,
            step=self.state.global_step + 1,
        )

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.prompt_ids[int(row)] for row in prompts], None, {}

    def _calculate_rewards(self, *_: Any) -> Tensor:
        scores = [rollout.rewards for rollout in self._rollouts]
        scores_BR = torch.tensor(scores, dtype=torch.float32, device=self.accelerator.device)
        # TRL leaves a completion out only where all of its scores are missing.
        scores_BR = scores_BR.masked_fill(scores_BR.isnan().any(dim=1, keepdim=True), math.nan)
        gathered: Tensor = self.accelerator.gather(scores_BR)
        return gathered

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        is_reference = model is self.ref_model or _has_adapter_off(model)
        size = batch_size or len(input_ids)
        with self.phases.during("reference" if is_reference else "forward"):
            parts = [
                completion_logprobs(model, ids, mask, logits_to_keep, self.temperature, self._entropy_bonus_enabled)
                for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True)
            ]
        logprobs, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        # What a model says of padding may be anything, and a ratio of that infinite, which no mask makes zero again.
        logprobs = logprobs.masked_fill(attention_mask[:, -logits_to_keep:] == 0, 0)
        if is_reference:
            self._reference_logprobs = logprobs
        else:
            self._logprobs, self._entropies = logprobs.detach(), entropies.detach()
        return logprobs, entropies if compute_entropy else None, None

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        loss: Tensor = super()._compute_loss(model, inputs)
        self._note_loss(loss.item(), inputs)
        return loss

    def _note_loss(self, loss: float, inputs: dict[str, Tensor]) -> None:
        """Measure a micro batch, from the log-probabilities that its loss was computed with."""
        mask_BC, num_parts = inputs["completion_mask"], self.current_gradient_accumulation_steps
        entropy = (self._entropies * mask_BC).sum().item()
        num_tokens = mask_BC.sum().item()
        if not self.loss_is_scaled_for_ga:
            loss /= num_parts
        bonus = self.entropy_coef * self._bonus_entropy(mask_BC) / num_parts if self._entropy_bonus_enabled else 0.0
        self.tally.add("policy_loss", loss + bonus, 1 / num_parts)
        self.tally.add("entropy_loss", 0.0 - bonus, 1 / num_parts)
        self.tally.add("entropy", entropy, num_tokens)
        old_BC = inputs.get("old_per_token_logps", self._logprobs)
        ratio_BX, ratio_mask_BX = self.ratios(self._logprobs - old_BC, mask_BC)
        rollouts.note_policy(
            self.tally,
            logprobs_BC=self._logprobs,
            old_logprobs_BC=old_BC,
            mask_BC=mask_BC,
            ratio_BX=ratio_BX,
            ratio_mask_BX=ratio_mask_BX,
        )
        self._note_clipping(ratio_BX, ratio_mask_BX, inputs["advantages"][:, None])
        if "ref_per_token_logps" in inputs:
            rollouts.note_kl(self.tally, self._logprobs, inputs["ref_per_token_logps"], mask_BC)
        if self._step // self.args.steps_per_generation % self.num_iterations == 0:
            rollouts.note_mismatch(self.tally, self._logprobs, inputs["sampling_per_token_logps"], mask_BC)

    def _bonus_entropy(self, mask_BC: Tensor) -> float:
        """Mean entropy of the tokens that the bonus is about, in nats."""
        if self.top_entropy_quantile < 1:
            mask_BC = mask_BC * self.get_high_entropy_mask(self._entropies, mask_BC, 1 - self.top_entropy_quantile)
        return (self._entropies * mask_BC).sum().item() / max(mask_BC.sum().item(), 1)

    def _note_clipping(self, ratio_BX: Tensor, ratio_mask_BX: Tensor, advantages_B1: Tensor) -> None:
        """Measure how many ratios lie where the loss is flat."""
        num_ratios = ratio_mask_BX.sum().item()
        is_low_BX = (ratio_BX < 1 - self.epsilon_low) & (advantages_B1 < 0)
        is_high_BX = (ratio_BX > 1 + self.epsilon_high) & (advantages_B1 > 0)
        num_low, num_high = ((part_BX * ratio_mask_BX).sum().item() for part_BX in (is_low_BX, is_high_BX))
        self.tally.add("clip_fraction_low", num_low, num_ratios)
        self.tally.add("clip_fraction_high", num_high, num_ratios)
        self.tally.add("clip_fraction", num_low + num_high, num_ratios)

    def ratios(self, log_ratio_BC: Tensor, mask_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Probability ratios as the loss clips them, (B, C) or (B, 1), and which of them count."""
        raise NotImplementedError

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        for name in _MEASURED_HERE:
            self._metrics["train"].pop(name, None)
        for name, value in self.tally.take().items():
            self._metrics["train"][name] = [value]
        super().log(logs, *args, **kwargs)


def _leave_out(output: dict[str, Any], is_out: list[bool]) -> None:
    """Take completions without a reward, of those of all processes, out of the loss, its KL term and its entropy
    bonus."""
    if not any(is_out):
        return
    mask_BC = output["completion_mask"].clone()
    is_out_B = torch.tensor(world.own(is_out), device=mask_BC.device)
    mask_BC[is_out_B] = 0
    output["completion_mask"] = mask_BC
    # The loss will find log-probability 0 at what is masked; anything else here would be a ratio of its own, or inf.
    for name in _REMEMBERED:
        if name in output:
            output[name] = output[name].clone()
            output[name][is_out_B] = 0
    if "num_items_in_batch" in output:
        output["num_items_in_batch"] = world.summed(mask_BC.sum())


def make(
    kind: type[GroupTrainer],
    config: type[Any],
    task: GroupSpec,
    run: Run,
    loaded: setup.Loaded,
    *,
    extra_rewards: Mapping[str, float] | None = None,
    **more: Any,
) -> Any:
    """A trainer of this kind that is ready to start or to resume.

    Args:
        kind: Its class.
        config: TRL's config class.
        task: What to train.
        run: Where.
        loaded: What it starts from.
        extra_rewards: Weights of what the trainer's `score` adds to the task's rewards.
        more: Options of the config that this algorithm has besides those of all.
    """
    extra = extra_rewards or {}
    names = [*scoring.names(task.rewards), *extra]
    weights = [*(spec.weight for spec in task.rewards), *extra.values()]
    rows = data.read_rows(run, task.data.train)
    num_batches = math.ceil(task.optim.steps / task.steps_per_batch)
    visits = data.visits(
        run.spec,
        len(rows),
        num=num_batches,
        size=task.prompts_per_step,
        shuffle=task.data.shuffle,
        steps_per_batch=task.steps_per_batch,
    )
    unused = UNUSED | {name for name in config.__dataclass_fields__ if name.startswith("vllm_")}
    arguments = {**_arguments(task, run), "reward_weights": weights, **more}
    trainer = kind(
        loaded.model,
        reward_funcs=[_named(name) for name in names],
        args=setup.with_native(config, arguments, task.native, unused=unused),
        train_dataset=Dataset.from_dict({"prompt": [str(row) for row in visits]}),
        processing_class=loaded.tokenizer,
        peft_config=loaded.lora,
    )
    trainer.task = task
    trainer.rows = rows
    trainer.prompt_ids = data.prompts(
        rows, loaded.tokenizer, max_tokens=task.data.max_prompt_tokens, ref=task.data.train
    )
    trainer.eos_token_ids = sorted(chat.stop_ids(loaded.tokenizer))
    trainer.sampling = Sampling(
        max_new_tokens=task.rollout.max_new_tokens,
        stop_ids=chat.stop_ids(loaded.tokenizer),
        temperature=task.rollout.temperature,
        top_p=task.rollout.top_p,
        top_k=task.rollout.top_k,
    )
    trainer.next_temperature = task.rollout.temperature
    trainer.scorer = scoring.Scorer(task.rewards, run)
    trainer.sampler = torch.Generator(trainer.accelerator.device).manual_seed(world.seed(run.seed))
    monitoring = run.spec.job["monitoring"]
    trainer.sample_interval = monitoring["sample_interval"]
    trainer.samples_per_step = monitoring["samples_per_step"]
    return trainer


def _arguments(task: GroupSpec, run: Run) -> dict[str, Any]:
    cut = setup.batches(task.prompts_per_step * task.rollout.completions_per_prompt, task.micro_batch_size)
    return {
        **setup.common_arguments(task.optim, task.model, run),
        **cut,
        "steps_per_generation": cut["gradient_accumulation_steps"],
        "num_generations": task.rollout.completions_per_prompt,
        "num_iterations": task.num_iterations,
        "max_completion_length": task.rollout.max_new_tokens,
        "temperature": task.rollout.temperature,
        "top_p": task.rollout.top_p,
        "top_k": task.rollout.top_k,
        "disable_dropout": True,
        "shuffle_dataset": False,
        "router_aux_loss_coef": 0.0,  # of mixtures of experts: our reading of completions does not ask for it
        "use_vllm": False,
        "log_completions": False,
    }


def reference_arguments(task: ReferencedSpec) -> dict[str, Any]:
    """Options for the reference model."""
    return {
        "beta": task.kl_coef,
        "sync_ref_model": task.sync_ref_model,
        "ref_model_sync_steps": task.ref_model_sync_steps,
        "ref_model_mixup_alpha": task.ref_model_mixup_alpha,
    }


def _named(name: str) -> Any:
    """TRL takes its metric names from its reward functions; the scores come from `_calculate_rewards`."""

    def score(**_: Any) -> list[float]:
        raise AssertionError("rewards are computed by GroupTrainer.draw")

    score.__name__ = name
    return score


def _has_adapter_off(model: torch.nn.Module) -> bool:
    """Whether LoRA layers are switched off, which makes the model the one that training began with."""
    return next((layer.disable_adapters for layer in model.modules() if isinstance(layer, BaseTunerLayer)), False)
