"""What rules would have done in a run: its stored metrics, judged again."""

import itertools
from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from finery.core import conditions
from finery.core.events import decode_value
from finery.monitoring import service
from finery.monitoring.specs import FiringView, RehearsalView, SeriesView
from finery.rules import watch
from finery.rules.specs import RuleSpec

MAX_STEPS = 200_000
"""Steps of an attempt that are judged at once, the newest: some seconds of work."""


def rehearse(session: Session, job_id: int, rules: Sequence[RuleSpec]) -> RehearsalView:
    """Judge rules over the metrics of a job, had nothing been changed by them.

    Rules that look at silence or at states are not judged: they are named as left out.
    """
    judged = [rule for rule in rules if watch.is_of_metrics(rule)]
    names = {name for rule in judged for name in conditions.metrics(conditions.parse(rule.when))}
    known = {name for stream in service.metric_streams(session, job_id) for name in stream.metrics}
    steps: list[tuple[int, dict[str, float]]] = []
    attempts: list[int] = []
    num_cut = 0
    series = service.series(session, job_id, sorted(names & known), max_points=1 << 40) if names & known else []
    for attempt, found in itertools.groupby(sorted(series, key=_attempt), key=_attempt):
        rows = _rows(list(found))
        num_cut += max(0, len(rows) - MAX_STEPS)
        steps += rows[-MAX_STEPS:]
        attempts += [attempt] * min(len(rows), MAX_STEPS)
    firings = [
        FiringView(
            rule=firing.rule.name,
            severity=firing.rule.severity,
            attempt=attempts[position],
            step=firing.step,
            message=firing.message,
            actions=[action.name for action in firing.rule.then],
            is_exhausted=firing.is_exhausted,
        )
        for position, firing in _firings(judged, steps)
    ]
    return RehearsalView(
        firings=firings,
        num_steps=len(steps),
        num_cut=num_cut,
        rules=[rule.name for rule in judged],
        left_out=[rule.name for rule in rules if not watch.is_of_metrics(rule)],
        unknown_metrics=sorted(names - known),
    )


def _firings(
    rules: Sequence[RuleSpec], steps: Sequence[tuple[int, dict[str, float]]]
) -> Iterator[tuple[int, watch.Firing]]:
    present = watch.Watch(rules)
    for position, (step, values) in enumerate(steps):
        for firing in present.step(step, values, {}):
            yield position, firing


def _attempt(series: SeriesView) -> int:
    return series.attempt


def _rows(series: Sequence[SeriesView]) -> list[tuple[int, dict[str, float]]]:
    """What an attempt reported, step by step."""
    rows: dict[int, dict[str, float]] = {}
    for one in series:
        for step, value in zip(one.steps, one.values, strict=True):
            rows.setdefault(step, {})[one.name] = decode_value(value)
    return sorted(rows.items())
