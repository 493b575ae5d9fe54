"""From the lines of a stream to columns of numbers and to events. Pure, so that no transaction waits for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson
from pydantic import ValidationError

from finery.core.events import Event, MetricsEvent, ResourceEvent, validate_event
from finery.core.rundir import RESOURCES
from finery.monitoring.blocks import Axes, Group

_WRONG = (orjson.JSONDecodeError, ValidationError, KeyError, TypeError, ValueError, AttributeError, OverflowError)

_STEP = {"metrics": "step", "resource": "seq"}
"""What places numbers on the axis. Resources are sampled by the clock; their samples are counted."""


@dataclass(frozen=True)
class ParsedEvent:
    """An event that is not a metric."""

    raw: dict[str, Any]
    event: Event


@dataclass(frozen=True)
class Unreadable:
    """A line that is no event."""

    line: bytes


Item = Group | ParsedEvent | Unreadable
"""What lines of a stream become, in their order; cursors of a group are still zero."""


def parse(lines: Sequence[bytes], *, writer: str) -> list[Item]:
    """Sort lines into numbers, other events, and what is neither. Empty lines are left out.

    Numbers are metrics, and in the stream `RESOURCES` what the run uses.
    """
    numeric = "resource" if writer == RESOURCES else "metrics"
    items: list[Item] = []
    fresh: list[tuple[bytes, dict[str, Any]]] = []
    names: list[str] = []
    for line in lines:
        if not line:
            continue
        try:
            raw = orjson.loads(line)
            is_numeric = raw["type"] == numeric
            found = list(raw["values"]) if is_numeric else []
            item: Item | None = None if is_numeric else ParsedEvent(raw, validate_event(raw))
        except _WRONG:
            item = Unreadable(line)
        if fresh and (item is not None or found != names):
            items += _columns(names, fresh)
            fresh = []
        if item is not None:
            items.append(item)
        else:
            names = found
            fresh.append((line, raw))
    return items + (_columns(names, fresh) if fresh else [])


def _columns(names: list[str], lines: list[tuple[bytes, dict[str, Any]]]) -> list[Item]:
    """Lines of the same metrics as one group; where they do not fit together, each for itself."""
    try:
        return [_group(names, [raw for _, raw in lines])]
    except _WRONG:
        if len(lines) == 1:
            return [Unreadable(lines[0][0])]
    return [item for line in lines for item in _columns(names, [line])]


def _group(names: list[str], raws: list[dict[str, Any]]) -> Group:
    """Raises what is in _WRONG when a value is no number."""
    flat = list(chain.from_iterable(raw["values"].values() for raw in raws))
    if not {type(value) for value in flat} <= {float, int}:
        # NaN and the infinities are strings in JSON; other strings are refused like any other type.
        flat = [value for raw in raws for value in _validated(raw)]
    axes = Axes(
        cursors=np.zeros(len(raws), dtype=np.int64),
        seqs=np.array([_whole(raw["seq"]) for raw in raws], dtype=np.int64),
        steps=np.array([_whole(raw[_STEP[raw["type"]]]) for raw in raws], dtype=np.int64),
        times=np.array([raw["time"] for raw in raws], dtype=np.float64),
    )
    return Group(tuple(names), axes, np.array(flat, dtype=np.float64).reshape(len(raws), len(names)))


def _validated(raw: dict[str, Any]) -> list[float]:
    event = validate_event(raw)
    assert isinstance(event, MetricsEvent | ResourceEvent)
    return [float(value) for value in event.values.values()]


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value
