"""Series as CSV: every point as stored, however long. Reads a few blocks at a time, each batch in a unit of its own."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from finery.core.db import Database
from finery.core.errors import NotFound
from finery.jobs import service as jobs
from finery.monitoring import blocks, service
from finery.monitoring.blocks import Floats, Ints
from finery.monitoring.tables import MetricBlock, MetricChunk, MetricTail

_BLOCKS: Final = 32
"""Read in one unit of work: some tens of thousands of points."""


class Line(NamedTuple):
    """A column of values: one metric of one writer of one attempt."""

    attempt: int
    writer: str
    name: str


class _Rows(NamedTuple):
    """Rows of one stream. Dimensions: R rows, M metrics."""

    steps: Ints
    times: Floats
    values_RM: Floats
    has_value_RM: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def plan(session: Session, job_id: int, names: Sequence[str]) -> tuple[str, list[Line]]:
    """What the file is called, without its ending, and its columns.

    Raises:
        NotFound: The job has none of a named metric.
    """
    job = jobs.get(session, job_id)
    streams = service.metric_streams(session, job_id)
    known = {name for stream in streams for name in stream.metrics}
    for name in names:
        if name not in known:
            raise NotFound(f"job {job_id} has no metric {name!r}; it has {', '.join(sorted(known)) or 'none yet'}")
    wanted = [name for name in sorted(known) if not names or name in names]
    lines = [
        Line(stream.attempt, stream.writer, name) for stream in streams for name in wanted if name in stream.metrics
    ]
    subject = wanted[0] if len(names) == 1 else "metrics"
    return f"{job.name}-{job_id}-{subject}", lines


def headers(title: str) -> dict[str, str]:
    """Headers under which a browser saves the file."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", title)
    return {"Content-Disposition": f'attachment; filename="{name}.csv"'}


def rows(database: Database, job_id: int, lines: Sequence[Line]) -> Iterator[str]:
    """Lines of the file: step, seconds since the Unix epoch, then a column for each line of the chart.

    A cell is empty where the line has no value at that row; what is not finite is NaN, Infinity or -Infinity.
    """
    yield _csv_line(["step", "time", *_titles(lines)])
    for attempt, writer in dict.fromkeys((line.attempt, line.writer) for line in lines):
        columns = {
            line.name: number for number, line in enumerate(lines) if (line.attempt, line.writer) == (attempt, writer)
        }
        stream: dict[str, int | str] = {"job_id": job_id, "attempt": attempt, "writer": writer}
        for found in _rows_of(database, stream, list(columns)):
            yield "".join(_text(found, list(columns.values()), len(lines)))


def _titles(lines: Sequence[Line]) -> list[str]:
    """A metric's name, and where several lines have it, its attempt and writer."""
    numbers = {line.attempt for line in lines}
    writers = {line.writer for line in lines}
    found = []
    for line in lines:
        origin = [f"attempt {line.attempt}"] * (len(numbers) > 1) + [line.writer] * (len(writers) > 1)
        found.append(f"{line.name} ({', '.join(origin)})" if origin else line.name)
    return found


def _csv_line(cells: Sequence[str]) -> str:
    quoted = ('"' + cell.replace('"', '""') + '"' if re.search(r'[",\r\n]', cell) else cell for cell in cells)
    return ",".join(quoted) + "\r\n"


def _text(found: _Rows, columns: Sequence[int], num_columns: int) -> Iterator[str]:
    """Only rows with a value."""
    cells = [""] * num_columns
    rows = found.has_value_RM.any(axis=1)
    parts = (found.steps, found.times.astype(float), found.values_RM, found.has_value_RM)
    for step, time, values, is_there in zip(*(part[rows].tolist() for part in parts), strict=True):
        for column, value, has_value in zip(columns, values, is_there, strict=True):
            cells[column] = _number(value) if has_value else ""
        yield f"{step},{time!r},{','.join(cells)}\r\n"


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _rows_of(database: Database, stream: Mapping[str, int | str], names: list[str]) -> Iterator[_Rows]:
    """Rows of one stream in their order.

    Fresh rows are read in the unit of work that finds no further block: what is packed meanwhile is met as a block.
    """
    after = -1
    is_more = True
    while is_more:
        with database.read() as session:
            packed = session.execute(
                select(MetricBlock.number, MetricBlock.axes)
                .filter_by(**stream)
                .where(MetricBlock.number > after)
                .order_by(MetricBlock.number)
                .limit(_BLOCKS)
            ).all()
            numbers = [number for number, _ in packed]
            chunks = _chunks(session, stream, names, numbers)
            is_more = len(packed) == _BLOCKS
            fresh = [] if is_more else _fresh(session, stream, names)
        for number, axes in packed:
            yield _block(axes, {name: chunks.get((number, name)) for name in names})
            after = number
        yield from fresh


def _chunks(
    session: Session, stream: Mapping[str, int | str], names: list[str], numbers: list[int]
) -> dict[tuple[int, str], blocks.Chunk]:
    query = select(MetricChunk).filter_by(**stream).where(MetricChunk.name.in_(names), MetricChunk.number.in_(numbers))
    return {(row.number, row.name): blocks.Chunk(row.rows, row.values) for row in session.scalars(query)}


def _block(packed: bytes, chunks: Mapping[str, blocks.Chunk | None]) -> _Rows:
    axes = blocks.unpack_axes(packed)
    values_RM = np.zeros((len(axes), len(chunks)))
    has_value_RM = np.zeros(values_RM.shape, dtype=bool)
    for column, chunk in enumerate(chunks.values()):
        if chunk is not None:
            at, values = blocks.unpack_values(chunk, len(axes))
            values_RM[at, column] = values
            has_value_RM[at, column] = True
    return _Rows(axes.steps, axes.times, values_RM, has_value_RM)


def _fresh(session: Session, stream: Mapping[str, int | str], names: list[str]) -> list[_Rows]:
    found = []
    tails = select(MetricTail.rows).filter_by(**stream).order_by(MetricTail.id)
    for group in (group for packed in session.scalars(tails) for group in blocks.unpack_groups(packed)):
        values_RM = np.zeros((len(group), len(names)))
        has_value_RM = np.zeros(values_RM.shape, dtype=bool)
        for column, name in enumerate(names):
            if name in group.names:
                values_RM[:, column] = group.values_RM[:, group.names.index(name)]
                has_value_RM[:, column] = True
        found.append(_Rows(group.axes.steps, group.axes.times, values_RM, has_value_RM))
    return found
