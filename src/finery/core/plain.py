"""What plain data of users (dicts, lists, scalars) may hold, so that every database and JSON writer can keep it."""

import math
from collections.abc import Mapping

MAX_DEPTH = 64
_MAX_INTEGER = 2**63


def complaint(value: object, path: str = "", depth: int = 0) -> str:
    """What is wrong with the first value that cannot be kept, and where; empty when all can."""
    if isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            return f"{path[:200] or 'it'} is nested deeper than {MAX_DEPTH} levels"
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            place = f"{path}.{key}" if path else str(key)
            reason = _text(key) if isinstance(key, str) else ""
            if reason:
                return f"{ascii(place)[:200]}: the key {reason}"
            found = complaint(item, place, depth + 1)
            if found:
                return found
        return ""
    reason = _scalar(value)
    return f"{path[:200] or 'it'} {reason}" if reason else ""


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, and JSON has no such number; write it as text"
    if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        return "is an integer beyond 64 bits; write it as text"
    return ""


def _text(text: str) -> str:
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "holds half of a surrogate pair (\\ud800...\\udfff alone)"
    return ""
