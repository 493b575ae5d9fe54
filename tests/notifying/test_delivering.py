"""What is noted is delivered: once, again where that helps, folded in a storm, and without anybody waiting for it."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.settings import Settings
from finery.notifying import delivering, hearing, queue, service
from finery.notifying.channels import slack
from finery.notifying.delivering import Deliverer
from finery.notifying.specs import DeliveryView
from tests.notifying.conftest import add, notice
from tests.notifying.receivers import Receiver, receiving

Bell = Callable[..., None]


@pytest.fixture
def deliverer(db: Database, settings: Settings, clock: FakeClock) -> Any:
    made = Deliverer(db, settings, clock)
    yield made
    made.close()


@pytest.fixture
def team(db: Database, settings: Settings, clock: FakeClock, receiver: Receiver) -> None:
    add(db, settings, clock, name="team", kind="webhook", secrets={"url": receiver.url})


@pytest.fixture
def ring(db: Database, clock: FakeClock) -> Bell:
    numbers = iter(range(1000))

    def made(*, key: str | None = None, named: tuple[str, ...] = (), **changes: Any) -> None:
        with db.session() as session:
            hearing.tell(session, notice(**changes), key=key or str(next(numbers)), named=named, now=clock.now())

    return made


def turn(deliverer: Deliverer) -> int:
    """One turn, until all that it began is over; how many messages that was."""
    threads = deliverer.turn()
    for thread in threads:
        thread.join(20)
    return len(threads)


def turns(deliverer: Deliverer) -> int:
    """Turns until nothing is due."""
    total = 0
    while found := turn(deliverer):
        total += found
    return total


def shown(db: Database, **filters: Any) -> list[DeliveryView]:
    with db.read() as session:
        wanted = {"channel": None, "job_id": None, "state": None, "limit": 1000, **filters}
        return service.deliveries(session, **wanted)[::-1]


def test_a_notice_arrives_once_however_often_it_is_noted(
    deliverer: Deliverer, db: Database, receiver: Receiver, team: None, ring: Bell
) -> None:
    ring(key="1/rank0/7")
    ring(key="1/rank0/7")

    assert turns(deliverer) == 1
    ring(key="1/rank0/7")
    assert turns(deliverer) == 0
    [one] = shown(db)
    assert (one.state, one.attempts, one.message) == ("sent", 1, receiver.taken[0].headers["idempotency-key"])
    assert len(receiver.taken) == 1


def test_channels_are_told_what_they_were_set_up_for(
    deliverer: Deliverer, db: Database, settings: Settings, clock: FakeClock, receiver: Receiver, ring: Bell
) -> None:
    for name, events, is_enabled in (
        ("alerts", ["alerts"], True),
        ("ends", ["failed", "completed"], True),
        ("off", ["alerts", "failed"], False),
    ):
        add(
            db,
            settings,
            clock,
            name=name,
            kind="webhook",
            secrets={"url": receiver.url},
            events=events,
            is_enabled=is_enabled,
        )

    ring()
    ring(kind="failed")
    ring(kind="lost")
    ring(named=("ends",))
    ring(named=("off",))

    assert [(one.channel, one.notice.kind) for one in shown(db)] == [
        ("alerts", "alerts"),
        ("ends", "failed"),
        ("ends", "alerts"),
    ]


def test_a_rule_that_names_no_channel_that_there_is_can_be_seen(db: Database, team: None, ring: Bell) -> None:
    ring(named=("nigth", "team"))

    team_, missing = shown(db)
    assert (team_.channel, team_.state) == ("team", "pending")
    assert (missing.state, missing.error) == (
        "failed",
        "there is no channel 'nigth'; the rule 'grad_explosion' names it",
    )


def test_what_was_not_taken_is_tried_again_later_and_later_under_the_same_key(
    deliverer: Deliverer, db: Database, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    receiver.answers = [(500, "down"), (503, "down"), (200, "ok")]
    ring()

    for wait in (timedelta(0), *queue.RETRIES[:2]):
        clock.sleep(wait.total_seconds() - 1 if wait else 0)
        assert turns(deliverer) == (0 if wait else 1)
        if wait:
            clock.sleep(1)
            assert turns(deliverer) == 1
    [one] = shown(db)
    assert (one.state, one.attempts, one.error) == ("sent", 3, "")
    assert len({taken.headers["idempotency-key"] for taken in receiver.taken}) == 1
    assert len({taken.body for taken in receiver.taken}) == 1


def test_it_is_given_up_after_the_last_try(
    deliverer: Deliverer, db: Database, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    receiver.answers = [(500, "down")]
    ring()

    for _ in range(10):
        turns(deliverer)
        clock.sleep(3600)
    [one] = shown(db)
    assert (one.state, one.attempts, one.error) == ("failed", 1 + len(queue.RETRIES), "status 500: down")
    assert len(receiver.taken) == 1 + len(queue.RETRIES)


def test_a_final_no_is_not_asked_again(
    deliverer: Deliverer, db: Database, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    receiver.answers = [(404, "no_service")]
    ring()

    turns(deliverer)
    clock.sleep(3600)
    assert turns(deliverer) == 0
    assert [(one.state, one.attempts) for one in shown(db)] == [("failed", 1)]


def test_who_asks_for_time_is_given_it(
    deliverer: Deliverer, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    receiver.answers, receiver.headers = [(429, "slow"), (200, "ok")], {"retry-after": "120"}
    ring()

    turns(deliverer)
    clock.sleep(119)
    assert turns(deliverer) == 0
    clock.sleep(1)
    assert turns(deliverer) == 1


def test_a_storm_is_folded_and_what_comes_later_in_the_minute_waits(
    deliverer: Deliverer, db: Database, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    for step in range(19):
        ring(step=step)

    assert turns(deliverer) == 5
    bodies = [taken.json for taken in receiver.taken]
    assert [body["num_notices"] for body in bodies] == [1, 1, 1, 1, 15]
    assert bodies[-1]["title"] == "Finery · sums: grad_explosion, and 14 more"
    assert [one["step"] for body in bodies for one in body["notices"]] == list(range(19))
    assert {one.state for one in shown(db)} == {"sent"}

    for step in range(3):
        ring(step=100 + step)
    clock.sleep(30)
    assert turns(deliverer) == 0
    clock.sleep(31)
    assert turns(deliverer) == 3


def test_the_storm_of_one_run_does_not_keep_another_waiting(
    deliverer: Deliverer, receiver: Receiver, team: None, ring: Bell
) -> None:
    for step in range(40):
        ring(step=step)
    ring(run="42", name="other")

    turns(deliverer)
    assert "Finery · other: grad_explosion" in [taken.json["title"] for taken in receiver.taken]


def test_a_folded_message_is_the_same_when_it_is_tried_again(
    deliverer: Deliverer, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    receiver.answers = [(500, "down")]
    for step in range(8):
        ring(step=step)
    turns(deliverer)
    receiver.answers = [(200, "ok")]
    for step in range(8):
        ring(step=100 + step)

    clock.sleep(61)
    turns(deliverer)
    by_key: dict[str, set[bytes]] = {}
    for taken in receiver.taken:
        by_key.setdefault(taken.headers["idempotency-key"], set()).add(taken.body)
    assert all(len(bodies) == 1 for bodies in by_key.values())
    assert len(by_key) == 10


def test_a_channel_that_hangs_delays_no_other_and_nobody_else(
    deliverer: Deliverer, db: Database, settings: Settings, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    receiver.hang = threading.Event()
    with receiving(Receiver()) as quick:
        add(db, settings, clock, name="zz-quick", kind="webhook", secrets={"url": quick.url})
        ring()
        begun = time.monotonic()
        stuck, well = deliverer.turn()
        assert time.monotonic() - begun < 1
        well.join(10)
        ring(run="42")
        again = deliverer.turn()
        [thread.join(10) for thread in again]

        assert len(quick.taken) == 2
        assert len(receiver.taken) == 1
        assert stuck.is_alive()
        receiver.hang.set()
        stuck.join(10)
    assert {one.state for one in shown(db, channel="zz-quick")} == {"sent"}


def test_who_was_killed_while_sending_is_followed_by_one_who_sends_the_same(
    db: Database, settings: Settings, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    """The claim of a dead process of this home is no claim; one of another home runs out."""
    ring()
    me = Deliverer(db, settings, clock)._me
    with db.session() as session:
        [claimed] = queue.claim(session, me=me, busy=(), now=clock.now())

    living = Deliverer(db, settings, clock)
    assert turns(living) == 1
    assert receiver.taken[0].headers["idempotency-key"] == claimed.key
    living.close()

    ring()
    with db.session() as session:
        [claimed] = queue.claim(session, me="elsewhere:/home", busy=(), now=clock.now())
    living = Deliverer(db, settings, clock)
    assert turns(living) == 0
    clock.sleep(queue.CLAIM.total_seconds() + 1)
    assert turns(living) == 1
    assert receiver.taken[1].headers["idempotency-key"] == claimed.key
    living.close()


def test_one_process_of_a_home_delivers(
    deliverer: Deliverer, db: Database, settings: Settings, clock: FakeClock, receiver: Receiver, team: None, ring: Bell
) -> None:
    ring()
    assert turns(deliverer) == 1
    other = Deliverer(db, settings, clock)
    ring()

    assert turns(other) == 0
    deliverer.close()
    assert turns(other) == 1
    other.close()


def test_no_session_is_open_while_something_is_sent(
    deliverer: Deliverer, db: Database, receiver: Receiver, team: None, ring: Bell
) -> None:
    receiver.hang = threading.Event()
    ring()
    [thread] = deliverer.turn()
    deadline = time.monotonic() + 10
    while not receiver.taken and time.monotonic() < deadline:
        time.sleep(0.01)

    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    ring()  # a writer that need not wait
    receiver.hang.set()
    thread.join(10)


def test_a_fault_of_a_channel_is_recorded_without_its_words(
    deliverer: Deliverer,
    db: Database,
    settings: Settings,
    clock: FakeClock,
    ring: Bell,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add(db, settings, clock, name="team", kind="slack", secrets={"url": "https://x.example/T0KEN-nobody-may-see"})
    monkeypatch.setattr(slack.orjson, "dumps", lambda *_: [][1])
    ring()

    turns(deliverer)
    [one] = shown(db)
    assert (one.state, one.error) == ("failed", "a fault of the channel (IndexError); the worker's log has more")
    assert "slack.py" in caplog.text
    assert "nobody-may-see" not in caplog.text


def test_a_channel_that_was_removed_while_something_was_noted_ends_it(
    deliverer: Deliverer, db: Database, team: None, ring: Bell
) -> None:
    ring()
    with db.session() as session:
        session.delete(service.get(session, "team"))

    assert turns(deliverer) == 0
    assert [(one.state, one.error) for one in shown(db)] == [("failed", "the channel was removed")]


def test_the_thread_delivers_and_wait_says_what_is_left(
    deliverer: Deliverer, receiver: Receiver, team: None, ring: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "TURN_SECONDS", 0.02)
    ring()
    deliverer.start()

    assert deliverer.wait("41", 20) == 0
    receiver.answers = [(500, "down")]
    ring()
    assert deliverer.wait("41", 0.5) == 1
