"""Sends what is due, beside whatever else a process does.

Each message is sent by a thread of its own, one at a time for each channel: a channel that hangs delays no other and
nobody else. Sessions are short and none is open while something is sent. One process of a home delivers, the worker or
a `finery run`: who holds the lock.
"""

import fcntl
import logging
import os
import socket
import threading
import time
import traceback
from typing import Final

from finery.core.clock import Clock
from finery.core.db import Database
from finery.core.errors import FineryError
from finery.core.settings import Settings
from finery.notifying import queue, words
from finery.notifying.channels import registry
from finery.notifying.queue import Claimed
from finery.notifying.wire import NotSent, Wire

log = logging.getLogger(__name__)

TURN_SECONDS: Final = 0.5
_AFTER_FAILURE_SECONDS = 5.0


def send(claimed: Claimed, settings: Settings, clock: Clock) -> None:
    """Send one message.

    Raises:
        NotSent: it was not taken.
    """
    message = words.compose(claimed.key, claimed.notices, claimed.language, public_url=settings.public_url)
    try:
        params = registry.params(claimed.kind, claimed.params)
        channel = registry.get(claimed.kind).target
    except FineryError as error:
        raise NotSent(str(error), is_final=True) from error
    channel(message, params, Wire(settings, clock))


def _failure(claimed: Claimed, settings: Settings, clock: Clock) -> NotSent | None:
    """Send one message; what came of it."""
    try:
        send(claimed, settings, clock)
    except NotSent as error:
        return error
    except Exception as error:  # noqa: BLE001 - a fault of a channel is recorded, or its message would go for ever
        # Without the words of the error: they may quote an address.
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("fault of a channel channel=%s error=%s\n%s", claimed.channel, type(error).__name__, frames)
        return NotSent(f"a fault of the channel ({type(error).__name__}); the worker's log has more", is_final=True)
    return None


class Deliverer:
    """What delivers in one process."""

    def __init__(self, db: Database, settings: Settings, clock: Clock):
        self._db = db
        self._settings = settings
        self._clock = clock
        self._me = f"{socket.gethostname()}:{settings.home}"
        self._lock: int | None = None
        self._ended = threading.Event()
        self._sending: dict[str, threading.Thread] = {}
        """By channel; those that have ended too."""

    def start(self) -> None:
        """Deliver until the process ends, or `close`."""
        threading.Thread(target=self._run, name="deliverer", daemon=True).start()

    def close(self) -> None:
        """Send nothing more, and let another process of the home deliver."""
        self._ended.set()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def turn(self) -> list[threading.Thread]:
        """Send what is due; nothing where another process of the home delivers. Returns who sends."""
        if not self._has_lock():
            return []
        now = self._clock.now()
        busy = {channel for channel, thread in self._sending.items() if thread.is_alive()}
        with self._db.read() as session:
            if not queue.is_any_due(session, busy=busy, now=now):
                return []
        with self._db.session() as session:
            due = queue.claim(session, me=self._me, busy=busy, now=now)
        for claimed in due:
            thread = threading.Thread(target=self._send, args=(claimed,), name=f"to-{claimed.channel}", daemon=True)
            self._sending[claimed.channel] = thread
            thread.start()
        return [self._sending[claimed.channel] for claimed in due]

    def wait(self, run: str, seconds: float) -> int:
        """Wait until all of a run is told, but no longer than so many seconds. Returns how much is left."""
        deadline = time.monotonic() + seconds
        while True:
            with self._db.read() as session:
                left = queue.num_pending(session, run)
            if left == 0 or time.monotonic() > deadline:
                return left
            self._ended.wait(0.1)

    def _run(self) -> None:
        while not self._ended.is_set():
            pause = TURN_SECONDS
            try:
                self.turn()
            except Exception:  # the loop outlives a failed turn; what waits is there for the next
                log.exception("a turn of the deliverer failed")
                pause = _AFTER_FAILURE_SECONDS
            self._ended.wait(pause)

    def _send(self, claimed: Claimed) -> None:
        failure = _failure(claimed, self._settings, self._clock)
        now = self._clock.now()
        with self._db.session() as session:
            if failure is None:
                queue.sent(session, claimed.key, now=now)
            else:
                wait, is_final = failure.wait_seconds, failure.is_final
                queue.not_sent(session, claimed.key, str(failure), is_final=is_final, wait_seconds=wait, now=now)
        if failure is None:
            log.info("sent channel=%s key=%s notices=%s", claimed.channel, claimed.key, len(claimed.notices))
        else:
            log.warning("not sent channel=%s key=%s why=%s", claimed.channel, claimed.key, failure)

    def _has_lock(self) -> bool:
        """Whether this process delivers; once it does, what an earlier one was killed over is due again."""
        if self._lock is not None:
            return True
        handle = os.open(self._settings.home / "deliver.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._lock = handle
        with self._db.session() as session:
            queue.release(session, me=self._me, now=self._clock.now())
        return True
