"""Reading projects of Trackio."""

import json
import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.importing import trackio
from tests.importing import peers

_TIME = "2025-01-01T00:00:00+00:00"
_UNIX = 1735689600.0


def _project(
    path: Path,
    rows: Iterable[tuple[str, str, int, str]],
    configs: Iterable[tuple[str, str, str]] = (),
    time: str = _TIME,
) -> Path:
    """Write a project: rows of run id, run name, step and JSON; configs of run id, run name and JSON."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,"
            " run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT)"
        )
        connection.execute(
            "CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, run_name TEXT NOT NULL,"
            " config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id))"
        )
        connection.executemany(
            "INSERT INTO metrics (run_id, run_name, step, metrics, timestamp) VALUES (?, ?, ?, ?, ?)",
            [(*row, time) for row in rows],
        )
        connection.executemany(
            "INSERT INTO configs (run_id, run_name, config, created_at) VALUES (?, ?, ?, ?)",
            [(*config, time) for config in configs],
        )
    return path


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_two_runs_of_one_name_stay_two_runs(tmp_path: Path) -> None:
    rows = [("id1", "base", 0, '{"loss": 1.0}'), ("id2", "base", 0, '{"loss": 2}'), ("id1", "base", 1, '{"loss": 0.5}')]
    path = _project(tmp_path / "sums.db", rows)

    first, second = trackio.read(path)

    assert (first.name, second.name) == ("base", "base")
    assert [first.source, second.source] == [f"trackio:{path}#id1", f"trackio:{path}#id2"]
    assert [(row.step, row.time, row.values) for row in first.rows] == [
        (0, _UNIX, {"loss": 1.0}),
        (1, _UNIX, {"loss": 0.5}),
    ]
    assert [row.values for row in second.rows] == [{"loss": 2.0}]


def test_unsorted_steps_come_in_order_and_one_step_is_one_row(tmp_path: Path) -> None:
    rows = [("i", "r", 2, '{"a": 1}'), ("i", "r", 0, '{"a": 2}'), ("i", "r", 2, '{"b": 3, "a": 4}')]

    (run,) = trackio.read(_project(tmp_path / "p.db", rows))

    assert [(row.step, row.values) for row in run.rows] == [(0, {"a": 2.0}), (2, {"a": 4.0, "b": 3.0})]


def test_only_numbers_are_metrics_and_spelt_out_ones_count(tmp_path: Path) -> None:
    logged = {
        "nan": "NaN",
        "high": "Infinity",
        "low": "-Infinity",
        "ok": True,
        "text": "words",
        "table": {"_type": "trackio.table", "n": 1},
        "none": None,
    }

    (run,) = trackio.read(_project(tmp_path / "p.db", [("i", "r", 0, json.dumps(logged))]))
    (row,) = run.rows

    assert math.isnan(row.values["nan"])
    assert {name: value for name, value in row.values.items() if name != "nan"} == {
        "high": math.inf,
        "low": -math.inf,
        "ok": 1.0,
    }


def test_the_group_is_a_tag_and_the_config_is_what_the_user_gave(tmp_path: Path) -> None:
    config = {"lr": 0.1, "model": {"name": "x"}, "_Username": "u", "_Created": _TIME, "_Group": "sweep"}

    (run,) = trackio.read(_project(tmp_path / "p.db", [], [("i", "r", json.dumps(config))]))

    assert (run.name, run.config, run.tags) == ("r", {"lr": 0.1, "model": {"name": "x"}}, ("sweep",))
    assert list(run.rows) == []


def test_a_project_from_before_run_ids_is_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)"
        )
        connection.execute("INSERT INTO metrics VALUES (1, '2025-01-01T00:00:00', 'r', 3, '{\"a\": 1}')")

    (run,) = trackio.read(path)

    assert run.source.endswith("#r")
    assert [(row.step, row.time) for row in run.rows] == [(3, _UNIX)]


def test_an_empty_project_has_no_runs(tmp_path: Path) -> None:
    assert trackio.read(_project(tmp_path / "p.db", [])) == []


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    path = _project(tmp_path / "p.db", [("i", "r", 0, '{"a": 1}')])
    before = (_names(tmp_path), path.read_bytes())

    (run,) = trackio.read(path)
    list(run.rows)

    assert (_names(tmp_path), path.read_bytes()) == before


def test_a_row_that_only_the_write_ahead_log_has_is_read(tmp_path: Path) -> None:
    path = _project(tmp_path / "p.db", [("i", "r", 0, '{"a": 1}')])

    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        insert = "INSERT INTO metrics (run_id, run_name, step, metrics, timestamp) VALUES ('i', 'r', 1, '{}', ?)"
        writer.execute(insert.replace("{}", '{"a": 2}'), (_TIME,))
        writer.commit()
        (run,) = trackio.read(path)
        steps = [row.step for row in run.rows]

    assert steps == [0, 1]


@pytest.mark.parametrize(
    ("row", "time"),
    [
        (("i", "r", 1, '{"a": '), _TIME),
        (("i", "r", 1, "[1]"), _TIME),
        (("i", "r", 1, '{"a": 1}'), "yesterday"),
        (("i", "r", "x", '{"a": 1}'), _TIME),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, row: Any, time: str) -> None:
    path = _project(tmp_path / "p.db", [row], time=time)
    (run,) = trackio.read(path)

    with pytest.raises(InvalidSpec, match=r"p.db, table metrics, row 1: its "):
        list(run.rows)


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="table configs, row 1"):
        trackio.read(_project(tmp_path / "p.db", [], [("i", "r", "{")]))


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection, connection:
        connection.execute("CREATE TABLE metrics (a INTEGER)")

    with pytest.raises(InvalidSpec, match="not a Trackio project"):
        trackio.read(tmp_path / "x.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello")

    with pytest.raises(InvalidSpec, match="not an SQLite database"):
        trackio.read(tmp_path / "x.db")


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = _project(tmp_path / "p.db", [("i", "r", step, '{"a": 1}') for step in range(2000)])
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096 * 4)

    with pytest.raises(InvalidSpec, match=r"p.db could not be read as a database"):
        [list(run.rows) for run in trackio.read(path)]


@peers.needs("trackio")
def test_what_trackio_writes_is_read(tmp_path: Path) -> None:
    peers.write(
        "trackio",
        """
from trackio.sqlite_storage import SQLiteStorage
for name, scale in (("first", 1.0), ("second", 2.0)):
    SQLiteStorage.bulk_log(
        "sums",
        name,
        [{"loss": 2 * scale, "note": "text"}, {"loss": float("nan")}, {"loss": float("inf")}],
        steps=[4, 0, 2],
        timestamps=["2025-01-01T00:00:00+00:00"] * 3,
        config={"lr": 0.1, "_Group": "sweep"},
        run_id="id-" + name,
    )
""",
        tmp_path,
        TRACKIO_DIR=str(tmp_path),
    )

    first, second = trackio.read(tmp_path / "sums.db")

    assert [first.name, second.name] == ["first", "second"]
    assert (first.config, first.tags) == ({"lr": 0.1}, ("sweep",))
    rows = list(second.rows)
    assert [row.step for row in rows] == [0, 2, 4]
    assert math.isnan(rows[0].values["loss"])
    assert [row.values for row in rows[1:]] == [{"loss": math.inf}, {"loss": 4.0}]
    assert rows[0].time == _UNIX
