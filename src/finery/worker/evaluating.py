"""Evaluates checkpoints while their job trains, each by a job of its own, and keeps those that something needs.

A checkpoint that is due is noted with its event, in one transaction; its evaluations are queued and it is marked as
planned in another. So none is lost and none is made twice, whenever the worker dies. Each function is called within a
unit of work that may write.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from finery.core import checkpoints as files
from finery.core import processes, retention
from finery.core.rundir import ProcessIdentity, ResolvedInput
from finery.core.spec import parse
from finery.experiments import checkpoints
from finery.jobs import holding, references, scheduling, states, submitting
from finery.jobs import service as jobs
from finery.jobs.specs import JobSpec
from finery.jobs.tables import Checkpoint, Job

_LONGEST_NAME: Final = 80
_AUTOMATIC: Final = "low"
"""Priority of what a plan asks for, and of nothing that a person does: only that is skipped for what is newer."""


def is_due(session: Session) -> bool:
    """Whether there is anything to plan. Reads only."""
    return session.scalars(_due().limit(1)).first() is not None


def plan(session: Session, *, now: datetime) -> None:
    """Queue the evaluations of checkpoints that are due. Of those of one job that have not begun, the newest waits and
    the older are skipped, so that evaluations slower than training do not pile up."""
    rows = list(session.scalars(_due()))
    newest = {row.job_id: row.id for row in rows}
    for row in rows:
        job = holding.lock(session, row.job_id)
        asked = job.spec["monitoring"].get("evaluation")
        job.changed_at = now
        if asked is None or (row.evaluation == "due" and row.id < newest[row.job_id]):
            row.evaluation = "" if asked is None else "skipped"
            continue
        if row.evaluation == "due":
            _skip_older(session, row, now=now)
        for problems in asked["benchmarks"]:
            _submit(session, job, row, asked, problems, now=now)
        row.evaluation = "planned"


def tidy(session: Session, job_id: int) -> list[Path]:
    """Bring the holds of a job's checkpoints in line with what needs them; of an ended job, let go what is not kept.

    Returns:
        Directories whose checkpoints exist no more, to be deleted after the transaction.
    """
    job = holding.lock(session, job_id)
    rows = jobs.checkpoints(session, job_id)
    there = [row for row in rows if files.is_sealed(Path(row.path))]
    needed = checkpoints.needed(session, job, rows)
    for row in there:
        _set_holds(Path(row.path), needed[row.path])
    # Jobs of versions before this one, and scripts, keep what they have.
    if job.state not in states.ENDED or job.kind == "external" or "keep_every" not in job.spec["monitoring"]:
        return []
    kept = checkpoints.kept_by_policy(job, there, {row.id for row in jobs.resume_point(session, job_id)})
    gone = [row for row in there if row.id not in kept and retention.take_away(Path(row.path), wait=False)]
    debris = [row for row in rows if row not in there and Path(row.path).is_dir()]
    return [Path(row.path) for row in (*gone, *debris)]


def concerned(session: Session, since: datetime | None) -> set[int]:
    """Jobs whose checkpoints may be needed otherwise than before: those that changed, and those that changed ones name.

    Args:
        session: Of the database.
        since: Of the changes; None takes all jobs that have checkpoints.
    """
    owners = set(session.scalars(select(Checkpoint.job_id).distinct()))
    if since is None:
        return owners
    found: set[int] = set()
    for job in session.scalars(select(Job).where(Job.changed_at >= since)):
        found |= {job.id, job.parent_id or 0}
        if job.kind != "external":
            found |= {ref.job_id or 0 for _, ref in references.checkpoints(job.spec)}
    return found & owners


def _due() -> Any:
    return select(Checkpoint).where(Checkpoint.evaluation.in_(("due", "asked"))).order_by(Checkpoint.id)


def _skip_older(session: Session, row: Checkpoint, *, now: datetime) -> None:
    """Take back the evaluations of older checkpoints of the job of which none has begun."""
    query = select(Job).where(Job.parent_id == row.job_id, Job.checkpoint_id < row.id)
    tries: dict[int | None, list[Job]] = {}
    for job in session.scalars(query.order_by(Job.id)):
        tries.setdefault(job.checkpoint_id, []).append(job)
    for own in tries.values():
        if any(job.attempt > 0 or job.state == "allocated" for job in own):
            continue
        for job in own:
            if job.state == "queued" and job.priority == scheduling.PRIORITIES[_AUTOMATIC]:
                jobs.move(job, "cancelled", f"made way for the checkpoint of step {row.step}", now=now)


def _submit(
    session: Session, job: Job, row: Checkpoint, asked: dict[str, Any], problems: dict[str, Any], *, now: datetime
) -> None:
    """Queue one evaluation. All of a job have its seed and the data that was pinned when it was submitted, so that
    its checkpoints are compared on the same problems."""
    suffix = f" step {row.step} {problems['benchmark']['name']}"
    model = job.spec["task"]["model"]
    raw = {
        "name": job.name[: _LONGEST_NAME - len(suffix)] + suffix,
        "kind": "evaluate",
        "task": {"model": {"base": f"job:{job.id}/step:{row.step}", "dtype": model["dtype"]}, **problems},
        "resources": {"gpus": 0 if asked["device"] == "cpu" else None, "cpu_threads": asked["cpu_threads"]},
        "priority": _AUTOMATIC if row.evaluation == "due" else "normal",
        "seed": job.seed,
    }
    data = problems["data"]
    inputs = {data: ResolvedInput.model_validate(job.inputs[data])} if data else {}
    spec = parse(JobSpec, raw, what=f"evaluation of {raw['name']}")
    submitting.submit(session, spec, inputs=inputs, code=None, now=now, parent=job.id, checkpoint=row.id)


def _set_holds(path: Path, needed: set[str]) -> None:
    there = retention.holds(path)
    for name in needed - set(there):
        retention.hold(path, name)
    for name in set(there) - needed:
        if not (name.startswith(retention.CHAT) and _lives(there[name])):
            retention.release(path, name)


def _lives(content: bytes) -> bool:
    """Whether the process lives that a hold of a chat names."""
    try:
        return processes.is_alive(ProcessIdentity.model_validate_json(content))
    except ValueError:
        return False
