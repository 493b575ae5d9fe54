"""Windows of long series, and series as CSV, on SQLite and PostgreSQL."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from finery.core.db import Database
from finery.core.errors import NotFound
from finery.jobs.tables import Attempt, Job
from finery.monitoring import blocks, export, ingest, service
from finery.monitoring.service import Window
from finery.monitoring.tables import MetricTail
from tests.jobs.test_service import begin, submit
from tests.monitoring.test_service import metrics, take

ROWS = 3 * blocks.ROWS + 50


@pytest.fixture
def attempt(db: Database, tmp_path: Path) -> tuple[int, int]:
    submit(db)
    return begin(db, tmp_path)


def table(db: Database, job_id: int, names: Sequence[str] = ()) -> list[list[str]]:
    with db.read() as session:
        _, lines = export.plan(session, job_id, names)
    return list(csv.reader(io.StringIO("".join(export.rows(db, job_id, lines)))))


def long_run(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [metrics(i, loss=float(i)) for i in range(ROWS)], 1)


def steps_within(db: Database, job_id: int, window: Window, max_points: int = 2000) -> list[int]:
    with db.read() as session:
        found = service.series(session, job_id, ["loss"], max_points=max_points, window=window)
    return [step for one in found for step in one.steps]


@pytest.mark.parametrize(
    ("first", "last"), [(1000, 1050), (1, 1), (blocks.ROWS, 2 * blocks.ROWS + 3), (ROWS - 70, ROWS), (ROWS - 3, None)]
)
def test_a_window_of_a_long_series_has_every_point_from_its_first_to_its_last_step(
    db: Database, attempt: tuple[int, int], first: int, last: int | None
) -> None:
    long_run(db, attempt)

    found = steps_within(db, attempt[0], Window(first, last))

    assert found == list(range(first, (last or ROWS) + 1))


def test_a_window_before_its_middle_is_open(db: Database, attempt: tuple[int, int]) -> None:
    long_run(db, attempt)

    assert steps_within(db, attempt[0], Window(None, 7)) == list(range(1, 8))


def test_a_window_is_thinned_by_what_lies_in_it_and_tells_how_much_that_is(
    db: Database, attempt: tuple[int, int]
) -> None:
    long_run(db, attempt)

    with db.read() as session:
        [found] = service.series(session, attempt[0], ["loss"], max_points=100, window=Window(501, 2500))

    assert found.num_points == 2000
    assert (found.steps[0], found.steps[-1]) == (501, 2500)
    assert found.values == [step - 1.0 for step in found.steps]
    assert found.times == [99.0 + step for step in found.steps]
    assert len(found.steps) <= 100


def test_a_window_without_points_has_no_series(db: Database, attempt: tuple[int, int]) -> None:
    long_run(db, attempt)

    assert steps_within(db, attempt[0], Window(ROWS + 1, ROWS + 9)) == []


def test_steps_that_go_back_are_found_wherever_they_are(db: Database, attempt: tuple[int, int]) -> None:
    steps = [*range(blocks.ROWS), *range(10)]
    line = {"type": "metrics", "time": 1.0}
    lines = [{**line, "seq": seq, "step": step, "values": {"loss": 1.0}} for seq, step in enumerate(steps)]
    take(db, attempt, [orjson.dumps(one) for one in lines], 1)

    assert steps_within(db, attempt[0], Window(8, 11)) == [8, 9, 10, 11, 8, 9]


def test_a_table_has_every_point_as_it_was_stored(db: Database, attempt: tuple[int, int]) -> None:
    values = ["NaN", "Infinity", "-Infinity", 0.1, 1e-30]
    take(db, attempt, [metrics(i, loss=values[i % 5]) for i in range(ROWS)], 1)

    header, *rows = table(db, attempt[0])

    assert header == ["step", "time", "loss"]
    assert rows[:5] == [
        ["1", "100.0", "NaN"],
        ["2", "101.0", "Infinity"],
        ["3", "102.0", "-Infinity"],
        ["4", "103.0", "0.1"],
        ["5", "104.0", "1e-30"],
    ]
    assert [int(row[0]) for row in rows] == list(range(1, ROWS + 1))


def test_a_table_leaves_cells_empty_and_rows_out_where_no_line_has_a_value(
    db: Database, attempt: tuple[int, int]
) -> None:
    lines = [metrics(0, a=1.0, b=2.0, c=3.0), metrics(1, b=4.0, c=5.0), metrics(2, c=6.0), metrics(3, a=7.0)]
    take(db, attempt, lines, 1)
    with db.session() as session:
        ingest.pack(session, attempt[0], 1, "rank0")
    take(db, attempt, [metrics(4, b=8.0, c=9.0)], 2)

    assert table(db, attempt[0], ["b", "a"]) == [
        ["step", "time", "a", "b"],
        ["1", "100.0", "1.0", "2.0"],
        ["2", "101.0", "", "4.0"],
        ["4", "103.0", "7.0", ""],
        ["5", "104.0", "", "8.0"],
    ]


def test_a_table_has_a_column_for_each_attempt_and_writer(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [metrics(0, loss=1.0)], 1)
    take(db, attempt, [metrics(0, loss=2.0)], 1, writer="rank1")
    with db.session() as session:
        row = session.get_one(Attempt, attempt[1])
        second = Attempt(
            job_id=row.job_id, number=2, run_dir=row.run_dir, run_spec=row.run_spec, host="here", worker="test"
        )
        session.add(second)
        session.flush()
        again = (attempt[0], second.id)
    take(db, again, [metrics(0, **{"a,b": 3.0})], 1)

    header, *rows = table(db, attempt[0])

    assert header == ["step", "time", "loss (attempt 1, rank0)", "loss (attempt 1, rank1)", "a,b (attempt 2, rank0)"]
    assert rows == [["1", "100.0", "1.0", "", ""], ["1", "100.0", "", "2.0", ""], ["1", "100.0", "", "", "3.0"]]


def test_rows_that_are_packed_while_a_table_is_read_are_in_it_once(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [metrics(i, loss=float(i)) for i in range(33 * blocks.ROWS + 10)], 1)
    with db.read() as session:
        assert session.query(MetricTail).count() > 0
        _, lines = export.plan(session, attempt[0], ["loss"])
    parts = export.rows(db, attempt[0], lines)

    begun = [next(parts), next(parts)]
    with db.session() as session:
        ingest.pack(session, attempt[0], 1, "rank0")
    text = "".join([*begun, *parts])

    assert [line.split(",")[0] for line in text.splitlines()[1:]] == [str(i + 1) for i in range(33 * blocks.ROWS + 10)]


def test_a_file_is_named_after_run_and_metric(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [metrics(0, **{"reward/exact_mean": 1.0, "loss": 2.0})], 1)

    with db.read() as session:
        name = session.get_one(Job, attempt[0]).name
        one, _ = export.plan(session, attempt[0], ["reward/exact_mean"])
        every, _ = export.plan(session, attempt[0], [])

    assert one == f"{name}-{attempt[0]}-reward/exact_mean"
    assert every == f"{name}-{attempt[0]}-metrics"
    assert export.headers("my run-4-reward/exact_mean") == {
        "Content-Disposition": 'attachment; filename="my-run-4-reward-exact_mean.csv"'
    }


def test_a_metric_that_the_run_does_not_have_is_told_with_those_it_has(db: Database, attempt: tuple[int, int]) -> None:
    take(db, attempt, [metrics(0, loss=1.0)], 1)

    with db.read() as session, pytest.raises(NotFound, match=r"has no metric 'lost'; it has loss"):
        export.plan(session, attempt[0], ["lost"])
