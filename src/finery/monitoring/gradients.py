"""Gradient statistics of a job for people to look at, read from the files of its attempts. No session.

A job's history is what its present state stands on: of each attempt the steps up to the one from which a later attempt
went on. Dimensions: N probed steps, X tensors, layers or groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from finery.core import refs
from finery.core.errors import NotFound
from finery.core.gradients import LOWEST_EXPONENT, GradientFile
from finery.core.rundir import RunDir
from finery.core.spec import View
from finery.jobs.tables import Attempt
from finery.monitoring.specs import (
    Combination,
    GradientBy,
    GradientColumn,
    GradientHistogram,
    GradientMetric,
    GradientRow,
    GradientSeries,
    GradientWindow,
)

Values = NDArray[np.float32] | NDArray[np.float64]
Steps = NDArray[np.int64]

COMBINATIONS: Final[Mapping[GradientMetric, Combination]] = {
    "norm": "max",
    "mean": "largest",
    "std": "max",
    "variance": "max",
    "min": "min",
    "p1": "min",
    "p5": "min",
    "p25": "largest",
    "p50": "largest",
    "p75": "largest",
    "p95": "max",
    "p99": "max",
    "max": "max",
    "share_non_finite": "max",
    "weight_norm": "max",
    "weight_update_ratio": "max",
    "activation_rms": "max",
}
"""What one looks for in a metric: what stands for several steps must not hide it."""


class Window(NamedTuple):
    """What is asked for: steps from one to another, both included (None is open), and how much of them fits."""

    first: int | None
    last: int | None
    max_columns: int
    max_rows: int


@dataclass(frozen=True)
class _Part:
    """The steps of one attempt that count."""

    attempt: int
    file: GradientFile
    records: NDArray[np.intp]
    """Numbers of its records that count, by rising step."""

    @property
    def steps(self) -> Steps:
        found: Steps = self.file.records["step"][self.records]
        return found


History = Sequence[_Part]


def history(attempts: Sequence[Attempt]) -> History:
    """The probed steps that a job stands on, in order.

    Args:
        attempts: Of the job, oldest first.
    """
    found: list[_Part] = []
    last = np.iinfo(np.int64).max
    for attempt in reversed(attempts):
        file = GradientFile.open(RunDir(Path(attempt.run_dir)).gradients)
        if file is not None:
            steps = file.records["step"]
            records = np.flatnonzero(steps <= last)
            found.append(_Part(attempt.number, file, records[np.argsort(steps[records], kind="stable")]))
        start = refs.checkpoint(attempt.resumed_from) if attempt.resumed_from else None
        if start is None or start.step is None:
            break
        last = min(last, start.step)
    return [part for part in reversed(found) if len(part.records)]


def heatmap(parts: History, metric: GradientMetric, by: GradientBy, window: Window) -> GradientWindow:
    """A metric of all tensors, layers or groups in a window."""
    within = _within(parts, window)
    combination = COMBINATIONS[metric]
    names = parts[-1].file.layout.names(by) if parts else []
    values_NX = _table(within, metric, by, names)
    columns, starts = _columns(within, window.max_columns)
    rows = _starts(len(names), window.max_rows)
    values: Any = np.ascontiguousarray(_combined(_combined(values_NX, starts, combination).T, rows, combination))
    steps = _steps(parts)
    return GradientWindow.model_construct(
        metric=metric,
        by=by,
        combination=combination,
        rows=[
            GradientRow(first=names[start], last=names[end - 1], num=end - start)
            for start, end in zip(rows.tolist(), _ends(rows, len(names)).tolist(), strict=True)
        ],
        columns=columns,
        values=values,
        first_step=int(steps[0]) if len(steps) else None,
        last_step=int(steps[-1]) if len(steps) else None,
        num_steps=sum(len(part.records) for part in within),
    )


def series(parts: History, by: GradientBy, name: str, window: Window) -> GradientSeries:
    """All metrics of one tensor, layer or group. Raises `NotFound`."""
    _check(parts, by, name)
    within = _within(parts, window)
    columns, starts = _columns(within, window.max_columns)
    values: dict[GradientMetric, Any] = {}
    for metric, combination in COMBINATIONS.items():
        values_NX = _table(within, metric, by, [name])
        values[metric] = np.ascontiguousarray(_combined(values_NX, starts, combination)[:, 0])
    return GradientSeries.model_construct(by=by, name=name, columns=columns, values=values)


def histogram(parts: History, by: GradientBy, name: str, step: int) -> GradientHistogram:
    """One tensor, layer or group at one step. Raises `NotFound`."""
    _check(parts, by, name)
    found = [(part, record) for part in parts for record in part.records[part.steps == step].tolist()]
    if not found:
        raise NotFound(f"the gradients of step {step} were not looked at; {_nearest(parts, step)}")
    part, record = found[-1]
    layout = part.file.layout
    counts = part.file.histogram(record, layout.members(by, name))
    if counts is None:
        raise NotFound(f"the histograms of step {step} are lost or damaged; those of other steps may be there")
    there = np.flatnonzero(counts.sum(axis=0))
    bins = np.arange(there[0], there[-1] + 1) if len(there) else there
    one = _Part(part.attempt, part.file, np.array([record]))
    numbers = {metric: float(_values(one, metric, by, [name])[0, 0]) for metric in COMBINATIONS}
    return GradientHistogram(
        by=by,
        name=name,
        step=step,
        attempt=part.attempt,
        exponents=(bins + LOWEST_EXPONENT).tolist(),
        negative=counts[0, bins].tolist(),
        positive=counts[1, bins].tolist(),
        statistics={metric: value if np.isfinite(value) else None for metric, value in numbers.items()},
    )


def encoded(view: View) -> bytes:
    """A view whose lists of numbers are arrays as JSON; what is not finite is null."""
    fields = {name: getattr(view, name) for name in type(view).model_fields}
    return orjson.dumps(fields, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:
    """What orjson does not know."""
    return value.model_dump() if isinstance(value, View) else value.tolist()


def _check(parts: History, by: GradientBy, name: str) -> None:
    if not any(part.file.layout.members(by, name) for part in parts):
        known = parts[-1].file.layout.names(by)[:5] if parts else ()
        shown = f"it has {', '.join(known)} ..." if known else "no step has been probed yet"
        raise NotFound(f"there are no gradients of the {by} {name!r}: {shown}")


def _nearest(parts: History, step: int) -> str:
    steps = _steps(parts)
    return f"step {int(steps[np.abs(steps - step).argmin()])} is the nearest that was"


def _within(parts: History, window: Window) -> History:
    found = []
    for part in parts:
        steps = part.steps
        is_shown = np.ones(len(steps), dtype=bool)
        if window.first is not None:
            is_shown &= steps >= window.first
        if window.last is not None:
            is_shown &= steps <= window.last
        if is_shown.any():
            found.append(_Part(part.attempt, part.file, part.records[is_shown]))
    return found


def _steps(parts: History) -> Steps:
    return np.concatenate([np.zeros(0, np.int64), *(part.steps for part in parts)])


def _table(parts: History, metric: GradientMetric, by: GradientBy, names: Sequence[str]) -> Values:
    """(N, X) of all parts; NaN where something was not measured."""
    found: Values = np.concatenate(
        [np.zeros((0, len(names)), dtype=np.float32), *(_values(part, metric, by, names) for part in parts)]
    )
    return found


def _values(part: _Part, metric: GradientMetric, by: GradientBy, names: Sequence[str]) -> Values:
    field = "std" if metric == "variance" else metric
    if field not in part.file.layout.fields:
        return np.full((len(part.records), len(names)), np.nan)
    values_NX: Values = part.file.values(field, by)
    own = part.file.layout.names(by)
    if own == list(names):
        values_NX = values_NX[part.records]
    else:
        places = {name: place for place, name in enumerate(own)}
        known = [place for place, name in enumerate(names) if name in places]
        found = np.full((len(part.records), len(names)), np.nan, dtype=np.float32)
        found[:, known] = values_NX[np.ix_(part.records, np.array([places[names[place]] for place in known], np.intp))]
        values_NX = found
    return np.square(values_NX, dtype=np.float64) if metric == "variance" else values_NX


def _columns(parts: History, max_columns: int) -> tuple[list[GradientColumn], NDArray[np.intp]]:
    """Columns, each of one or more steps, and at which step each begins."""
    steps = _steps(parts)
    numbers = [part.attempt for part in parts for _ in part.records]
    attempts = np.array(numbers, dtype=np.int64)
    starts = _starts(len(steps), max_columns)
    ends = _ends(starts, len(steps)) - 1
    triples = zip(steps[starts].tolist(), steps[ends].tolist(), attempts[ends].tolist(), strict=True)
    return [
        GradientColumn(first_step=first, last_step=last, attempt=attempt) for first, last, attempt in triples
    ], starts


def _starts(num: int, most: int) -> NDArray[np.intp]:
    """Where each of at most so many stretches of nearly one length begins."""
    return np.linspace(0, num, min(num, most) + 1).astype(np.intp)[:-1]


def _ends(starts: NDArray[np.intp], num: int) -> NDArray[np.intp]:
    return np.append(starts, num)[1:]


def _combined(values: Values, starts: NDArray[np.intp], combination: Combination) -> Values:
    """One value for each stretch of the first axis; NaN counts only where there is nothing else."""
    if len(starts) == len(values):
        return values
    high = np.fmax.reduceat(values, starts, axis=0)
    if combination == "max":
        return high
    low = np.fmin.reduceat(values, starts, axis=0)
    return low if combination == "min" else np.where(-low > high, low, high)
