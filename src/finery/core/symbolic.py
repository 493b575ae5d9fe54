"""Compares two pieces of mathematics with math-verify, in a process of its own that can be killed.

What a model writes decides how long sympy computes: `9**9**9` neither ends nor listens to signals, and the time-outs of
math-verify are alarms, which work in the main thread only. So one worker process per process of ours does the algebra,
under a memory limit; a comparison that takes too long costs that worker its life, and a new one starts with the next.
Obvious explosions are refused before they get there, since a restart takes a second.
"""

import atexit
import contextlib
import importlib.util
import logging
import os
import re
import resource
import selectors
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import orjson

from finery.core.errors import Unavailable

MAX_CHARACTERS = 1000
MAX_POWER = 1000
"""Larger exponents, factorials of larger numbers and powers of powers are not computed."""
MEMORY_BYTES = 4 << 30

_START_SECONDS = 120.0
_LINGER_SECONDS = 1.0
"""How much later than its parent the process gives up on its own."""
_TOWER = re.compile(r"(?:\^|\*\*)\s*(?:\{[^{}]*|\(?[^\s{}()^*]{1,20}\)?\s*)(?:\^|\*\*)")
_POWER = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*-?(\d+)")
_FACTORIAL = re.compile(r"(\d+|\))\s*!")


def are_equal(answer: str, target: str, *, timeout_seconds: float) -> bool:
    """Whether math-verify finds both equal within the time.

    Raises:
        Unavailable: math-verify is not installed, or its process does not start.
    """
    if _explodes(answer) or _explodes(target):
        return False
    return _worker.ask(answer, target, timeout_seconds)


def _explodes(text: str) -> bool:
    """Whether computing the text could take for ever: powers of powers, large powers and factorials, great length."""
    if len(text) > MAX_CHARACTERS or _TOWER.search(text):
        return True
    if any(len(power) > 4 or int(power) > MAX_POWER for power in _POWER.findall(text)):
        return True
    return any(base == ")" or len(base) > 3 for base in _FACTORIAL.findall(text))


class _Worker:
    """The process that does the algebra. One question at a time; a fork gets a process of its own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew in a fork: the process and who holds the lock belong to the parent."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, answer: str, target: str, timeout_seconds: float) -> bool:
        with self._lock:
            process = self._started()
            question = orjson.dumps([_encodable(answer), _encodable(target), timeout_seconds]) + b"\n"
            try:
                _stream(process.stdin).write(question)  # shorter than a pipe holds, so written whole
                reply = _read_line(_stream(process.stdout), timeout_seconds)
            except BrokenPipeError:
                reply = b""
            if not reply:
                self._kill()
            return reply == b"1\n"

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        if importlib.util.find_spec("math_verify") is None:
            raise Unavailable('comparing mathematics needs math-verify; install it with pip install "finery[trl]"')
        source = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a buffer would raise again when the pipe of a dead process is closed
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        if _read_line(_stream(self._process.stdout), _START_SECONDS) != b"ready\n":
            self._kill()
            raise Unavailable("the process that compares mathematics did not start; its output says why")
        return self._process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


_worker = _Worker()
atexit.register(_worker.close)
os.register_at_fork(after_in_child=_worker.forget)


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _read_line(stream: IO[bytes], timeout_seconds: float) -> bytes:
    """The next short line, or nothing when it does not come in time or the process is gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        if not selector.select(timeout_seconds):
            return b""
    return stream.readline(16)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _serve() -> None:
    """What the process does: read a pair, answer 1 or 0, until nobody asks any more.

    A timer that Python does not handle ends it in the middle of a computation, even when its parent is gone. A request
    to stop goes to the whole process group and is the parent's business: what it still asks is answered.
    """
    import math_verify  # noqa: PLC0415 - heavy and optional; only this process has it

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError):  # macOS knows the limit and refuses to set it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever prints must not speak for us
    replies.write(b"ready\n")
    for line in sys.stdin.buffer:
        answer, target, timeout_seconds = orjson.loads(line)
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds + _LINGER_SECONDS)
        try:
            found = [math_verify.parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (target, answer)]
            is_equal = math_verify.verify(*found, timeout_seconds=None)
        except Exception:  # noqa: BLE001 - whatever a text makes the parser or sympy raise, it is not shown to be equal
            is_equal = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(b"1\n" if is_equal else b"0\n")


if __name__ == "__main__":
    _serve()
