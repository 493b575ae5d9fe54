"""JSON without surprises: what two readers could take for different things is an error.

Refused besides bad syntax: a key given twice (readers keep the first or the last), NaN and Infinity (JSON has neither),
numbers beyond float or 64-bit range, half of a surrogate pair, text that is not UTF-8, more than MAX_DEPTH levels.
"""

import json
import math
from typing import Any, NoReturn

import orjson

MAX_DEPTH = 64


def parse(raw: bytes) -> Any:
    """Read one JSON value.

    Raises:
        ValueError: in words that say what is wrong and where in the value.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start + 1} of the row); save the file as UTF-8") from error
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from error


def encode(value: Any) -> bytes:
    """Write plain data as one line of JSON.

    Raises:
        ValueError: the data holds something that JSON cannot carry.
    """
    _check(value, 1)
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not text")
            _check(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    else:
        _check_scalar(value)


def _check_scalar(value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError("text holds half of a surrogate pair (\\ud800...\\udfff alone)")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no JSON number")
    elif not isinstance(value, int):
        raise ValueError(f"a value of type {type(value).__name__} has no place in JSON")
    elif not -(2**63) <= value < 2**63:
        raise ValueError("an integer is beyond 64 bits; write it as text")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is given twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is beyond the range of floats")
    return value
