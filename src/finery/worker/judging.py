"""Judges the rules over what is born outside a run: scores of its checkpoints (`eval/...`) and states (`job/...`).

What a run says is judged in the run itself, and its silence by its supervisor. Here everything happens in the
transaction of who sees the score or the state: the alert, what people are told, and the wish that reaches the run like
one of a person. So it happens exactly once, whoever is killed when.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session

from finery.core import checkpoints, conditions
from finery.core.errors import Conflict, NotFound
from finery.core.events import decode_value, encode_value
from finery.core.hooks import Decision
from finery.core.spec import parse
from finery.jobs import service as jobs
from finery.jobs.specs import Verb
from finery.jobs.tables import Attempt, Job
from finery.monitoring import ingest
from finery.notifying import hearing
from finery.rules.actions import STATE_AFTER, Decide, Impossible, Notify, Rollback, SetControl
from finery.rules.specs import RuleSpec
from finery.rules.watch import Asked, Firing, Watch

STATES: Final = ("paused", "completed", "failed", "cancelled", "lost")
"""States that rules can look at: `job/failed` is 1 when the job has just failed, and 0 at another change."""
_VERBS: Final[dict[Decision, Verb]] = {
    Decision.PAUSE: "pause",
    Decision.CANCEL: "cancel",
    Decision.CHECKPOINT: "checkpoint",
}


def scored(session: Session, attempt: Attempt, step: int, scores: Mapping[str, float], *, now: datetime) -> None:
    """Store scores of a checkpoint among the metrics of its job, and judge the rules that look at them.

    Args:
        session: The one in which the scores became known.
        attempt: That saved the checkpoint.
        step: Of the checkpoint.
        scores: Benchmark -> share of right answers.
        now: The moment.
    """
    job = jobs.get(session, attempt.job_id)
    values = {f"eval/{benchmark}": score for benchmark, score in scores.items()}
    stored = {name: encode_value(value) for name, value in values.items()}
    ingest.add(session, job, attempt, ingest.PLATFORM, [{"type": "metrics", "step": step, "values": stored}], now=now)
    _judge(session, job, attempt, step, values, now=now)


def moved(session: Session, job: Job, *, now: datetime) -> None:
    """Judge the rules that look at states, after a job has come to its present one."""
    if job.attempt == 0 or job.state not in STATES:
        return
    values = {f"job/{state}": float(job.state == state) for state in STATES}
    attempt = jobs.attempt(session, job.id, job.attempt)
    _judge(session, job, attempt, job.step or 0, {**values, "job/attempt": float(job.attempt)}, now=now)


def _judge(
    session: Session, job: Job, attempt: Attempt, step: int, fresh: Mapping[str, float], *, now: datetime
) -> None:
    """Judge the rules that look at any of the fresh values; of others they see the newest."""
    rules = _rules(session, job, fresh)
    if not rules:
        return
    kept = job.outside_rules or {}
    watch = Watch(rules, kept)
    known = {name: decode_value(value) for name, value in job.last_values.items()}
    controls = {name: decode_value(value) for name, value in (job.controls or {}).items()}
    firings = watch.step(step, {**known, **fresh}, controls)
    job.outside_rules = {**kept, **watch.dump()}
    for firing in firings:
        rule = firing.rule
        told: list[dict[str, Any]] = [
            {
                "type": "alert",
                "rule": rule.name,
                "severity": rule.severity,
                "message": f"{rule.name}: {firing.message}",
                "step": step,
            }
        ]
        told += [
            _act(session, job, firing, asked, is_score=not _is_of_states(fresh), now=now) for asked in firing.asked
        ]
        items = ingest.add(session, job, attempt, ingest.PLATFORM, told, now=now)
        hearing.events(session, job, attempt, ingest.PLATFORM, items, now=now)


def _rules(session: Session, job: Job, fresh: Mapping[str, float]) -> list[RuleSpec]:
    """Rules in effect that look at any of these values, but for those that a person has silenced."""
    spec = jobs.attempt(session, job.id, job.attempt).run_spec
    # An attempt that an earlier version began has neither.
    named, carried = spec["job"].get("monitoring", {}).get("rules") or [], spec.get("carried", {}).get("rules", {})
    rules: Sequence[RuleSpec] = parse(tuple[RuleSpec, ...], named, what="rules")
    silenced = {name for name, kept in carried.items() if kept.get("is_muted")}
    return [
        rule
        for rule in rules
        if rule.name not in silenced and conditions.metrics(conditions.parse(rule.when)) & fresh.keys()
    ]


def _is_of_states(fresh: Mapping[str, float]) -> bool:
    return any(name.startswith("job/") for name in fresh)


def _act(session: Session, job: Job, firing: Firing, asked: Asked, *, is_score: bool, now: datetime) -> dict[str, Any]:
    """Ask for what an action wants; the event that tells of it."""

    def told(outcome: str, message: str, **more: Any) -> dict[str, Any]:
        said = {"rule": firing.rule.name, "action": asked.action, "outcome": outcome, "message": message}
        return {"type": "action", **said, "step": firing.step, **more}

    def ask(verb: Verb, values: dict[str, float] | None = None) -> None:
        by = jobs.by_rule(firing.rule.name)
        jobs.request(session, job.id, verb, values=values or {}, by=by, reason=firing.message, now=now)

    try:
        match asked.effect:
            case Impossible(reason):
                return told("refused", reason)
            case Notify(channels):
                return told("asked", firing.message, channels=channels)
            case SetControl(name, value):
                before = decode_value((job.controls or {})[name])
                ask("set", {name: value})
                change = {"before": {name: encode_value(before)}, "after": {name: encode_value(value)}}
                return told("asked", f"{name}: {before:g} -> {value:g}", **change)
            case Decide(Decision.CHECKPOINT):
                ask("checkpoint")
                return told("asked", "a checkpoint is to be saved")
            case Decide(decision):
                ask(_VERBS[decision])
                after = STATE_AFTER[decision]
                return told("asked", f"the run is to be {after}", before={"state": "running"}, after={"state": after})
            case Rollback() as effect:
                limit = firing.step - 1 if is_score else firing.step
                target = _newest_good(session, job, limit)
                values = {"attempt": float(target.attempt), "step": float(target.step)}
                ask("rewind", {**values, "learning_rate_factor": effect.learning_rate_factor})
                return told("asked", f"goes back to the checkpoint of step {target.step}")
    except (Conflict, NotFound) as error:
        return told("refused", str(error))


def _newest_good(session: Session, job: Job, limit: int) -> Any:
    for row in jobs.resume_point(session, job.id):
        if row.step <= limit and not checkpoints.verify(Path(row.path)):
            return row
    raise NotFound(f"there is no good checkpoint of at most {limit} steps to go back to")
