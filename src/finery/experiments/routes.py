"""REST of results across jobs."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from finery.core.web import Db
from finery.evaluation.specs import ComparisonView, SampleResultPage, ScorePage
from finery.experiments import service
from finery.jobs.routes import JobId
from finery.training.specs import PolicyTable

router = APIRouter(prefix="/evaluations", tags=["evaluations"])
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
