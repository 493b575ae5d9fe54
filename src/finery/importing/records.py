"""What every reader returns: a run of another tracker as plain data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MetricRow:
    """The metrics that a run logged at one step."""

    step: int
    time: float | None
    """Unix seconds at which the newest of the values was logged; None when the tracker kept no time."""
    values: Mapping[str, float]
    """By metric name; NaN and the infinities are values like any other."""


@dataclass(frozen=True)
class ForeignRun:
    """One run of another tracker."""

    name: str
    """As the other tracker shows it; two runs may share a name."""
    source: str
    """`<format>:<absolute path>`, with `#<run id>` where one path holds several runs. Stable between two reads."""
    config: Mapping[str, Any]
    tags: tuple[str, ...]
    rows: Iterable[MetricRow]
    """In rising step order. Read from disk anew at each iteration, so a broken place is reported by the iteration."""
