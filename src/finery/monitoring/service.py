"""The verbs of the monitoring slice that read: how far a stream was stored, events, summaries and series."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from finery.core.events import Event, encode_value, validate_event
from finery.jobs.specs import StreamedEvent
from finery.monitoring import blocks, downsample
from finery.monitoring.blocks import Row
from finery.monitoring.specs import MetricSummary as MetricSummaryView
from finery.monitoring.specs import SeriesView
from finery.monitoring.tables import EventRow, MetricBlock, MetricChunk, MetricSummary, MetricTail, TailOffset


def offset(session: Session, job_id: int, attempt: int, writer: str) -> int:
    """How far a stream has been read, in bytes."""
    row = session.get(TailOffset, (job_id, attempt, writer))
    return row.offset if row else 0


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
    fresh = [group for tail in tails for group in blocks.unpack_groups(tail.rows)]
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
        for group in fresh:
            if name in group.names:
                steps.append(group.axes.steps)
                times.append(group.axes.times)
                values.append(group.values_RM[:, group.names.index(name)])
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
                groups = blocks.unpack_groups(tail.rows)
                rows.extend(row for group in groups for row in group.rows() if row.cursor > after)
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
