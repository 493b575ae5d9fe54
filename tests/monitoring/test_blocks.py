"""Packed metrics and their down-sampling."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.monitoring import blocks, downsample
from finery.monitoring.blocks import Axes, Group

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True, width=64)


VALUES = st.lists(st.dictionaries(st.sampled_from(["loss", "lr", "reward"]), ANY_FLOAT), min_size=1, max_size=30)


def as_groups(values: list[dict[str, float]]) -> list[Group]:
    """Each row a group of its own."""
    groups = []
    for i, row in enumerate(values):
        ints = (np.array([number]) for number in (i + 1, i, 10 * i))
        groups.append(Group(tuple(row), Axes(*ints, np.array([i / 2])), np.array([list(row.values())], dtype=float)))
    return groups


def shown(values: list[dict[str, float]]) -> list[dict[str, str]]:
    """Comparable also where a value is NaN."""
    return [{name: repr(float(value)) for name, value in row.items()} for row in values]


@given(VALUES)
def test_packing_and_unpacking_a_block_gives_every_value_back(values: list[dict[str, float]]) -> None:
    groups = as_groups(values)

    axes = blocks.unpack_axes(blocks.pack_axes(groups))
    found: list[dict[str, float]] = [{} for _ in values]
    for name, chunk in blocks.pack_values(groups).items():
        for number, value in zip(*blocks.unpack_values(chunk, len(values)), strict=True):
            found[number][name] = float(value)

    assert axes.steps.tolist() == [10 * i for i in range(len(values))]
    assert axes.times.tolist() == [i / 2 for i in range(len(values))]
    assert shown(found) == shown(values)


@given(VALUES)
def test_packing_and_unpacking_fresh_rows_gives_them_back(values: list[dict[str, float]]) -> None:
    rows = [row for group in blocks.unpack_groups(blocks.pack_groups(as_groups(values))) for row in group.rows()]

    assert [(row.cursor, row.seq, row.step, row.time) for row in rows] == [
        (i + 1, i, 10 * i, i / 2) for i in range(len(values))
    ]
    assert shown([dict(row.values) for row in rows]) == shown(values)


@given(st.lists(st.integers(min_value=1, max_value=9), max_size=12), st.integers(min_value=1, max_value=7))
def test_cutting_loses_no_row_and_keeps_their_order(lengths: list[int], size: int) -> None:
    starts = np.cumsum([0, *lengths]).tolist()
    groups = [
        Group(("loss",), Axes(*(np.arange(start, start + length) for _ in range(4))), np.zeros((length, 1)))
        for start, length in zip(starts, lengths, strict=False)
    ]

    found = blocks.cut(groups, size)

    assert [cursor for part in found for group in part for cursor in group.axes.cursors] == list(range(starts[-1]))
    assert all(sum(map(len, part)) == size for part in found[:-1])
    assert all(0 < sum(map(len, part)) <= size for part in found)


@given(st.lists(ANY_FLOAT, max_size=500), st.integers(min_value=4, max_value=50))
def test_downsampling_keeps_ends_extremes_and_everything_that_is_not_finite(values: list[float], wanted: int) -> None:
    series = np.array(values, dtype=np.float64)

    kept = downsample.keep(series, wanted)

    assert (np.diff(kept) > 0).all()
    assert set(np.flatnonzero(~np.isfinite(series))) <= set(kept.tolist())
    finite = series[np.isfinite(series)]
    if len(finite):
        shown = series[kept][np.isfinite(series[kept])]
        assert shown.max() == finite.max()
        assert shown.min() == finite.min()
        assert shown[0] == finite[0]
        assert shown[-1] == finite[-1]
        assert len(shown) <= max(wanted, 4)


def test_one_spike_among_a_million_points_is_kept() -> None:
    series = np.zeros(1_000_000)
    series[777_777] = 5.0
    series[123_456] = math.nan

    kept = set(downsample.keep(series, 2000).tolist())

    assert {777_777, 123_456} <= kept
    assert len(kept) <= 2001


def test_fewer_than_four_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        downsample.keep(np.zeros(10), 3)
