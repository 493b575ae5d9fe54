"""The packed form of metrics: arrays of numbers as bytes. Pure.

Per row (one metrics event): cursor, seq, step (int64) and time (float64) once; per metric its values (float64) and,
where it is missing in some rows, the row numbers (uint32). About 9 bytes a point at 30 metrics a step.

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
    """Encode groups as they are: per group the length of a header, the header, axes and values."""
    parts = []
    for group in groups:
        header = orjson.dumps({"names": group.names, "num_rows": len(group)})
        values = np.ascontiguousarray(group.values_RM, dtype="<f8").tobytes()
        parts += [struct.pack("<I", len(header)), header, pack_axes([group]), values]
    return b"".join(parts)


def unpack_groups(packed: bytes) -> list[Group]:
    """The inverse of `pack_groups`."""
    groups = []
    at = 0
    while at < len(packed):
        (length,) = struct.unpack_from("<I", packed, at)
        header = orjson.loads(packed[at + 4 : at + 4 + length])
        names, num_rows = tuple(header["names"]), header["num_rows"]
        at += 4 + length
        axes = unpack_axes(packed[at : at + 32 * num_rows])
        at += 32 * num_rows
        values = np.frombuffer(packed, dtype="<f8", count=num_rows * len(names), offset=at)
        at += 8 * num_rows * len(names)
        groups.append(Group(names, axes, values.reshape(num_rows, len(names))))
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
    """Encode what the rows share."""
    ints = [np.concatenate([getattr(group.axes, name) for group in groups]) for name in ("cursors", "seqs", "steps")]
    times = np.concatenate([group.axes.times for group in groups])
    return b"".join(column.astype("<i8").tobytes() for column in ints) + times.astype("<f8").tobytes()


def unpack_axes(packed: bytes) -> Axes:
    """The inverse of `pack_axes`."""
    num_rows = len(packed) // 32
    ints = np.frombuffer(packed, dtype="<i8", count=3 * num_rows).reshape(3, num_rows)
    times = np.frombuffer(packed, dtype="<f8", offset=24 * num_rows)
    return Axes(ints[0], ints[1], ints[2], times)


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
    if chunk.rows is None:
        return np.arange(num_rows), values
    return np.frombuffer(chunk.rows, dtype="<u4").astype(np.intp), values
