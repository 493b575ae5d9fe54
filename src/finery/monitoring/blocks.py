"""The packed form of metrics: arrays of numbers as bytes. Pure.

Per row (one metrics event): its time (float64) and, where they do not simply count up, its step, cursor and seq (int64)
once; per metric its values (float64) and, where it is missing in some rows, the row numbers (uint32). About 8.5 bytes a
point at 30 metrics a step.

Dimensions: R rows, M metrics.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

ROWS: Final = 1024
"""Rows per block."""

_EVEN: Final = struct.Struct("<Bqq")
"""Of a column that rises by the same each row: 1, its first number, the rise."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Row(NamedTuple):
    """One metrics event."""

    cursor: int
    seq: int
    time: float
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Axes:
    """What all metrics of some rows share; each array has one entry per row."""

    cursors: Ints
    seqs: Ints
    steps: Ints
    times: Floats

    def __len__(self) -> int:
        return len(self.cursors)

    def part(self, rows: slice | NDArray[np.bool_]) -> "Axes":
        """The same of some of the rows."""
        return Axes(self.cursors[rows], self.seqs[rows], self.steps[rows], self.times[rows])


@dataclass(frozen=True)
class Group:
    """Rows in a row that have the same metrics."""

    names: tuple[str, ...]
    axes: Axes
    values_RM: Floats

    def __len__(self) -> int:
        return len(self.axes)

    def part(self, rows: slice | NDArray[np.bool_]) -> "Group":
        """Some of the rows."""
        return Group(self.names, self.axes.part(rows), self.values_RM[rows])

    def rows(self) -> Iterator[Row]:
        """One by one."""
        axes = self.axes
        columns = (axes.cursors.tolist(), axes.seqs.tolist(), axes.times.tolist(), axes.steps.tolist())
        for cursor, seq, time, step, values in zip(*columns, self.values_RM.tolist(), strict=True):
            yield Row(cursor, seq, time, step, dict(zip(self.names, values, strict=True)))


@dataclass(frozen=True)
class Chunk:
    """One metric of a block."""

    rows: bytes | None
    values: bytes


def pack_groups(groups: Sequence[Group]) -> bytes:
    """Encode groups as they are: per group the lengths of names and axes, then these, then the values."""
    parts = []
    for group in groups:
        header = orjson.dumps(group.names)
        values = np.ascontiguousarray(group.values_RM, dtype="<f8").tobytes()
        axes = pack_axes([group])
        parts += [struct.pack("<II", len(header), len(axes)), header, axes, values]
    return b"".join(parts)


def unpack_groups(packed: bytes) -> list[Group]:
    """The inverse of `pack_groups`."""
    groups = []
    at = 0
    while at < len(packed):
        header_size, axes_size = struct.unpack_from("<II", packed, at)
        at += 8
        names = tuple(orjson.loads(packed[at : at + header_size]))
        at += header_size
        axes = unpack_axes(packed[at : at + axes_size])
        at += axes_size
        values = np.frombuffer(packed, dtype="<f8", count=len(axes) * len(names), offset=at)
        at += 8 * len(axes) * len(names)
        groups.append(Group(names, axes, values.reshape(len(axes), len(names))))
    return groups


def cut(groups: Sequence[Group], size: int) -> list[list[Group]]:
    """The same rows in lists of `size` rows; the last may have fewer."""
    found: list[list[Group]] = []
    room = 0
    for group in groups:
        start = 0
        while start < len(group):
            if room == 0:
                found.append([])
                room = size
            taken = group.part(slice(start, start + room))
            found[-1].append(taken)
            start += len(taken)
            room -= len(taken)
    return found


def pack_axes(groups: Sequence[Group]) -> bytes:
    """Encode what the rows share: their number, times, then steps, cursors and seqs.

    A column of whole numbers that rises by the same each row, as most do, is its first number and the rise.
    """
    times = np.concatenate([group.axes.times for group in groups])
    parts = [struct.pack("<I", len(times)), times.astype("<f8").tobytes()]
    for name in ("steps", "cursors", "seqs"):
        column = np.concatenate([getattr(group.axes, name) for group in groups])
        rises = np.diff(column)
        if len(column) and (rises == rises[:1]).all():
            parts.append(_EVEN.pack(1, int(column[0]), int(rises[0]) if len(rises) else 0))
        else:
            parts.append(b"\0" + column.astype("<i8").tobytes())
    return b"".join(parts)


def unpack_axes(packed: bytes) -> Axes:
    """The inverse of `pack_axes`."""
    rows = np.arange(num_rows(packed))
    times, steps, at = _take_times_and_steps(packed, rows)
    cursors, at = _take_column(packed, at, len(rows), rows)
    seqs, _ = _take_column(packed, at, len(rows), rows)
    return Axes(cursors, seqs, steps, times)


def take_times_and_steps(packed: bytes, rows: NDArray[np.intp]) -> tuple[Floats, Ints]:
    """Times and steps of some rows of packed axes, without unpacking the others."""
    times, steps, _ = _take_times_and_steps(packed, rows)
    return times, steps


def unpack_steps(packed: bytes) -> Ints:
    """The steps of packed axes alone."""
    rows = np.arange(num_rows(packed))
    steps, _ = _take_column(packed, 4 + 8 * len(rows), len(rows), rows)
    return steps


def num_rows(packed: bytes) -> int:
    """Rows of packed axes."""
    (number,) = struct.unpack_from("<I", packed)
    return int(number)


def _take_times_and_steps(packed: bytes, rows: NDArray[np.intp]) -> tuple[Floats, Ints, int]:
    number = num_rows(packed)
    times = np.frombuffer(packed, dtype="<f8", offset=4, count=number)[rows]
    steps, at = _take_column(packed, 4 + 8 * number, number, rows)
    return times, steps, at


def _take_column(packed: bytes, at: int, number: int, rows: NDArray[np.intp]) -> tuple[Ints, int]:
    """Entries of the column that begins at a byte, and where the next column begins."""
    if packed[at]:
        _, first, rise = _EVEN.unpack_from(packed, at)
        return first + rise * rows, at + _EVEN.size
    column = np.frombuffer(packed, dtype="<i8", offset=at + 1, count=number)
    return column[rows], at + 1 + 8 * number


def pack_values(groups: Sequence[Group]) -> dict[str, Chunk]:
    """Encode the values of the rows, by metric."""
    numbers: dict[str, list[NDArray[np.uint32]]] = {}
    values: dict[str, list[Floats]] = {}
    num_rows = 0
    for group in groups:
        rows = np.arange(num_rows, num_rows + len(group), dtype="<u4")
        columns_MR = np.ascontiguousarray(group.values_RM.T, dtype="<f8")
        for name, column in zip(group.names, columns_MR, strict=True):
            numbers.setdefault(name, []).append(rows)
            values.setdefault(name, []).append(column)
        num_rows += len(group)
    return {
        name: Chunk(
            None if sum(map(len, parts)) == num_rows else b"".join(part.tobytes() for part in parts),
            b"".join(part.tobytes() for part in values[name]),
        )
        for name, parts in numbers.items()
    }


def unpack_values(chunk: Chunk, num_rows: int) -> tuple[NDArray[np.intp], Floats]:
    """Row numbers and values of one metric in one block."""
    values = np.frombuffer(chunk.values, dtype="<f8")
    return rows_of(chunk.rows, num_rows), values


def rows_of(rows: bytes | None, num_rows: int) -> NDArray[np.intp]:
    """Row numbers of a chunk of a block of `num_rows`."""
    return np.arange(num_rows) if rows is None else np.frombuffer(rows, dtype="<u4").astype(np.intp)
