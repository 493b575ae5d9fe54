"""Down-sampling that keeps extremes. Pure.

A line chart of w pixels shows, per pixel column, where the line enters, its lowest and highest value and where it
leaves; keeping those four points per bucket draws the same line (M4, Jugel et al., VLDB 2014). Points that are not
finite are always kept: a single NaN among a million steps is what one looks for.
"""

import numpy as np
from numpy.typing import NDArray


def keep(values: NDArray[np.float64], max_points: int) -> NDArray[np.intp]:
    """Indices of the points to keep, rising.

    Args:
        values: Series in order, shape (n,).
        max_points: Wanted number of finite points, at least 4; fewer than n are chosen only when n is larger.

    Returns:
        Indices, shape (m,): m <= max_points plus the number of non-finite points.
    """
    if max_points < 4:
        raise ValueError(f"max_points must be at least 4, but it is {max_points}")
    if len(values) <= max_points:
        return np.arange(len(values))
    is_finite = np.isfinite(values)
    finite = np.flatnonzero(is_finite)
    if len(finite) <= max_points:
        return np.arange(len(values)) if is_finite.all() else np.union1d(finite, np.flatnonzero(~is_finite))
    num_buckets = max_points // 4
    starts = np.linspace(0, len(finite), num_buckets + 1).astype(np.intp)[:-1]
    ends = np.append(starts[1:], len(finite))
    shown = values[finite]
    chosen = [starts, ends - 1]
    size = int((ends - starts).max())
    # Buckets differ by one point at most: short ones repeat their last point, which changes neither extreme.
    grid = np.minimum(starts[:, None] + np.arange(size), ends[:, None] - 1)
    table = shown[grid]
    lines = np.arange(num_buckets)
    chosen.append(grid[lines, table.argmin(axis=1)])
    chosen.append(grid[lines, table.argmax(axis=1)])
    picked = finite[np.unique(np.concatenate(chosen))]
    return np.union1d(picked, np.flatnonzero(~is_finite))
