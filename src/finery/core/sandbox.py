"""Runs Python programs that nobody has looked at: each in a process of its own, behind the walls of `core.jail`.

Owns limits, the choice of the strongest walls that this machine allows, and what comes out. What the walls do and do
not keep out stands in docs/threat-model.md.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from finery.core.errors import Unavailable

Level = Literal["full", "network", "limits"]
LEVELS: Final[tuple[Level, ...]] = ("full", "network", "limits")

_JAIL = Path(__file__).with_name("jail.py")
_GRACE_SECONDS = 2.0
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 5
    memory_bytes: int = 512 << 20
    """Address space of each of its processes."""
    file_bytes: int = 16 << 20
    """Largest file; at level `full` all files together."""
    num_processes: int = 16
    """Processes and threads. The interpreter is one of them."""
    num_open_files: int = 64
    output_bytes: int = 1 << 20
    """A program that prints more is killed."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    exit_code: int
    """128 + the signal's number for one that was killed."""
    output: bytes
    """Standard output."""
    complaint: str
    """The end of its standard error."""
    is_late: bool
    """It was killed for its time."""
    is_flood: bool
    """It was killed for its output."""


class Sandbox:
    """Runs programs. Safe for several threads."""

    def __init__(self, limits: Limits, level: Level | None = None):
        """Choose the walls.

        Args:
            limits: Of each program.
            level: None takes the strongest one that works on this machine.

        Raises:
            Unavailable: the level, or every one, does not work here.
        """
        self.limits = limits
        self.level = self._strongest((level,) if level else LEVELS)

    @property
    def gaps(self) -> str:
        """What programs can reach here that they could not at level `full`; empty when nothing."""
        if self.level == "full":
            return ""
        network = "" if self.level == "network" else "the network, "
        return f"{network}files that the user {os.getuid()} may read or write, and its processes"

    def run(self, program: str, stdin: bytes = b"") -> Outcome:
        """Run a program to its end or to its limits.

        Raises:
            Unavailable: the walls cannot be put up any more.
        """
        found, refusal = self._run(program, stdin, self.level)
        if refusal:
            raise Unavailable(refusal)
        return found

    def _strongest(self, levels: Sequence[Level]) -> Level:
        complaints = []
        for level in levels:
            found, refusal = self._run("print('ready')", b"", level)
            if found.output == b"ready\n":
                return level
            complaints.append(f"{level}: {refusal or found.complaint.strip() or f'exit status {found.exit_code}'}")
        raise Unavailable(f"programs cannot be run behind walls on this machine ({'; '.join(complaints)})")

    def _run(self, program: str, stdin: bytes, level: Level) -> tuple[Outcome, str]:
        """How a program ended; and why it was not begun, empty where it was."""
        with tempfile.TemporaryDirectory(prefix="finery-sandbox-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            folder.chmod(0o755)
            (folder / "program.py").write_text(program, encoding="utf-8", errors="replace")
            (folder / "stdin").write_bytes(stdin)
            told, report = os.pipe()
            with os.fdopen(told, "rb", buffering=0) as refusals:
                try:
                    process = self._start(folder, level, report)
                finally:
                    os.close(report)
                with process:
                    outcome = self._follow(process)
                # Nobody is waited for: another thread's fork may hold the other end, but has nothing to say.
                os.set_blocking(told, False)
                return outcome, (refusals.read(_CHUNK_BYTES) or b"").decode("utf-8", "replace")

    def _start(self, folder: Path, level: Level, report: int) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-I", "-S", str(_JAIL), json.dumps(self._settings(level, report)), str(folder)]
        with open(folder / "stdin", "rb") as given:
            return subprocess.Popen(
                argv,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(report,),
                env={},
                cwd="/",
                start_new_session=True,
            )

    def _settings(self, level: Level, report: int) -> dict[str, str | int | float]:
        limits = self.limits
        return {
            "level": level,
            "report": report,
            "wall_seconds": limits.wall_seconds,
            "file_bytes": limits.file_bytes,
            "RLIMIT_CPU": limits.cpu_seconds,
            "RLIMIT_AS": limits.memory_bytes,
            "RLIMIT_FSIZE": limits.file_bytes,
            "RLIMIT_NPROC": limits.num_processes,
            "RLIMIT_NOFILE": limits.num_open_files,
            "RLIMIT_CORE": 0,
        }

    def _follow(self, process: subprocess.Popen[bytes]) -> Outcome:
        """Read what a program prints until it and all that it started have closed it, or its time is over."""
        assert process.stdout is not None
        assert process.stderr is not None
        found: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
        started = time.monotonic()
        deadline = started + self.limits.wall_seconds + _GRACE_SECONDS
        is_flood = False
        with selectors.DefaultSelector() as selector:
            for stream in found:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map() and time.monotonic() < deadline:
                for key, _ in selector.select(timeout=max(0.0, deadline - time.monotonic())):
                    stream = next(one for one in found if one.fileno() == key.fd)
                    chunk = os.read(key.fd, _CHUNK_BYTES)
                    found[stream] += chunk
                    if not chunk:
                        selector.unregister(stream)
                if not is_flood and any(len(text) > self.limits.output_bytes for text in found.values()):
                    is_flood = True
                    process.send_signal(signal.SIGTERM)
                    deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
                if is_flood:
                    for text in found.values():
                        del text[self.limits.output_bytes :]
        code = self._end(process)
        return Outcome(
            exit_code=code,
            output=bytes(found[process.stdout]),
            complaint=bytes(found[process.stderr][-2000:]).decode("utf-8", "replace"),
            is_late=time.monotonic() - started >= self.limits.wall_seconds,
            is_flood=is_flood,
        )

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the jail, which ends with its program; kill what does not."""
        try:
            code = process.wait(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        return code if code >= 0 else 128 - code
