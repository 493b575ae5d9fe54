"""What rules did is shown and can be undone, and rules can be tried on what a run has measured."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from finery.core import checkpoints
from finery.core.db import Database
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.core.events import ActionEvent
from finery.jobs import service as jobs
from finery.jobs.tables import Attempt, Checkpoint, ControlRequest, Job
from finery.monitoring import rehearsing, service
from finery.rules import reading, undoing
from tests.jobs.test_service import begin, submit
from tests.monitoring.test_service import metrics, take

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACTION: dict[str, Any] = {"type": "action", "time": 1.0, "rule": "drift", "action": "reduce_lr", "message": "cut"}
CUT = {**ACTION, "outcome": "applied", "step": 5, "before": {"learning_rate": 0.2}, "after": {"learning_rate": 0.1}}


@pytest.fixture
def attempt(db: Database, tmp_path: Path) -> tuple[int, int]:
    submit(db)
    return begin(db, tmp_path)


def test_alerts_and_actions_of_a_job_are_listed_newest_first(db: Database, attempt: tuple[int, int]) -> None:
    alert = {"type": "alert", "seq": 1, "time": 1.0, "rule": "drift", "severity": "warning", "message": "kl > 0.2"}
    take(db, attempt, [metrics(0, loss=1.0), orjson.dumps(alert), orjson.dumps({**CUT, "seq": 2})], 9)

    with db.read() as session:
        page = service.story(session, attempt[0], limit=10)
        shortened = service.story(session, attempt[0], limit=1)

    assert [(entry.event.type, entry.undo) for entry in page.entries] == [("action", "set"), ("alert", None)]
    assert (len(shortened.entries), shortened.total, shortened.num_alerts) == (1, 2, 1)


def test_undoing_a_change_asks_for_the_value_before(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [orjson.dumps({**CUT, "seq": 0})], 9)
    with db.session() as session:
        [entry] = service.story(session, attempt[0], limit=10).entries
        session.get_one(Job, attempt[0]).state = "running"
        service.undo(session, attempt[0], entry.cursor, by="me", now=NOW)

    with db.read() as session:
        [wish] = jobs.open_requests(session, [attempt[0]])[attempt[0]]
        assert (wish.verb, wish.values, wish.by) == ("set", {"learning_rate": 0.2}, "me")


def test_an_action_is_undone_once_and_the_story_says_by_whom(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [orjson.dumps({**CUT, "seq": 0})], 9)
    with db.session() as session:
        [entry] = service.story(session, attempt[0], limit=10).entries
        session.get_one(Job, attempt[0]).state = "running"
        service.undo(session, attempt[0], entry.cursor, by="browser", now=NOW)

    with db.session() as session:
        [entry] = service.story(session, attempt[0], limit=10).entries
        assert entry.undone is not None
        assert (entry.undo, entry.undone.by, entry.undone.outcome) == (None, "browser", "requested")
        with pytest.raises(Conflict, match="undone already, by browser"):
            service.undo(session, attempt[0], entry.cursor, by="token", now=NOW)
        session.get_one(ControlRequest, entry.undone.id).outcome = "rejected"

    with db.read() as session:
        [entry] = service.story(session, attempt[0], limit=10).entries
        assert entry.undo == "set"  # it was refused, so it can be asked for again


def test_the_two_actions_that_tell_of_a_rollback_are_undone_together(db: Database, attempt: tuple[int, int]) -> None:
    back = {**ACTION, "action": "rollback_checkpoint", "before": {"step": 9}, "after": {"step": 4}, "step": 9}
    take(db, attempt, [orjson.dumps({**back, "seq": 0, "outcome": "asked"})], 9)
    with db.session() as session:
        job = session.get_one(Job, attempt[0])
        path = Path(session.get_one(Attempt, attempt[1]).run_dir) / "checkpoints" / "step-9"
        path.mkdir(parents=True)
        checkpoints.seal(path, engine="trl", format="hf-trainer", step=9, attempt=1, world_size=1, now=0.0)
        job.state = "running"
        session.add(Checkpoint(job_id=job.id, attempt=1, step=9, path=str(path), num_bytes=1, created_at=NOW))
        second = jobs.begin_attempt(
            session, job, runs=Path("/runs"), inputs={}, resume_from=None, host="h", worker="w", now=NOW
        ).id
    take(db, (attempt[0], second), [orjson.dumps({**back, "seq": 0, "outcome": "applied"})], 9)
    with db.session() as session:
        newest = service.story(session, attempt[0], limit=10).entries[0]
        service.undo(session, attempt[0], newest.cursor, by="me", now=NOW)

    with db.read() as session:
        entries = service.story(session, attempt[0], limit=10).entries
        assert [(one.attempt, one.undo, one.undone and one.undone.verb) for one in entries] == [
            (2, None, "rewind"),
            (1, None, "rewind"),
        ]


def test_the_rules_of_a_job_say_how_often_they_have_fired(db: Database, tmp_path: Path) -> None:
    twice = {"name": "twice", "when": "loss > 5", "max_count": 2, "then": ["notify"]}
    rules = [twice, {"name": "quiet", "when": "stale for 10m"}]
    job_id = submit(db, monitoring={"rules": rules})
    alert = {"type": "alert", "time": 1.0, "rule": "twice", "severity": "warning", "message": "loss"}
    take(db, begin(db, tmp_path), [orjson.dumps({**alert, "seq": seq}) for seq in range(3)], 9)
    other = submit(db)

    with db.read() as session:
        own, given = service.rules(session, job_id), service.rules(session, other)

    assert [(one.name, one.num_fired, one.is_of_steps) for one in own.rules] == [
        ("twice", 2, True),
        ("quiet", 0, False),
    ]
    assert [action.name for action in own.rules[0].actions] == ["notify"]
    assert own.rules[1].spec == {"name": "quiet", "when": "stale for 10m"}
    assert (own.is_default, given.is_default) == (False, True)
    assert [one.name for one in given.rules][:2] == ["loss_nan", "grad_explosion"]


@pytest.mark.parametrize(
    ("schedule", "step", "rate", "wanted"),
    [("cosine", 5, 0.2, 0.2), ("cosine", 6, 0.02, 0.04), ("constant", 6, 0.02, 0.2)],
)
def test_a_learning_rate_is_set_back_to_where_its_schedule_would_be_by_now(
    db: Database, tmp_path: Path, schedule: str, step: int, rate: float, wanted: float
) -> None:
    """At step 5 it was cut from 0.2 to 0.1: the metrics of that step tell the rate before."""
    task = {"algorithm": "sft", "model": {"base": "tiny-char"}, "data": {"train": "sums@1"}}
    submit(db, task={**task, "optim": {"schedule": schedule}})
    attempt = begin(db, tmp_path)
    take(db, attempt, [metrics(step - 1, learning_rate=rate), orjson.dumps({**CUT, "seq": step})], 9)
    with db.session() as session:
        [entry] = service.story(session, attempt[0], limit=10).entries
        session.get_one(Job, attempt[0]).state = "running"
        service.undo(session, attempt[0], entry.cursor, by="me", now=NOW)

    with db.read() as session:
        [wish] = jobs.open_requests(session, [attempt[0]])[attempt[0]]
        assert wish.values == entry.undo_values == {"learning_rate": pytest.approx(wanted)}


def test_what_is_no_action_cannot_be_undone(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [orjson.dumps({**CUT, "seq": 0, "outcome": "refused"})], 9)

    with db.session() as session:
        [entry] = service.story(session, attempt[0], limit=10).entries
        assert entry.undo is None
        with pytest.raises(Conflict, match="refused"):
            service.undo(session, attempt[0], entry.cursor, by="me", now=NOW)
        with pytest.raises(NotFound):
            service.undo(session, attempt[0], 10_000, by="me", now=NOW)
        assert session.query(ControlRequest).count() == 0


@pytest.mark.parametrize(
    ("fields", "verb", "values"),
    [
        ({"before": {"state": "running"}, "after": {"state": "paused"}, "action": "pause_training"}, "resume", {}),
        ({"before": {"state": "running"}, "after": {"state": "cancelled"}, "action": "stop"}, "retry", {}),
        (
            {"before": {"step": 9}, "after": {"step": 4}, "action": "rollback_checkpoint", "outcome": "asked"},
            "rewind",
            {"attempt": 3, "step": 9},
        ),
        (
            {"before": {"step": 9}, "after": {"step": 4}, "action": "rollback_checkpoint"},
            "rewind",
            {"attempt": 2, "step": 9},
        ),
    ],
)
def test_each_action_has_its_way_back(fields: dict[str, Any], verb: str, values: dict[str, float]) -> None:
    event = ActionEvent(**{**ACTION, "seq": 0, "outcome": "applied", **fields})

    assert undoing.of(event, 3, newest=3) == (verb, values)


def test_a_pause_is_not_undone_once_the_run_has_gone_on() -> None:
    pause = {"before": {"state": "running"}, "after": {"state": "paused"}, "action": "pause_training"}
    event = ActionEvent(**{**ACTION, "seq": 0, "outcome": "applied", **pause})

    with pytest.raises(Conflict, match="has gone on since pause_training, as attempt 4"):
        undoing.of(event, 3, newest=4)


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "rollback_checkpoint"},
        {"before": {"state": "running"}},
        {"before": {"state": "running"}, "after": {"state": "gone"}},
        {"before": {"learning_rate": "fast"}},
    ],
)
def test_an_event_that_does_not_say_what_was_before_cannot_be_undone(fields: dict[str, Any]) -> None:
    event = ActionEvent(**{**ACTION, "seq": 0, "outcome": "applied", **fields})

    with pytest.raises(Conflict, match="does not say what was before"):
        undoing.of(event, 1, newest=1)


def test_a_notification_cannot_be_taken_back() -> None:
    event = ActionEvent(**{**ACTION, "seq": 0, "outcome": "asked", "action": "notify"})

    with pytest.raises(Conflict, match="notify cannot be undone"):
        undoing.of(event, 1, newest=1)


RULES = """
- name: high
  when: loss > 5 for 2 steps
  then: [pause_training]
  cooldown_steps: 3
- {name: broken, when: isnan(loss), then: [rollback_checkpoint], max_count: 1, cooldown_steps: 1}
- {name: typing, when: los > 5}
- {name: quiet, when: stale for 10m, then: [notify]}
"""


def test_rules_are_tried_on_a_run_that_is_over(db: Database, attempt: tuple[int, int]) -> None:
    losses: list[float | str] = [1.0, 6.0, 6.0, 6.0, "NaN", 7.0, 7.0, "NaN"]
    take(db, attempt, [metrics(seq, loss=loss, other=1.0) for seq, loss in enumerate(losses)], 9)

    with db.read() as session:
        found = rehearsing.rehearse(session, attempt[0], reading.read(RULES))

    assert [(one.rule, one.step, one.is_exhausted) for one in found.firings] == [
        ("high", 3, False),
        ("broken", 5, False),
        ("high", 7, False),
        ("broken", 8, True),
    ]
    assert (found.num_steps, found.num_cut, found.rules) == (8, 0, ["high", "broken", "typing"])
    assert (found.unknown_metrics, found.left_out) == (["los"], ["quiet"])
    assert found.firings[0].message == "loss > 5 for 2 steps (loss = 6)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "holds no list of rules"),
        ("- {name: x, when: loss >}", "line 1"),
        ("- {name: x, when: loss > 1, then: [fly]}", "unknown action 'fly'"),
        ("- {name: x, when: loss > 1}\n- {name: x, when: loss > 2}", "each rule needs a name of its own"),
    ],
)
def test_rules_that_cannot_be_read_are_named(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message.replace("[", r"\[")):
        reading.read(text)


def test_a_job_file_is_read_for_its_rules() -> None:
    rules = reading.read("kind: train\nmonitoring:\n  rules:\n  - {name: x, when: kl > 1}\n")

    assert [(rule.name, rule.when) for rule in rules] == [("x", "kl > 1")]
