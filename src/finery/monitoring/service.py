"""The verbs of the monitoring slice that read: how far a stream was stored, events, summaries and series."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, bindparam, func, select
from sqlalchemy.orm import Session

from finery.core.errors import Conflict, NotFound
from finery.core.events import ActionEvent, AlertEvent, ClusterEvent, MetricValue, encode_value, validate_event
from finery.core.rundir import RESOURCES
from finery.core.spec import parse
from finery.jobs import service as jobs
from finery.jobs import views
from finery.jobs.specs import StreamedEvent
from finery.jobs.tables import Attempt, ControlRequest, Job
from finery.monitoring import blocks, downsample
from finery.monitoring.blocks import Floats, Group, Ints, Row
from finery.monitoring.specs import (
    AlertView,
    ClusterView,
    JobRulesView,
    RuleActionView,
    RuleView,
    SeriesView,
    StoryEntry,
    StoryPage,
)
from finery.monitoring.specs import MetricSummary as MetricSummaryView
from finery.monitoring.tables import EventRow, MetricBlock, MetricChunk, MetricSummary, MetricTail, TailOffset
from finery.rules import defaults, undoing, watch
from finery.rules.specs import RuleSpec
from finery.rules.undoing import Undo


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


def story(session: Session, job_id: int, *, limit: int) -> StoryPage:
    """Alerts of a job and what rules did about them, newest first."""
    job = jobs.get(session, job_id)
    mine = (EventRow.job_id == job_id, EventRow.type.in_(("alert", "action")))
    counts = select(EventRow.type, func.count()).where(*mine).group_by(EventRow.type)
    num = dict(session.execute(counts).all())
    rows = session.scalars(select(EventRow).where(*mine).order_by(EventRow.cursor.desc()).limit(limit))
    wishes = jobs.undoing_requests(session, job_id)
    entries = [_entry(row, job, wishes) for row in rows]
    return StoryPage(entries=entries, total=sum(num.values()), num_alerts=num.get("alert", 0))


def rules(session: Session, job_id: int) -> JobRulesView:
    """The rules of a job, as its newest attempt was given them, and how often each has fired."""
    job = jobs.get(session, job_id)
    newest = session.scalars(
        select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number.desc()).limit(1)
    ).first()
    given = newest.run_spec["job"] if newest is not None else defaults.filled(job.spec)
    found = parse(tuple[RuleSpec, ...], given["monitoring"].get("rules") or [], what=f"job {job_id}")
    kept = newest.run_spec.get("carried", {}).get("rules", {}) if newest is not None else {}
    name = EventRow.payload["rule"].as_string()
    alerts = select(name, func.count()).where(EventRow.job_id == job_id, EventRow.type == "alert").group_by(name)
    num_fired: dict[str, int] = dict(session.execute(alerts).all())
    return JobRulesView(
        rules=[
            RuleView(
                name=rule.name,
                when=rule.when,
                actions=[RuleActionView(name=action.name, params=action.params) for action in rule.then],
                severity=rule.severity,
                cooldown_steps=rule.cooldown_steps,
                max_count=rule.max_count,
                # A rule that can go back no more says so once, which counts as an alert and not as another time.
                num_fired=min(num_fired.get(rule.name, 0), rule.max_count),
                is_muted=kept.get(rule.name, {}).get("is_muted", False),
                is_of_steps=watch.is_of_steps(rule),
                spec=rule.model_dump(mode="json", exclude_defaults=True),
            )
            for rule in found
        ],
        is_default=job.kind == "train" and job.spec["monitoring"].get("rules") is None,
    )


def undo(session: Session, job_id: int, cursor: int, *, by: str, now: datetime) -> Job:
    """Ask for what undoes an action of a rule.

    Raises:
        NotFound: no such action.
        Conflict: it cannot be undone, was undone already, or not in the present state of the job.
    """
    row = session.scalars(select(EventRow).where(EventRow.job_id == job_id, EventRow.cursor == cursor)).first()
    event = validate_event(row.payload) if row is not None else None
    if row is None or not isinstance(event, ActionEvent):
        raise NotFound(f"job {job_id} has no action {cursor}")
    job = jobs.get(session, job_id)
    wanted = _way_back(event, row.attempt, job)
    earlier = _undone(cursor, wanted, jobs.undoing_requests(session, job_id))
    if earlier is not None and earlier.outcome != "rejected":
        raise Conflict(f"action {cursor} of job {job_id} was undone already, by {earlier.by}")
    return jobs.request(session, job_id, wanted.verb, values=wanted.values, by=by, now=now, undoes=cursor)


def _way_back(event: ActionEvent, attempt: int, job: Job) -> Undo:
    """What undoes an action now: of a learning rate that follows a schedule, the change is taken out of the schedule.

    Raises:
        Conflict: there is nothing to undo, or no way.
    """
    wanted = undoing.of(event, attempt, newest=job.attempt)
    if wanted.verb != "set" or "learning_rate" not in wanted.values or not _follows_schedule(job.spec):
        return wanted
    # Metrics of the step in which the rule fired still tell the rate before it.
    is_told = job.step is not None and event.step is not None and job.step > event.step
    after = float(event.after.get("learning_rate", 0.0))
    if not is_told or after == 0 or "learning_rate" not in job.last_values:
        return wanted
    factor = wanted.values["learning_rate"] / after
    return Undo("set", {**wanted.values, "learning_rate": factor * float(job.last_values["learning_rate"])})


def _follows_schedule(spec: Mapping[str, Any]) -> bool:
    optim = spec["task"].get("optim", {})
    return bool(optim.get("schedule") != "constant" or optim.get("warmup_steps", 0) > 0)


def _entry(row: EventRow, job: Job, wishes: Sequence[ControlRequest]) -> StoryEntry:
    event = validate_event(row.payload)
    assert isinstance(event, AlertEvent | ActionEvent)
    wanted: Undo | None = None
    if isinstance(event, ActionEvent):
        with suppress(Conflict):
            wanted = _way_back(event, row.attempt, job)
    undone = _undone(row.cursor, wanted, wishes)
    is_open = undone is None or undone.outcome == "rejected"
    return StoryEntry(
        cursor=row.cursor,
        attempt=row.attempt,
        event=event,
        undo=wanted.verb if wanted is not None and is_open else None,
        undo_values=wanted.values if wanted is not None and is_open else {},
        undone=views.request_view(undone) if undone is not None else None,
    )


def _undone(cursor: int, wanted: Undo | None, wishes: Sequence[ControlRequest]) -> ControlRequest | None:
    """The newest wish to undo an action. The two actions that tell of one rollback are undone together."""
    for wish in reversed(wishes):
        is_same_rollback = wish.verb == "rewind" and wanted == ("rewind", wish.values)
        if wish.undoes == cursor or is_same_rollback:
            return wish
    return None


def newest_alerts(session: Session, *, limit: int) -> list[AlertView]:
    """Alerts of all jobs that are not archived, newest first."""
    query = (
        select(EventRow, Job.name)
        .join(Job, Job.id == EventRow.job_id)
        .where(EventRow.type == "alert", Job.archived_at.is_(None))
        .order_by(EventRow.id.desc())
        .limit(limit)
    )
    found: list[AlertView] = []
    for row, name in session.execute(query):
        event = validate_event(row.payload)
        assert isinstance(event, AlertEvent)
        found.append(AlertView(job_id=row.job_id, job_name=name, attempt=row.attempt, alert=event))
    return found


def cluster(session: Session, job_id: int) -> ClusterView:
    """The Ray cluster under a job, as its newest attempt that has one last told of it. Raises `NotFound`."""
    jobs.get(session, job_id)
    mine = (EventRow.job_id == job_id, EventRow.type == "cluster")
    row = session.scalars(select(EventRow).where(*mine).order_by(EventRow.cursor.desc()).limit(1)).first()
    if row is None:
        return ClusterView(attempt=None, seen=None)
    event = validate_event(row.payload)
    assert isinstance(event, ClusterEvent)
    return ClusterView(attempt=row.attempt, seen=event)


def summaries(session: Session, job_ids: Sequence[int]) -> dict[int, list[MetricSummaryView]]:
    """Range and newest value of every metric, by job; the newest attempt's last."""
    streams = select(MetricSummary).where(MetricSummary.job_id.in_(job_ids), MetricSummary.writer != RESOURCES)
    query = streams.order_by(MetricSummary.attempt)
    found: dict[int, list[MetricSummaryView]] = {}
    for row in session.scalars(query):
        found.setdefault(row.job_id, []).extend(
            MetricSummaryView(name=name, attempt=row.attempt, **stats) for name, stats in row.metrics.items()
        )
    return found


class Window(NamedTuple):
    """Steps from one to another, both included; None is open."""

    first: int | None = None
    last: int | None = None


_ALL: Final = Window()


def series(
    session: Session, job_id: int, names: Sequence[str], *, max_points: int, window: Window = _ALL
) -> list[SeriesView]:
    """Series of the named metrics (all when none is named), per attempt and writer, thinned to `max_points` each.

    Thinning comes after the window is cut out, so that a narrow one shows every point. A line without a point in the
    window is left out.
    """
    return _series_of_streams(session, metric_streams(session, job_id), names, max_points, window)


def metric_streams(session: Session, job_id: int) -> list[MetricSummary]:
    """What the job's attempts reported, each with the names of its metrics; the newest attempt's last."""
    return [stream for stream in session.scalars(_STREAMS, {"job": job_id}) if stream.writer != RESOURCES]


def resources(session: Session, job_id: int, *, max_points: int) -> list[SeriesView]:
    """What each attempt used over time: names as `usage.JobSampler` gives them; steps count samples."""
    streams = [stream for stream in session.scalars(_STREAMS, {"job": job_id}) if stream.writer == RESOURCES]
    return _series_of_streams(session, streams, [], max_points)


def _series_of_streams(
    session: Session,
    streams: Sequence[MetricSummary],
    names: Sequence[str],
    max_points: int,
    window: Window = _ALL,
) -> list[SeriesView]:
    found: list[SeriesView] = []
    for stream in streams:
        wanted = [name for name in stream.metrics if not names or name in names]
        if wanted:
            found.extend(_series_of(session, stream, wanted, max_points, window))
    return found


def _of_stream(table: type[MetricBlock | MetricChunk | MetricTail]) -> Iterable[ColumnElement[bool]]:
    columns = (table.job_id, table.attempt, table.writer)
    return (column == bindparam(name) for column, name in zip(columns, ("job", "attempt", "writer"), strict=True))


# Built once: building a statement takes as long as a short series.
_STREAMS = select(MetricSummary).where(MetricSummary.job_id == bindparam("job")).order_by(MetricSummary.attempt)
_AXES = select(MetricBlock.number, MetricBlock.axes).where(*_of_stream(MetricBlock))
_FRESH = select(MetricTail.rows).where(*_of_stream(MetricTail)).order_by(MetricTail.id)
_CHUNKS = (
    select(MetricChunk.number, MetricChunk.rows, MetricChunk.values)
    .where(
        *_of_stream(MetricChunk),
        MetricChunk.name == bindparam("name"),
        MetricChunk.number.between(bindparam("first"), bindparam("last")),
    )
    .order_by(MetricChunk.number)
)


@dataclass(frozen=True)
class _Part:
    """Values of one metric in one block or one group of fresh rows, and how to find the times and steps of some."""

    values: Floats
    place: Callable[[NDArray[np.intp]], tuple[Floats, Ints]]

    def within(self, window: Window) -> "_Part":
        """The points whose steps lie in the window."""
        if window == _ALL:
            return self
        _, steps = self.place(np.arange(len(self.values)))
        rows = np.flatnonzero(_is_within(steps, window))
        return _Part(self.values[rows], lambda wanted: self.place(rows[wanted]))


def _is_within(steps: Ints, window: Window) -> NDArray[np.bool_]:
    found = np.ones(len(steps), dtype=bool)
    if window.first is not None:
        found &= steps >= window.first
    if window.last is not None:
        found &= steps <= window.last
    return found


def _series_of(
    session: Session, stream: MetricSummary, names: list[str], max_points: int, window: Window
) -> Iterable[SeriesView]:
    here = {"job": stream.job_id, "attempt": stream.attempt, "writer": stream.writer}
    axes = {row.number: row.axes for row in session.execute(_AXES, here)}
    fresh = [group for packed in session.scalars(_FRESH, here) for group in blocks.unpack_groups(packed)]
    touched = [number for number, packed in axes.items() if _touches(packed, window)]
    here |= {"first": min(touched, default=0), "last": max(touched, default=-1)}
    for name in names:
        parts = [
            _Part(np.frombuffer(values, dtype="<f8"), partial(_place_in_block, axes[number], rows))
            for number, rows, values in session.execute(_CHUNKS, {**here, "name": name})
        ]
        parts += [
            _Part(group.values_RM[:, group.names.index(name)], partial(_place_in_group, group))
            for group in fresh
            if name in group.names
        ]
        shown = [part for part in (part.within(window) for part in parts) if len(part.values)]
        if shown:
            yield _view(stream, name, shown, max_points)


def _touches(axes: bytes, window: Window) -> bool:
    return window == _ALL or bool(_is_within(blocks.unpack_steps(axes), window).any())


def _place_in_block(axes: bytes, rows: bytes | None, wanted: NDArray[np.intp]) -> tuple[Floats, Ints]:
    return blocks.take_times_and_steps(axes, wanted if rows is None else blocks.rows_of(rows, 0)[wanted])


def _place_in_group(group: Group, wanted: NDArray[np.intp]) -> tuple[Floats, Ints]:
    return group.axes.times[wanted], group.axes.steps[wanted]


def _view(stream: MetricSummary, name: str, parts: list[_Part], max_points: int) -> SeriesView:
    """Thin the values first, then look up times and steps of what is left."""
    values = np.concatenate([part.values for part in parts])
    kept = downsample.keep(values, max_points)
    ends = np.cumsum([len(part.values) for part in parts])
    places = [
        part.place(chosen - (end - len(part.values)))
        for part, end, chosen in zip(parts, ends, np.split(kept, np.searchsorted(kept, ends[:-1])), strict=True)
        if len(chosen)
    ]
    return SeriesView.model_construct(
        name=name,
        attempt=stream.attempt,
        writer=stream.writer,
        steps=np.concatenate([steps for _, steps in places]).tolist(),
        times=np.concatenate([times for times, _ in places]).tolist(),
        values=_encoded(values[kept]),
        num_points=len(values),
    )


def _encoded(values: Floats) -> list[MetricValue]:
    found: list[MetricValue] = values.tolist()
    for position in np.flatnonzero(~np.isfinite(values)).tolist():
        found[position] = encode_value(float(values[position]))
    return found


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
    values = {name: encode_value(value) for name, value in row.values.items()}
    common = {"seq": row.seq, "time": row.time, "values": values}
    is_resource = writer == RESOURCES
    event = {**common, "type": "resource"} if is_resource else {**common, "type": "metrics", "step": row.step}
    return StreamedEvent(cursor=row.cursor, attempt=attempt, writer=writer, event=validate_event(event))


def _equal(columns: Sequence[Any], values: Sequence[object]) -> list[Any]:
    return [column == value for column, value in zip(columns, values, strict=True)]
