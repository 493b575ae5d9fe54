"""What the rewards that look at the text alone give for which completion."""

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


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("B", "B", 1.0),
        (" (b)", "B", 0.0),
        ("The answer is (B).", "B", 1.0),
        ("The answer is B because of C", "B", 1.0),
        ("\\boxed{C}", "C", 1.0),
        ("B) Paris", "B", 1.0),
        ("B. Paris", "b", 1.0),
        ("**D**", "D", 1.0),
        ("Of (A) and (C), only the second holds: (C)", "C", 1.0),
        ("\u7b54\u6848\uff1aA", "A", 1.0),
        ("<think>surely (A)</think>It is (D)", "D", 1.0),
        ("A man walks into a bar", "A", 0.0),
        ("I think that Douglas is right", "D", 0.0),
        ("The answer is E", "E", 0.0),
        ("", "A", 0.0),
    ],
)
def test_choice_wants_the_letter_that_was_chosen(completion: str, answer: str, expected: float) -> None:
    assert score("choice", completion, answer) == expected


def test_choice_knows_the_options_that_it_is_told() -> None:
    assert score("choice", "The answer is E", "E", letters="ABCDE") == 1.0
    with pytest.raises(InvalidSpec, match="letters"):
        rewards.registry.params("choice", {"letters": "abc"})


@pytest.mark.parametrize(
    ("completion", "params", "expected"),
    [
        ("x" * 10, {"min": 5, "max": 10}, 1.0),
        ("x" * 11, {"min": 5, "max": 10}, 0.0),
        ("x" * 4, {"min": 5, "max": 10}, 0.0),
        ("x" * 12, {"max": 10, "slack": 4}, 0.5),
        ("x" * 3, {"min": 5, "max": 10, "slack": 4}, 0.5),
        ("x" * 20, {"max": 10, "slack": 4}, 0.0),
        ("  padded  ", {"min": 6, "max": 6}, 1.0),
        ("one two three", {"unit": "words", "max": 3}, 1.0),
        ("\u4f60\u597d\u5417", {"unit": "words", "max": 2}, 0.0),
    ],
)
def test_length_falls_outside_the_wanted_range(completion: str, params: dict[str, Any], expected: float) -> None:
    assert score("length", completion, "unused", **params) == expected


def test_length_refuses_a_range_that_is_none() -> None:
    with pytest.raises(InvalidSpec, match=r"min \(9\) must not be above max \(3\)"):
        rewards.registry.params("length", {"min": 9, "max": 3})


@pytest.mark.parametrize(
    ("completion", "params", "expected"),
    [
        ("every word is another", {}, 0.0),
        ("a b c a b c", {}, 3 / 4 - 1),
        ("no no no no", {"ngram": 1}, 1 / 4 - 1),
        ("\u597d\u597d\u597d\u597d", {"ngram": 2}, 1 / 3 - 1),
        ("abab", {"ngram": 2, "unit": "characters"}, 2 / 3 - 1),
        ("too short", {}, 0.0),
        ("", {}, 0.0),
    ],
)
def test_repetition_takes_away_what_was_said_before(completion: str, params: dict[str, Any], expected: float) -> None:
    assert score("repetition", completion, "unused", **params) == pytest.approx(expected)


def test_format_refuses_a_pattern_that_is_none() -> None:
    with pytest.raises(InvalidSpec, match="no regular expression"):
        rewards.registry.params("format", {"pattern": "("})


def test_an_unknown_reward_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InvalidSpec, match="known: choice, code_tests, exact, format, length, llm_judge"):
        rewards.registry.get("exactly")


@pytest.mark.parametrize("name", ["exact", "math_equal", "format"])
def test_each_completion_gets_its_own_score_in_order(name: str) -> None:
    entry = rewards.registry.get(name)
    params = rewards.registry.params(name, {"pattern": r"\d"} if name == "format" else {})

    found = entry.target(["7", "x", "7"], [{"answer": "7"}] * 3, params)

    assert found == [1.0, 0.0, 1.0]
