"""Reads what lies in a run directory of this machine: output, provenance. No session."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from finery.core.carried import Carried, LiveSet
from finery.core.rundir import RunDir
from finery.jobs.specs import LogPage
from finery.jobs.tables import Attempt

_PROVENANCE = "provenance.json"


def read_log(run_dir: Path, attempt: int, *, offset: int, max_bytes: int) -> LogPage:
    """A piece of the child's output.

    Args:
        run_dir: The attempt's directory.
        attempt: Its number.
        offset: First byte; a negative one counts from the end.
        max_bytes: Longest piece.
    """
    path = RunDir(run_dir).stdout
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return LogPage(attempt=attempt, offset=0, next_offset=0, num_bytes=0, text="")
    start = max(0, size + offset) if offset < 0 else min(offset, size)
    with open(path, "rb") as file:
        file.seek(start)
        chunk = _whole_characters(file.read(max_bytes))
    text = chunk.decode("utf-8", "replace")
    return LogPage(attempt=attempt, offset=start, next_offset=start + len(chunk), num_bytes=size, text=text)


def read_provenance(run_dir: Path) -> dict[str, Any] | None:
    """What the child recorded about its surroundings; None before it has."""
    try:
        found: dict[str, Any] = orjson.loads((run_dir / _PROVENANCE).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return found


def read_sets(attempt: Attempt) -> Sequence[LiveSet]:
    """Changes of live settings that hold in an attempt; those that it began with where its files are gone."""
    try:
        return RunDir(Path(attempt.run_dir)).read_carried().sets
    except (OSError, ValueError):
        return Carried.model_validate(attempt.run_spec.get("carried", {})).sets


def _whole_characters(chunk: bytes) -> bytes:
    """Leave a character that is cut at the end for the next piece."""
    for back in range(1, min(4, len(chunk)) + 1):
        byte = chunk[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return chunk if back >= needed or back == len(chunk) else chunk[:-back]
    return chunk
