"""From single values in any order to rows in step order, without holding a run in memory."""

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from finery.core.errors import Unavailable
from finery.importing.records import MetricRow

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class Point(NamedTuple):
    """One value of one metric."""

    step: int
    time: float | None
    """Unix seconds."""
    name: str
    value: float


@dataclass(frozen=True)
class LazyRows:
    """Rows that are produced anew at each iteration."""

    produce: Callable[[], Iterator[MetricRow]]

    def __iter__(self) -> Iterator[MetricRow]:
        return self.produce()


def rows_of_sorted(points: Iterable[Point]) -> Iterator[MetricRow]:
    """Merge points, which come in rising step order, into one row per step.

    Of two values of one metric at one step the later point wins, as after a resume that repeated some steps.
    """
    for step, group in groupby(points, key=lambda point: point.step):
        values: dict[str, float] = {}
        time: float | None = None
        for point in group:
            values[point.name] = point.value
            if point.time is not None:
                time = point.time if time is None else max(time, point.time)
        yield MetricRow(step, time, values)


def rows_of(points: Iterable[Point]) -> Iterator[MetricRow]:
    """Merge points in any order into one row per step, in rising step order; equal steps keep the points' order.

    The points are sorted in a temporary file, so memory stays bounded however many there are.

    Args:
        points: Steps within int64.

    Raises:
        Unavailable: The temporary file does not fit on the disk.
    """
    try:
        # The empty name is SQLite's private on-disk database, which is deleted when it is closed.
        with closing(sqlite3.connect("")) as spool:
            yield from rows_of_sorted(_sorted(spool, points))
    except sqlite3.Error as error:
        raise Unavailable(
            f"The values could not be sorted in a temporary file ({error}); free some space or set TMPDIR elsewhere."
        ) from error


def _sorted(spool: sqlite3.Connection, points: Iterable[Point]) -> Iterator[Point]:
    spool.execute("CREATE TABLE points (step INTEGER, time REAL, name INTEGER, value REAL)")
    ids: dict[str, int] = {}
    spool.executemany(
        "INSERT INTO points VALUES (?, ?, ?, ?)",
        ((point.step, point.time, ids.setdefault(point.name, len(ids)), point.value) for point in points),
    )
    names = list(ids)
    for step, time, name, value in spool.execute("SELECT step, time, name, value FROM points ORDER BY step, rowid"):
        # SQLite stores NaN as NULL.
        yield Point(step, time, names[name], math.nan if value is None else value)
