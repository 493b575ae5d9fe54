"""Advice: the preferred answer has better manners, and a model of all answers has a little of each."""

import statistics

import pytest

from finery.core import manners
from finery.core.errors import InvalidSpec
from finery.datasets.generators import Generated, registry


def rows(taken: set[str] | None = None, **params: object) -> list[Generated]:
    checked = registry.params("advice", params)
    return list(registry.get("advice").target(checked, taken or set()))


def test_the_preferred_answer_is_better() -> None:
    for row in rows(format="preference", num_rows=300):
        assert manners.score(row.response) > manners.score(row.wrong_response)


def test_answers_have_as_much_of_each_manner_as_asked() -> None:
    found = rows(format="sft", num_rows=800, manner_share=0.3)
    assert statistics.mean(manners.score(row.response) for row in found) == pytest.approx(0.3, abs=0.03)
    for pattern in manners.MANNERS.values():
        assert 0.2 < statistics.mean(bool(pattern.search(row.response)) for row in found) < 0.4


def test_questions_are_different_and_not_those_taken() -> None:
    first = {row.prompt for row in rows(num_rows=500)}
    second = {row.prompt for row in rows(first, num_rows=300)}
    assert len(first) == 500
    assert len(second) == 300
    assert not first & second
    with pytest.raises(InvalidSpec, match="only 300 different questions are left"):
        rows(first, num_rows=301)


def test_without_parameters_there_are_preferences() -> None:
    found = rows()
    assert len(found) == 500
    assert all(row.wrong_response for row in found)
    assert registry.params("advice", {}).format == "preference"


def test_questions_alone_are_for_rollouts() -> None:
    found = rows(format="verifiable", num_rows=800)
    assert len({row.prompt for row in found}) == 800
    assert {row.answer for row in found} == {""}


def test_the_same_seed_gives_the_same_rows() -> None:
    assert rows(seed=4, num_rows=20) == rows(seed=4, num_rows=20)
    assert rows(seed=4, num_rows=20) != rows(seed=5, num_rows=20)
