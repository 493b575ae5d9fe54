"""What a launcher tells of a cluster: each change once, and not each breath of a machine's memory."""

import pytest

from finery.core.events import ClusterNode
from finery.runtime.cluster.watch import steadied

GB = 1e9


def node(free: float | None, **changes: float) -> ClusterNode:
    memory = {} if free is None else {"memory": free}
    total = {} if free is None else {"memory": 100 * GB}
    return ClusterNode(
        id="1f2e",
        host="head",
        address="10.0.0.1",
        is_alive=True,
        is_head=True,
        total={"GPU": 8.0, **total},
        free={"GPU": 8.0, **memory, **changes},
    )


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [(50, 54, 50), (50, 46, 50), (50, 56, 56), (50, 44, 44), (None, 54, 54), (50, None, None)],
)
def test_free_memory_is_told_anew_once_it_has_moved_by_a_twentieth(
    before: float | None, now: float | None, told: float | None
) -> None:
    first, second, expected = (node(None if value is None else value * GB) for value in (before, now, told))

    assert steadied(second, first) == expected
    assert steadied(second, None) == second


def test_a_slow_drift_is_told_in_the_end() -> None:
    shown = node(50 * GB)
    for free in range(50, 40, -1):
        shown = steadied(node(free * GB), shown)

    assert shown.free["memory"] == 44 * GB


def test_other_resources_are_told_as_they_are() -> None:
    assert steadied(node(51 * GB, GPU=2.0), node(50 * GB)).free == {"GPU": 2.0, "memory": 50 * GB}
