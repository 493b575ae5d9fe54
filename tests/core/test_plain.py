"""What plain data may hold, and how the first thing that it may not is named."""

import math

import pytest

from finery.core.plain import MAX_DEPTH, complaint


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**63 - 1,
        1e308,
        "",
        "text, 文字, \N{GRINNING FACE}\n",
        [],
        {"a": [{"b": None}]},
        nested(MAX_DEPTH),
    ],
)
def test_what_every_database_keeps_is_taken(value: object) -> None:
    assert complaint(value) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "JSON has no such number"),
        (-math.inf, "JSON has no such number"),
        (2**63, "beyond 64 bits"),
        (-(2**63) - 1, "beyond 64 bits"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogate"),
        ({"\udfff": 1}, "surrogate"),
        ({"a\0": 1}, "NUL"),
        (nested(MAX_DEPTH + 1), "nested deeper"),
    ],
)
def test_what_some_cannot_keep_is_refused_wherever_it_stands(value: object, words: str) -> None:
    assert words in complaint(value)
    assert words in complaint({"task": {"config": [1, value]}})


def test_the_place_is_named_and_can_be_printed() -> None:
    assert complaint({"task": {"config": [1, {"x": math.nan}]}}).startswith("task.config.1.x is nan")
    assert complaint({"a": {"\ud800": 1}}).isascii()
