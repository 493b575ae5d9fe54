"""The verbs of the monitoring slice: store what a run wrote, exactly once, and give it back.

`ingest` is called by the worker alone, inside the transaction that also stores the offset.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from finery.core.events import Event, decode_value, encode_value, validate_event
from finery.jobs import service as jobs
from finery.jobs.specs import StreamedEvent
from finery.jobs.tables import Attempt, Job
from finery.monitoring import blocks, downsample
from finery.monitoring.blocks import Row
from finery.monitoring.specs import MetricSummary as MetricSummaryView
from finery.monitoring.specs import SeriesView
from finery.monitoring.tables import EventRow, MetricBlock, MetricChunk, MetricSummary, MetricTail, TailOffset

_NUMBERS = (int, float)


def offset(session: Session, job_id: int, attempt: int, writer: str) -> int:
    """How far a stream has been read, in bytes."""
    row = session.get(TailOffset, (job_id, attempt, writer))
    return row.offset if row else 0


def ingest(
    session: Session, job: Job, attempt: Attempt, writer: str, lines: Sequence[bytes], end: int, *, now: datetime
) -> None:
    """Store whole lines of a stream and the offset after them.

    A line that is no event is reported as an event of its own and skipped; one with a seq that is there already is
    skipped silently.
    """
    tail = session.get(TailOffset, (job.id, attempt.number, writer))
    if tail is None:
        tail = TailOffset(job_id=job.id, attempt=attempt.number, writer=writer, offset=0, last_seq=-1, num_unreadable=0)
        session.add(tail)
    rows: list[Row] = []
    for line in lines:
        if line:
            _ingest_line(session, job, attempt, tail, line, rows, now)
    if rows:
        _store_rows(session, job, attempt.number, writer, rows)
    tail.offset = end
    if lines:
        job.changed_at = now


def pack(session: Session, job_id: int, attempt: int, writer: str, *, at_least: int = 1) -> None:
    """Move fresh metric rows into packed blocks, when there are `at_least` so many."""
    query = select(MetricTail).where(
        MetricTail.job_id == job_id, MetricTail.attempt == attempt, MetricTail.writer == writer
    )
    tails = list(session.scalars(query.order_by(MetricTail.id)))
    if sum(tail.num_rows for tail in tails) < at_least:
        return
    rows = [row for tail in tails for row in _decode_tail(tail)]
    last = session.scalars(
        select(MetricBlock.number)
        .where(MetricBlock.job_id == job_id, MetricBlock.attempt == attempt, MetricBlock.writer == writer)
        .order_by(MetricBlock.number.desc())
        .limit(1)
    ).first()
    number = -1 if last is None else last
    key = {"job_id": job_id, "attempt": attempt, "writer": writer}
    for start in range(0, len(rows), blocks.ROWS):
        part = rows[start : start + blocks.ROWS]
        number += 1
        axes = blocks.pack_axes(part)
        session.add(MetricBlock(**key, number=number, num_rows=len(part), last_cursor=part[-1].cursor, axes=axes))
        for name, chunk in blocks.pack_values(part).items():
            session.add(MetricChunk(**key, name=name, number=number, rows=chunk.rows, values=chunk.values))
    session.execute(delete(MetricTail).where(MetricTail.id.in_([tail.id for tail in tails])))


def writers(session: Session, job_id: int, attempt: int) -> list[str]:
    """Streams that have fresh metric rows."""
    query = select(MetricTail.writer).where(MetricTail.job_id == job_id, MetricTail.attempt == attempt).distinct()
    return list(session.scalars(query))


def events_after(session: Session, job_id: int, after: int, limit: int) -> list[StreamedEvent]:
    """Events and metrics with a cursor above `after`, in order, at most `limit`."""
    query = select(EventRow).where(EventRow.job_id == job_id, EventRow.cursor > after)
    found = [
        StreamedEvent(cursor=row.cursor, attempt=row.attempt, writer=row.writer, event=validate_event(row.payload))
        for row in session.scalars(query.order_by(EventRow.cursor).limit(limit))
    ]
    horizon = found[-1].cursor if len(found) == limit else None
    found.extend(_metrics_after(session, job_id, after, horizon, limit))
    found.sort(key=lambda item: item.cursor)
    return found[:limit]


def events_of_type(session: Session, job_id: int, type_: str, *, attempt: int | None = None) -> list[tuple[int, Event]]:
    """(attempt, event) of one type, oldest first."""
    query = select(EventRow).where(EventRow.job_id == job_id, EventRow.type == type_)
    if attempt is not None:
        query = query.where(EventRow.attempt == attempt)
    return [(row.attempt, validate_event(row.payload)) for row in session.scalars(query.order_by(EventRow.cursor))]


def summaries(session: Session, job_ids: Sequence[int]) -> dict[int, list[MetricSummaryView]]:
    """Range and newest value of every metric, by job; the newest attempt's last."""
    query = select(MetricSummary).where(MetricSummary.job_id.in_(job_ids)).order_by(MetricSummary.attempt)
    found: dict[int, list[MetricSummaryView]] = {}
    for row in session.scalars(query):
        found.setdefault(row.job_id, []).extend(
            MetricSummaryView(name=name, attempt=row.attempt, **stats) for name, stats in row.metrics.items()
        )
    return found


def series(session: Session, job_id: int, names: Sequence[str], *, max_points: int) -> list[SeriesView]:
    """Series of the named metrics (all when none is named), per attempt and writer, thinned to `max_points` each."""
    found: list[SeriesView] = []
    streams = select(MetricSummary).where(MetricSummary.job_id == job_id).order_by(MetricSummary.attempt)
    for stream in session.scalars(streams):
        wanted = [name for name in stream.metrics if not names or name in names]
        if wanted:
            found.extend(_series_of(session, stream, wanted, max_points))
    return found


def _series_of(session: Session, stream: MetricSummary, names: list[str], max_points: int) -> Iterable[SeriesView]:
    here = (stream.job_id, stream.attempt, stream.writer)
    at_block = (MetricBlock.job_id, MetricBlock.attempt, MetricBlock.writer)
    at_chunk = (MetricChunk.job_id, MetricChunk.attempt, MetricChunk.writer)
    at_tail = (MetricTail.job_id, MetricTail.attempt, MetricTail.writer)
    axes = {
        number: blocks.unpack_axes(packed)
        for number, packed in session.execute(
            select(MetricBlock.number, MetricBlock.axes).where(*_equal(at_block, here)).order_by(MetricBlock.number)
        )
    }
    tails = session.scalars(select(MetricTail).where(*_equal(at_tail, here)).order_by(MetricTail.id))
    fresh = [row for tail in tails for row in _decode_tail(tail)]
    for name in names:
        steps, times, values = [], [], []
        chunks = select(MetricChunk.number, MetricChunk.rows, MetricChunk.values).where(
            *_equal(at_chunk, here), MetricChunk.name == name
        )
        for number, packed_rows, packed in session.execute(chunks.order_by(MetricChunk.number)):
            shared = axes[number]
            rows, numbers = blocks.unpack_values(blocks.Chunk(packed_rows, packed), len(shared.steps))
            steps.append(shared.steps[rows])
            times.append(shared.times[rows])
            values.append(numbers)
        own = [row for row in fresh if name in row.values]
        steps.append(np.array([row.step for row in own], dtype=np.int64))
        times.append(np.array([row.time for row in own], dtype=np.float64))
        values.append(np.array([row.values[name] for row in own], dtype=np.float64))
        yield _view(stream, name, np.concatenate(steps), np.concatenate(times), np.concatenate(values), max_points)


def _view(
    stream: MetricSummary, name: str, steps: blocks.Ints, times: blocks.Floats, values: blocks.Floats, max_points: int
) -> SeriesView:
    kept = downsample.keep(values, max_points)
    return SeriesView(
        name=name,
        attempt=stream.attempt,
        writer=stream.writer,
        steps=steps[kept].tolist(),
        times=times[kept].tolist(),
        values=[encode_value(value) for value in values[kept].tolist()],
        num_points=len(values),
    )


def _ingest_line(
    session: Session, job: Job, attempt: Attempt, tail: TailOffset, line: bytes, rows: list[Row], now: datetime
) -> None:
    try:
        raw = orjson.loads(line)
        seq, moment, type_ = int(raw["seq"]), float(raw["time"]), raw["type"]
        row = _metric_row(raw, seq, moment, job.cursor + 1) if type_ == "metrics" else None
        event = None if row else validate_event(raw)
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError, ValueError, AttributeError):
        _report_unreadable(session, job, attempt, tail, line, now)
        return
    if seq <= tail.last_seq:
        return
    tail.last_seq = seq
    job.cursor += 1
    job.last_heard_at = datetime.fromtimestamp(moment, UTC)
    if row is not None:
        rows.append(row)
        job.step = row.step
        job.seconds_per_step = _seconds_per_step(row, job.seconds_per_step)
        return
    assert event is not None
    _add_event(session, job, attempt.number, tail.writer, seq, raw)
    jobs.apply_event(session, job, attempt, event, now=now)


def _metric_row(raw: dict[str, Any], seq: int, moment: float, cursor: int) -> Row:
    values = {name: decode_value(v) for name, v in raw["values"].items()}
    return Row(cursor, seq, moment, int(raw["step"]), values)


def _seconds_per_step(row: Row, before: float | None) -> float | None:
    value = row.values.get("seconds_per_step")
    if value is None or not math.isfinite(value):
        return before
    return value if before is None else 0.8 * before + 0.2 * value


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
    job.cursor += 1
    _add_event(session, job, attempt.number, f"tailer-{tail.writer}", tail.num_unreadable, payload)
    tail.num_unreadable += 1


def _add_event(session: Session, job: Job, attempt: int, writer: str, seq: int, payload: dict[str, Any]) -> None:
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


def _store_rows(session: Session, job: Job, attempt: int, writer: str, rows: list[Row]) -> None:
    encoded = orjson.dumps(
        [[r.cursor, r.seq, r.time, r.step, {n: encode_value(v) for n, v in r.values.items()}] for r in rows]
    )
    session.add(
        MetricTail(
            job_id=job.id,
            attempt=attempt,
            writer=writer,
            num_rows=len(rows),
            last_cursor=rows[-1].cursor,
            rows=encoded,
        )
    )
    summary = session.get(MetricSummary, (job.id, attempt, writer))
    if summary is None:
        summary = MetricSummary(job_id=job.id, attempt=attempt, writer=writer, metrics={})
        session.add(summary)
    metrics = dict(summary.metrics)
    for row in rows:
        for name, value in row.values.items():
            metrics[name] = _extended(metrics.get(name), row.step, value)
    summary.metrics = metrics
    fresh = {name: encode_value(value) for row in rows for name, value in row.values.items()}
    job.last_values = {**job.last_values, **fresh} if attempt == job.attempt else job.last_values
    session.flush()
    pack(session, job.id, attempt, writer, at_least=blocks.ROWS)


def _extended(stats: dict[str, Any] | None, step: int, value: float) -> dict[str, Any]:
    """A metric's summary with one more value."""
    low, high = (stats["min"], stats["max"]) if stats else (None, None)
    is_finite = math.isfinite(value)
    if is_finite:
        low = value if low is None else min(low, value)
        high = value if high is None else max(high, value)
    return {
        "num_points": (stats["num_points"] if stats else 0) + 1,
        "last_step": step,
        "last": encode_value(value),
        "min": low,
        "max": high,
        "num_non_finite": (stats["num_non_finite"] if stats else 0) + (not is_finite),
    }


def _decode_tail(tail: MetricTail) -> list[Row]:
    return [
        Row(cursor, seq, moment, step, {name: decode_value(value) for name, value in values.items()})
        for cursor, seq, moment, step, values in orjson.loads(tail.rows)
    ]


def _metrics_after(session: Session, job_id: int, after: int, horizon: int | None, limit: int) -> list[StreamedEvent]:
    """Per stream the first `limit` rows after the cursor, so that merging them leaves no gap."""
    found: list[tuple[int, str, Row]] = []
    for stream in session.scalars(select(MetricSummary).where(MetricSummary.job_id == job_id)):
        here = (job_id, stream.attempt, stream.writer)
        at_block = (MetricBlock.job_id, MetricBlock.attempt, MetricBlock.writer)
        at_tail = (MetricTail.job_id, MetricTail.attempt, MetricTail.writer)
        numbers = select(MetricBlock.number).where(*_equal(at_block, here), MetricBlock.last_cursor > after)
        rows: list[Row] = []
        for number in session.scalars(numbers.order_by(MetricBlock.number)).all():
            if len(rows) >= limit:
                break
            block = session.get_one(MetricBlock, (*here, number))
            rows.extend(row for row in _unpack_block(session, block) if row.cursor > after)
        if len(rows) < limit:
            fresh = select(MetricTail).where(*_equal(at_tail, here), MetricTail.last_cursor > after)
            for tail in session.scalars(fresh.order_by(MetricTail.id).limit(limit)):
                rows.extend(row for row in _decode_tail(tail) if row.cursor > after)
        found.extend((stream.attempt, stream.writer, row) for row in rows)
    shown = [item for item in found if horizon is None or item[2].cursor <= horizon]
    shown.sort(key=lambda item: item[2].cursor)
    return [_streamed(attempt, writer, row) for attempt, writer, row in shown[:limit]]


def _unpack_block(session: Session, block: MetricBlock) -> list[Row]:
    axes = blocks.unpack_axes(block.axes)
    values: list[dict[str, float]] = [{} for _ in range(block.num_rows)]
    chunks = select(MetricChunk).where(
        MetricChunk.job_id == block.job_id,
        MetricChunk.attempt == block.attempt,
        MetricChunk.writer == block.writer,
        MetricChunk.number == block.number,
    )
    for chunk in session.scalars(chunks):
        numbers, column = blocks.unpack_values(blocks.Chunk(chunk.rows, chunk.values), block.num_rows)
        for number, value in zip(numbers.tolist(), column.tolist(), strict=True):
            values[number][chunk.name] = value
    columns = (axes.cursors.tolist(), axes.seqs.tolist(), axes.times.tolist(), axes.steps.tolist(), values)
    return [Row(*row) for row in zip(*columns, strict=True)]


def _streamed(attempt: int, writer: str, row: Row) -> StreamedEvent:
    event = {
        "type": "metrics",
        "seq": row.seq,
        "time": row.time,
        "step": row.step,
        "values": {name: encode_value(value) for name, value in row.values.items()},
    }
    return StreamedEvent(cursor=row.cursor, attempt=attempt, writer=writer, event=validate_event(event))


def _equal(columns: Sequence[Any], values: Sequence[object]) -> list[Any]:
    return [column == value for column, value in zip(columns, values, strict=True)]
