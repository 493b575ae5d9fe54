"""Holds a loaded model and answers conversations with it. Runs in the child of chat; the place for torch."""

import fcntl
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
import psutil
import torch

from finery.chat.specs import ChatDone, ChatSampling, ChatText, ChatTurn
from finery.core.errors import InvalidSpec, Unavailable
from finery.core.rundir import ResolvedInput
from finery.models import chat, loading
from finery.models.generation import Past, Sampling, stream
from finery.models.pieces import Pieces

_HEADROOM = 1.1
"""Memory that loading needs, as a multiple of the weights."""


class OutOfMemory(Unavailable):
    """The model does not fit into what is free."""

    code = "out_of_memory"


class Answerer:
    """One model, and what of the last conversation it has computed."""

    def __init__(self, ref: str, resolved: ResolvedInput, lock: Path):
        """Load.

        Args:
            ref: How the user named the model.
            resolved: What that stands for.
            lock: File that is locked while memory is looked at and filled: two that load at once would both find the
                same memory free.

        Raises:
            OutOfMemory: there is not enough memory. Conflict: the files have changed.
            Unavailable, Forbidden, NotFound: a download failed.
        """
        folder = loading.materialize(resolved, ref)
        device = loading.device()
        self._tokenizer = loading.load_tokenizer(folder)
        with _locked(lock):
            _check_memory(ref, folder, device)
            self._model = loading.load_model(folder).to(device).eval()
        self._device = device
        self._past = Past()

    def answer(
        self, turns: Sequence[ChatTurn], wanted: ChatSampling, is_stopped: Callable[[], bool]
    ) -> Generator[ChatText | ChatDone]:
        """The next turn of a conversation, piece by piece; `ChatDone` is the last.

        Raises:
            InvalidSpec: the conversation is longer than the model takes, or the chat template refuses it.
            OutOfMemory: there is not enough memory for a conversation of this length.
        """
        prompt = self._render(turns)
        room = self._room(prompt)
        sampling = Sampling(
            max_new_tokens=min(wanted.max_new_tokens, room),
            stop_ids=chat.stop_ids(self._tokenizer),
            temperature=wanted.temperature,
            top_k=wanted.top_k,
            top_p=wanted.top_p,
        )
        started = time.monotonic()
        ids: list[int] = []
        reason = ""
        pieces = Pieces(self._tokenizer)
        drawn = stream(self._model, prompt, sampling, generator=self._generator(wanted.seed), past=self._past)
        try:
            for token in drawn:
                ids.append(token)
                if token in sampling.stop_ids:
                    reason = "end"
                    break
                text = pieces.add(token)
                if text:
                    yield ChatText(type="text", text=text)
                if is_stopped():
                    reason = "stopped"
                    break
        except torch.OutOfMemoryError as error:
            self._past = Past()
            raise OutOfMemory(
                f"a conversation of {len(prompt) + len(ids):,} tokens does not fit into memory; begin a new one"
            ) from error
        except BaseException:
            self._past = Past()
            raise
        finally:
            drawn.close()
        rest = pieces.rest()
        if rest:
            yield ChatText(type="text", text=rest)
        yield ChatDone(
            type="done",
            reason=reason or ("window" if room < wanted.max_new_tokens else "length"),
            num_tokens=len(ids),
            num_prompt_tokens=len(prompt),
            num_reused_tokens=self._past.num_reused,
            seconds=time.monotonic() - started,
        )

    def _render(self, turns: Sequence[ChatTurn]) -> list[int]:
        prompt = chat.render_prompt(self._tokenizer, [turn.model_dump() for turn in turns])
        if not prompt:
            raise InvalidSpec("the message has no tokens; write something")
        return prompt

    def _room(self, prompt: list[int]) -> int:
        """Tokens that fit behind a prompt."""
        window: int | None = getattr(self._model.config, "max_position_embeddings", None)
        if window is None:
            return 1 << 30
        if len(prompt) >= window:
            raise InvalidSpec(
                f"the conversation has {len(prompt):,} tokens, but the model takes {window:,} with its answer; "
                "write less, or begin a new conversation"
            )
        return window - len(prompt)

    def _generator(self, seed: int | None) -> torch.Generator:
        generator = torch.Generator(device=self._device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generator


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Within, no other process is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_memory(ref: str, folder: Path, device: torch.device) -> None:
    """Refuse a model that does not fit, rather than push the machine's other jobs out of memory."""
    needed = int(_weight_bytes(folder) * _HEADROOM)
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise OutOfMemory(
            f"{ref} needs about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; end a job or "
            "a chat (an idle one of the server makes room within seconds: try again), or choose a smaller model"
        )


def _weight_bytes(folder: Path) -> int:
    """Of a model in the number format that it is loaded in; of an adapter, with its base."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        folder = Path(orjson.loads(adapter.read_bytes())["base_model_name_or_path"])
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    config = orjson.loads((folder / "config.json").read_bytes())
    kept_as = getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "float32"), torch.float32)
    return stored * loading.resolve_dtype("auto").itemsize // max(kept_as.itemsize, 1)
