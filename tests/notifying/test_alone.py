"""A run without a server tells people through the channels of its home, and never fails for it."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from finery import migrations
from finery.core.clock import FakeClock, SystemClock
from finery.core.db import Database
from finery.core.errors import Unavailable
from finery.core.rundir import RunSpec
from finery.core.settings import Settings
from finery.notifying import alone, service
from finery.notifying.alone import Teller
from tests.notifying.conftest import add
from tests.notifying.receivers import Receiver

RULES = [{"name": "loss_nan", "when": "isnan(loss)", "then": [{"name": "notify", "params": {}}]}]


@pytest.fixture
def db(settings: Settings, templates: dict[str, str], tmp_path: Path) -> Database:
    made = Database(settings.url)
    migrations.upgrade(made, lock=tmp_path / "migrate.lock")
    return made


def spec(attempt: int = 1) -> RunSpec:
    job = {"name": "sums", "kind": "train", "monitoring": {"rules": RULES}}
    return RunSpec(job_id="sums-20260101-1", attempt=attempt, job=job, inputs={}, seed=1)


def event(seq: int, type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "seq": seq, "time": time.time(), "rule": "loss_nan", "step": 3, **fields}


ALERT = event(0, "alert", severity="error", message="isnan(loss)")
ASKED = event(1, "action", action="notify", outcome="asked", message="")


def told(db: Database) -> list[tuple[str, str]]:
    with db.read() as session:
        found = service.deliveries(session, channel=None, job_id=None, state=None, limit=10)[::-1]
    return [(one.notice.kind, one.state) for one in found]


def test_an_alert_is_told_while_the_run_goes_on_and_its_end_at_the_end(
    db: Database, settings: Settings, receiver: Receiver
) -> None:
    add(db, settings, FakeClock(), name="me", kind="webhook", secrets={"url": receiver.url})
    warnings: list[str] = []
    teller = Teller(lambda: db, settings, SystemClock(), warn=warnings.append)

    teller.hear(spec(), "rank0", {"type": "metrics", "seq": 0, "time": 1.0, "step": 1, "values": {}})
    teller.hear(spec(), "rank0", ALERT)
    teller.hear(spec(), "rank0", ASKED)
    teller.hear(spec(), "rank0", {"type": "action", "nonsense": True})
    deadline = time.monotonic() + 20
    while not receiver.taken and time.monotonic() < deadline:
        time.sleep(0.02)
    teller.end(spec(), "failed", "diverged", step=3, was_asked=False)

    assert told(db) == [("alerts", "sent"), ("failed", "sent")]
    assert [taken.json["notices"][0]["message"] for taken in receiver.taken] == ["isnan(loss)", "diverged"]
    assert warnings == []


def test_what_hangs_is_left_for_the_next_run(
    db: Database, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "_PATIENCE_SECONDS", 1.0)
    receiver.hang = threading.Event()
    add(db, settings, FakeClock(), name="me", kind="webhook", secrets={"url": receiver.url})
    warnings: list[str] = []

    begun = time.monotonic()
    Teller(lambda: db, settings, SystemClock(), warn=warnings.append).end(
        spec(), "failed", "diverged", step=3, was_asked=False
    )
    assert time.monotonic() - begun < 5
    assert "not told yet: 1" in warnings[0]
    assert told(db) == [("failed", "pending")]

    receiver.hang.set()
    receiver.hang = None
    Teller(lambda: db, settings, SystemClock(), warn=warnings.append).end(
        spec(2), "failed", "diverged again", step=3, was_asked=False
    )
    assert told(db) == [("failed", "sent"), ("failed", "sent")]


def test_where_there_is_nothing_to_tell_no_database_is_opened_and_one_that_is_away_is_said(
    settings: Settings,
) -> None:
    warnings: list[str] = []

    def away() -> Database:
        raise Unavailable("the database does not answer")

    teller = Teller(away, settings, SystemClock(), warn=warnings.append)
    teller.hear(spec(), "rank0", ALERT)
    teller.end(spec(), "paused", "pause was asked for", step=3, was_asked=True)
    assert warnings == []

    teller.hear(spec(), "rank0", ASKED)
    assert warnings == ["nobody could be told of sums (alerts): the database does not answer"]
