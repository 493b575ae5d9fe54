"""Who follows a job gets each of its events once, in order, however many follow it and however slow they are."""

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finery.api import feeds
from finery.api.feeds import Feed, Feeds
from finery.core.db import Database
from finery.core.errors import NotFound
from finery.monitoring import service as monitoring
from tests.jobs.test_service import begin, submit
from tests.monitoring.test_service import metrics, take


@pytest.fixture
def write(db: Database, tmp_path: Path) -> Callable[[int], None]:
    """Stores so many more metric rows of job 1."""
    submit(db)
    attempt = begin(db, tmp_path)
    written = 0

    def write(number: int) -> None:
        nonlocal written
        take(db, attempt, [metrics(written + i, loss=float(written + i)) for i in range(number)], written + number)
        written += number

    return write


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "POLL_SECONDS", 0.0)


def seqs(messages: list[str]) -> list[int]:
    return [json.loads(message)["event"]["event"]["seq"] for message in messages]


def read_all(feed: Feed, cursor: int) -> tuple[list[int], int]:
    """Everything after a cursor, as a follower asks for it."""
    found: list[int] = []
    while True:
        messages, cursor = asyncio.run(feed.after(cursor))
        found += seqs(messages)
        if not messages and feed.seconds_to_next(cursor) == 0.0 and cursor >= feed.cursor:
            return found, cursor


def test_followers_with_different_cursors_get_each_event_once_in_order(
    db: Database, write: Callable[[int], None]
) -> None:
    feed = Feed(db, 1)
    write(5)
    early, at_early = read_all(feed, 0)
    write(3)
    late, _ = read_all(feed, 6)
    more, _ = read_all(feed, at_early)

    assert early == [0, 1, 2, 3, 4]
    assert more == [5, 6, 7]
    assert late == [6, 7]
    assert json.loads(feed.row)["job"]["last_values"] == {"loss": 7.0}


def test_what_is_new_is_read_once_for_all(
    db: Database, write: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(db, 1)
    asyncio.run(feed.after(0))
    write(4)
    monkeypatch.setattr(feeds, "POLL_SECONDS", 60.0)
    num_reads = 0
    events_after = monitoring.events_after

    def count(*arguments: object) -> object:
        nonlocal num_reads
        num_reads += 1
        return events_after(*arguments)

    monkeypatch.setattr(monitoring, "events_after", count)

    async def ask() -> list[tuple[list[str], int]]:
        return await asyncio.gather(*(feed.after(0) for _ in range(20)))

    answers = asyncio.run(ask())

    assert [seqs(messages) for messages, _ in answers] == [[0, 1, 2, 3]] * 20
    assert num_reads == 1


@pytest.mark.parametrize("limit", ["_BATCH", "_MAX_BYTES"])
def test_a_follower_who_is_behind_what_is_kept_misses_nothing(
    db: Database, write: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(feeds, limit, {"_BATCH": 10, "_MAX_BYTES": 1000}[limit])
    feed = Feed(db, 1)
    _, start = asyncio.run(feed.after(0))
    for _ in range(5):
        write(7)
        asyncio.run(feed.after(feed.cursor))

    assert read_all(feed, start)[0] == list(range(35))
    assert read_all(feed, 30)[0] == list(range(30, 35))
    assert len(feed._window) <= 10


def test_a_cursor_of_the_future_waits_for_its_events(db: Database, write: Callable[[int], None]) -> None:
    feed = Feed(db, 1)
    write(2)

    assert asyncio.run(feed.after(100)) == ([], 100)


def test_a_job_that_does_not_exist_has_no_feed(db: Database) -> None:
    with pytest.raises(NotFound, match="there is no job 9"):
        asyncio.run(Feeds(db).of(9).after(0))


def test_a_feed_lives_as_long_as_somebody_follows(db: Database) -> None:
    all_feeds = Feeds(db)
    first = all_feeds.of(1)

    assert all_feeds.of(1) is first
    assert all_feeds.of(2) is not first
    del first
    gc.collect()
    assert list(all_feeds._by_job) == []
