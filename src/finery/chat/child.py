"""The parent's side of a child that holds a model: starts it, asks it, hears its answers, ends it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import SimpleQueue

from pydantic import BaseModel

from finery.chat.pipe import LOADED, Answered, Inquiry, Opening, Question, Stop
from finery.chat.specs import ChatEvent, ChatFailed, ChatLoading, ChatSampling, ChatTurn
from finery.core.environment import child_environment
from finery.core.rundir import ResolvedInput

Take = Callable[[ChatEvent], None]
_END_SECONDS = 5.0


class Child:
    """One model in a process of its own. Safe to use from several threads; questions are answered in their order.

    Nothing here waits for the process but `close`.
    """

    def __init__(self, ref: str, resolved: ResolvedInput, *, home: Path, tokens: Mapping[str, str]):
        """Start it; it loads in the background.

        Args:
            ref: How the user named the model.
            resolved: What that stands for.
            home: Folder of the installation: its output is appended to `logs/chat.log` there.
            tokens: Environment variables that hubs are asked with.
        """
        self.ref = ref
        self.resolved = resolved
        self.is_loaded = False
        self.used_at = time.monotonic()
        self._log = home / "logs" / "chat.log"
        self._lock = threading.Lock()
        self._ids = count(1)
        self._takers: dict[int, Take] = {}
        self._failure: ChatFailed | None = None
        self._unsent: SimpleQueue[BaseModel | None] = SimpleQueue()
        """Lines to the process; None is the end."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with open(self._log, "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "finery.chat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=child_environment(os.environ, cpu_threads=None, tokens=tokens),
                start_new_session=True,
            )
        self._unsent.put(Opening(ref=ref, resolved=resolved, lock=home / "chat.lock"))
        threading.Thread(target=self._send, daemon=True).start()
        threading.Thread(target=self._hear, daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._failure is None and self._process.poll() is None

    @property
    def lacks_memory(self) -> bool:
        """Whether it could not be loaded for want of memory."""
        return self._failure is not None and self._failure.code == "out_of_memory"

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._takers)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def ask(self, messages: Sequence[ChatTurn], sampling: ChatSampling, take: Take) -> int:
        """Ask for the next turn of a conversation; returns the number of the question.

        `take` gets each event in a thread of the child's, `done` or `failed` at the end.
        """
        self.used_at = time.monotonic()
        with self._lock:
            number = next(self._ids)
            failure = self._failure
            if failure is None:
                self._takers[number] = take
        if failure is not None:
            take(failure)
            return number
        if not self.is_loaded:
            take(ChatLoading(type="loading"))
        question = Question(id=number, messages=tuple(messages), sampling=sampling)
        self._unsent.put(Inquiry(asked=question))
        return number

    def stop(self, number: int) -> None:
        """End an answer early: its `done` comes soon."""
        self._unsent.put(Inquiry(asked=Stop(id=number)))

    def forget(self, number: int) -> None:
        """End an answer that nobody reads any more."""
        with self._lock:
            is_open = self._takers.pop(number, None) is not None
        if is_open:
            self.stop(number)

    def close(self) -> None:
        """End the process: it is told so, and killed when it has not ended a few seconds later."""
        self._unsent.put(None)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self) -> None:
        """Write what is asked, in a thread of its own: a process that does not read yet keeps only this one waiting."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as pipe:  # it has ended: who listens says so
            while (line := self._unsent.get()) is not None:
                pipe.write(line.model_dump_json().encode() + b"\n")
                pipe.flush()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answered = Answered.model_validate_json(line)
            if answered.id == LOADED:
                self.is_loaded = answered.event is None
                if isinstance(answered.event, ChatFailed):
                    self._fail(answered.event)
            elif answered.event is not None:
                self._hand(answered.id, answered.event)
        status = self._process.wait()
        self._unsent.put(None)
        self._fail(self._why_ended(status))

    def _hand(self, number: int, event: ChatEvent) -> None:
        with self._lock:
            take = self._takers.get(number)
            if event.type in ("done", "failed"):
                self._takers.pop(number, None)
                self.used_at = time.monotonic()
        if take is not None:
            take(event)

    def _fail(self, failure: ChatFailed) -> None:
        """Tell everybody who waits, once."""
        with self._lock:
            self._failure = self._failure or failure
            takers, self._takers = list(self._takers.values()), {}
        for take in takers:
            take(self._failure)

    def _why_ended(self, status: int) -> ChatFailed:
        how = f"was killed by signal {-status}" if status < 0 else "has ended"
        hint = "; it may have run out of memory" if status == -9 else ""
        message = f"the process of {self.ref} {how}{hint}. Ask again to start it anew; its output is in {self._log}"
        return ChatFailed(type="failed", code="unavailable", message=message)


class Answer:
    """An answer of a child as an iterator, for who reads in one thread."""

    def __init__(self, child: Child, messages: Sequence[ChatTurn], sampling: ChatSampling):
        self._events: SimpleQueue[ChatEvent] = SimpleQueue()
        self._child = child
        self._number = child.ask(messages, sampling, self._events.put)

    def __iter__(self) -> Iterator[ChatEvent]:
        while True:
            event = self._events.get()
            yield event
            if event.type in ("done", "failed"):
                return

    def stop(self) -> None:
        """End it early; its `done` still comes."""
        self._child.stop(self._number)
