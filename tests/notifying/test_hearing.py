"""Which events and states are told, and with what words of the run, on SQLite and PostgreSQL."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.rundir import ExitRecord
from finery.core.settings import Settings
from finery.jobs import service as jobs
from finery.jobs.tables import Attempt, Job
from finery.monitoring import ingest, parsing
from finery.notifying import hearing, service
from finery.notifying.specs import DeliveryView
from tests.jobs.test_service import NOW, begin, submit
from tests.notifying.conftest import add

EVERYTHING = ["alerts", "failed", "lost", "completed", "paused"]


@pytest.fixture
def attempt(db: Database, settings: Settings, clock: FakeClock, tmp_path: Path) -> tuple[int, int]:
    add(db, settings, clock, name="team", kind="webhook", secrets={"url": "https://x.example/"}, events=EVERYTHING)
    submit(db)
    return begin(db, tmp_path)


def write(seq: int, type_: str, **fields: Any) -> bytes:
    return orjson.dumps({"type": type_, "seq": seq, "time": 100.0 + seq, **fields})


def alert(seq: int, rule: str, **fields: Any) -> bytes:
    return write(
        seq, "alert", **{"rule": rule, "severity": "error", "message": f"{rule} was seen", "step": 7, **fields}
    )


def action(seq: int, rule: str, **fields: Any) -> bytes:
    base = {"rule": rule, "action": "notify", "outcome": "asked", "message": "people are told", "step": 7}
    return write(seq, "action", **{**base, **fields})


def take(db: Database, attempt: tuple[int, int], *lines: bytes, writer: str = "rank0") -> list[DeliveryView]:
    """Store lines as the worker does; all that is noted by now."""
    with db.session() as session:
        job, row = session.get_one(Job, attempt[0]), session.get_one(Attempt, attempt[1])
        items = parsing.parse(lines, writer=writer)
        ingest.store(session, job, row, writer, items, 1, now=NOW)
        hearing.events(session, job, row, writer, items, now=NOW)
    return told(db)


def told(db: Database) -> list[DeliveryView]:
    with db.read() as session:
        return service.deliveries(session, channel=None, job_id=None, state=None, limit=100)[::-1]


def test_an_asked_notice_is_told_in_the_words_of_the_alert_before_it(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, alert(0, "grad_explosion", severity="warning"), alert(1, "loss_nan"))
    [found] = take(db, attempt, action(2, "grad_explosion"))

    assert found.notice.rule == "grad_explosion"
    assert (found.notice.severity, found.notice.message) == ("warning", "grad_explosion was seen")
    assert (found.notice.job_id, found.notice.run, found.notice.attempt, found.notice.step) == (
        attempt[0],
        str(attempt[0]),
        1,
        7,
    )


def test_alert_and_action_that_come_together_are_one_notice(db: Database, attempt: tuple[int, int]) -> None:
    [found] = take(db, attempt, alert(0, "loss_nan"), action(1, "loss_nan"))

    assert found.notice.message == "loss_nan was seen"


def test_an_alert_that_no_rule_of_the_job_raised_and_its_action_are_one_notice_for_each_channel(
    db: Database, settings: Settings, clock: FakeClock, attempt: tuple[int, int]
) -> None:
    add(db, settings, clock, name="night", kind="webhook", secrets={"url": "https://x.example/"}, events=[])
    take(db, attempt, alert(0, "own"))
    take(db, attempt, action(1, "own"))
    found = take(db, attempt, action(2, "own", channels=["night", "team"]))

    assert [one.channel for one in found] == ["team", "night"]
    assert len(take(db, attempt, alert(3, "own", step=8), action(4, "own", step=8))) == 3


def test_an_alert_of_a_rule_that_does_not_ask_is_not_told(db: Database, attempt: tuple[int, int]) -> None:
    assert take(db, attempt, alert(0, "loss_nan"), action(1, "loss_nan", action="rollback_checkpoint")) == []
    assert take(db, attempt, action(2, "loss_nan", outcome="refused")) == []


def test_an_alert_that_no_rule_raised_is_told(db: Database, attempt: tuple[int, int]) -> None:
    [found] = take(db, attempt, alert(0, "checkpoint_failed"))

    assert found.notice.rule == "checkpoint_failed"


def test_lines_that_come_again_are_told_once(db: Database, attempt: tuple[int, int]) -> None:
    lines = [alert(0, "loss_nan"), action(1, "loss_nan")]
    take(db, attempt, *lines)

    assert len(take(db, attempt, *lines)) == 1
    assert len(take(db, attempt, *lines, writer="rank1")) == 2


def test_named_channels_are_told_and_text_of_a_run_can_name_none_that_breaks_anything(
    db: Database, attempt: tuple[int, int]
) -> None:
    found = take(db, attempt, action(0, "loss_nan", channels=["team", "a\u0000b"], message="x\u0000y"))

    assert [(one.channel, one.state) for one in found] == [("team", "pending"), ("ab", "failed")]


@pytest.mark.parametrize(
    ("exit_", "stop_verb", "phase", "kind"),
    [
        ({"code": 1}, None, "running", "failed"),
        ({"code": 0}, None, "completed", "completed"),
        ({"code": 0}, "pause", "paused", None),
        ({"code": 0}, "cancel", "cancelled", None),
    ],
)
def test_ends_are_told_unless_a_person_asked_for_them(
    exit_: dict[str, Any], stop_verb: str | None, phase: str, kind: str | None, db: Database, attempt: tuple[int, int]
) -> None:
    with db.session() as session:
        job, row = session.get_one(Job, attempt[0]), session.get_one(Attempt, attempt[1])
        job.state, job.stop_verb, row.phase, job.step = "running", stop_verb, phase, 12
        jobs.settle(session, job, row, end(**exit_), now=NOW)
        hearing.state(session, job, was_asked=stop_verb is not None, now=NOW)

    assert [one.notice.kind for one in told(db)] == ([kind] if kind else [])
    if kind == "failed":
        assert told(db)[0].notice.message == "ended with exit code 1 at step 12"


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_a_stop_that_no_person_asked_for_is_told(state: str, db: Database, attempt: tuple[int, int]) -> None:
    with db.session() as session:
        job = session.get_one(Job, attempt[0])
        job.state, job.cause = state, "grad_explosion paused it"
        hearing.state(session, job, was_asked=False, now=NOW)

    assert [(one.notice.kind, one.notice.message) for one in told(db)] == [("paused", "grad_explosion paused it")]


def test_a_job_that_is_lost_twice_is_told_twice_and_each_time_once(db: Database, attempt: tuple[int, int]) -> None:
    with db.session() as session:
        jobs.seen(session, worker="w", host="h", pid=1, now=NOW)
        session.get_one(Job, attempt[0]).state = "running"
    for minutes in (5, 6):
        lose(db, minutes)
    assert [one.notice.kind for one in told(db)] == ["lost"]
    assert "no contact with the worker on h" in told(db)[0].notice.message

    with db.session() as session:
        job = session.get_one(Job, attempt[0])
        job.state, job.last_heard_at = "running", NOW + timedelta(minutes=7)
    lose(db, 20)
    assert [one.notice.kind for one in told(db)] == ["lost", "lost"]


def lose(db: Database, minutes: int) -> None:
    with db.session() as session:
        for job in jobs.mark_lost(session, now=NOW + timedelta(minutes=minutes)):
            hearing.state(session, job, was_asked=False, now=NOW)


def test_what_was_imported_is_no_news(db: Database, attempt: tuple[int, int]) -> None:
    with db.session() as session:
        session.get_one(Job, attempt[0]).tags = ["imported"]

    assert take(db, attempt, alert(0, "script")) == []


def end(**changes: Any) -> ExitRecord:
    base = {
        "signal": None,
        "oom_kills": 0,
        "last_heartbeat": 1.0,
        "ended_at": 2.0,
        "cause": "",
        "recorded_by": "supervisor",
    }
    return ExitRecord(**{**base, **changes})
