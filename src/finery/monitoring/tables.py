"""Tables of the monitoring slice.

Metrics are stored in packed blocks: steps, times and cursors once per row, values once per metric. Fresh rows lie in
`metric_tail` as they came and are packed once there are enough of them.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from finery.core.db import Table


class EventRow(Table):
    """An event that is not a metric."""

    __tablename__ = "event"
    __table_args__ = (
        UniqueConstraint("job_id", "attempt", "writer", "seq"),
        Index("ix_event_job_id_cursor", "job_id", "cursor", unique=True),
        Index("ix_event_job_id_type", "job_id", "type"),
        # Newest alerts over all jobs; the partial index costs other events nothing.
        Index("ix_event_alert", "id", sqlite_where=text("type = 'alert'"), postgresql_where=text("type = 'alert'")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    attempt: Mapped[int]
    writer: Mapped[str]
    seq: Mapped[int] = mapped_column(BigInteger)
    cursor: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)


class TailOffset(Table):
    """How far a stream has been read. Stored in the same transaction as what was read."""

    __tablename__ = "tail_offset"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    writer: Mapped[str] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, default=0)
    last_seq: Mapped[int] = mapped_column(BigInteger, default=-1)
    """A line with this seq or a lower one is there already and is skipped."""
    num_unreadable: Mapped[int] = mapped_column(default=0)
    """Lines that were no event."""


class MetricTail(Table):
    """Metric rows that are not packed yet: what `blocks.pack_groups` makes."""

    __tablename__ = "metric_tail"
    __table_args__ = (Index("ix_metric_tail_job_id_attempt", "job_id", "attempt", "writer"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    attempt: Mapped[int]
    writer: Mapped[str]
    num_rows: Mapped[int]
    last_cursor: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[bytes] = mapped_column(LargeBinary)


class MetricBlock(Table):
    """Steps, times, cursors and seqs of up to `blocks.ROWS` metric rows."""

    __tablename__ = "metric_block"
    __table_args__ = (Index("ix_metric_block_job_id_last_cursor", "job_id", "last_cursor"),)

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    writer: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    num_rows: Mapped[int]
    last_cursor: Mapped[int] = mapped_column(BigInteger)
    axes: Mapped[bytes] = mapped_column(LargeBinary)
    """What `blocks.pack_axes` makes."""


class MetricChunk(Table):
    """Values of one metric in one block."""

    __tablename__ = "metric_chunk"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    writer: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    rows: Mapped[bytes | None] = mapped_column(LargeBinary)
    """uint32 row numbers within the block; None when every row has a value."""
    values: Mapped[bytes] = mapped_column(LargeBinary)
    """float64."""


class MetricSummary(Table):
    """Range and newest value of every metric of one stream, so that lists need not read series."""

    __tablename__ = "metric_summary"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    writer: Mapped[str] = mapped_column(primary_key=True)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    """name -> {num_points, last_step, last, min, max, num_non_finite}."""
