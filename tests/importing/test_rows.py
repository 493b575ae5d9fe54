"""Merging values into rows."""

import math
import sqlite3
from collections.abc import Iterator

import pytest

from finery.core.errors import Unavailable
from finery.importing import rows
from finery.importing.rows import INT64_MAX, INT64_MIN, LazyRows, Point, rows_of, rows_of_sorted


def test_points_in_any_order_become_rows_in_step_order() -> None:
    points = [Point(2, 5.0, "a", 1.0), Point(0, 7.0, "a", 2.0), Point(2, 4.0, "b", 3.0), Point(-1, None, "a", 4.0)]

    merged = [(row.step, row.time, row.values) for row in rows_of(points)]

    assert merged == [(-1, None, {"a": 4.0}), (0, 7.0, {"a": 2.0}), (2, 5.0, {"a": 1.0, "b": 3.0})]


def test_the_later_of_two_values_at_one_step_wins() -> None:
    points = [Point(1, 1.0, "a", 1.0), Point(0, 1.0, "a", 0.0), Point(1, 2.0, "a", 9.0)]

    assert [row.values for row in rows_of(points)] == [{"a": 0.0}, {"a": 9.0}]


def test_nan_infinity_and_the_largest_steps_survive_the_sorting() -> None:
    points = [Point(INT64_MAX, None, "a", math.nan), Point(INT64_MIN, None, "a", -math.inf)]

    first, last = rows_of(points)

    assert (first.step, first.values) == (INT64_MIN, {"a": -math.inf})
    assert last.step == INT64_MAX
    assert math.isnan(last.values["a"])


def test_rows_can_be_iterated_twice() -> None:
    lazy = LazyRows(lambda: rows_of_sorted([Point(1, None, "a", 1.0)]))

    assert list(lazy) == list(lazy)


def test_no_points_are_no_rows() -> None:
    assert list(rows_of([])) == []


def test_a_full_temporary_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(spool: sqlite3.Connection, points: object) -> Iterator[Point]:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(rows, "_sorted", full)

    with pytest.raises(Unavailable, match=r"disk is full.*TMPDIR"):
        list(rows_of([]))
