"""The packed form of metrics: arrays of numbers as bytes. Pure.

Per row (one metrics event): cursor, seq, step (int64) and time (float64) once; per metric its values (float64) and,
where it is missing in some rows, the row numbers (uint32). About 9 bytes a point at 30 metrics a step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
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
    """What all metrics of a block share; each array has one entry per row."""

    cursors: Ints
    seqs: Ints
    steps: Ints
    times: Floats


@dataclass(frozen=True)
class Chunk:
    """One metric of a block."""

    rows: bytes | None
    values: bytes


def pack_axes(rows: Sequence[Row]) -> bytes:
    """Encode what the rows share."""
    ints = np.array([[row.cursor, row.seq, row.step] for row in rows], dtype="<i8").reshape(-1, 3).T
    times = np.array([row.time for row in rows], dtype="<f8")
    return ints.tobytes() + times.tobytes()


def unpack_axes(packed: bytes) -> Axes:
    """The inverse of `pack_axes`."""
    num_rows = len(packed) // 32
    ints = np.frombuffer(packed, dtype="<i8", count=3 * num_rows).reshape(3, num_rows)
    times = np.frombuffer(packed, dtype="<f8", offset=24 * num_rows)
    return Axes(ints[0], ints[1], ints[2], times)


def pack_values(rows: Sequence[Row]) -> dict[str, Chunk]:
    """Encode the values of the rows, by metric."""
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for number, row in enumerate(rows):
        for name, value in row.values.items():
            numbers, values = columns.setdefault(name, ([], []))
            numbers.append(number)
            values.append(value)
    return {
        name: Chunk(
            None if len(numbers) == len(rows) else np.array(numbers, dtype="<u4").tobytes(),
            np.array(values, dtype="<f8").tobytes(),
        )
        for name, (numbers, values) in columns.items()
    }


def unpack_values(chunk: Chunk, num_rows: int) -> tuple[NDArray[np.intp], Floats]:
    """Row numbers and values of one metric in one block."""
    values = np.frombuffer(chunk.values, dtype="<f8")
    if chunk.rows is None:
        return np.arange(num_rows), values
    return np.frombuffer(chunk.rows, dtype="<u4").astype(np.intp), values
