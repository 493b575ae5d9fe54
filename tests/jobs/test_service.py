"""The verbs of the jobs slice, on SQLite and PostgreSQL."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from finery.core.db import Database
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.core.events import validate_event
from finery.core.rundir import ExitRecord
from finery.core.spec import parse
from finery.jobs import listing, service, submitting
from finery.jobs.scheduling import Free
from finery.jobs.specs import JobSpec, PipelineSpec
from finery.jobs.tables import Attempt, Job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOM = Free(slots=1, gpus=8, all_gpus=8)


def spec(name: str = "a", base: str = "tiny-char", **changes: Any) -> JobSpec:
    raw = {
        "name": name,
        "kind": "train",
        "task": {
            "algorithm": "sft",
            "model": {"base": base},
            "data": {"train": "sums@1"},
        },
        **changes,
    }
    made: JobSpec = parse(JobSpec, raw)
    return made


def submit(db: Database, **changes: Any) -> int:
    with db.session() as session:
        return submitting.submit(session, spec(**changes), inputs={}, code=None, now=NOW).id


def begin(db: Database, tmp_path: Path) -> tuple[int, int]:
    """Claim the next job and begin its attempt."""
    with db.session() as session:
        job = service.claim(session, worker="w", free=ROOM, now=NOW)
        assert job is not None
        attempt = service.begin_attempt(
            session, job, runs=tmp_path, inputs={}, resume_from=None, host="h", worker="w", now=NOW
        )
        return job.id, attempt.id


def apply(db: Database, job_id: int, attempt_id: int, **event: Any) -> None:
    with db.session() as session:
        job, attempt = session.get_one(Job, job_id), session.get_one(Attempt, attempt_id)
        service.apply_event(session, job, attempt, validate_event({"seq": 0, "time": 1.0, **event}), now=NOW)


def state(db: Database, job_id: int) -> tuple[str, str]:
    with db.read() as session:
        job = service.get(session, job_id)
        return job.state, job.cause


def test_a_job_is_claimed_once_even_by_workers_that_ask_at_the_same_moment(db: Database) -> None:
    for index in range(5):
        submit(db, name=f"job {index}")
    taken: list[int] = []

    def work() -> None:
        for _ in range(5):
            with db.session() as session:
                job = service.claim(session, worker="w", free=ROOM, now=NOW)
            if job is not None:
                taken.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == sorted(set(taken))
    assert len(taken) == 5


def test_the_higher_priority_goes_first_and_then_the_older(db: Database) -> None:
    submit(db, name="old")
    submit(db, name="young")
    urgent = submit(db, name="urgent", priority="high")

    with db.session() as session:
        job = service.claim(session, worker="w", free=ROOM, now=NOW)

    assert job is not None
    assert job.id == urgent


def test_a_cancelled_job_is_not_claimed(db: Database) -> None:
    job_id = submit(db)
    with db.session() as session:
        service.request(session, job_id, "cancel", values={}, by="me", now=NOW)
    with db.session() as session:
        for wish in service.undelivered(session):
            assert service.answer_request(session, wish, now=NOW) is None

    with db.session() as session:
        assert service.claim(session, worker="w", free=ROOM, now=NOW) is None
    assert state(db, job_id)[0] == "cancelled"


def test_a_job_waits_for_others_and_falls_with_them(db: Database, tmp_path: Path) -> None:
    first = submit(db)
    second = submit(db, after=[first])
    third = submit(db, after=[second])
    assert state(db, second) == ("created", f"waits for job {first}")
    with db.session() as session:
        service.move(session.get_one(Job, first), "cancelled", "", now=NOW)
    for _ in range(2):
        with db.session() as session:
            service.promote(session, now=NOW)

    assert state(db, second)[0] == "cancelled"
    assert state(db, third) == ("cancelled", f"job {second}, which it waits for, cancelled")


def test_a_job_that_starts_from_anothers_checkpoint_waits_for_it(db: Database) -> None:
    first = submit(db)
    second = submit(db, base=f"job:{first}/last")

    assert state(db, second) == ("created", f"waits for job {first}")


def test_names_within_a_pipeline_become_ids(db: Database) -> None:
    raw = {
        "kind": "pipeline",
        "name": "p",
        "jobs": [
            spec("one").model_dump(mode="json"),
            spec("two", base="job:one/last", after=["one"]).model_dump(mode="json"),
        ],
    }
    with db.session() as session:
        made = submitting.submit_pipeline(session, parse(PipelineSpec, raw), inputs=[{}, {}], code=None, now=NOW)

    assert made[1].after == [made[0].id]
    assert made[1].spec["task"]["model"]["base"] == f"job:{made[0].id}/last"


@pytest.mark.parametrize("after", [[99], ["ghost"]])
def test_waiting_for_a_job_that_does_not_exist_is_refused_and_queues_nothing(db: Database, after: list[Any]) -> None:
    with pytest.raises(InvalidSpec):
        submit(db, after=after)

    with db.read() as session:
        assert listing.find(session, query="", sort="", now=NOW, limit=10, offset=0) == ([], 0)


def test_what_a_state_does_not_allow_is_a_conflict_that_says_what_it_allows(db: Database) -> None:
    job_id = submit(db)

    with db.session() as session, pytest.raises(Conflict, match="only cancel"):
        service.request(session, job_id, "pause", values={}, by="me", now=NOW)
    with db.session() as session, pytest.raises(NotFound):
        service.request(session, 4711, "cancel", values={}, by="me", now=NOW)


def test_a_pause_reaches_the_attempt_and_ends_paused_and_resumes_as_a_new_attempt(db: Database, tmp_path: Path) -> None:
    submit(db)
    job_id, attempt_id = begin(db, tmp_path)
    apply(db, job_id, attempt_id, type="status", status="running", message="", step=0, total_steps=10)
    with db.session() as session:
        service.request(session, job_id, "pause", values={}, by="me", now=NOW)
        service.request(session, job_id, "pause", values={}, by="me", now=NOW)
    with db.session() as session:
        [wish] = service.undelivered(session)
        command = service.answer_request(session, wish, now=NOW)
    assert command is not None
    assert (command.command, command.attempt) == ("pause", 1)
    assert state(db, job_id)[0] == "pausing"
    apply(db, job_id, attempt_id, type="checkpoint", step=4, path="checkpoints/step-4", num_bytes=5)
    apply(db, job_id, attempt_id, type="status", status="paused", message="")
    ended = ExitRecord(
        code=3, signal=None, oom_kills=0, last_heartbeat=0, ended_at=0, cause="", recorded_by="supervisor"
    )
    with db.session() as session:
        service.settle(session, session.get_one(Job, job_id), session.get_one(Attempt, attempt_id), ended, now=NOW)
    assert state(db, job_id)[0] == "paused"
    with db.session() as session:
        service.request(session, job_id, "resume", values={}, by="me", now=NOW)
    with db.session() as session:
        for wish in service.undelivered(session):
            service.answer_request(session, wish, now=NOW)
        job = service.claim(session, worker="w", free=ROOM, now=NOW)
        [point] = service.resume_point(session, job_id)
        attempt = service.begin_attempt(
            session, job, runs=tmp_path, inputs={}, resume_from=point, host="h", worker="w", now=NOW
        )

    assert attempt.number == 2
    assert attempt.resumed_from == f"job:{job_id}/step:4"
    assert attempt.run_spec["resume_from"].endswith("attempt-1/checkpoints/step-4")


def test_the_seed_is_drawn_once_and_kept(db: Database) -> None:
    drawn, given = submit(db), submit(db, seed=5)

    with db.read() as session:
        assert service.get(session, given).seed == 5
        assert 0 <= service.get(session, drawn).seed < 2**31


def test_a_job_whose_worker_is_silent_is_shown_as_lost_with_since_when(db: Database, tmp_path: Path) -> None:
    submit(db)
    job_id, attempt_id = begin(db, tmp_path)
    with db.session() as session:
        service.seen(session, worker="w", host="h", pid=1, now=NOW)
    with db.session() as session:
        service.mark_lost(session, now=NOW + timedelta(minutes=5))
    assert state(db, job_id)[0] == "lost"
    assert "2026-01-01 00:00:00" in state(db, job_id)[1]

    apply(db, job_id, attempt_id, type="status", status="running", message="")
    assert state(db, job_id)[0] == "running"


def test_a_claim_whose_worker_died_before_it_started_anything_goes_back_to_the_queue(
    db: Database, tmp_path: Path
) -> None:
    claimed, begun = submit(db), submit(db)
    with db.session() as session:
        service.claim(session, worker="w", free=ROOM, now=NOW)
    begin(db, tmp_path)

    with db.session() as session:
        service.requeue_abandoned(session, worker="other", now=NOW)
    assert state(db, claimed)[0] == "allocated"
    with db.session() as session:
        service.requeue_abandoned(session, worker="w", now=NOW)

    assert state(db, claimed)[0] == "queued"
    assert state(db, begun)[0] == "allocated"


def test_a_lost_job_can_be_cancelled(db: Database, tmp_path: Path) -> None:
    submit(db)
    job_id, _ = begin(db, tmp_path)
    with db.session() as session:
        service.move(session.get_one(Job, job_id), "lost", "", now=NOW)
        service.request(session, job_id, "cancel", values={}, by="me", now=NOW)
        [wish] = service.undelivered(session)
        command = service.answer_request(session, wish, now=NOW)

    assert command is not None
    assert state(db, job_id)[0] == "cancelling"


PLAN = {"every_steps": 5, "benchmarks": [{"benchmark": {"name": "arithmetic"}, "data": "problems"}]}


@pytest.mark.parametrize(("device", "given"), [("share", ("0",)), ("own", None), ("cpu", ())])
def test_an_evaluation_beside_a_job_that_has_the_only_gpu(
    db: Database, tmp_path: Path, device: str, given: tuple[str, ...] | None
) -> None:
    """It shares it, waits for it, or does without; the job's own slot is taken all the while."""
    parent = submit(db, monitoring={"evaluation": {**PLAN, "device": device}}, resources={"gpus": 1})
    with db.session() as session:
        job = service.claim(session, worker="w", free=Free(slots=1, gpus=1, all_gpus=1), now=NOW)
        assert job is not None
        begin = {"runs": tmp_path, "inputs": {}, "resume_from": None, "host": "h", "worker": "w", "now": NOW}
        service.begin_attempt(session, job, gpus=("0",), **begin)
        raw = {
            "name": "e",
            "kind": "evaluate",
            "task": {
                "model": {"base": f"job:{parent}/step:5"},
                "benchmark": {"name": "arithmetic"},
                "data": "problems",
            },
            "resources": {"gpus": 0 if device == "cpu" else None},
        }
        made: JobSpec = parse(JobSpec, raw)
        submitting.submit(session, made, inputs={}, code=None, now=NOW, parent=parent, checkpoint=1)

    with db.session() as session:
        assert service.running(session, host="h") == (1, 0)
        taken = service.claim(session, worker="w", free=Free(slots=0, gpus=0, all_gpus=1, slots_beside=1), now=NOW)
        if given is None:
            assert taken is None
            waiting = session.get_one(Job, parent + 1)
            assert waiting.cause == "waits for 1 GPUs; 0 of 1 are free"
            return
        assert taken is not None
        attempt = service.begin_attempt(session, taken, gpus=("0",), **begin)
        assert tuple(attempt.run_spec["gpus"]) == given
        assert service.running(session, host="h") == (1, 1)
        assert service.held_gpus(service.live_attempts(session, host="h")) == {"0"}


def test_lists_leave_out_what_a_job_asked_for_unless_they_are_asked_for_it(db: Database) -> None:
    first = submit(db, name="first")
    with db.session() as session:
        submitting.submit(session, spec("child"), inputs={}, code=None, now=NOW, parent=first)

    def names(query: str) -> list[str]:
        with db.read() as session:
            rows, _ = listing.find(session, query=query, sort="id", now=NOW, limit=9, offset=0)
            return [row.name for row in rows]

    assert names("") == ["first"]
    assert names(f"parent:{first}") == names("parent>0") == ["child"]
