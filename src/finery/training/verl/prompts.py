"""Prompts as verl visits them: our rows, our tokens, our order.

verl would render prompts with the template of the model, drop those that are too long, and shuffle with a stream of its
own. So that a job file means the same on each engine, the data set gives token ids, and the order is that of
`training.rows`.
"""

import functools
import math
import os
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput

from finery.core.rundir import RunDir
from finery.core.spec import parse
from finery.models import chat
from finery.training import rows as data
from finery.training.specs import DapoSpec, GrpoSpec, GspoSpec, PolicyGradientSpec, PpoSpec, RlooSpec, TrainTask
from finery.training.verl.rewards import ATTEMPT

PolicyTask = GrpoSpec | GspoSpec | DapoSpec | RlooSpec | PolicyGradientSpec | PpoSpec
AGENT: Final = "finery"
"""Name of the agent loop."""


class PromptDataset(Dataset[dict[str, Any]]):
    """`data.custom_cls`: a prompt for each visit, in the order of visits."""

    def __init__(self, data_files: Any, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1):
        """Read the rows that were exported.

        Args:
            data_files: One parquet file.
            tokenizer: Of the model.
            config: verl's `data`.
            processor: Unused.
            max_samples: Rows at most; -1 takes all.
        """
        path = data_files if isinstance(data_files, str) else data_files[0]
        table = pq.read_table(path).to_pylist()
        self._rows = table if max_samples < 0 else table[:max_samples]
        rows = [orjson.loads(row["extra_info"]["row"]) for row in self._rows]
        spec = RunDir(Path(os.environ[ATTEMPT])).read_spec()
        task: PolicyTask = parse(TrainTask, spec.job["task"])
        self._prompts = data.prompts(rows, tokenizer, max_tokens=task.data.max_prompt_tokens, ref=task.data.train)
        self._masks_truncated = bool(getattr(task, "mask_truncated", False))
        self._visits = data.visits(
            spec,
            len(rows),
            num=num_batches(task),
            size=batch_size(task),
            shuffle=task.data.shuffle,
            steps_per_batch=task.steps_per_batch,
        )

    def __len__(self) -> int:
        return len(self._visits)

    def __getitem__(self, item: int) -> dict[str, Any]:
        number = self._visits[item]
        row = self._rows[number]
        return {
            "raw_prompt": row["prompt"],
            "prompt_ids": self._prompts[number],
            "masks_truncated": self._masks_truncated,
            "data_source": row["data_source"],
            "reward_model": row["reward_model"],
            "extra_info": {"row": row["extra_info"]["row"], "index": number},
            "index": number,
            "tools_kwargs": {},
            "interaction_kwargs": {},
            "dummy_tensor": torch.tensor([0], dtype=torch.uint8),  # verl cannot hold a batch without any tensor
        }


class PromptLoop(AgentLoopBase):
    """One answer to one prompt whose tokens are known."""

    @functools.cached_property
    def _stop_ids(self) -> frozenset[int]:
        return chat.stop_ids(self.tokenizer)

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        """Draw a completion.

        Args:
            sampling_params: Temperature and the like.
            priority: Unused.
            kwargs: Fields of the data set's row, and `global_steps`.
        """
        prompt_ids = [int(token) for token in kwargs["prompt_ids"]]
        kwargs["extra_info"]["step"] = int(kwargs["global_steps"])
        output = await self.server_manager.generate(
            request_id=uuid4().hex, prompt_ids=prompt_ids, sampling_params=sampling_params
        )
        longest = self.rollout_config.response_length
        tokens = output.token_ids[:longest]
        is_cut = not output.extra_fields.get("is_finished", len(tokens) < longest or tokens[-1] in self._stop_ids)
        carries_loss = not (is_cut and kwargs["masks_truncated"])
        return AgentLoopOutput(
            prompt_ids=prompt_ids,
            response_ids=tokens,
            response_mask=[int(carries_loss)] * len(tokens),
            response_logprobs=output.log_probs[:longest] if output.log_probs else None,
            routed_experts=output.routed_experts,
            num_turns=2,
            metrics={"generate_sequences": 0.0, "tool_calls": 0.0, "num_preempted": -1},
            extra_fields={**output.extra_fields, "turn_scores": [], "tool_rewards": []},
        )


def num_batches(task: PolicyTask) -> int:
    """Batches of rollouts that a task takes: what verl calls steps."""
    return math.ceil(task.optim.steps / task.steps_per_batch)


def batch_size(task: PolicyTask) -> int:
    """Prompts of one of them."""
    return task.prompts_per_batch if isinstance(task, PpoSpec) else task.prompts_per_step
