"""Generated problems are right, unique, reproducible and disjoint from what is excluded."""

import itertools
import re
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finery.core.errors import InvalidSpec, Unavailable
from finery.datasets import generators
from finery.datasets.generators import Generated

small_range = st.tuples(st.integers(-6, 6), st.integers(0, 5)).map(lambda r: {"min": r[0], "max": r[0] + r[1]})


def _run(name: str, taken: frozenset[str] = frozenset(), **raw: Any) -> list[Generated]:
    return list(generators.registry.get(name).target(generators.registry.params(name, raw), taken))


def _parse(prompt: str) -> tuple[int, str, int]:
    found = re.fullmatch(r"What is (-?\d+) ([-+*]) (-?\d+)\?", prompt)
    assert found, prompt
    return int(found[1]), found[2], int(found[3])


def _true_answer(left: int, operator: str, right: int) -> int:
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def test_the_answers_are_right_and_the_prompts_unique() -> None:
    made = _run("arithmetic", num_rows=3000, operations=["add", "subtract", "multiply"])

    assert len({problem.prompt for problem in made}) == 3000
    assert {_parse(problem.prompt)[1] for problem in made} == {"+", "-", "*"}
    for problem in made:
        assert str(_true_answer(*_parse(problem.prompt))) == problem.answer == problem.response


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert _run("arithmetic", num_rows=50, seed=3) == _run("arithmetic", num_rows=50, seed=3)
    assert _run("arithmetic", num_rows=50, seed=3) != _run("arithmetic", num_rows=50, seed=4)


def test_the_rows_of_a_seed_are_fixed_for_ever() -> None:
    assert [problem.prompt for problem in _run("arithmetic", num_rows=3)] == [
        "What is 63 + 11?",
        "What is 68 + 91?",
        "What is 6 + 65?",
    ]


def test_operands_have_the_digits_that_are_asked_for() -> None:
    made = _run("arithmetic", num_rows=500, min_digits=2, max_digits=3, right={"min": -4, "max": 4})

    assert all(10 <= _parse(problem.prompt)[0] <= 999 for problem in made)
    assert all(-4 <= _parse(problem.prompt)[2] <= 4 for problem in made)


def test_all_problems_there_are_can_be_asked_for_and_not_one_more() -> None:
    assert len(_run("arithmetic", num_rows=100, max_digits=1)) == 100
    with pytest.raises(InvalidSpec, match=r"only 100 different problems .* num_rows is 101"):
        _run("arithmetic", num_rows=101, max_digits=1)


@settings(deadline=None)
@given(left=small_range, right=small_range, seed=st.integers(0, 99))
def test_differences_without_negative_ones_are_exactly_those_that_exist(
    left: dict[str, int], right: dict[str, int], seed: int
) -> None:
    pairs = itertools.product(range(left["min"], left["max"] + 1), range(right["min"], right["max"] + 1))
    expected = {(a, b) for a, b in pairs if a >= b}
    asked = {"operations": ["subtract"], "allow_negative": False, "left": left, "right": right, "seed": seed}

    if expected:
        made = _run("arithmetic", num_rows=len(expected), **asked)
        assert {_parse(problem.prompt)[::2] for problem in made} == expected
    with pytest.raises(InvalidSpec, match=f"only {len(expected)} different"):
        _run("arithmetic", num_rows=len(expected) + 1, **asked)


def test_excluded_prompts_do_not_appear_not_even_with_their_operands_swapped() -> None:
    test = frozenset(problem.prompt for problem in _run("arithmetic", num_rows=3000, seed=1))

    train = _run("arithmetic", test, num_rows=4000, seed=1)

    asked = {_parse(prompt) for prompt in test}
    assert len(train) == 4000
    for problem in train:
        left, operator, right = _parse(problem.prompt)
        assert (left, operator, right) not in asked
        assert (right, operator, left) not in asked


def test_excluding_too_much_is_an_error_that_counts() -> None:
    taken = frozenset(f"What is {a} + {b}?" for a in range(10) for b in range(5))

    with pytest.raises(InvalidSpec, match="only 25 different problems .* once 75 excluded"):
        _run("arithmetic", taken, num_rows=26, max_digits=1)
    assert len(_run("arithmetic", taken, num_rows=25, max_digits=1)) == 25


def test_a_huge_space_of_problems_costs_nothing() -> None:
    made = _run("arithmetic", num_rows=100, min_digits=9, max_digits=9, operations=["multiply", "add", "subtract"])

    assert len({problem.prompt for problem in made}) == 100


def test_prompt_and_response_are_worded_as_asked() -> None:
    only = {"left": {"min": 3, "max": 3}, "right": {"min": 4, "max": 4}}

    made = _run(
        "arithmetic", num_rows=1, prompt="{left}{operator}{right}=", response="{left}, {right}: {answer}.", **only
    )

    assert made == [Generated("3+4=", "7", "3, 4: 7.", "3, 4: 6.")]


def test_a_wrong_answer_misses_the_right_one_by_a_little_and_has_its_sign() -> None:
    made = _run("arithmetic", num_rows=200, max_digits=1, operations=["add", "subtract"])

    for problem in made:
        right, wrong = int(problem.answer), int(problem.wrong_response)
        assert 0 < abs(right - wrong) <= 10
        assert (right < 0) == (wrong < 0)
    assert made == _run("arithmetic", num_rows=200, max_digits=1, operations=["add", "subtract"])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"prompt": "{left} and"}, "must contain {right}"),
        ({"prompt": "{left} {right}", "operations": ["add", "multiply"]}, "must contain {operator}"),
        ({"prompt": "{left} + {right} {answer}"}, "contains {answer}"),
        ({"prompt": "{left.__class__} {left} {right}"}, None),
        ({"response": "nothing"}, "must contain {answer}"),
        ({"min_digits": 3, "max_digits": 2}, "must not exceed"),
        ({"left": {"min": 2, "max": 1}}, "must not exceed"),
        ({"operations": []}, "at least 1"),
        ({"operations": ["add", "add"]}, "twice"),
        ({"operations": ["divide"]}, "divide"),
        ({"num_rows": 0}, "greater than or equal to 1"),
        ({"max_digits": 12}, "less than or equal to 9"),
        ({"digits": 2}, "unknown key"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(raw: dict[str, Any], reason: str | None) -> None:
    if reason is None:
        assert "{left.__class__}" in _run("arithmetic", num_rows=1, **raw)[0].prompt  # text, never a format string
        return
    with pytest.raises(InvalidSpec) as refused:
        generators.registry.params("arithmetic", raw)
    assert reason in str(refused.value)


def test_a_wording_that_makes_two_problems_look_alike_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="two different problems are both worded"):
        _run("arithmetic", num_rows=9000, prompt="{left}{right}")


def test_every_generator_has_a_summary_and_the_common_parameters() -> None:
    for entry in generators.registry.all():
        assert entry.summary.endswith(".")
        assert issubclass(entry.params, generators.GeneratorParams)
        assert entry.params.model_json_schema()["properties"]["seed"]["description"]


def test_a_task_of_reasoning_gym_gives_unique_problems_that_are_not_excluded() -> None:
    pytest.importorskip("reasoning_gym")
    asked = {"task": "chain_sum", "config": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}
    first = _run("gym", num_rows=40, seed=5, **asked)

    second = _run("gym", frozenset(problem.prompt for problem in first), num_rows=40, seed=5, **asked)

    prompts = [problem.prompt for problem in first + second]
    assert len(set(prompts)) == 80
    assert all(re.fullmatch(r"-?\d+", problem.answer) for problem in first)
    assert first == _run("gym", num_rows=40, seed=5, **asked)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"task": "chainsum"}, "near it are chain_sum"),
        ({"task": "chain_sum", "config": {"foo": 1}}, "config does not fit"),
        ({"task": "chain_sum", "config": {"min_terms": 9, "max_terms": 2}}, "max_terms"),
        ({"task": "chain_sum", "config": {"size": 2}}, "must not contain size"),
        ({"task": "graph_color"}, "no single right answer"),
        (
            {"task": "chain_sum", "num_rows": 5000, "config": {"min_terms": 2, "max_terms": 2, "max_digits": 1}},
            "different problems that are not excluded",
        ),
    ],
)
def test_what_reasoning_gym_cannot_do_is_an_error_in_words(raw: dict[str, Any], reason: str) -> None:
    pytest.importorskip("reasoning_gym")

    with pytest.raises(InvalidSpec) as refused:
        _run("gym", **raw)
    assert reason in str(refused.value)


def test_without_reasoning_gym_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)

    with pytest.raises(Unavailable, match=r"finery\[trl\]"):
        _run("gym", task="chain_sum")
