"""How jobs come into being: one, several that wait for each other, or a script that reports by itself.

As in `service`: the session comes first, and nothing commits or calls the network.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from finery.core import refs
from finery.core.errors import InvalidSpec
from finery.core.rundir import ResolvedInput
from finery.core.spec import parse
from finery.jobs import holding, references, scheduling, states
from finery.jobs.service import begin_attempt, in_words
from finery.jobs.specs import CodeState, ExternalJob, JobSpec, PipelineSpec
from finery.jobs.tables import Attempt, Job


def submit(
    session: Session,
    spec: JobSpec,
    *,
    inputs: dict[str, ResolvedInput],
    code: CodeState | None,
    now: datetime,
    pipeline: str | None = None,
    parent: int | None = None,
    checkpoint: int | None = None,
) -> Job:
    """Queue a job whose references are resolved; those to checkpoints are resolved when it starts.

    Args:
        session: Of the database.
        spec: The job file.
        inputs: What its references stand for.
        code: Git state of the folder from which it was submitted.
        now: The moment.
        pipeline: Label of the pipeline that it is part of.
        parent: The training job that asks for this evaluation of a checkpoint.
        checkpoint: Id of that checkpoint.

    Raises:
        InvalidSpec: it waits for, or starts from, a job that does not exist.
    """
    after = sorted({*existing(session, spec.after), *checkpoint_jobs(session, spec)})
    job = Job(
        name=spec.name,
        kind=spec.kind,
        algorithm=getattr(spec.task, "algorithm", None),
        state="created" if after else "queued",
        spec=spec.model_dump(mode="json"),
        inputs={ref: found.model_dump() for ref, found in inputs.items()},
        code=code.model_dump() if code else None,
        seed=secrets.randbelow(2**31) if spec.seed is None else spec.seed,
        priority=scheduling.PRIORITIES[spec.priority],
        pipeline=pipeline,
        parent_id=parent,
        checkpoint_id=checkpoint,
        after=after,
        tags=list(spec.tags),
        cursor=0,
        attempt=0,
        last_values={},
        cause=f"waits for {in_words(after)}" if after else "",
        created_at=now,
        changed_at=now,
    )
    session.add(job)
    session.flush()
    holding.hold_what_it_names(session, job)
    return job


def begin_external(
    session: Session, spec: ExternalJob, *, code: CodeState | None, runs: Path, host: str, worker: str, now: datetime
) -> tuple[Job, Attempt]:
    """Record a script that begins to report: a job that is running already, and its only attempt."""
    job = Job(
        name=spec.name,
        kind=spec.kind,
        state="running",
        spec=spec.model_dump(mode="json"),
        inputs={},
        code=code.model_dump() if code else None,
        seed=spec.seed or 0,
        priority=scheduling.PRIORITIES[spec.priority],
        after=[],
        tags=list(spec.tags),
        cursor=0,
        attempt=0,
        last_values={},
        created_at=now,
        changed_at=now,
    )
    session.add(job)
    session.flush()
    attempt_ = begin_attempt(session, job, runs=runs, inputs={}, resume_from=None, host=host, worker=worker, now=now)
    return job, attempt_


def submit_pipeline(
    session: Session,
    spec: PipelineSpec,
    *,
    inputs: Sequence[dict[str, ResolvedInput]],
    code: CodeState | None,
    now: datetime,
) -> list[Job]:
    """Queue the jobs of a pipeline. Names in `after` and `job:<name>/...` become ids of earlier jobs."""
    label = f"{spec.name} {now:%Y-%m-%d %H:%M:%S}"
    ids: dict[str, int] = {}
    made = []
    for index, (job, found) in enumerate(zip(spec.jobs, inputs, strict=True)):
        if job.name in ids:
            raise InvalidSpec(f"jobs.{index}.name: {job.name!r} is used twice in this pipeline; names must differ")
        row = submit(session, _with_ids(job, ids, recipe=spec.recipe), inputs=found, code=code, now=now, pipeline=label)
        ids[job.name] = row.id
        made.append(row)
    return made


def existing(session: Session, after: Sequence[int | str]) -> list[int]:
    """Ids of the jobs that are to be waited for. Raises `InvalidSpec` when there is no such job."""
    ids = []
    for item in after:
        job_id = refs.job_id(str(item))
        if job_id is None:
            raise InvalidSpec(f"after: {item!r} is no job id; names can be used within one pipeline only")
        if session.get(Job, job_id) is None:
            raise InvalidSpec(f"after: there is no job {item}")
        ids.append(job_id)
    return ids


def checkpoint_jobs(session: Session, spec: JobSpec) -> list[int]:
    """Unfinished jobs whose newest checkpoints this one needs. Raises `InvalidSpec` when there is no such job."""
    named = references.checkpoints(spec.model_dump(mode="json"))
    return [int(ref.job) for found, ref in named if is_awaited(session, found, ref)]


def is_awaited(session: Session, found: references.Reference, ref: refs.CheckpointRef) -> bool:
    """Whether a checkpoint is the newest one of a job that has not ended.

    Raises:
        InvalidSpec: there is no such job.
    """
    job = None if ref.job_id is None else session.get(Job, ref.job_id)
    if job is None:
        raise InvalidSpec(f"{found.dotted}: there is no job {ref.job!r}; a job is named by its id")
    return ref.step is None and job.state not in (*states.ENDED, "paused")


def _with_ids(spec: JobSpec, ids: dict[str, int], *, recipe: str | None) -> JobSpec:
    """Replace the names of earlier jobs of a pipeline by their ids; note the pipeline's recipe."""

    def by_id(found: references.Reference) -> str:
        ref = refs.checkpoint(found.text) if found.kind == "model" else None
        return found.text if ref is None or ref.job not in ids else str(replace(ref, job=str(ids[ref.job])))

    raw = references.replaced(spec.model_dump(mode="json"), by_id)
    raw["recipe"] = raw["recipe"] or recipe
    raw["after"] = [ids.get(str(item), item) for item in raw["after"]]
    parsed: JobSpec = parse(JobSpec, raw)
    return parsed
