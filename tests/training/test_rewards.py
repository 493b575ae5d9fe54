"""What each reward gives for which completion."""

from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.training import rewards


def score(name: str, completion: str, answer: object, **params: Any) -> float:
    entry = rewards.registry.get(name)
    [found] = entry.target([completion], [{"answer": answer}], rewards.registry.params(name, params))
    return found


@pytest.mark.parametrize(
    ("completion", "answer", "params", "expected"),
    [
        ("42", "42", {}, 1.0),
        (" 42\n", "42", {}, 1.0),
        ("42", 42, {}, 1.0),
        ("42.0", "42", {}, 0.0),
        ("the answer is 42", "42", {}, 0.0),
        ("", "42", {}, 0.0),
        ("paris", "Paris", {}, 0.0),
        ("paris", "Paris", {"ignore_case": True}, 1.0),
    ],
)
def test_exact_wants_the_answer_alone(completion: str, answer: object, params: dict[str, Any], expected: float) -> None:
    assert score("exact", completion, answer, **params) == expected


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("The answer is 42.", "42", 1.0),
        ("so we get \\boxed{1/2}", "0.5", 1.0),
        ("\\boxed{\\frac{1}{2}}", "1/2", 1.0),
        ("#### 1,000", "1000", 1.0),
        ("first 42, then 43", "42", 0.0),
        ("\\boxed{41}", "42", 0.0),
        ("", "42", 0.0),
        ("I do not know", "42", 0.0),
    ],
)
def test_math_equal_takes_the_answer_out_and_compares_it_as_mathematics(
    completion: str, answer: str, expected: float
) -> None:
    assert score("math_equal", completion, answer) == expected


@pytest.mark.parametrize(
    ("completion", "params", "expected"),
    [
        ("<think>2 and 2</think>\n<answer>4</answer>", {}, 1.0),
        ("\n <think></think><answer></answer> ", {}, 1.0),
        ("<answer>4</answer>", {}, 0.0),
        ("<think>2</think><answer>4</answer> and so on", {}, 0.0),
        ("17", {"pattern": r"\d+"}, 1.0),
        ("17 apples", {"pattern": r"\d+"}, 0.0),
        ("", {"pattern": r"\d*"}, 1.0),
    ],
)
def test_format_wants_the_whole_completion_to_match(completion: str, params: dict[str, Any], expected: float) -> None:
    assert score("format", completion, "unused", **params) == expected


def test_format_refuses_a_pattern_that_is_none() -> None:
    with pytest.raises(InvalidSpec, match="no regular expression"):
        rewards.registry.params("format", {"pattern": "("})


def test_an_unknown_reward_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InvalidSpec, match="exact, format, math_equal"):
        rewards.registry.get("exactly")


@pytest.mark.parametrize("name", ["exact", "math_equal", "format"])
def test_each_completion_gets_its_own_score_in_order(name: str) -> None:
    entry = rewards.registry.get(name)
    params = rewards.registry.params(name, {"pattern": r"\d"} if name == "format" else {})

    found = entry.target(["7", "x", "7"], [{"answer": "7"}] * 3, params)

    assert found == [1.0, 0.0, 1.0]
