"""Holds of checkpoints that jobs refer to: placed when somebody refers to one, and what they should be at any time.

Who places a hold for what a transaction is about to write, and who takes away those without a reason, lock the row of
the job that owns the checkpoint first. So none is taken away whose reason is not committed yet.
"""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import String, cast, or_, select
from sqlalchemy.orm import Session

from finery.core import checkpoints, refs, retention
from finery.core.errors import Conflict
from finery.jobs import references, states
from finery.jobs.tables import Attempt, Checkpoint, ControlRequest, Job


def lock(session: Session, job_id: int) -> Job:
    """The row of a job, until the end of the transaction this one's alone."""
    return session.get_one(Job, job_id, with_for_update=True)


def hold(session: Session, row: Checkpoint, name: str) -> None:
    """Keep a checkpoint from being deleted.

    Raises:
        Conflict: it has been deleted.
    """
    lock(session, row.job_id)
    if not retention.hold(Path(row.path), name):
        raise Conflict(
            f"the checkpoint of step {row.step} of job {row.job_id} has been deleted; `finery checkpoints list "
            f"{row.job_id}` shows those that are there"
        )


def hold_what_it_names(session: Session, job: Job) -> None:
    """Hold the checkpoints that a new job names, where they are there. What it names may also be saved later."""
    for _, ref in references.checkpoints(job.spec):
        owner = session.get(Job, ref.job_id) if ref.job_id else None
        if owner is None:
            continue
        lock(session, owner.id)
        for row in _meant(session, owner, ref):
            retention.hold(Path(row.path), retention.job_hold(job.id))


def needed_by_jobs(session: Session, owner: Job) -> dict[str, set[str]]:
    """Paths of a job's checkpoints -> names of the holds of jobs that they need now: of each job that has not ended and
    names one, and of the job itself where it goes on from one."""
    found: dict[str, set[str]] = {}

    def add(paths: Iterable[str | None], job_id: int) -> None:
        for path in paths:
            if path is not None:
                found.setdefault(path, set()).add(retention.job_hold(job_id))

    names_it = cast(Job.spec, String).contains(f'"job:{owner.id}/')
    for job in session.scalars(select(Job).where(Job.state.not_in(states.ENDED), names_it)):
        named = [ref for _, ref in references.checkpoints(job.spec) if ref.job_id == owner.id]
        if named:
            add((row.path for ref in named for row in _meant(session, owner, ref)), job.id)
            add(_resolved(session, job), job.id)
    add(_gone_on_from(session, owner), owner.id)
    return found


def _meant(session: Session, owner: Job, ref: refs.CheckpointRef) -> list[Checkpoint]:
    """The checkpoints that a reference may mean: all of its step, or the newest that is there."""
    query = select(Checkpoint).where(Checkpoint.job_id == owner.id).order_by(Checkpoint.id.desc())
    if ref.step is not None:
        return list(session.scalars(query.where(Checkpoint.step == ref.step)))
    return [row for row in session.scalars(query) if checkpoints.is_sealed(Path(row.path))][:1]


def _resolved(session: Session, job: Job) -> list[str]:
    """Checkpoints of other jobs that the live attempt of a job reads."""
    query = select(Attempt).where(Attempt.job_id == job.id, Attempt.is_settled.is_(False))
    return [
        str(checkpoints.whole(Path(found["path"])))
        for attempt in session.scalars(query)
        for found in attempt.run_spec["inputs"].values()
        if found["kind"] == "checkpoint"
    ]


def _gone_on_from(session: Session, owner: Job) -> list[str | None]:
    """Where the job goes on: as it was asked to, or as its live attempt does."""
    live = select(Attempt).where(Attempt.job_id == owner.id, Attempt.is_settled.is_(False))
    wishes = select(ControlRequest).where(
        ControlRequest.job_id == owner.id,
        ControlRequest.verb == "rewind",
        ControlRequest.outcome.in_(("requested", "delivered")),
    )
    steps = {int(wish.values["step"]) for wish in session.scalars(wishes)}
    asked = select(Checkpoint).where(
        Checkpoint.job_id == owner.id, or_(Checkpoint.id == owner.rewind_to, Checkpoint.step.in_(steps))
    )
    return [
        *(attempt.run_spec["resume_from"] for attempt in session.scalars(live)),
        *(row.path for row in session.scalars(asked)),
    ]
