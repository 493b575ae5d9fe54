"""What scores say: the best, and from where on a run over-fits; known answers and what must hold for any scores."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from finery.evaluation import statistics
from finery.experiments import timeline
from finery.experiments.timeline import Scored


def scored(step: int, solved: str, *, is_on_path: bool = True) -> Scored:
    """A checkpoint that has solved the problems at which `solved` has a 1."""
    return Scored(step, step, is_on_path, bytes(map(int, solved)))


def marked(*rows: Scored) -> tuple[list[int], set[int]]:
    return [one.step for one in timeline.best(rows)], timeline.over_fitting(rows)


def test_the_best_is_the_highest_and_of_equal_ones_the_earlier() -> None:
    rows = [scored(3, "1100"), scored(2, "0110"), scored(1, "1000")]

    assert [one.step for one in timeline.best(rows, 2)] == [2, 3]
    assert timeline.best([]) == []


def test_worse_within_noise_is_no_over_fitting_and_beyond_it_is() -> None:
    """Five problems lost and none gained has p = 1/16, six has 1/32."""
    assert statistics.mcnemar_exact(0, 5) > 0.05 > statistics.mcnemar_exact(0, 6)
    best = scored(10, "11111111")

    assert marked(best, scored(20, "00000111")) == ([10], set())
    assert marked(best, scored(20, "00000011")) == ([10], {20})


def test_what_came_before_the_best_or_was_left_behind_does_not_over_fit() -> None:
    poor, best = scored(10, "00000000"), scored(20, "11111111")

    assert marked(poor, best) == ([20], set())
    assert marked(best, scored(30, "00000000", is_on_path=False)) == ([20], set())
    left = scored(20, "11111111", is_on_path=False)
    assert marked(left, scored(10, "11111110"), scored(30, "00000000")) == ([20], {30})


def test_other_problems_cannot_be_compared() -> None:
    assert marked(scored(10, "11111111"), scored(20, "0000000")) == ([10], set())


def asked(**changes: Any) -> dict[str, Any]:
    return {
        "benchmark": {"name": "arithmetic", "params": {}},
        "data": "sums",
        "limit": None,
        "max_new_tokens": 8,
        "batch_size": 4,
    } | changes


def test_a_series_is_what_was_asked_on_which_data() -> None:
    inputs = {"sums": {"sha256": "a" * 64}, "other": {"sha256": "a" * 64}}
    key = timeline.series(asked(), inputs).key

    assert timeline.series(asked(batch_size=64), inputs).key == key
    assert timeline.series(asked(data="other"), inputs).key == key  # the same rows under another name
    assert timeline.series(asked(), {"sums": {"sha256": "b" * 64}}).key != key
    for change in ({"limit": 5}, {"max_new_tokens": 9}, {"benchmark": {"name": "math", "params": {}}}):
        assert timeline.series(asked(**change), inputs).key != key
    assert timeline.series(asked(limit=5), inputs).label == "arithmetic · sums · first 5"


@given(st.lists(st.tuples(st.integers(0, 20), st.binary(min_size=12, max_size=12), st.booleans()), max_size=12))
def test_marks_hold_for_any_scores(rows: list[tuple[int, bytes, bool]]) -> None:
    made = [
        Scored(number, step, is_on_path, bytes(byte % 2 for byte in outcomes))
        for number, (step, outcomes, is_on_path) in enumerate(rows)
    ]
    best = timeline.best(made)
    worse = {one.checkpoint: one for one in made if one.checkpoint in timeline.over_fitting(made)}

    assert all(one.accuracy <= best[0].accuracy for one in made)
    top = next(iter(timeline.best([one for one in made if one.is_on_path])), None)
    for one in worse.values():
        assert top is not None
        assert one.is_on_path
        assert one.step > top.step
        assert sum(top.outcomes) - sum(one.outcomes) >= 6  # fewer cannot be significant
