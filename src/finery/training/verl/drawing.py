"""Rollouts without vLLM or SGLang: servers that draw with our own generator, on a CPU.

verl asks for one completion at a time; what is asked for within a moment is drawn together. A server is a Ray actor;
each rank of the trainer with which a replica begins hands it the weights after every step.

Relies on these internals of verl 0.9.1: `_ROLLOUT_REGISTRY` names the class that hands weights over by (name, mode),
and RolloutReplicaRegistry the one that starts servers.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ray
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from verl.workers.rollout.base import _ROLLOUT_REGISTRY, BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput
from verl.workers.rollout.utils import ensure_async_iterator

from finery.models import chat, loading
from finery.models.generation import Completion, Sampling, generate

NAME: Final = "hfcpu"
"""`actor_rollout_ref.rollout.name`."""
_SERVER: Final = "finery_drawing"
_CALM_SECONDS: Final = 0.02
"""After the last request that comes; then all that wait are drawn together."""
_NUM_AT_ONCE: Final = 256


@dataclass
class _Request:
    """A completion that somebody waits for."""

    prompt: list[int]
    sampling: Sampling
    answer: "asyncio.Future[Completion]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Server:
    """Holds a model and draws from it."""

    def __init__(self, path: str, replica: int, max_new_tokens: int, seed: int):
        """Load nothing but the shape of the model: its weights come from the trainer.

        Args:
            path: Folder of the model.
            replica: Number of this server.
            max_new_tokens: Longest completion.
            seed: Start of the random stream.
        """
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        tokenizer = loading.load_tokenizer(Path(path))
        config = AutoConfig.from_pretrained(path, attn_implementation="sdpa")
        self._model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float().eval()
        self._stop_ids = chat.stop_ids(tokenizer)
        self._max_new_tokens = max_new_tokens
        self._seed, self._replica = seed, replica
        self._waiting: list[_Request] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_drawing = asyncio.Lock()
        self._step = 0
        self._num_drawn = 0

    async def address(self) -> str:
        """Of the machine that it is on."""
        return str(ray.util.get_node_ip_address())

    async def set_weights(self, named: Sequence[tuple[str, Tensor]], global_steps: int | None = None) -> None:
        """Take over the weights of the trainer.

        Raises:
            KeyError: the model has no such tensor.
        """
        mine = self._model.state_dict()
        with torch.no_grad():
            for name, tensor in named:
                mine[name].copy_(tensor)
        await self.set_global_steps(self._step if global_steps is None else global_steps)

    async def set_global_steps(self, global_steps: int) -> None:
        """Note whose weights they are."""
        self._step, self._num_drawn = global_steps, 0

    async def generate(
        self, request_id: str, prompt_ids: Sequence[int], sampling_params: Mapping[str, Any], **_: Any
    ) -> TokenOutput:
        """Continue a prompt."""
        top_k = sampling_params.get("top_k", -1)
        sampling = Sampling(
            max_new_tokens=self._max_new_tokens,
            stop_ids=self._stop_ids,
            temperature=sampling_params.get("temperature", 1.0),
            top_k=max(0, top_k),
            top_p=sampling_params.get("top_p", 1.0),
        )
        request = _Request(list(prompt_ids), sampling)
        self._waiting.append(request)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_CALM_SECONDS, self._draw_soon)
        found = await request.answer
        return TokenOutput(
            token_ids=found.token_ids,
            log_probs=found.logprobs,
            stop_reason="completed",
            extra_fields={"global_steps": self._step, "is_finished": found.is_finished},
        )

    def _draw_soon(self) -> None:
        self._task = asyncio.ensure_future(self._draw())

    async def _draw(self) -> None:
        async with self._is_drawing:
            requests, self._waiting = self._waiting, []
            # In the order of their prompts: in which order they come is chance.
            requests.sort(key=lambda request: request.prompt)
            groups: dict[Sampling, list[_Request]] = {}
            for request in requests:
                groups.setdefault(request.sampling, []).append(request)
            for sampling, group in groups.items():
                try:
                    found = await asyncio.to_thread(self._drawn, [request.prompt for request in group], sampling)
                except Exception as error:  # noqa: BLE001 - each of those who wait is told
                    for request in group:
                        request.answer.set_exception(error)
                    continue
                for request, completion in zip(group, found, strict=True):
                    request.answer.set_result(completion)

    def _drawn(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Completion]:
        self._num_drawn += 1
        number = ((self._seed * 1_000_003 + self._step) * 1_009 + self._replica) * 10_007 + self._num_drawn
        stream = torch.Generator().manual_seed(number % 2**63)
        return generate(self._model, prompts, sampling, generator=stream, batch_size=_NUM_AT_ONCE, with_logprobs=True)

    async def abort_all_requests(self, **_: Any) -> dict[str, Any]:
        """Nothing is given up: completions are short."""
        return {"aborted_count": 0, "request_ids": []}

    async def _nothing(self, *_: Any, **__: Any) -> None:
        return

    wake_up = sleep = clear_kv_cache = release_kv_cache = resume_kv_cache = _nothing
    resume_generation = start_profile = stop_profile = wait_for_requests_to_drain = _nothing


class Replica(RolloutReplica):
    """Starts the server of a replica."""

    async def launch_servers(self) -> None:
        """Start it, beside the ranks."""
        options = {"name": _server_name(self.replica_rank), "num_cpus": 0.1, "max_concurrency": 4096}
        server: Any = ray.remote(Server)
        self._server_handle = server.options(**options).remote(
            self.model_config.path, self.replica_rank, self.config.response_length, self.config.seed
        )
        self.servers = [self._server_handle]
        self._server_address = f"{await self._server_handle.address.remote()}:{self.replica_rank}"


class Handover(BaseRollout):
    """The trainer's side: hands weights to the server."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, *args: Any, **kwargs: Any):
        super().__init__(config, model_config, device_mesh)
        rank, size = int(os.environ["RANK"]), self.config.tensor_model_parallel_size
        self._server_name = _server_name(rank // size)
        self._is_first = rank % size == 0

    async def resume(self, tags: list[str]) -> None:
        """Nothing was released."""

    async def release(self) -> None:
        """Nothing is held on an accelerator."""

    async def update_weights(
        self,
        weights: "Iterator[tuple[str, Tensor]] | AsyncIterator[tuple[str, Tensor]]",
        wire_format: str = "named_tensors",
        global_steps: int | None = None,
        **_: Any,
    ) -> None:
        """Hand over all weights. Every rank of a replica gathers them; the first one sends."""
        named = [(name, tensor.detach().cpu().clone()) async for name, tensor in ensure_async_iterator(weights)]
        if self._is_first:
            await ray.get_actor(self._server_name).set_weights.remote(named, global_steps)


def _server_name(replica: int) -> str:
    return f"{_SERVER}_{replica}"


_ROLLOUT_REGISTRY[NAME, "async"] = f"{__name__}.Handover"
RolloutReplicaRegistry.register(NAME, lambda: Replica)
