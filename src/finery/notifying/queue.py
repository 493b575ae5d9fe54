"""The queue of deliveries: which messages there are, whose turn it is, and what came of a try.

A message is decided and committed before its first try, and a try is claimed before it is made: who is killed in
between leaves a claim that runs out, and the message is tried again under the same key. What was taken by a service
whose answer was never seen is therefore told twice, unless the receiver knows the key.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from finery.notifying import folding
from finery.notifying.folding import Waiting
from finery.notifying.specs import Language, Notice
from finery.notifying.tables import Channel, Delivery

CLAIM: Final = timedelta(minutes=2)
"""Longer than a try takes, unless somebody draws it out; then the same process still knows that it goes on."""
RETRIES: Final = (timedelta(seconds=15), timedelta(minutes=1), timedelta(minutes=5))
"""Waits before the tries after the first."""
_ROOM_AGAIN: Final = timedelta(seconds=2)
"""What waits for room in its channel is looked at again after so long."""
_AT_ONCE = 1000


@dataclass(frozen=True)
class Claimed:
    """A message whose turn it is, with all that is needed to send it."""

    key: str
    channel: str
    kind: str
    params: dict[str, Any]
    language: Language
    notices: tuple[Notice, ...]


def is_any_due(session: Session, *, busy: Collection[str], now: datetime) -> bool:
    """Whether `claim` might find something. Reads only: who has nothing to tell writes nothing."""
    return session.scalars(_due(busy, now).limit(1)).first() is not None


def num_pending(session: Session, run: str) -> int:
    """What of a run is still to be told."""
    query = select(func.count()).select_from(Delivery).where(Delivery.run == run, Delivery.state == "pending")
    return session.scalars(query).one()


def claim(session: Session, *, me: str, busy: Collection[str], now: datetime) -> list[Claimed]:
    """Take the next message of each channel that has one due and is not busy."""
    rows = list(session.scalars(_due(busy, now).limit(_AT_ONCE).with_for_update(skip_locked=True)))
    found = []
    rows.sort(key=lambda row: (row.channel, row.id))
    for name, of_channel in groupby(rows, key=lambda row: row.channel):
        waiting = list(of_channel)
        channel = session.scalars(select(Channel).where(Channel.name == name)).first()
        if channel is None:
            for row in waiting:
                row.state, row.error, row.ended_at = "failed", "the channel was removed", now
            continue
        key = _next(session, waiting, now)
        if key is not None:
            found.append(_claimed(channel, key, _message(session, key), me, now))
    session.flush()
    return found


def release(session: Session, *, me: str, now: datetime) -> None:
    """Give back what `me` has claimed in an earlier life."""
    mine = update(Delivery).where(Delivery.claimed_by == me, Delivery.state == "pending")
    session.execute(mine.values(claimed_by=None, next_at=now))


def sent(session: Session, key: str, *, now: datetime) -> None:
    """Note that a message was taken."""
    for row in _message(session, key):
        row.state, row.attempts, row.error = "sent", row.attempts + 1, ""
        row.ended_at, row.claimed_by = now, None


def not_sent(session: Session, key: str, why: str, *, is_final: bool, wait_seconds: float, now: datetime) -> None:
    """Note that a message was not taken; it is tried again unless that is of no use or was done often enough."""
    for row in _message(session, key):
        row.attempts, row.error, row.claimed_by = row.attempts + 1, why, None
        if is_final or row.attempts > len(RETRIES):
            row.state, row.ended_at = "failed", now
        else:
            row.next_at = now + max(RETRIES[row.attempts - 1], timedelta(seconds=wait_seconds))


def _due(busy: Collection[str], now: datetime) -> Any:
    """Pending deliveries whose moment has come, the oldest first."""
    query = select(Delivery).where(Delivery.state == "pending", Delivery.next_at <= now)
    return (query.where(Delivery.channel.not_in(busy)) if busy else query).order_by(Delivery.id)


def _next(session: Session, rows: Sequence[Delivery], now: datetime) -> str | None:
    """The key of the message that is next in a channel; None when there is room for none."""
    fresh = [row for row in rows if row.message is None]
    if fresh:
        _plan(session, fresh, now)
    return next((row.message for row in rows if row.message is not None), None)


def _plan(session: Session, rows: Sequence[Delivery], now: datetime) -> None:
    """Divide what waits in a channel into messages, as far as there is room."""
    recent = (
        select(Delivery.run, func.count(Delivery.message.distinct()))
        .where(Delivery.channel == rows[0].channel, Delivery.planned_at > now - folding.WINDOW)
        .group_by(Delivery.run)
    )
    planned = dict(session.execute(recent).all())
    by_id = {row.id: row for row in rows}
    for ids in folding.plan([Waiting(row.id, row.run) for row in rows], planned):
        key = uuid.uuid4().hex
        for id_ in ids:
            by_id[id_].message, by_id[id_].planned_at = key, now
    for row in rows:
        if row.message is None:
            row.next_at = now + _ROOM_AGAIN


def _claimed(channel: Channel, key: str, message: Sequence[Delivery], me: str, now: datetime) -> Claimed:
    for row in message:
        row.claimed_by, row.next_at = me, now + CLAIM
    return Claimed(
        key=key,
        channel=channel.name,
        kind=channel.kind,
        params=channel.params,
        language=channel.language,  # type: ignore[arg-type]  # checked when it was stored
        notices=tuple(Notice.model_validate(row.notice) for row in message),
    )


def _message(session: Session, key: str) -> list[Delivery]:
    query = select(Delivery).where(Delivery.message == key, Delivery.state == "pending").order_by(Delivery.id)
    return list(session.scalars(query))
