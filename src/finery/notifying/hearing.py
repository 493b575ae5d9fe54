"""Notes what people are to be told, in the transaction of who sees it: an event when it is stored, a job's state when
it changes. So it is noted exactly once, whoever is killed when.

Called by the worker, and by `finery run` where there is no server. Takes the session first; never calls the network.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from finery.core.events import ActionEvent, AlertEvent, Event, validate_event
from finery.jobs.tables import Attempt, Job
from finery.monitoring.parsing import Item, ParsedEvent
from finery.monitoring.tables import EventRow
from finery.notifying.specs import ChannelEvent, Notice
from finery.notifying.tables import Channel, Delivery
from finery.notifying.words import visible
from finery.rules.specs import Severity

log = logging.getLogger(__name__)

_SEVERITY: Final[dict[ChannelEvent, Severity]] = {
    "failed": "error",
    "lost": "warning",
    "completed": "info",
    "paused": "warning",
}
_IMPORTED: Final = "imported"
"""Tag of runs that ended elsewhere, long ago."""
_ALERTS_BACK: Final = 50
"""Alerts of a stream among which that of an action is looked for."""


def events(session: Session, job: Job, attempt: Attempt, writer: str, items: Sequence[Item], *, now: datetime) -> None:
    """Note what is to be told of lines that were just stored."""
    if _IMPORTED in job.tags:
        return
    for item in items:
        if not isinstance(item, ParsedEvent) or not is_to_be_told(item.event, attempt.run_spec["job"]):
            continue
        alert = _alert_of(session, attempt, writer, item.event) if isinstance(item.event, ActionEvent) else None
        notice = of_event(item.event, alert, run=str(job.id), job_id=job.id, name=job.name, attempt=attempt.number)
        key = key_of(item.event, alert, attempt=attempt.number, writer=writer)
        tell(session, notice, key=key, named=channels_of(item.event), now=now)


def state(session: Session, job: Job, *, was_asked: bool, now: datetime) -> None:
    """Note that a job has come to its present state, where that is to be told. Evaluations of checkpoints complete all
    the time, which is no news.

    Args:
        session: The one in which it changed.
        job: Its row.
        was_asked: Whether a person asked for a stop; then it is none's news.
        now: The moment.
    """
    kind = kind_of_state(job.state, was_asked=was_asked)
    if kind is None or _IMPORTED in job.tags or (kind == "completed" and job.parent_id is not None):
        return
    notice = of_state(
        kind,
        run=str(job.id),
        job_id=job.id,
        name=job.name,
        attempt=job.attempt,
        cause=job.cause,
        step=job.step,
        time=now.timestamp(),
    )
    # It may be lost twice in one attempt, but was heard of in between.
    heard = int(job.last_heard_at.timestamp()) if job.last_heard_at is not None else 0
    tell(session, notice, key=f"{job.attempt}/{job.state}/{heard}", named=(), now=now)


def kind_of_state(state_: str, *, was_asked: bool) -> ChannelEvent | None:
    """What a state is called among what channels tell; None for one that is not told."""
    if state_ in ("paused", "cancelled"):
        return None if was_asked else "paused"
    return state_ if state_ in ("failed", "lost", "completed") else None  # type: ignore[return-value]


def is_to_be_told(event: Event, job: dict[str, Any]) -> bool:
    """Whether an event is news for people: a rule asks for it, or no rule raised it.

    Args:
        event: Of the run.
        job: Its job file as plain data, with the rules in effect.
    """
    if isinstance(event, ActionEvent):
        return event.action == "notify" and event.outcome == "asked"
    if not isinstance(event, AlertEvent):
        return False
    return all(rule["name"] != event.rule for rule in job.get("monitoring", {}).get("rules") or ())


def channels_of(event: Event) -> tuple[str, ...]:
    """The channels that an event names."""
    return event.channels if isinstance(event, ActionEvent) else ()


def key_of(event: Event, alert: AlertEvent | None, *, attempt: int, writer: str) -> str:
    """What of a run an event tells. An action tells of the alert before it: both are one piece of news."""
    return f"{attempt}/{writer}/{(alert or event).seq}"


def of_event(
    event: Event, alert: AlertEvent | None, *, run: str, job_id: int | None, name: str, attempt: int
) -> Notice:
    """What is told of an alert, or of an action with the alert that came before it."""
    assert isinstance(event, ActionEvent | AlertEvent)
    seen = alert if alert is not None else event
    return Notice(
        kind="alerts",
        run=run,
        job_id=job_id,
        name=name,
        attempt=attempt,
        rule=event.rule,
        severity=seen.severity if isinstance(seen, AlertEvent) else "warning",
        message=seen.message,
        step=event.step,
        time=event.time,
    )


def of_state(
    kind: ChannelEvent,
    *,
    run: str,
    job_id: int | None,
    name: str,
    attempt: int,
    cause: str,
    step: int | None,
    time: float,
) -> Notice:
    """What is told of a run that has come to a state."""
    return Notice(
        kind=kind,
        run=run,
        job_id=job_id,
        name=name,
        attempt=attempt,
        severity=_SEVERITY[kind],
        message=cause,
        step=step,
        time=time,
    )


def tell(session: Session, notice: Notice, *, key: str, named: Sequence[str], now: datetime) -> list[str]:
    """Put a notice before the channels that it is for, once each.

    Args:
        session: Of who saw it.
        notice: What to tell.
        key: What of the run it is; the same is told once.
        named: Channels by name; none are all that tell this kind.
        now: The moment.

    Returns:
        Names of the channels that will be told.
    """
    rows = list(session.scalars(select(Channel).order_by(Channel.id)))
    if named:
        chosen = [row.name for row in rows if row.name in named and row.is_enabled]
    else:
        chosen = [row.name for row in rows if notice.kind in row.events and row.is_enabled]
    missing = sorted({visible(name) for name in named} - {row.name for row in rows})
    same = select(Delivery.channel).where(Delivery.run == notice.run, Delivery.key == key)
    known = set(session.scalars(same))
    for name in missing:
        log.warning("unknown channel name=%s rule=%s run=%s", name, notice.rule, notice.run)
    for name in (*chosen, *missing):
        if name not in known:
            session.add(_delivery(name, notice, key, is_missing=name in missing, now=now))
    session.flush()
    return chosen


def _delivery(channel: str, notice: Notice, key: str, *, is_missing: bool, now: datetime) -> Delivery:
    return Delivery(
        channel=channel,
        job_id=notice.job_id,
        run=notice.run,
        key=key,
        notice=notice.model_dump(mode="json"),
        state="failed" if is_missing else "pending",
        error=f"there is no channel {channel!r}; the rule {notice.rule!r} names it" if is_missing else "",
        attempts=0,
        created_at=now,
        next_at=now,
        ended_at=now if is_missing else None,
    )


def _alert_of(session: Session, attempt: Attempt, writer: str, action: ActionEvent) -> AlertEvent | None:
    """The alert of the action's rule and step before it."""
    query = select(EventRow).where(
        EventRow.job_id == attempt.job_id,
        EventRow.type == "alert",
        EventRow.attempt == attempt.number,
        EventRow.writer == writer,
        EventRow.seq < action.seq,
    )
    for row in session.scalars(query.order_by(EventRow.seq.desc()).limit(_ALERTS_BACK)):
        found = validate_event(row.payload)
        if isinstance(found, AlertEvent) and (found.rule, found.step) == (action.rule, action.step):
            return found
    return None
