"""The index of recorded rollouts: where each prompt's completions of a step lie, and what they are like on the whole.

    samples/rollouts.jsonl   one completion a line; those of a prompt at a step are neighbours: a group
    samples/rollouts.index   MAGIC, then one record of `GROUP` for each group, in the same order

With it a run of a million steps is read by looking at one record of some bytes for each group, and at the lines of the
step that is shown. Lines behind the end of the index, such as those of files that never had one, are looked through
instead, the last `MAX_SCANNED` bytes of them. All numbers are little-endian.

Owns the format. Does not own what is in a line beyond the few fields that are summed up here.
"""

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

LINES: Final = "rollouts.jsonl"
INDEX: Final = "rollouts.index"
MAX_SCANNED: Final = 1 << 25
"""Bytes at the end of a file without an index that are looked through."""
NGRAM: Final = 4
"""Words that are compared as one by `diversity`."""

GROUP: Final = np.dtype(
    [
        ("step", "<i8"),
        ("offset", "<i8"),
        ("length", "<i8"),
        ("prompt", "<u8"),
        ("num", "<i4"),
        ("reward", "<f4"),
        ("tokens", "<f4"),
        ("truncated", "<f4"),
        ("diversity", "<f4"),
    ]
)
"""A group: step, where its lines begin and how many bytes they have, key of the prompt, number of completions, and of
these the mean reward, mean length in tokens, share that was cut off, and diversity. NaN is what nobody knows."""

Groups = NDArray[Any]
"""Of `GROUP`, by rising step."""

_MAGIC: Final = b"FINROLL\x01"
_LONGEST_WORD: Final = 24
_WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|[^\w\s]")


class _Line(NamedTuple):
    """A record and its bytes in the file, the end of the line included."""

    record: Mapping[str, Any]
    num_bytes: int


def prompt_key(prompt: str) -> int:
    """The same for the same prompt, in any run; 64 bits."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(errors="replace"), digest_size=8).digest(), "little")


def words(text: str) -> list[str]:
    """Words, signs, and single characters of scripts that do not part words.

    A word of more than 24 letters is no word of people, and is taken letter by letter.
    """
    found = []
    for word in _WORD.findall(text):
        found += [word] if len(word) <= _LONGEST_WORD else list(word)
    return found


def ngrams(text: str) -> list[tuple[str, ...]]:
    """All runs of `NGRAM` words; a shorter text is one."""
    units = words(text)
    return [tuple(units[at : at + NGRAM]) for at in range(max(1, len(units) - NGRAM + 1))]


def diversity(texts: Sequence[str]) -> float:
    """Share of different n-grams among all those of some texts: 1 if nothing is said twice. NaN for no texts."""
    found = [gram for text in texts for gram in ngrams(text)]
    return len(set(found)) / len(found) if found else math.nan


def append(path: Path, records: Sequence[Mapping[str, Any]], offset: int) -> None:
    """Index the records of one step that were appended to `path` at byte `offset`.

    Raises:
        OSError: the disk did not take it; nothing of it is left.
    """
    groups = _summed(
        ((_Line(record, len(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)) + 1)) for record in records),
        offset,
    )
    handle = os.open(path.with_name(INDEX), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(handle).st_size
        start = size - (size - len(_MAGIC)) % GROUP.itemsize if size >= len(_MAGIC) else 0
        data = (b"" if start else _MAGIC) + groups.tobytes()
        os.ftruncate(handle, start)
        if os.pwrite(handle, data, start) != len(data):
            os.ftruncate(handle, start)
            raise OSError(f"{path.with_name(INDEX)}: the disk took only part of a record")
    finally:
        os.close(handle)


def open_groups(path: Path) -> Groups:
    """The groups of a file of rollouts, by rising step: those of its index, mapped into memory, and those behind it.

    Groups that begin behind the end of the file, because it was cut, are left out.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return np.zeros(0, GROUP)
    indexed = _indexed(path.with_name(INDEX), stat.st_size)
    end = int(indexed["offset"][-1] + indexed["length"][-1]) if len(indexed) else 0
    if end >= stat.st_size:
        return indexed
    behind = _scanned(path, end, stat.st_size, stat.st_mtime_ns)
    return np.concatenate([indexed, behind]) if len(indexed) else behind


def read_group(path: Path, group: Any) -> tuple[list[dict[str, Any]], int]:
    """The records of a group, and how many of its lines are lost or damaged."""
    with open(path, "rb") as file:
        file.seek(int(group["offset"]))
        lines = file.read(int(group["length"])).splitlines()
    found = [record for record in map(_parsed, lines) if record is not None]
    return found, max(0, int(group["num"]) - len(found))


def _indexed(path: Path, num_bytes: int) -> Groups:
    try:
        with open(path, "rb") as file:
            is_ours = file.read(len(_MAGIC)) == _MAGIC
            num = (os.fstat(file.fileno()).st_size - len(_MAGIC)) // GROUP.itemsize
    except FileNotFoundError:
        return np.zeros(0, GROUP)
    if not is_ours or num <= 0:
        return np.zeros(0, GROUP)
    groups: Groups = np.memmap(path, GROUP, mode="r", offset=len(_MAGIC), shape=(num,))
    return groups[: first_where(lambda at: bool(groups["offset"][at] >= num_bytes), num)]


def first_where(is_so: Callable[[int], bool], num: int) -> int:
    """The first of the numbers below `num` for which something is so, which is then so for all behind it; else `num`.

    Looks at log2(num) of them, so that a file mapped into memory is not read as a whole.
    """
    low, high = 0, num
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_so(middle) else (middle + 1, high)
    return low


@lru_cache(maxsize=16)
def _scanned(path: Path, start: int, end: int, changed: int) -> Groups:
    """The groups of the whole lines between two bytes; `changed` tells a rewritten file from what is remembered."""
    with open(path, "rb") as file:
        skipped = max(0, end - start - MAX_SCANNED)
        file.seek(start + skipped)
        if skipped:
            start = start + skipped + len(file.readline())
            file.seek(start)
        chunk = file.read(end - start)
    whole = chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True)
    groups = _summed((_Line(_parsed(line) or {}, len(line)) for line in whole), start)
    return groups[np.argsort(groups["step"], kind="stable")]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _summed(lines: Iterator[_Line], offset: int) -> Groups:
    """One record for each run of lines of one step, prompt and group; damaged ones belong to the run before."""
    found: list[tuple[Any, ...]] = []
    last: tuple[Any, ...] = (0, None, "")

    def place(line: _Line) -> tuple[Any, ...]:
        nonlocal last
        if line.record:
            last = (
                _number(line.record.get("step"), 0.0),
                _number(line.record.get("group"), -1.0),
                str(line.record.get("prompt", "")),
            )
        return last

    for (step, _, prompt), run in groupby(lines, key=place):
        members = list(run)
        num_bytes = sum(line.num_bytes for line in members)
        records = [line.record for line in members if line.record]
        if records:
            found.append((int(step), offset, num_bytes, prompt_key(prompt), len(members), *_means(records)))
        offset += num_bytes
    return np.array(found, dtype=GROUP)


def _means(records: Sequence[Mapping[str, Any]]) -> tuple[float, float, float, float]:
    """Mean reward, mean length, share cut off, diversity."""
    rewards = [_number(record.get("reward"), math.nan) for record in records]
    lengths = [_number(record.get("length"), math.nan) for record in records]
    return (
        _mean(rewards),
        _mean(lengths),
        _mean([float(record.get("is_truncated") is True) for record in records]),
        diversity([str(record.get("completion", "")) for record in records]),
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def _number(value: Any, otherwise: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 2**62 else otherwise
