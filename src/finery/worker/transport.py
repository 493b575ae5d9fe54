"""How the platform reaches a run directory: read a stream, append a command, fetch a file. Nothing else crosses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from finery.core import rundir

_READ_BYTES = 1 << 20
"""Of a stream in one turn: about a block of 30 metrics, so that others get theirs soon."""


class RunTransport(Protocol):
    """One attempt's directory, wherever it lies."""

    def streams(self) -> list[str]:
        """Names of the event writers."""
        ...

    def read(self, writer: str, offset: int) -> tuple[list[bytes], int]:
        """Whole lines of a stream after a byte offset, and the offset after them."""
        ...

    def append_control(self, command: Mapping[str, Any]) -> None:
        """Append one command for the child."""
        ...

    def exit(self) -> rundir.ExitRecord | None:
        """How the child ended, once that is known."""
        ...


class LocalTransport:
    """A directory of this machine."""

    def __init__(self, path: Path):
        self._dir = rundir.RunDir(path)

    def streams(self) -> list[str]:
        return sorted(path.stem for path in self._dir.events.glob("*.jsonl"))

    def read(self, writer: str, offset: int) -> tuple[list[bytes], int]:
        return rundir.read_new_lines(self._dir.events / f"{writer}.jsonl", offset, max_bytes=_READ_BYTES)

    def append_control(self, command: Mapping[str, Any]) -> None:
        rundir.append_line(self._dir.control, command)

    def exit(self) -> rundir.ExitRecord | None:
        return self._dir.read_exit()
