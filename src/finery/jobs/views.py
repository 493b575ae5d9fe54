"""From rows to what the API shows. Pure."""

import re
from collections.abc import Sequence
from typing import Any

from finery.core.carried import Carried, LiveSet
from finery.jobs import effective, states
from finery.jobs.specs import (
    AttemptView,
    CheckpointView,
    CorrectionView,
    EstimateView,
    JobDetail,
    JobState,
    JobView,
    RequestView,
)
from finery.jobs.tables import Attempt, Checkpoint, ControlRequest, Job, JobEstimate
from finery.planner.calibrating import Correction

_INDEX = re.compile(r"[0-9]{1,9}")


def job_view(job: Job, wishes: Sequence[ControlRequest], *, settings: Sequence[str] = ()) -> JobView:
    """What a table of jobs shows, with some keys of its job file."""
    shown = {name: value for name in settings if (value := _at(job.spec, name.split("."))) is not None}
    return JobView(**_fields(job, wishes) | {"settings": shown})


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Keys of nested data joined by dots -> what is there."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {prefix: value}
    return {
        key: item for name, part in pairs for key, item in flat(part, f"{prefix}.{name}" if prefix else name).items()
    }


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def job_detail(
    job: Job,
    wishes: Sequence[ControlRequest],
    *,
    attempts: Sequence[Attempt],
    checkpoints: Sequence[Checkpoint],
    num_deleted_checkpoints: int,
    provenance: dict[str, Any] | None,
    answered: Sequence[ControlRequest],
    sets: Sequence[LiveSet],
    estimate: JobEstimate | None = None,
) -> JobDetail:
    """What the page of one job shows.

    Args:
        answered: Wishes that have come to an end, newest first.
        sets: Changes of live settings that hold in the newest attempt.
        estimate: What is kept of it.
    """
    tries = [(row, Carried.model_validate(row.run_spec.get("carried", {}))) for row in attempts]
    made = effective.traced([(row.number, handed.sets) for row, handed in tries], sets)
    return JobDetail(
        **_fields(job, wishes),
        spec=job.spec,
        inputs=job.inputs,
        attempts=[
            AttemptView(
                number=row.number,
                started_at=row.started_at,
                ended_at=row.ended_at,
                exit_code=row.exit_code,
                signal=row.signal,
                cause=row.cause,
                resumed_from=row.resumed_from,
                sets=list(handed.sets),
                skipped_steps=list(handed.skipped_steps),
                rollbacks=list(handed.rollbacks),
                host=row.host,
            )
            for row, handed in tries
        ],
        checkpoints=[
            CheckpointView(
                ref=f"job:{row.job_id}/step:{row.step}",
                attempt=row.attempt,
                step=row.step,
                num_bytes=row.num_bytes,
                created_at=row.created_at,
            )
            for row in checkpoints
        ],
        controls=job.controls,
        answered=[request_view(wish) for wish in answered],
        deviations=effective.deviations(
            job.spec, job.controls or {}, made, {wish.id: wish for wish in (*answered, *wishes)}
        ),
        num_deleted_checkpoints=num_deleted_checkpoints,
        code=job.code,
        provenance=provenance,
        estimate=None if estimate is None else estimate_view(estimate),
    )


def _fields(job: Job, wishes: Sequence[ControlRequest]) -> dict[str, Any]:
    task = job.spec["task"]
    data = task.get("data")
    state: JobState = job.state  # type: ignore[assignment]
    return {
        "id": job.id,
        "name": job.name,
        "kind": job.kind,
        "algorithm": job.algorithm,
        "state": state,
        "cause": job.cause,
        "pipeline": job.pipeline,
        "parent": job.parent_id,
        "after": job.after,
        "priority": job.spec["priority"],
        "tags": job.tags,
        "notes": job.notes,
        "is_pinned": job.is_pinned,
        "is_archived": job.archived_at is not None,
        "model": _at(task, ["model", "base"]),
        "data": data["train"] if isinstance(data, dict) else data,
        "seed": job.seed,
        "step": job.step,
        "total_steps": job.total_steps,
        "seconds_per_step": job.seconds_per_step,
        "attempt": job.attempt,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "last_heard_at": job.last_heard_at,
        "verbs": list(states.verbs(job.kind, state)),
        "requests": [request_view(wish) for wish in wishes],
        "last_values": job.last_values,
        "settings": {},
        "warnings": [],
    }


def request_view(wish: ControlRequest) -> RequestView:
    """A wish and what became of it."""
    return RequestView(
        id=wish.id,
        verb=wish.verb,
        values=wish.values,
        by=wish.by,
        requested_at=wish.requested_at,
        outcome=wish.outcome,
        message=wish.message,
        undoes=wish.undoes,
    )


def estimate_view(row: JobEstimate) -> EstimateView:
    """What was expected of a job and what became of it."""
    return EstimateView(**{name: getattr(row, name) for name in EstimateView.model_fields})


def correction_view(found: Correction | None, *, device: str, engine: str, algorithm: str) -> CorrectionView:
    """What ended jobs say of a new one; None is that they say nothing."""
    asked = {"device": device, "engine": engine, "algorithm": algorithm}
    if found is None:
        return CorrectionView(**asked, ratio=None, low=None, high=None, num_jobs=0, scope="")
    return CorrectionView(
        **asked, ratio=found.ratio, low=found.low, high=found.high, num_jobs=found.num, scope=found.scope
    )
