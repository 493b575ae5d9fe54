"""REST of results across jobs."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from finery.core import checkpoints as files
from finery.core.web import ClockDep, DatabaseDep, Db
from finery.evaluation.specs import ComparisonView, SampleResultPage, ScorePage
from finery.experiments import checkpoints as saved
from finery.experiments import service
from finery.experiments.specs import Timeline
from finery.jobs.routes import JobId
from finery.training.specs import PolicyTable

router = APIRouter(prefix="/evaluations", tags=["evaluations"])
checkpoints = APIRouter(prefix="/jobs/{job_id}/checkpoints", tags=["checkpoints"])
CheckpointId = Annotated[int, Path(ge=1, lt=2**31)]
_Job = Annotated[int, Query(ge=1, lt=2**31)]


@router.get("")
def scores(db: Db, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> ScorePage:
    """Scores of completed evaluations, newest first."""
    return ScorePage(scores=service.scores(db, limit=limit))


@router.get("/compare")
def compare(db: Db, baseline: _Job, candidate: _Job) -> ComparisonView:
    """Two evaluations of the same problems: who got what right, and whether the difference could be chance."""
    return service.compare(db, baseline, candidate)


@router.get("/{job_id}/samples")
def samples(
    db: Db,
    job_id: JobId,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    only: Literal["all", "wrong", "right"] = "all",
) -> SampleResultPage:
    """Problems with the model's answers."""
    return service.samples(db, job_id, offset=offset, limit=limit, only=only)


@router.get("/{job_id}/policies")
def policies(db: Db, job_id: JobId) -> PolicyTable:
    """The table of a job of kind compare: each model's rewards, divergence, size and what its training took."""
    return service.policies(db, job_id)


@checkpoints.get("", name="list")
def list_checkpoints(db: Db, job_id: JobId) -> Timeline:
    """Checkpoints of a job: their scores, which is the best, which over-fit, and what keeps them."""
    return saved.show(db, job_id)


@checkpoints.post("/{checkpoint_id}/evaluate", name="evaluate")
def evaluate_checkpoint(db: Db, job_id: JobId, checkpoint_id: CheckpointId, clock: ClockDep) -> Timeline:
    """Evaluate a checkpoint as the job's plan says (`monitoring.evaluation`)."""
    saved.evaluate(db, job_id, checkpoint_id, now=clock.now())
    return saved.show(db, job_id)


@checkpoints.post("/{checkpoint_id}/keep", name="keep")
def keep_checkpoint(db: Db, job_id: JobId, checkpoint_id: CheckpointId, clock: ClockDep) -> Timeline:
    """Keep a checkpoint until it is released, whatever the job file says."""
    saved.pin(db, job_id, checkpoint_id, is_pinned=True, now=clock.now())
    return saved.show(db, job_id)


@checkpoints.post("/{checkpoint_id}/release", name="release")
def release_checkpoint(db: Db, job_id: JobId, checkpoint_id: CheckpointId, clock: ClockDep) -> Timeline:
    """Take `keep` back. The checkpoint goes when nothing else keeps it."""
    saved.pin(db, job_id, checkpoint_id, is_pinned=False, now=clock.now())
    return saved.show(db, job_id)


@checkpoints.delete("/{checkpoint_id}", status_code=204, name="delete")
def delete_checkpoint(database: DatabaseDep, job_id: JobId, checkpoint_id: CheckpointId, clock: ClockDep) -> None:
    """Delete the files of a checkpoint. Refused, with the reason, while something needs it."""
    with database.session() as session:
        path = saved.delete(session, job_id, checkpoint_id, now=clock.now())
    files.remove(path)
