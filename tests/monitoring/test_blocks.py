"""Packed metrics and their down-sampling."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.monitoring import blocks, downsample
from finery.monitoring.blocks import Row

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(st.lists(st.dictionaries(st.sampled_from(["loss", "lr", "reward"]), ANY_FLOAT), max_size=30))
def test_packing_and_unpacking_gives_every_value_back(values: list[dict[str, float]]) -> None:
    rows = [Row(i + 1, i, i / 2, 10 * i, row) for i, row in enumerate(values)]

    axes = blocks.unpack_axes(blocks.pack_axes(rows))
    found: list[dict[str, float]] = [{} for _ in rows]
    for name, chunk in blocks.pack_values(rows).items():
        for number, value in zip(*blocks.unpack_values(chunk, len(rows)), strict=True):
            found[number][name] = float(value)

    assert axes.steps.tolist() == [row.step for row in rows]
    assert axes.times.tolist() == [row.time for row in rows]
    assert [{k: repr(v) for k, v in row.items()} for row in found] == [
        {k: repr(v) for k, v in row.items()} for row in values
    ]


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
