"""Evaluations are planned once each, and checkpoints held and let go, on SQLite and PostgreSQL."""

from pathlib import Path
from typing import Any

import pytest

from finery.core import checkpoints as files
from finery.core import processes, retention
from finery.core.db import Database
from finery.core.errors import Conflict
from finery.experiments import checkpoints
from finery.experiments.tables import CheckpointScore
from finery.jobs import service
from finery.jobs.tables import Checkpoint, Job
from finery.worker import evaluating
from tests.core.test_checkpoints import make
from tests.jobs.test_service import NOW, PLAN, begin, submit

INPUTS = {"problems": {"kind": "file", "path": "/problems", "sha256": "a" * 64}}


class Trained:
    """A job of which an attempt runs, with checkpoints of 4 problems."""

    def __init__(self, db: Database, folder: Path, **monitoring: Any):
        self.db = db
        self.folder = folder
        self.id = submit(db, monitoring={"evaluation": PLAN, "keep_checkpoints": 1} | monitoring)
        with db.session() as session:
            session.get_one(Job, self.id).inputs = INPUTS
        begin(db, folder)
        self.checkpoints = folder / str(self.id) / "attempt-1" / "checkpoints"

    def save(self, step: int, *, evaluation: str = "") -> Path:
        path = make(self.checkpoints, step)
        with self.db.session() as session:
            fields = {"job_id": self.id, "attempt": 1, "path": str(path), "num_bytes": 1, "created_at": NOW}
            session.add(Checkpoint(step=step, evaluation=evaluation, **fields))
        return path

    def plan(self) -> None:
        with self.db.session() as session:
            evaluating.plan(session, now=NOW)

    def tidy(self) -> None:
        with self.db.session() as session:
            gone = evaluating.tidy(session, self.id)
        for path in gone:
            files.remove(path)

    def end(self, job_id: int, state: str) -> None:
        with self.db.session() as session:
            session.get_one(Job, job_id).state = state

    def children(self) -> dict[str, str]:
        """Name of each evaluation -> its state."""
        with self.db.read() as session:
            rows = session.query(Job).filter(Job.parent_id == self.id).order_by(Job.id)
            return {row.name: row.state for row in rows}

    def score(self, step: int, outcomes: str) -> None:
        """End the evaluation of a checkpoint with these answers."""
        with self.db.session() as session:
            row = session.query(Checkpoint).filter_by(job_id=self.id, step=step).one()
            job = session.query(Job).filter_by(checkpoint_id=row.id).one()
            job.state = "completed"
            key = checkpoints.timeline.series(job.spec["task"], job.inputs).key
            solved = bytes(map(int, outcomes))
            fields = {"num_correct": sum(solved), "num_samples": len(solved), "scored_at": NOW}
            session.add(CheckpointScore(job_id=job.id, checkpoint_id=row.id, series=key, outcomes=solved, **fields))

    def shown(self, step: int) -> Any:
        with self.db.read() as session:
            return next(row for row in checkpoints.show(session, self.id).checkpoints if row.step == step)

    def there(self) -> list[int]:
        return [step for step, _ in files.existing(self.checkpoints)]


def test_each_is_planned_once_and_the_newest_waits_alone(db: Database, tmp_path: Path) -> None:
    run = Trained(db, tmp_path)
    run.save(5, evaluation="due")
    run.plan()
    run.plan()
    assert run.children() == {"a step 5 arithmetic": "queued"}

    run.save(10, evaluation="due")
    run.save(15, evaluation="due")
    run.plan()
    assert run.children() == {"a step 5 arithmetic": "cancelled", "a step 15 arithmetic": "queued"}
    [first], [second] = run.shown(5).evaluations, run.shown(10).evaluations
    assert (first.state, first.cause) == ("skipped", "made way for the checkpoint of step 15")
    assert (second.state, second.job_id) == ("skipped", None)

    with db.session() as session:
        checkpoints.evaluate(session, run.id, run.shown(10).id, now=NOW)
    run.save(20, evaluation="due")
    run.plan()
    states = list(run.children().values())
    assert states == ["cancelled", "cancelled", "queued", "queued"]  # what a person asked for makes way for nothing


def test_one_of_which_an_evaluation_has_begun_is_finished(db: Database, tmp_path: Path) -> None:
    """Else the second benchmark would have its turn only when training is slow."""
    two = [{**PLAN["benchmarks"][0], "limit": limit} for limit in (1, 2)]
    run = Trained(db, tmp_path, evaluation={**PLAN, "benchmarks": two})
    run.save(5, evaluation="due")
    run.plan()
    with db.session() as session:
        session.query(Job).filter_by(parent_id=run.id).order_by(Job.id).first().attempt = 1
    run.save(10, evaluation="due")
    run.plan()

    with db.read() as session:
        rows = session.query(Job).filter(Job.parent_id == run.id).order_by(Job.id)
        assert [row.state for row in rows] == ["queued"] * 4


def test_a_checkpoint_is_held_for_each_reason_and_goes_with_the_last(db: Database, tmp_path: Path) -> None:
    run = Trained(db, tmp_path, keep_best=1)
    for step in (5, 10, 15):
        run.save(step, evaluation="due")
        run.plan()
        with db.session() as session:
            session.query(Job).filter_by(parent_id=run.id).order_by(Job.id.desc()).first().attempt = 1
    run.tidy()
    first = files.directory(run.checkpoints, 5)
    assert retention.EVALUATION in retention.holds(first)

    for step, outcomes in ((5, "1110"), (10, "1111"), (15, "1111")):
        run.score(step, outcomes)
    user = submit(db, base=f"job:{run.id}/step:5")
    run.tidy()
    assert list(retention.holds(first)) == [retention.job_hold(user)]
    assert list(retention.holds(files.directory(run.checkpoints, 10))) == [retention.BEST]
    assert [one.reason for one in run.shown(15).kept] == ["last"]
    with db.session() as session, pytest.raises(Conflict, match=f"held: job {user} needs it"):
        checkpoints.delete(session, run.id, run.shown(5).id, now=NOW)

    run.end(run.id, "completed")
    run.tidy()
    assert run.there() == [5, 10, 15]
    run.end(user, "failed")
    run.tidy()
    assert run.there() == [10, 15]
    assert [row.is_there for row in map(run.shown, (5, 10, 15))] == [False, True, True]


def test_what_a_dead_chat_held_is_let_go_and_a_living_one_keeps_it(db: Database, tmp_path: Path) -> None:
    run = Trained(db, tmp_path)
    path = run.save(5)
    here = processes.identify()
    living, dead = f"{retention.CHAT}1", f"{retention.CHAT}2"
    retention.hold(path, living, content=here.model_dump_json().encode())
    retention.hold(path, dead, content=here.model_copy(update={"start_time": 1.0}).model_dump_json().encode())

    run.tidy()

    assert list(retention.holds(path)) == [living]
    assert [one.reason for one in run.shown(5).kept] == ["last", "chat"]


def test_where_a_job_is_asked_to_go_back_to_stays(db: Database, tmp_path: Path) -> None:
    run = Trained(db, tmp_path)
    for step in (5, 10):
        run.save(step)
    with db.session() as session:
        session.get_one(Job, run.id).state = "running"
        service.request(session, run.id, "rewind", values={"step": 5.0}, by="me", now=NOW)
    run.tidy()
    assert list(retention.holds(files.directory(run.checkpoints, 5))) == [retention.job_hold(run.id)]

    files.remove(files.directory(run.checkpoints, 10))
    with db.session() as session, pytest.raises(Conflict, match="step 10 of job .* has been deleted"):
        service.request(session, run.id, "rewind", values={"step": 10.0}, by="me", now=NOW)
