"""JSON without surprises."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.datasets import strictjson

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' is given twice"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": 1e999}', "beyond the range of floats"),
        (b'{"a": ' + b"9" * 5000 + b"}", "limit"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": "\u4f60\u597d"}'.encode("gb18030"), "not UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper"),
        (b'{"a": 1', "not valid JSON"),
        (b'{"a": 1} {"b": 2}', "Extra data at column 10"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": "tab\there"}', "control character"),
        (b"", "not valid JSON"),
    ],
)
def test_what_readers_could_take_differently_is_an_error_in_words(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"(?i){reason}"):
        strictjson.parse(raw)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": math.nan}, "nan is no JSON number"),
        ({"a": [math.inf]}, "inf is no JSON number"),
        ({"a": 2**63}, "beyond 64 bits"),
        ({"a": "\ud800"}, "surrogate"),
        ({"a": b"bytes"}, "type bytes"),
        ({1: "a"}, "key 1 is not text"),
    ],
)
def test_what_json_cannot_carry_is_not_written(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        strictjson.encode(value)


def test_depth_is_limited_when_writing_too() -> None:
    value: object = 1
    for _ in range(100):
        value = [value]

    with pytest.raises(ValueError, match="nested deeper"):
        strictjson.encode(value)


@given(value=plain)
def test_plain_data_survives_a_round_trip(value: object) -> None:
    assert strictjson.parse(strictjson.encode(value)) == value


@given(value=plain)
def test_it_agrees_with_the_standard_library(value: object) -> None:
    assert strictjson.parse(json.dumps(value).encode()) == value
