"""Checkpoints of a job over time: their scores, what keeps them, and what can be asked of one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from finery.core import checkpoints as files
from finery.core import retention
from finery.core.errors import Conflict, NotFound
from finery.evaluation import results, statistics
from finery.evaluation import service as evaluation
from finery.experiments import timeline
from finery.experiments.specs import (
    CheckpointEvaluationView,
    CheckpointScoreView,
    EvaluationState,
    KeptView,
    ScoreSeriesView,
    Timeline,
    TimelineCheckpoint,
)
from finery.experiments.tables import CheckpointScore
from finery.experiments.timeline import Scored, Series
from finery.jobs import holding, states
from finery.jobs import service as jobs
from finery.jobs.tables import Attempt, Checkpoint, Job

_WAITING: Final = ("created", "queued")
_NAMES: Final[dict[str, Literal["evaluation", "best", "pinned"]]] = {
    retention.EVALUATION: "evaluation",
    retention.BEST: "best",
    retention.PINNED: "pinned",
}


@dataclass(frozen=True)
class Outcome:
    """An evaluation of a checkpoint has ended with a score."""

    job_id: int
    """The job whose checkpoint it is."""
    attempt: int
    """That saved the checkpoint."""
    step: int
    benchmark: str
    accuracy: float
    is_of_plan: bool
    """It is what the job's plan asks of this benchmark first, or the job has no plan: scores that can be compared."""


def show(session: Session, job_id: int) -> Timeline:
    """The checkpoints of a job.

    Raises:
        NotFound: there is no such job.
    """
    job = jobs.get(session, job_id)
    rows = jobs.checkpoints(session, job_id)
    tries = _evaluations(session, rows)
    known = _known_series(job, [one for one, _ in tries])
    on_path = {row.id for row in jobs.resume_point(session, job_id)}
    marked = _marked(session, job, rows, known, on_path)
    there = [row for row in rows if files.is_sealed(Path(row.path))]
    latest = max((row for row in there if row.id in on_path), key=lambda row: row.step, default=None)
    by_policy = kept_by_policy(job, there, on_path)
    found = []
    for row in rows:
        own = [(one, score) for one, score in tries if one.checkpoint_id == row.id]
        is_there = row in there
        found.append(
            TimelineCheckpoint(
                id=row.id,
                ref=f"job:{job_id}/step:{row.step}",
                average_ref=f"job:{job_id}/step:{row.step}/ema" if _has_average(row) else None,
                attempt=row.attempt,
                step=row.step,
                num_bytes=row.num_bytes,
                created_at=row.created_at,
                is_there=is_there,
                is_on_path=row.id in on_path,
                is_latest=row is latest,
                is_pinned=row.is_pinned,
                kept=[*by_policy.get(row.id, ()), *kept_by_holds(retention.holds(Path(row.path)))] if is_there else [],
                evaluations=_shown(job, row, own, marked),
            )
        )
    return Timeline(
        job_id=job_id,
        has_plan=job.spec["monitoring"].get("evaluation") is not None,
        series=[ScoreSeriesView(key=one.key, benchmark=one.benchmark, label=one.label) for one in known],
        checkpoints=found,
    )


def _has_average(row: Checkpoint) -> bool:
    return files.is_sealed(Path(row.path)) and files.is_sealed(files.averaged(Path(row.path)))


def get(session: Session, job_id: int, checkpoint_id: int) -> Checkpoint:
    """One checkpoint of a job. Raises `NotFound`."""
    row = session.get(Checkpoint, checkpoint_id)
    if row is None or row.job_id != job_id:
        raise NotFound(f"job {job_id} has no checkpoint {checkpoint_id}; `finery checkpoints list {job_id}` lists them")
    return row


def evaluate(session: Session, job_id: int, checkpoint_id: int, *, now: datetime) -> None:
    """Have a checkpoint evaluated as the job's plan says, now and in any case.

    Raises:
        NotFound: there is no such checkpoint.
        Conflict: the job has no plan, or the checkpoint has been deleted.
    """
    row, job = get(session, job_id, checkpoint_id), jobs.get(session, job_id)
    if job.spec["monitoring"].get("evaluation") is None:
        raise Conflict(
            f"job {job_id} has no monitoring.evaluation, which says what its checkpoints are asked; submit a job of "
            f"kind evaluate with model.base: job:{job_id}/step:{row.step}"
        )
    holding.hold(session, row, retention.EVALUATION)
    row.evaluation = "asked"
    job.changed_at = now
    session.flush()


def pin(session: Session, job_id: int, checkpoint_id: int, *, is_pinned: bool, now: datetime) -> None:
    """Keep a checkpoint until that is taken back.

    Raises:
        NotFound: there is no such checkpoint. Conflict: it has been deleted.
    """
    row = get(session, job_id, checkpoint_id)
    if is_pinned:
        holding.hold(session, row, retention.PINNED)
    else:
        holding.lock(session, job_id)
        retention.release(Path(row.path), retention.PINNED)
    row.is_pinned = is_pinned
    jobs.get(session, job_id).changed_at = now
    session.flush()


def delete(session: Session, job_id: int, checkpoint_id: int, *, now: datetime) -> Path:
    """Make a checkpoint exist no more.

    Returns:
        Where its files lie, which are to be removed after the transaction.

    Raises:
        NotFound: there is no such checkpoint, or it has been deleted already.
        Conflict: something needs it; the message says what.
    """
    row = get(session, job_id, checkpoint_id)
    job, path = holding.lock(session, job_id), Path(row.path)
    if not files.is_sealed(path):
        raise NotFound(f"the checkpoint of step {row.step} of job {job_id} has been deleted already")
    there = [one for one in jobs.resume_point(session, job_id) if files.is_sealed(Path(one.path))]
    if job.state not in states.ENDED and there and there[0].id == row.id:
        raise Conflict(
            f"job {job_id} has not ended and goes on from its newest checkpoint after a stop; delete an older one"
        )
    if not retention.take_away(path, wait=True):
        why = "; ".join(_in_words(one) for one in kept_by_holds(retention.holds(path)))
        raise Conflict(f"the checkpoint of step {row.step} of job {job_id} is held: {why}")
    job.changed_at = now
    session.flush()
    return path


# The worker's verbs.


def ended(session: Session, job: Job, attempt: Attempt, *, now: datetime) -> Outcome | None:
    """Note that an evaluation of a checkpoint has ended. Here, and only here, it is known with which score.

    Args:
        session: The one in which the attempt is settled.
        job: The evaluation, which has a `checkpoint_id`.
        attempt: Its newest try.
        now: The moment.

    Returns:
        None where it has no score: it failed or was cancelled.
    """
    row = session.get_one(Checkpoint, job.checkpoint_id)
    owner = session.get_one(Job, row.job_id)
    owner.changed_at = now
    if job.state != "completed":
        return None
    asked = timeline.series(job.spec["task"], job.inputs)
    samples = results.read_samples(jobs.run_dir(attempt))
    score = evaluation.read_score(jobs.run_dir(attempt), job_id=job.id, job_name=job.name)
    session.merge(
        CheckpointScore(
            job_id=job.id,
            checkpoint_id=row.id,
            series=asked.key,
            num_correct=score.num_correct,
            num_samples=score.num_samples,
            outcomes=bytes(sample.correct for sample in samples),
            scored_at=now,
        )
    )
    session.flush()
    planned = _planned(owner)
    first = next((one for one in planned if one.benchmark == asked.benchmark), None)
    return Outcome(
        job_id=row.job_id,
        attempt=row.attempt,
        step=row.step,
        benchmark=asked.benchmark,
        accuracy=score.accuracy,
        is_of_plan=asked.key == first.key if first is not None else not planned and not asked.is_of_averages,
    )


def needed(session: Session, job: Job, rows: Sequence[Checkpoint]) -> dict[str, set[str]]:
    """Paths of a job's checkpoints -> names of all holds for which there is a reason now, but for those of chats."""
    found = holding.needed_by_jobs(session, job)
    waiting = select(Job.checkpoint_id).where(
        Job.checkpoint_id.in_([row.id for row in rows]), Job.state.not_in(states.ENDED), Job.parent_id.is_not(None)
    )
    in_evaluation = set(session.scalars(waiting))
    best = {one.checkpoint for one in _best(session, job, [row for row in rows if files.is_sealed(Path(row.path))])}
    for row in rows:
        reasons = {
            retention.EVALUATION: row.evaluation in ("due", "asked") or row.id in in_evaluation,
            retention.BEST: row.id in best,
            retention.PINNED: row.is_pinned,
        }
        found.setdefault(row.path, set()).update(name for name, holds in reasons.items() if holds)
    return found


def _best(session: Session, job: Job, rows: Sequence[Checkpoint]) -> list[Scored]:
    """Those of the given checkpoints that are kept for their scores."""
    number, planned = job.spec["monitoring"].get("keep_best", 0), _planned(job)
    if not number or not planned:
        return []
    return timeline.best(_scored(session, rows, planned[0].key, on_path=set()), number)


def _planned(job: Job) -> list[Series]:
    plan = job.spec["monitoring"].get("evaluation") or {"benchmarks": []}
    return [timeline.series(problems, job.inputs) for problems in plan["benchmarks"]]


def _known_series(job: Job, tries: Iterable[Job]) -> list[Series]:
    """Those of the plan in its order, then those of other evaluations, the most frequent first."""
    made = [timeline.series(one.spec["task"], one.inputs) for one in tries]
    others = sorted(dict.fromkeys(made), key=lambda one: -made.count(one))
    return list({one.key: one for one in [*_planned(job), *others]}.values())


def _evaluations(session: Session, rows: Sequence[Checkpoint]) -> list[tuple[Job, CheckpointScore | None]]:
    """Evaluations of these checkpoints, oldest first."""
    query = (
        select(Job, CheckpointScore)
        .outerjoin(CheckpointScore, CheckpointScore.job_id == Job.id)
        .where(Job.checkpoint_id.in_([row.id for row in rows]))
        .order_by(Job.id)
    )
    return [(job, score) for job, score in session.execute(query)]


def _scored(session: Session, rows: Sequence[Checkpoint], series: str, *, on_path: set[int]) -> list[Scored]:
    """The checkpoints that have a score in a series, each with its newest."""
    steps = {row.id: row.step for row in rows}
    query = select(CheckpointScore).where(CheckpointScore.series == series, CheckpointScore.checkpoint_id.in_(steps))
    newest = {score.checkpoint_id: score for score in session.scalars(query.order_by(CheckpointScore.job_id))}
    return [
        Scored(number, steps[number], number in on_path, score.outcomes)
        for number, score in newest.items()
        if score.outcomes
    ]


def _marked(
    session: Session, job: Job, rows: Sequence[Checkpoint], known: Sequence[Series], on_path: set[int]
) -> dict[str, tuple[set[int], set[int]]]:
    """Series -> checkpoints that are the best, and those that over-fit."""
    found = {}
    for one in known:
        scored = _scored(session, rows, one.key, on_path=on_path)
        found[one.key] = ({top.checkpoint for top in timeline.best(scored)}, timeline.over_fitting(scored))
    return found


def _shown(
    job: Job,
    row: Checkpoint,
    tries: Sequence[tuple[Job, CheckpointScore | None]],
    marked: Mapping[str, tuple[set[int], set[int]]],
) -> list[CheckpointEvaluationView]:
    """The newest evaluation of a checkpoint in each series; one that is to come or was skipped where there is none."""
    found: dict[str, CheckpointEvaluationView] = {}
    for one, score in tries:
        key = timeline.series(one.spec["task"], one.inputs).key
        shown = _evaluation(one, score, key, *marked[key])
        if shown.score is not None or key not in found or found[key].score is None:
            found[key] = shown
    if row.evaluation in ("due", "asked", "skipped"):
        state: EvaluationState = "skipped" if row.evaluation == "skipped" else "waiting"
        cause = "made way for a newer checkpoint" if state == "skipped" else "is about to be queued"
        for series in _planned(job):
            planned = CheckpointEvaluationView(series=series.key, job_id=None, state=state, cause=cause, score=None)
            found.setdefault(series.key, planned)
    return list(found.values())


def _evaluation(
    job: Job, score: CheckpointScore | None, key: str, best: set[int], over_fitting: set[int]
) -> CheckpointEvaluationView:
    state, cause = _state(job, score)
    shown = None
    if score is not None:
        shown = CheckpointScoreView(
            num_correct=score.num_correct,
            num_samples=score.num_samples,
            accuracy=score.num_correct / score.num_samples,
            interval=statistics.wilson(score.num_correct, score.num_samples),
            is_best=score.checkpoint_id in best,
            is_over_fitting=score.checkpoint_id in over_fitting,
        )
    return CheckpointEvaluationView(series=key, job_id=job.id, state=state, cause=cause, score=shown)


def _state(job: Job, score: CheckpointScore | None) -> tuple[EvaluationState, str]:
    if score is not None:
        return "scored", ""
    if job.state in _WAITING:
        return "waiting", job.cause
    if job.state not in states.ENDED:
        return "running", job.cause
    if job.state == "completed":
        return "failed", "its result could not be read"
    return ("skipped" if job.attempt == 0 and job.state == "cancelled" else "failed"), job.cause


def kept_by_policy(job: Job, there: Sequence[Checkpoint], on_path: set[int]) -> dict[int, list[KeptView]]:
    """Checkpoint -> what the job file keeps it for; one that is missing may go.

    An attempt keeps its own newest. Once the job has ended, those on the way to its end count together; a completed job
    does not go back, so what it left behind may go.

    Args:
        job: Whose they are.
        there: Those that are not deleted.
        on_path: Ids of those on the way to its newest attempt.
    """
    monitoring, has_ended = job.spec["monitoring"], job.state in states.ENDED
    last, every = monitoring["keep_checkpoints"], monitoring.get("keep_every")
    groups: dict[int, list[Checkpoint]] = {}
    for row in sorted(there, key=lambda row: row.step):
        if row.id in on_path or job.state != "completed":
            groups.setdefault(0 if has_ended and row.id in on_path else row.attempt, []).append(row)
    found: dict[int, list[KeptView]] = {}
    for group in groups.values():
        for row in group:
            reasons: list[Literal["last", "every"]] = ["last"] if row in group[-last:] else []
            if every and row.step % every == 0:
                reasons.append("every")
            if reasons:
                found[row.id] = [KeptView(reason=reason, job_id=None) for reason in reasons]
    return found


def kept_by_holds(holds: Mapping[str, Any]) -> list[KeptView]:
    """What the holds of a checkpoint keep it for, from their names."""
    found = []
    for name in holds:
        job_id = retention.holding_job(name)
        found.append(KeptView(reason="job" if job_id is not None else _NAMES.get(name, "chat"), job_id=job_id))
    return found


def _in_words(kept: KeptView) -> str:
    words = {
        "best": "it is one of the best (monitoring.keep_best)",
        "pinned": "a person keeps it; let it go first",
        "evaluation": "its evaluation has not ended; cancel that first",
        "job": f"job {kept.job_id} needs it",
        "chat": "a chat has it loaded; it is let go when the chat ends",
    }
    return words[kept.reason]
