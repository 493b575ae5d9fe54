"""Group relative policy optimization with TRL's GRPOTrainer, our sampler and our rewards.

Relies on these internals of TRL 1.16: `_tokenize_prompts(prompts)` gives (prompt ids, images, other fields);
`_generate_single_turn(prompt_ids, ...)` gives (completion ids, None) with prompts repeated per group;
`_calculate_rewards(...)` gives a tensor (completions, rewards); `_step` counts micro batches and
`_buffered_inputs` holds the rollouts that the next ones use.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from finery.core.rundir import Run
from finery.models import chat
from finery.models.generation import Sampling, generate
from finery.training import scoring
from finery.training.specs import GrpoSpec
from finery.training.trl import rows as data
from finery.training.trl import setup
from finery.training.trl.logprobs import completion_logprobs
from finery.training.trl.steps import ExactTrainer

_UNUSED = frozenset(
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
        "router_aux_loss_coef",
        "transformers_continuous_batching_config",
        "trust_remote_code",
        "use_transformers_continuous_batching",
        "use_transformers_paged",
        *(field.name for field in dataclasses.fields(GRPOConfig) if field.name.startswith("vllm_")),
    }
)
"""Options of GRPOConfig for what happens here without TRL: rows, rollouts, records of them."""


class FineryGrpoTrainer(ExactTrainer, GRPOTrainer):
    """GRPO whose rollouts are drawn from a generator of their own and recorded."""

    task: GrpoSpec
    rows: list[dict[str, Any]]
    prompt_ids: list[list[int]]
    stop_ids: frozenset[int]
    sampler: torch.Generator
    sample_interval: int
    samples_per_step: int

    def exact_state(self) -> dict[str, Any]:
        return {
            **super().exact_state(),
            "step": self._step,
            "buffered_inputs": self._buffered_inputs,
            "sampler": self.sampler.get_state(),
        }

    def restore_exact_state(self, state: Mapping[str, Any]) -> None:
        super().restore_exact_state(state)
        self._step = state["step"]
        self._buffered_inputs = state["buffered_inputs"]
        self.sampler.set_state(state["sampler"])

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return GRPOTrainer._get_train_sampler(self, train_dataset)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.prompt_ids[int(row)] for row in prompts], None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        sampling = Sampling(
            max_new_tokens=self.max_completion_length,
            stop_ids=self.stop_ids,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k or 0,
        )
        started = time.perf_counter()
        found = generate(self.accelerator.unwrap_model(self.model), prompt_ids, sampling, generator=self.sampler)
        seconds = time.perf_counter() - started
        num_tokens = sum(len(completion.token_ids) for completion in found)
        self._metrics["train"]["generation_tokens_per_second"].append(num_tokens / seconds)
        self._metrics["train"]["seconds_generating"].append(seconds)
        return [completion.token_ids for completion in found], None

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[str], completions: list[str], completion_ids_list: Any
    ) -> Tensor:
        started = time.perf_counter()
        rows = [self.rows[int(row)] for row in prompts]
        columns = scoring.score(self.task.rewards, completions, rows)
        self._metrics["train"]["seconds_rewarding"].append(time.perf_counter() - started)
        self._rewards = torch.tensor(columns, dtype=torch.float32, device=self.accelerator.device).T
        return self._rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        self._metrics["train"]["advantage_mean"].append(output["advantages"].mean().item())
        texts = self.processing_class.batch_decode(_own_tokens(output), skip_special_tokens=True)
        self._metrics["train"]["diversity_score"].append(len(set(texts)) / len(texts))
        step = self.state.global_step + 1
        if step % self.sample_interval == 0 and self.samples_per_step:
            self.finery_run.samples("rollouts", self._records(inputs, output, texts, step), step)
        return output

    def _records(
        self, inputs: list[dict[str, Any]], output: dict[str, Any], texts: list[str], step: int
    ) -> list[dict[str, Any]]:
        group = self.task.rollout.completions_per_prompt
        weights = [spec.weight for spec in self.task.rewards]
        names = [spec.name for spec in self.task.rewards]
        records = []
        for index in range(min(self.samples_per_step, len(inputs))):
            row = self.rows[int(inputs[index]["prompt"])]
            parts = self._rewards[index].tolist()
            tokens = _own_tokens(output)[index]
            records.append(
                {
                    "prompt": _prompt_text(row["prompt"]),
                    "completion": texts[index],
                    "answer": row.get("answer"),
                    "reward": sum(weight * part for weight, part in zip(weights, parts, strict=True)),
                    "rewards": dict(zip(names, parts, strict=True)),
                    "advantage": output["advantages"][index].item(),
                    "length": len(tokens),
                    "is_truncated": not tokens or tokens[-1] not in self.stop_ids,
                    "group": index // group,
                    "step": step,
                }
            )
        return records

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
        size = batch_size or len(input_ids)
        parts = [
            completion_logprobs(model, ids, mask, logits_to_keep, self.temperature, self._entropy_bonus_enabled)
            for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True)
        ]
        logprobs, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        return logprobs, entropies if compute_entropy else None, None


def make_trainer(task: GrpoSpec, run: Run, loaded: setup.Loaded) -> FineryGrpoTrainer:
    """A trainer that is ready to start or to resume."""
    rows = data.read_rows(run, task.data.train)
    num_generations = math.ceil(task.optim.steps / task.num_iterations)
    visits = data.order(len(rows), num_generations * task.prompts_per_step, seed=run.seed, shuffle=task.data.shuffle)
    trainer = FineryGrpoTrainer(
        loaded.model,
        reward_funcs=[_named(spec.name) for spec in task.rewards],
        args=setup.with_native(GRPOConfig, _arguments(task, run), task.native, unused=_UNUSED),
        train_dataset=Dataset.from_dict({"prompt": [str(row) for row in visits]}),
        processing_class=loaded.tokenizer,
        peft_config=loaded.lora,
    )
    trainer.task = task
    trainer.rows = rows
    trainer.prompt_ids = data.prompts(rows, loaded.tokenizer, max_tokens=task.data.max_prompt_tokens)
    trainer.stop_ids = chat.stop_ids(loaded.tokenizer)
    trainer.sampler = torch.Generator(trainer.accelerator.device).manual_seed(run.seed)
    monitoring = run.spec.job["monitoring"]
    trainer.sample_interval = monitoring["sample_interval"]
    trainer.samples_per_step = monitoring["samples_per_step"]
    return trainer


def _arguments(task: GrpoSpec, run: Run) -> dict[str, Any]:
    batch = task.prompts_per_step * task.rollout.completions_per_prompt
    micro = task.micro_batch_size or batch
    return {
        **setup.common_arguments(task.optim, task.model, run),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": batch // micro,
        "steps_per_generation": batch // micro,
        "num_generations": task.rollout.completions_per_prompt,
        "num_iterations": task.num_iterations,
        "max_completion_length": task.rollout.max_new_tokens,
        "temperature": task.rollout.temperature,
        "top_p": task.rollout.top_p,
        "top_k": task.rollout.top_k,
        "loss_type": task.loss_type,
        "importance_sampling_level": task.ratio_level,
        "scale_rewards": task.scale_rewards,
        "beta": task.kl_coef,
        "epsilon": task.clip_low,
        "epsilon_high": task.clip_high,
        "entropy_coef": task.entropy_coef,
        "reward_weights": [spec.weight for spec in task.rewards],
        "mask_truncated_completions": task.mask_truncated,
        "disable_dropout": True,
        "shuffle_dataset": False,
        "use_vllm": False,
        "log_completions": False,
    }


def _named(name: str) -> Any:
    """TRL takes its metric names from its reward functions; the scores come from `_calculate_rewards`."""

    def score(**_: Any) -> list[float]:
        raise AssertionError("rewards are computed by FineryGrpoTrainer._calculate_rewards")

    score.__name__ = name
    return score


def _own_tokens(output: Mapping[str, Any]) -> list[list[int]]:
    return [
        ids[mask.bool()].tolist() for ids, mask in zip(output["completion_ids"], output["completion_mask"], strict=True)
    ]


def _prompt_text(prompt: str | list[dict[str, Any]]) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
