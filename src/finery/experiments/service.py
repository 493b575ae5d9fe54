"""Scores of evaluation jobs, and whether one model beats another on the same problems."""

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from finery.core.errors import Conflict, NotFound
from finery.evaluation import service as evaluation
from finery.evaluation.specs import ComparisonView, SampleResultPage, ScoreView
from finery.jobs import service as jobs
from finery.jobs.tables import Attempt, Job
from finery.training import results as training
from finery.training.specs import PolicyTable


def scores(session: Session, *, limit: int) -> list[ScoreView]:
    """Results of completed evaluations, newest first; without those of a training job's plan, which stand there."""
    query = (
        select(Job, Attempt)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .where(Job.kind == "evaluate", Job.state == "completed", Job.parent_id.is_(None))
        .order_by(Job.id.desc())
        .limit(limit)
    )
    return [_score(job, jobs.run_dir(attempt)) for job, attempt in session.execute(query)]


def samples(session: Session, job_id: int, *, offset: int, limit: int, only: str) -> SampleResultPage:
    """Answered problems of one evaluation, also while it runs."""
    job = _evaluation(session, job_id)
    if job.attempt == 0:
        return SampleResultPage(job_id=job_id, num_samples=0, offset=offset, samples=[])
    folder = jobs.run_dir(jobs.attempt(session, job_id, job.attempt))
    found, total = evaluation.read_samples(folder, offset=offset, limit=limit, only=only)
    return SampleResultPage(job_id=job_id, num_samples=total, offset=offset, samples=found)


def compare(session: Session, baseline: int, candidate: int) -> ComparisonView:
    """Paired comparison of two completed evaluations.

    Raises:
        Conflict: one is not completed, or they did not answer the same problems.
    """
    folders = []
    views = []
    for job_id in (baseline, candidate):
        job = _evaluation(session, job_id)
        if job.state != "completed":
            raise Conflict(f"evaluation {job_id} is {job.state}; only completed ones can be compared")
        folder = jobs.run_dir(jobs.attempt(session, job_id, job.attempt))
        folders.append(folder)
        views.append(_score(job, folder))
    return evaluation.compare(folders[0], folders[1], baseline=views[0], candidate=views[1])


def policies(session: Session, job_id: int) -> PolicyTable:
    """The table of a comparison of policies.

    Raises:
        Conflict: the job is no comparison.
        NotFound: it is not completed.
    """
    job = jobs.get(session, job_id)
    if job.kind != "compare":
        raise Conflict(f"job {job_id} is of kind {job.kind}, not a comparison")
    if job.attempt == 0:
        raise NotFound(f"comparison {job_id} has not started yet")
    return training.read_table(jobs.run_dir(jobs.attempt(session, job_id, job.attempt)))


def _evaluation(session: Session, job_id: int) -> Job:
    job = jobs.get(session, job_id)
    if job.kind != "evaluate":
        raise Conflict(f"job {job_id} is of kind {job.kind}, not an evaluation")
    return job


def _score(job: Job, folder: Path) -> ScoreView:
    return evaluation.read_score(folder, job_id=job.id, job_name=job.name)
