"""Which models the server keeps loaded for chat, and whom one can talk to."""

import os
import threading
import time
from collections import Counter
from pathlib import Path

from sqlalchemy.orm import Session

from finery.chat.child import Child
from finery.chat.specs import ChatBuiltin, ChatCheckpoint
from finery.core import processes, refs, retention
from finery.core.checkpoints import averaged, is_sealed, whole
from finery.core.errors import NotFound, Unavailable
from finery.core.rundir import ResolvedInput
from finery.core.settings import Settings
from finery.jobs import service as jobs
from finery.jobs.resolving import Resolver, hub_tokens
from finery.models import resolving

_NUM_LOOKED_AT = 5000
_NUM_PER_RUN = 10
_LOOK_SECONDS = 5.0


class Chats:
    """The children of this server. Each ends when nobody has talked to it for a while, and with the server."""

    def __init__(self, settings: Settings, resolver: Resolver):
        self._settings = settings
        self._resolver = resolver
        self._lock = threading.Lock()
        self._children: list[Child] = []
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None
        self._name = f"{retention.CHAT}{os.getpid()}"
        """Of the holds of this server."""

    def child(self, ref: str) -> Child:
        """The child that holds a model; started if there is none.

        Raises:
            InvalidSpec, NotFound, Forbidden: there is no such model.
            Unavailable: as many models as are allowed are loaded, and each is answering.
        """
        found = self._loaded(ref)
        if found is not None:
            return found
        resolved = self._resolver.reference(ref, allow_paths=False)
        tokens = hub_tokens(self._settings)
        with self._lock:
            for child in [child for child in self._children if not child.is_alive]:
                self._end(child)
            for child in self._children:
                if child.resolved == resolved and child.ref == ref:
                    return child
            self._make_room()
            self._hold(ref, resolved)
            made = Child(ref, resolved, home=self._settings.home, tokens=tokens)
            self._children.append(made)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()
        return made

    def loaded(self) -> list[Child]:
        """Those that live."""
        with self._lock:
            return [child for child in self._children if child.is_alive]

    def close(self) -> None:
        """End all."""
        self._closed.set()
        with self._lock:
            for child in list(self._children):
                self._end(child)

    def _loaded(self, ref: str) -> Child | None:
        """A living child of a reference whose meaning stays: that of `job:41/last` may have changed since."""
        if refs.checkpoint(ref) is not None:
            return None
        return next((child for child in self.loaded() if child.ref == ref), None)

    def _make_room(self) -> None:
        if len(self._children) < self._settings.chat_models:
            return
        idle = sorted((child for child in self._children if not child.is_busy), key=lambda child: child.used_at)
        if not idle:
            names = ", ".join(child.ref for child in self._children)
            raise Unavailable(
                f"{len(self._children)} models are loaded and all are answering ({names}); wait for one, stop one, or "
                "raise FINERY_CHAT_MODELS"
            )
        self._end(idle[0])

    def _end(self, child: Child) -> None:
        self._children.remove(child)
        child.close()
        path = whole(Path(child.resolved.path))
        if child.resolved.kind == "checkpoint" and all(
            whole(Path(one.resolved.path)) != path for one in self._children
        ):
            retention.release(path, self._name)

    def _hold(self, ref: str, resolved: ResolvedInput) -> None:
        """Keep a checkpoint from being deleted while it is loaded. What a dead server held, the worker lets go."""
        if resolved.kind == "checkpoint":
            content = processes.identify().model_dump_json().encode()
            if not retention.hold(Path(resolved.path), self._name, content=content):
                raise NotFound(f"{ref} has been deleted")

    def _watch(self) -> None:
        """End what has been idle for long, and at once where another model did not fit."""
        patience = self._settings.chat_idle_minutes * 60
        while not self._closed.wait(min(_LOOK_SECONDS, patience / 2)):
            with self._lock:
                room_is_needed = any(child.lacks_memory for child in self._children)
                for child in list(self._children):
                    limit = 0 if room_is_needed else patience
                    is_idle = not child.is_busy and time.monotonic() - child.used_at > limit
                    if is_idle or not child.is_alive:
                        self._end(child)


def builtin() -> list[ChatBuiltin]:
    """Models that need no file."""
    return [ChatBuiltin(ref=name, summary=summary) for name, summary in resolving.BUILTIN.items()]


def checkpoints(session: Session) -> list[ChatCheckpoint]:
    """The newest checkpoints that are still there of each run, newest first; one that was saved anew is listed once."""
    found: dict[str, ChatCheckpoint] = {}  # with the averages of its weights behind each that has them
    listed: Counter[int] = Counter()
    for row, name in jobs.newest_checkpoints(session, limit=_NUM_LOOKED_AT):
        ref = f"job:{row.job_id}/step:{row.step}"
        if ref not in found and listed[row.job_id] < _NUM_PER_RUN and is_sealed(Path(row.path)):
            listed[row.job_id] += 1
            for one in (ref, f"{ref}/ema") if is_sealed(averaged(Path(row.path))) else (ref,):
                found[one] = ChatCheckpoint(
                    ref=one, job_id=row.job_id, job_name=name, step=row.step, created_at=row.created_at
                )
    return list(found.values())
