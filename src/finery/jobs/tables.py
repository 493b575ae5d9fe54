"""Tables of the jobs slice. States and attempts are written by the worker, wishes by the API."""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from finery.core.db import Table


class Job(Table):
    """One row per job; the single truth about its state."""

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_changed_at", "changed_at"),
        Index("ix_job_state_priority", "state", "priority", "id"),
        Index("ix_job_parent_id", "parent_id"),
        Index("ix_job_checkpoint_id", "checkpoint_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    algorithm: Mapped[str | None]
    state: Mapped[str]
    cause: Mapped[str] = mapped_column(default="")
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    inputs: Mapped[dict[str, Any]] = mapped_column(JSON)
    code: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    seed: Mapped[int]
    priority: Mapped[int]
    """Lower goes first."""
    pipeline: Mapped[str | None] = mapped_column(index=True)
    after: Mapped[list[int]] = mapped_column(JSON)
    tags: Mapped[list[str]] = mapped_column(JSON)
    notes: Mapped[str] = mapped_column(default="", server_default="")
    is_pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    archived_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(default=0)
    cursor: Mapped[int] = mapped_column(BigInteger, default=0)
    """Cursor of the newest ingested event."""
    step: Mapped[int | None] = mapped_column(BigInteger)
    total_steps: Mapped[int | None] = mapped_column(BigInteger)
    seconds_per_step: Mapped[float | None]
    last_values: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """Newest value of each metric of the newest attempt."""
    stop_verb: Mapped[str | None]
    """`pause`, `cancel` or `rewind` once that was asked of the present attempt."""
    rewind_to: Mapped[int | None]
    """Id of the checkpoint that the next attempt was asked to go on from."""
    parent_id: Mapped[int | None]
    """Of an evaluation that a training job asked for: that job."""
    checkpoint_id: Mapped[int | None]
    """Of an evaluation: the checkpoint that it evaluates."""
    controls: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """Live settings of the newest attempt, as they are in effect."""
    outside_rules: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What rules over scores and states remember (`finery.rules.watch.Watch.dump`)."""
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    last_heard_at: Mapped[datetime | None]
    changed_at: Mapped[datetime]


class Attempt(Table):
    """One try at a job, with its own run directory."""

    __tablename__ = "attempt"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    number: Mapped[int]
    is_settled: Mapped[bool] = mapped_column(default=False, index=True)
    run_dir: Mapped[str]
    run_spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What spec.json holds, so that a worker that died before writing it loses nothing."""
    host: Mapped[str]
    worker: Mapped[str]
    resumed_from: Mapped[str | None]
    phase: Mapped[str | None]
    """Newest status event of the child."""
    phase_message: Mapped[str] = mapped_column(default="")
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    signal: Mapped[str | None]
    cause: Mapped[str] = mapped_column(default="")


class Checkpoint(Table):
    """A checkpoint that a child said it has sealed."""

    __tablename__ = "checkpoint"
    __table_args__ = (
        UniqueConstraint("job_id", "attempt", "step"),
        Index("ix_checkpoint_evaluation", "evaluation"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    attempt: Mapped[int]
    step: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str]
    """Absolute."""
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    evaluation: Mapped[str] = mapped_column(default="", server_default="")
    """`due` by the plan or `asked` by a person, until the worker has `planned` its jobs, or `skipped` it for a newer
    one; empty where none is wanted."""
    is_pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    """A person wants it kept."""


class ControlRequest(Table):
    """What a user asked of a job."""

    __tablename__ = "control_request"
    __table_args__ = (Index("ix_control_request_outcome_job_id", "outcome", "job_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    attempt: Mapped[int | None]
    """The attempt to which it was delivered."""
    verb: Mapped[str]
    values: Mapped[dict[str, float]] = mapped_column(JSON)
    by: Mapped[str]
    requested_at: Mapped[datetime]
    outcome: Mapped[str] = mapped_column(default="requested")
    message: Mapped[str] = mapped_column(default="")
    undoes: Mapped[int | None]
    """Cursor of the action of a rule that it takes back."""


class JobEstimate(Table):
    """What a training job that has ended was estimated to take of a device, and what it took."""

    __tablename__ = "job_estimate"
    __table_args__ = (Index("ix_job_estimate_device", "device"),)

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    attempt: Mapped[int]
    """The one that has ended."""
    device: Mapped[str]
    """Id of the accelerator."""
    engine: Mapped[str]
    algorithm: Mapped[str]
    num_devices: Mapped[int]
    usable_bytes: Mapped[int] = mapped_column(BigInteger)
    """Of a device."""
    predicted_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """None where there was no estimate; `reason` says why."""
    measured_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """On a GPU what torch had allocated at most, on a CPU the largest resident set; None where it ran out of memory, or
    nothing was measured."""
    predicted_speed: Mapped[float | None]
    """Tokens per second, of all devices."""
    measured_speed: Mapped[float | None]
    outcome: Mapped[str]
    """`completed` or `oom`."""
    reason: Mapped[str] = mapped_column(default="")
    ended_at: Mapped[datetime]


ALIVE: Final = timedelta(seconds=10)
"""A worker that was seen within so long is alive."""


class Worker(Table):
    """A worker process and when it was last alive."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    seen_at: Mapped[datetime]
