"""Rules over scores of checkpoints and over states of a job, on SQLite and PostgreSQL."""

from pathlib import Path
from typing import Any

import pytest

from finery.core import checkpoints
from finery.core.db import Database
from finery.core.errors import Conflict
from finery.core.events import ActionEvent, MetricsEvent, validate_event
from finery.core.rundir import ExitRecord, RunDir, RunSpec
from finery.jobs import service as jobs
from finery.jobs.tables import Attempt, ControlRequest, Job
from finery.monitoring import rehearsing, service
from finery.rules import undoing
from finery.worker import judging, resuming
from tests.jobs.test_service import NOW, apply, begin, state, submit

LOW = {"name": "low_score", "when": "eval/arithmetic < 0.3", "then": ["notify"], "cooldown_steps": 1, "max_count": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def started(db: Database, folder: Path, *rules: dict[str, Any]) -> Attempt:
    """A running attempt of a job with these rules, with checkpoints of steps 10, 20 and 30."""
    submit(db, monitoring={"rules": list(rules)})
    job_id, attempt_id = begin(db, folder)
    with db.read() as session:
        attempt = session.get_one(Attempt, attempt_id)
    run_dir = RunDir.create(Path(attempt.run_dir), RunSpec.model_validate(attempt.run_spec))
    apply(db, job_id, attempt_id, type="status", status="running", message="", step=30, total_steps=100)
    apply(db, job_id, attempt_id, type="controls", step=0, values={"learning_rate": 1e-4})
    for step in (10, 20, 30):
        path = checkpoints.directory(run_dir.checkpoints, step)
        path.mkdir()
        (path / "weights").write_text(str(step))
        checkpoints.seal(path, engine="trl", format="hf-trainer", step=step, attempt=1, world_size=1, now=0.0)
        apply(db, job_id, attempt_id, type="checkpoint", step=step, path=f"checkpoints/step-{step}", num_bytes=2)
    return attempt


def score(db: Database, attempt: Attempt, step: int, **scores: float) -> None:
    with db.session() as session:
        judging.scored(session, session.get_one(Attempt, attempt.id), step, scores, now=NOW)


def told(db: Database, attempt: Attempt) -> list[dict[str, Any]]:
    """Alerts and actions of the platform, oldest first."""
    with db.read() as session:
        found = [one.event for one in service.events_after(session, attempt.job_id, 0, 1000)]
    return [one.model_dump() for one in found if one.type in ("alert", "action")]


def wishes(db: Database, attempt: Attempt) -> list[tuple[str, str, dict[str, float]]]:
    with db.read() as session:
        rows = session.query(ControlRequest).filter_by(job_id=attempt.job_id).order_by(ControlRequest.id)
        return [(row.verb, row.by, row.values) for row in rows]


def test_a_score_is_a_metric_of_its_job_and_says_nothing_of_how_far_it_is(db: Database, folder: Path) -> None:
    attempt = started(db, folder)

    score(db, attempt, 20, arithmetic=0.75)

    with db.read() as session:
        job = jobs.get(session, attempt.job_id)
        [series] = service.series(session, job.id, ["eval/arithmetic"], max_points=10)
        assert (job.step, job.last_values["eval/arithmetic"]) == (30, 0.75)
    assert (series.attempt, list(series.steps), list(series.values)) == (1, [20], [0.75])


def test_a_rule_over_scores_fires_as_often_as_it_may(db: Database, folder: Path) -> None:
    attempt = started(db, folder, LOW)

    for step, value in ((10, 0.5), (20, 0.2), (20, 0.1), (30, 0.1)):
        score(db, attempt, step, arithmetic=value)

    found = told(db, attempt)
    assert [(one["type"], one["step"]) for one in found] == [("alert", 20), ("action", 20)] * 2
    assert found[0]["message"] == "low_score: eval/arithmetic < 0.3 (eval/arithmetic = 0.2)"
    assert (found[1]["action"], found[1]["outcome"]) == ("notify", "asked")


def test_another_benchmark_does_not_wake_a_rule_that_does_not_look_at_it(db: Database, folder: Path) -> None:
    attempt = started(db, folder, LOW)

    score(db, attempt, 10, arithmetic=0.2)
    score(db, attempt, 20, gsm8k=0.1)

    assert [one["step"] for one in told(db, attempt) if one["type"] == "alert"] == [10]


def test_a_rule_over_scores_and_metrics_of_the_run_sees_the_newest_of_them(db: Database, folder: Path) -> None:
    attempt = started(db, folder, {"name": "both", "when": "eval/arithmetic < 0.3 and loss > 2"})
    for step, loss in ((10, 1.0), (20, 3.0)):
        with db.session() as session:
            session.get_one(Job, attempt.job_id).last_values = {"loss": loss}
        score(db, attempt, step, arithmetic=0.2)

    assert [one["step"] for one in told(db, attempt)] == [20]


@pytest.mark.parametrize(
    ("action", "wish", "after"),
    [
        ("pause_training", ("pause", {}), {"state": "paused"}),
        ("stop", ("cancel", {}), {"state": "cancelled"}),
        ({"name": "reduce_lr", "params": {"factor": 0.5}}, ("set", {"learning_rate": 5e-5}), {"learning_rate": 5e-5}),
        ("checkpoint_now", ("checkpoint", {}), {}),
    ],
)
def test_what_a_rule_asks_for_reaches_the_run_as_a_wish(
    db: Database, folder: Path, action: Any, wish: tuple[str, dict[str, float]], after: dict[str, Any]
) -> None:
    attempt = started(db, folder, {**LOW, "then": [action]})

    score(db, attempt, 20, arithmetic=0.1)

    _, acted = told(db, attempt)
    assert (acted["outcome"], acted["after"]) == ("asked", after)
    assert wishes(db, attempt) == [(wish[0], "rule low_score", wish[1])]


def test_a_run_that_a_rule_has_paused_says_so_and_people_are_told(db: Database, folder: Path) -> None:
    attempt = started(db, folder, {**LOW, "then": ["pause_training"]})
    score(db, attempt, 20, arithmetic=0.1)
    with db.session() as session:
        [wish] = jobs.undelivered(session)
        assert jobs.answer_request(session, wish, now=NOW) is not None
    apply(db, attempt.job_id, attempt.id, type="status", status="paused", message="", step=31, total_steps=100)

    with db.session() as session:
        job, row = session.get_one(Job, attempt.job_id), session.get_one(Attempt, attempt.id)
        assert not jobs.was_asked(session, job)
        jobs.settle(session, job, row, _ended(), now=NOW)

    cause = "rule low_score: eval/arithmetic < 0.3 (eval/arithmetic = 0.1); stopped at step 31"
    assert state(db, attempt.job_id) == ("paused", cause)


def test_going_back_from_a_score_takes_the_checkpoint_before_it_and_can_be_undone(db: Database, folder: Path) -> None:
    params = {"learning_rate_factor": 0.5}
    attempt = started(db, folder, {**LOW, "then": [{"name": "rollback_checkpoint", "params": params}]})
    score(db, attempt, 20, arithmetic=0.1)
    [asked] = [validate_event({**one}) for one in told(db, attempt) if one["type"] == "action"]
    assert wishes(db, attempt)[0][0] == "rewind"
    assert isinstance(asked, ActionEvent)
    with pytest.raises(Conflict, match="not gone back yet"):
        undoing.of(asked, 1, newest=1)

    _obey(db, attempt)
    point, carried = resuming.prepared(db, attempt.job_id)

    assert point is not None
    assert point.step == 10
    [story] = carried.rollbacks
    assert (story.rule, story.attempt, story.step, story.to_step) == ("low_score", 1, 30, 10)
    [cut] = carried.sets
    assert (cut.step, cut.name, cut.before, cut.after) == (11, "learning_rate", 1e-4, 5e-5)


def test_an_undone_rollback_silences_its_rule(db: Database, folder: Path) -> None:
    attempt = started(db, folder, {**LOW, "then": ["rollback_checkpoint"]})
    score(db, attempt, 20, arithmetic=0.1)
    _obey(db, attempt)
    point, carried = resuming.prepared(db, attempt.job_id)
    second = _next(db, attempt, folder, point, carried)
    with db.session() as session:
        jobs.request(session, attempt.job_id, "rewind", values={"attempt": 1, "step": 30}, by="me", now=NOW)
    _obey(db, second)
    point, carried = resuming.prepared(db, attempt.job_id)
    third = _next(db, second, folder, point, carried)

    score(db, third, 40, arithmetic=0.1)

    assert point is not None
    assert point.step == 30
    assert [one["step"] for one in told(db, attempt) if one["type"] == "alert"] == [20]


def test_without_an_earlier_checkpoint_going_back_is_refused_with_the_reason(db: Database, folder: Path) -> None:
    attempt = started(db, folder, {**LOW, "then": ["rollback_checkpoint"]})

    score(db, attempt, 10, arithmetic=0.1)

    acted = told(db, attempt)[-1]
    assert acted["outcome"] == "refused"
    assert "no good checkpoint of at most 9 steps" in acted["message"]


def test_a_run_that_is_over_is_only_told_of(db: Database, folder: Path) -> None:
    attempt = started(db, folder, {**LOW, "then": ["notify", "pause_training"]})
    _settle(db, attempt, phase="completed", code=0)

    score(db, attempt, 30, arithmetic=0.1)

    outcomes = [(one["action"], one["outcome"]) for one in told(db, attempt) if one["type"] == "action"]
    assert outcomes == [("notify", "asked"), ("pause_training", "refused")]


def test_a_rule_over_states_starts_a_run_that_failed_again_and_gives_up_in_the_end(db: Database, folder: Path) -> None:
    again = {"name": "again", "when": "job/failed > 0", "then": ["rollback_checkpoint"], "max_count": 1}
    attempt = started(db, folder, again)

    _settle(db, attempt, phase="failed", code=1)
    [wish] = wishes(db, attempt)
    with db.session() as session:
        [row] = jobs.undelivered(session)
        jobs.answer_request(session, row, now=NOW)
    point, carried = resuming.prepared(db, attempt.job_id)
    second = _next(db, attempt, folder, point, carried)
    _settle(db, second, phase="failed", code=1)

    assert (wish[0], wish[2]["step"]) == ("rewind", 30)
    assert len(wishes(db, attempt)) == 1
    assert state(db, attempt.job_id)[0] == "failed"
    assert [one["type"] for one in told(db, attempt)] == ["alert", "action", "alert"]


def test_an_attempt_that_an_earlier_version_began_is_settled(db: Database, folder: Path) -> None:
    attempt = started(db, folder)
    with db.session() as session:
        row = session.get_one(Attempt, attempt.id)
        row.run_spec = {name: value for name, value in row.run_spec.items() if name != "carried"}

    _settle(db, attempt, phase="failed", code=1)

    assert state(db, attempt.job_id)[0] == "failed"
    assert told(db, attempt) == []


def test_rules_over_scores_can_be_tried_on_what_was_scored(db: Database, folder: Path) -> None:
    attempt = started(db, folder)
    for step, value in ((10, 0.5), (20, 0.2), (30, 0.4)):
        score(db, attempt, step, arithmetic=value)

    with db.read() as session:
        found = rehearsing.rehearse(session, attempt.job_id, [judging.RuleSpec(**LOW)])

    assert [one.step for one in found.firings] == [20]
    assert found.left_out == []


def test_scores_are_stored_with_the_other_events_of_their_attempt(db: Database, folder: Path) -> None:
    attempt = started(db, folder)
    score(db, attempt, 10, arithmetic=0.5)
    score(db, attempt, 20, arithmetic=0.6)

    with db.read() as session:
        found = [one for one in service.events_after(session, attempt.job_id, 0, 1000) if one.writer == "worker"]

    assert [(one.event.seq, one.attempt) for one in found] == [(0, 1), (1, 1)]
    assert all(isinstance(one.event, MetricsEvent) for one in found)


def _ended(code: int = 4) -> ExitRecord:
    return ExitRecord(
        code=code, signal=None, oom_kills=0, last_heartbeat=0.0, ended_at=1.0, cause="", recorded_by="supervisor"
    )


def _settle(db: Database, attempt: Attempt, *, phase: str, code: int) -> None:
    apply(db, attempt.job_id, attempt.id, type="status", status=phase, message="", step=30, total_steps=100)
    with db.session() as session:
        job, row = session.get_one(Job, attempt.job_id), session.get_one(Attempt, attempt.id)
        jobs.settle(session, job, row, _ended(code), now=NOW)
        judging.moved(session, job, now=NOW)


def _obey(db: Database, attempt: Attempt) -> None:
    """Deliver what is wished, and end the attempt as the child would."""
    with db.session() as session:
        for wish in jobs.undelivered(session):
            jobs.answer_request(session, wish, now=NOW)
    _settle(db, attempt, phase="paused", code=4)


def _next(db: Database, attempt: Attempt, folder: Path, point: Any, carried: Any) -> Attempt:
    """The attempt that goes on from there, as the worker begins it."""
    with db.session() as session:
        job = session.get_one(Job, attempt.job_id)
        jobs.move(job, "allocated", "", now=NOW)
        made = jobs.begin_attempt(
            session,
            job,
            runs=folder,
            inputs={},
            resume_from=point,
            carried=carried,
            host="h",
            worker="w",
            now=NOW,
        )
        number = made.id
    with db.read() as session:
        found = session.get_one(Attempt, number)
    RunDir.create(Path(found.run_dir), RunSpec.model_validate(found.run_spec))
    apply(db, found.job_id, found.id, type="status", status="running", message="", step=30, total_steps=100)
    return found
