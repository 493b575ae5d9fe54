"""Stores what a run wrote, exactly once. Called by the worker, inside the transaction that also stores the offset."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from finery.core.events import encode_value
from finery.core.rundir import CLUSTER, RESOURCES
from finery.jobs import service as jobs
from finery.jobs.tables import Attempt, Job
from finery.monitoring import blocks, parsing
from finery.monitoring.blocks import Axes, Group
from finery.monitoring.parsing import Item, ParsedEvent
from finery.monitoring.tables import EventRow, MetricBlock, MetricChunk, MetricSummary, MetricTail, TailOffset

PLATFORM = "worker"
"""Stream of a job's events that none of its processes write: what rules over its scores and states do."""

_Key = dict[str, Any]
"""job_id, attempt and writer of a stream."""

_NEW_WEIGHT = 0.2
"""Of the newest step in the running mean of the seconds per step."""


def store(
    session: Session, job: Job, attempt: Attempt, writer: str, items: Sequence[Item], end: int, *, now: datetime
) -> None:
    """Store the parsed lines of a stream and the offset after them.

    A line that is no event is reported as an event of its own and skipped; one with a seq that is there already is
    skipped silently.
    """
    tail = session.get(TailOffset, (job.id, attempt.number, writer))
    if tail is None:
        tail = TailOffset(job_id=job.id, attempt=attempt.number, writer=writer, offset=0, last_seq=-1, num_unreadable=0)
        session.add(tail)
    groups: list[Group] = []
    for item in items:
        if isinstance(item, Group):
            groups += _take_metrics(job, attempt, tail, item)
        elif isinstance(item, ParsedEvent):
            _take_event(session, job, attempt, tail, item, now)
        else:
            _report_unreadable(session, job, attempt, tail, item.line, now)
    if groups:
        _store_metrics(session, {"job_id": job.id, "attempt": attempt.number, "writer": writer}, groups)
    tail.offset = end
    if items:
        job.changed_at = now


def add(
    session: Session, job: Job, attempt: Attempt, writer: str, told: Sequence[dict[str, Any]], *, now: datetime
) -> list[Item]:
    """Store events of a stream that has no file, numbered after those that it has.

    Args:
        session: The one in which they happened.
        job: Theirs.
        attempt: Theirs.
        writer: Of the stream.
        told: Events as plain data, without `seq` and `time`.
        now: When they happened.

    Returns:
        What was stored.
    """
    tail = session.get(TailOffset, (job.id, attempt.number, writer))
    first = 0 if tail is None else tail.last_seq + 1
    lines = [orjson.dumps({**one, "seq": seq, "time": now.timestamp()}) for seq, one in enumerate(told, start=first)]
    items = parsing.parse(lines, writer=writer)
    store(session, job, attempt, writer, items, 0, now=now)
    return items


def pack(session: Session, job_id: int, attempt: int, writer: str) -> None:
    """Move all fresh metric rows of a stream into packed blocks; the last may be a short one."""
    key = {"job_id": job_id, "attempt": attempt, "writer": writer}
    groups = _take_fresh(session, key)
    if groups:
        _add_blocks(session, key, blocks.cut(groups, blocks.ROWS))


def writers(session: Session, job_id: int, attempt: int) -> list[str]:
    """Streams that have fresh metric rows."""
    query = select(MetricTail.writer).where(MetricTail.job_id == job_id, MetricTail.attempt == attempt).distinct()
    return list(session.scalars(query))


def _take_metrics(job: Job, attempt: Attempt, tail: TailOffset, group: Group) -> list[Group]:
    """The rows that are new, with their cursors; shows metrics in the job's row."""
    highest_before = np.maximum.accumulate(np.concatenate([[tail.last_seq], group.axes.seqs]))[:-1]
    is_new = group.axes.seqs > highest_before
    if not is_new.all():
        group = group.part(is_new)
    if len(group) == 0:
        return []
    axes = group.axes
    cursors = np.arange(job.cursor + 1, job.cursor + 1 + len(group), dtype=np.int64)
    tail.last_seq = int(axes.seqs[-1])
    job.cursor = int(cursors[-1])
    if tail.writer != RESOURCES:
        _show(job, attempt, group, is_of_run=is_of_run(tail.writer))
    return [Group(group.names, Axes(cursors, axes.seqs, axes.steps, axes.times), group.values_RM)]


def is_of_run(writer: str) -> bool:
    """Whether a stream shows that the child works: what is measured or judged of it from outside does not."""
    return writer not in (RESOURCES, CLUSTER, PLATFORM)


def _show(job: Job, attempt: Attempt, group: Group, *, is_of_run: bool) -> None:
    axes = group.axes
    if is_of_run:
        job.step = int(axes.steps[-1])
        job.last_heard_at = datetime.fromtimestamp(float(axes.times[-1]), UTC)
    if "seconds_per_step" in group.names:
        for value in group.values_RM[:, group.names.index("seconds_per_step")].tolist():
            job.seconds_per_step = _running_mean(value, job.seconds_per_step)
    if attempt.number == job.attempt:
        newest = map(encode_value, group.values_RM[-1].tolist())
        job.last_values = {**job.last_values, **dict(zip(group.names, newest, strict=True))}


def _running_mean(value: float, before: float | None) -> float | None:
    if not math.isfinite(value):
        return before
    return value if before is None else (1 - _NEW_WEIGHT) * before + _NEW_WEIGHT * value


def _take_event(
    session: Session, job: Job, attempt: Attempt, tail: TailOffset, parsed: ParsedEvent, now: datetime
) -> None:
    event = parsed.event
    if event.seq <= tail.last_seq:
        return
    tail.last_seq = event.seq
    if is_of_run(tail.writer):
        job.last_heard_at = datetime.fromtimestamp(event.time, UTC)
    _add_event(session, job, attempt.number, tail.writer, event.seq, parsed.raw)
    jobs.apply_event(session, job, attempt, event, now=now)


def _report_unreadable(
    session: Session, job: Job, attempt: Attempt, tail: TailOffset, line: bytes, now: datetime
) -> None:
    shown = line[:80].decode("utf-8", "replace")
    payload = {
        "type": "alert",
        "seq": tail.num_unreadable,
        "time": now.timestamp(),
        "rule": "unreadable_event",
        "severity": "warning",
        "message": f"a line of {tail.writer}.jsonl is no event and was skipped: {shown!r}",
    }
    _add_event(session, job, attempt.number, f"tailer-{tail.writer}", tail.num_unreadable, payload)
    tail.num_unreadable += 1


def _add_event(session: Session, job: Job, attempt: int, writer: str, seq: int, payload: dict[str, Any]) -> None:
    job.cursor += 1
    session.add(
        EventRow(
            job_id=job.id,
            attempt=attempt,
            writer=writer,
            seq=seq,
            cursor=job.cursor,
            type=payload["type"],
            payload=payload,
        )
    )


def _store_metrics(session: Session, key: _Key, groups: list[Group]) -> None:
    """Extend what lists show, and store rows: whole blocks packed, the rest as it came until there is more."""
    _summarize(session, key, groups)
    if _num_fresh(session, key) + sum(map(len, groups)) >= blocks.ROWS:
        *whole, rest = blocks.cut(_take_fresh(session, key) + groups, blocks.ROWS)
        if sum(map(len, rest)) == blocks.ROWS:
            whole, rest = [*whole, rest], []
        _add_blocks(session, key, whole)
        groups = rest
    if groups:
        num_rows, last_cursor = sum(map(len, groups)), int(groups[-1].axes.cursors[-1])
        session.add(MetricTail(**key, num_rows=num_rows, last_cursor=last_cursor, rows=blocks.pack_groups(groups)))


def _num_fresh(session: Session, key: _Key) -> int:
    query = select(func.coalesce(func.sum(MetricTail.num_rows), 0)).filter_by(**key)
    return int(session.scalars(query).one())


def _take_fresh(session: Session, key: _Key) -> list[Group]:
    """The rows that are not packed yet; they are deleted."""
    tails = list(session.scalars(select(MetricTail).filter_by(**key).order_by(MetricTail.id)))
    session.execute(delete(MetricTail).where(MetricTail.id.in_([tail.id for tail in tails])))
    return [group for tail in tails for group in blocks.unpack_groups(tail.rows)]


def _add_blocks(session: Session, key: _Key, parts: Sequence[Sequence[Group]]) -> None:
    last = session.scalars(select(func.max(MetricBlock.number)).filter_by(**key)).one()
    made, chunks = [], []
    for number, part in enumerate(parts, start=0 if last is None else last + 1):
        num_rows, last_cursor = sum(map(len, part)), int(part[-1].axes.cursors[-1])
        axes = blocks.pack_axes(part)
        made.append({**key, "number": number, "num_rows": num_rows, "last_cursor": last_cursor, "axes": axes})
        chunks += [
            {**key, "name": name, "number": number, "rows": chunk.rows, "values": chunk.values}
            for name, chunk in blocks.pack_values(part).items()
        ]
    session.execute(insert(MetricBlock), made)
    if chunks:
        session.execute(insert(MetricChunk), chunks)


def _summarize(session: Session, key: _Key, groups: Sequence[Group]) -> None:
    summary = session.get(MetricSummary, key)
    if summary is None:
        summary = MetricSummary(**key, metrics={})
        session.add(summary)
    metrics = dict(summary.metrics)
    for group in groups:
        for name, stats in _stats(group).items():
            metrics[name] = _extended(metrics.get(name), stats)
    summary.metrics = metrics


def _stats(group: Group) -> dict[str, dict[str, Any]]:
    """Number, range and newest value of each metric of a group."""
    values_RM = group.values_RM
    is_finite_RM = np.isfinite(values_RM)
    num_finite = is_finite_RM.sum(axis=0).tolist()
    lows = np.where(is_finite_RM, values_RM, np.inf).min(axis=0).tolist()
    highs = np.where(is_finite_RM, values_RM, -np.inf).max(axis=0).tolist()
    last_step = int(group.axes.steps[-1])
    return {
        name: {
            "num_points": len(group),
            "last_step": last_step,
            "last": encode_value(last),
            "min": low if finite else None,
            "max": high if finite else None,
            "num_non_finite": len(group) - finite,
        }
        for name, last, low, high, finite in zip(
            group.names, values_RM[-1].tolist(), lows, highs, num_finite, strict=True
        )
    }


def _extended(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
    """The stats of a metric over what was there and what came."""
    if before is None:
        return after
    lows = [stats["min"] for stats in (before, after) if stats["min"] is not None]
    highs = [stats["max"] for stats in (before, after) if stats["max"] is not None]
    return {
        **after,
        "num_points": before["num_points"] + after["num_points"],
        "min": min(lows, default=None),
        "max": max(highs, default=None),
        "num_non_finite": before["num_non_finite"] + after["num_non_finite"],
    }
