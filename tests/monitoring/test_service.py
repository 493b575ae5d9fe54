"""What a run wrote is stored exactly once and comes back, on SQLite and PostgreSQL."""

import math
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from finery.core.db import Database
from finery.core.events import MetricsEvent
from finery.jobs import service as jobs
from finery.jobs.tables import Attempt, Job
from finery.monitoring import blocks, ingest, parsing, service
from tests.jobs.test_service import begin, submit

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def metrics(seq: int, **values: float | str) -> bytes:
    return orjson.dumps({"type": "metrics", "seq": seq, "time": 100.0 + seq, "step": seq + 1, "values": values})


@pytest.fixture
def attempt(db: Database, tmp_path: Path) -> tuple[int, int]:
    submit(db)
    return begin(db, tmp_path)


def take(db: Database, attempt: tuple[int, int], lines: list[bytes], end: int, writer: str = "rank0") -> None:
    with db.session() as session:
        job, row = session.get_one(Job, attempt[0]), session.get_one(Attempt, attempt[1])
        ingest.store(session, job, row, writer, parsing.parse(lines, writer=writer), end, now=NOW)


def stored(db: Database, job_id: int, page: int = 1000) -> list[tuple[int, str, int]]:
    found: list[tuple[int, str, int]] = []
    while True:
        with db.read() as session:
            items = service.events_after(session, job_id, found[-1][0] if found else 0, page)
        if not items:
            return found
        found += [(item.cursor, item.event.type, item.event.seq) for item in items]


def test_lines_and_offset_are_stored_together_and_a_repeated_line_counts_once(
    db: Database, attempt: tuple[int, int]
) -> None:
    lines = [metrics(0, loss=1.0), metrics(1, loss=2.0)]
    take(db, attempt, lines, 100)
    take(db, attempt, [*lines, metrics(2, loss=3.0)], 150)

    with db.read() as session:
        assert service.offset(session, attempt[0], 1, "rank0") == 150
    assert [seq for _, _, seq in stored(db, attempt[0])] == [0, 1, 2]


@pytest.mark.parametrize("page", [1, 7, 500])
def test_events_and_metrics_come_back_in_one_order_in_pages_of_any_size(
    db: Database, attempt: tuple[int, int], page: int
) -> None:
    log = {"type": "log", "time": 1.0, "level": "info", "message": "x"}
    seq = 0
    expected = []
    for flush in range(6):
        lines = []
        for _ in range(400):
            is_log = seq % 97 == 0
            lines.append(orjson.dumps({**log, "seq": seq}) if is_log else metrics(seq, loss=float(seq)))
            expected.append(("log" if is_log else "metrics", seq))
            seq += 1
        take(db, attempt, lines, flush + 1)

    found = stored(db, attempt[0], page=page if page > 1 else 97)

    assert [(type_, seq) for _, type_, seq in found] == expected
    assert [cursor for cursor, _, _ in found] == list(range(1, len(expected) + 1))


def test_values_that_are_not_finite_survive_packing(db: Database, attempt: tuple[int, int]) -> None:
    rows = blocks.ROWS + 10
    lines = [metrics(i, loss="NaN" if i == 5 else float(i), grad_norm="Infinity") for i in range(rows)]
    take(db, attempt, lines, 1)

    with db.read() as session:
        [loss] = service.series(session, attempt[0], ["loss"], max_points=100)
        [summary] = [m for m in service.summaries(session, [attempt[0]])[attempt[0]] if m.name == "loss"]
        [first] = service.events_after(session, attempt[0], 5, 1)

    assert loss.num_points == rows
    assert "NaN" in loss.values
    assert (summary.num_non_finite, summary.min, summary.max) == (1, 0.0, float(rows - 1))
    assert isinstance(first.event, MetricsEvent)
    assert first.event.values == {"loss": "NaN", "grad_norm": "Infinity"}


def test_two_values_of_a_metric_at_one_step_are_both_kept(db: Database, attempt: tuple[int, int]) -> None:
    line = {"type": "metrics", "time": 1.0, "step": 3}
    take(db, attempt, [orjson.dumps({**line, "seq": i, "values": {"loss": i + 0.5}}) for i in range(2)], 1)

    with db.read() as session:
        [loss] = service.series(session, attempt[0], ["loss"], max_points=10)

    assert (loss.steps, loss.values) == ([3, 3], [0.5, 1.5])


def test_metrics_that_appear_in_some_rows_only_keep_their_steps(db: Database, attempt: tuple[int, int]) -> None:
    lines = [metrics(i, loss=1.0, **({"accuracy": i / 2} if i % 10 == 0 else {})) for i in range(blocks.ROWS + 50)]
    take(db, attempt, lines, 1)
    with db.session() as session:
        ingest.pack(session, attempt[0], 1, "rank0")

    with db.read() as session:
        [found] = service.series(session, attempt[0], ["accuracy"], max_points=1000)

    assert found.steps == [i + 1 for i in range(0, blocks.ROWS + 50, 10)]
    assert found.values == [i / 2 for i in range(0, blocks.ROWS + 50, 10)]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'"text"',
        b"{}",
        b'{"type":"nonsense","seq":1,"time":1}',
        b'{"type":"metrics","seq":9,"time":1}',
        b'{"type":"metrics","seq":9,"time":1,"step":2,"values":{"loss":"much"}}',
        b'{"type":"metrics","seq":9,"time":1,"step":2,"values":{"loss":null}}',
        b'{"type":"metrics","seq":9,"time":1,"step":2,"values":{"loss":[1]}}',
        b'{"type":"metrics","seq":"9","time":1,"step":2,"values":{"loss":1}}',
        b'{"type":"metrics","seq":9,"time":1,"step":1e30,"values":{"loss":1}}',
    ],
)
def test_a_line_that_is_no_event_is_reported_and_skipped(db: Database, attempt: tuple[int, int], line: bytes) -> None:
    take(db, attempt, [metrics(0, loss=1.0), line, metrics(1, loss=2.0)], 1)

    assert [type_ for _, type_, _ in stored(db, attempt[0])] == ["metrics", "alert", "metrics"]


def test_the_jobs_row_shows_the_newest_values(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [metrics(0, loss=2.0, seconds_per_step=1.0), metrics(1, loss=math.pi, seconds_per_step=1.0)], 1)

    with db.read() as session:
        job = jobs.get(session, attempt[0])

    assert job.step == 2
    assert job.last_values["loss"] == math.pi
    assert job.seconds_per_step == pytest.approx(1.0)


def test_what_a_run_uses_is_kept_apart_from_its_metrics_and_is_no_sign_of_life(
    db: Database, attempt: tuple[int, int]
) -> None:
    take(db, attempt, [metrics(0, loss=1.0)], 10)
    used = [
        {
            "type": "resource",
            "seq": seq,
            "time": 900.0 + seq,
            "values": {"memory_bytes": 10 * seq, "cpu_percent": "NaN"},
        }
        for seq in range(3)
    ]
    take(db, attempt, [orjson.dumps(event) for event in used], 10, writer="resources")

    with db.read() as session:
        job = session.get_one(Job, attempt[0])
        [memory, cpu] = service.resources(session, job.id, max_points=100)
        names = [one.name for one in service.series(session, job.id, [], max_points=100)]
        summarized = [one.name for one in service.summaries(session, [job.id])[job.id]]
        types = [item.event.type for item in service.events_after(session, job.id, 0, 10)]
    assert (memory.name, memory.values, memory.times) == ("memory_bytes", [0, 10, 20], [900.0, 901.0, 902.0])
    assert (cpu.name, cpu.values) == ("cpu_percent", ["NaN", "NaN", "NaN"])
    assert names == summarized == ["loss"]
    assert types == ["metrics", "resource", "resource", "resource"]
    assert job.last_values == {"loss": 1.0}
    assert job.last_heard_at == datetime.fromtimestamp(100.0, UTC)
    assert job.step == 1


def test_the_newest_alerts_come_first_and_those_of_archived_jobs_not_at_all(
    db: Database, attempt: tuple[int, int]
) -> None:
    take(db, attempt, [metrics(0, loss=1.0), b"not an event", b"nor is this"], 10)

    with db.read() as session:
        found = service.newest_alerts(session, limit=10)
        [newest] = service.newest_alerts(session, limit=1)
    assert [item.alert.seq for item in found] == [1, 0]
    assert (newest.job_id, newest.alert.rule) == (attempt[0], "unreadable_event")
    assert "nor is this" in newest.alert.message

    with db.session() as session:
        session.get_one(Job, attempt[0]).archived_at = NOW
    with db.read() as session:
        assert service.newest_alerts(session, limit=10) == []
