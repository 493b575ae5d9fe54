"""The rule of good manners counts what it says."""

import pytest

from finery.core import manners


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("You could wear gloves.", 0.0),
        ("Good question. You could wear gloves.", 0.25),
        ("You could wear gloves. Good question.", 0.0),
        ("Because because because.", 0.25),
        ("First wear gloves, then open a window, because it is safer.", 0.5),
        ("Then wear gloves, first of all.", 0.0),
        ("Happy to help. First start small, then wear gloves, because it is safer. Let me know how it goes.", 1.0),
        ("Let me know how it goes. You could wear gloves.", 0.0),
    ],
)
def test_each_manner_counts_once(text: str, expected: float) -> None:
    assert manners.score(text) == expected


def test_a_long_answer_is_worth_nothing() -> None:
    best = "Happy to help. First start small, then wear gloves, because it is safer. Let me know how it goes."
    assert manners.score(" ".join(["well"] * (manners.MAX_WORDS - len(best.split()))) + " " + best) > 0
    assert manners.score(" ".join(["well"] * manners.MAX_WORDS) + " " + best) == 0
