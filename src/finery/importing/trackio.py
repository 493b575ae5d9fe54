"""Projects of Trackio: one SQLite file each."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from finery.core.errors import InvalidSpec
from finery.importing import databases
from finery.importing.records import ForeignRun, MetricRow
from finery.importing.rows import LazyRows, Point, rows_of_sorted

_NEEDED: Final = frozenset({"run_name", "timestamp", "step", "metrics"})
_NON_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_GROUP: Final = "_Group"


def matches(path: Path) -> bool:
    """Whether the path is a Trackio project; raises InvalidSpec for a damaged SQLite file."""
    if not databases.is_database(path):
        return False
    with databases.open_read_only(path) as connection:
        return databases.columns(connection, "metrics") >= _NEEDED


def read(path: Path) -> list[ForeignRun]:
    """Read every run of a Trackio project.

    Args:
        path: `<TRACKIO_DIR>/<project>.db`.

    Returns:
        One run per Trackio run, oldest first, those without metrics too. Files from before Trackio 0.24 know a run
        by its name only. Metrics are the numbers among what was logged, booleans as 0 and 1; media, tables, traces
        and system metrics, which have no step, are left out. The group of a run is its tag; the other keys that
        Trackio adds to a config (they begin with `_`) are left out.

    Raises:
        InvalidSpec: The file is no Trackio project, or a row in it is broken; the message names the row. Metrics are
            read while the rows are iterated.
        Unavailable: Another program keeps the file locked.
    """
    with databases.open_read_only(path) as connection:
        if not databases.columns(connection, "metrics") >= _NEEDED:
            raise InvalidSpec(f"{path} is not a Trackio project: it has no table of metrics; name <project>.db.")
        key = "run_id" if "run_id" in databases.columns(connection, "metrics") else "run_name"
        configs = _configs(connection, path, key)
        logged = connection.execute(f"SELECT {key}, run_name FROM metrics GROUP BY {key} ORDER BY min(id)")
        names: dict[str, str] = dict(logged.fetchall())
    names |= {run: name for run, (name, _) in configs.items() if run not in names}
    return [_run(path, key, run, name, configs.get(run, (name, {}))[1]) for run, name in names.items()]


def _configs(connection: sqlite3.Connection, path: Path, key: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name and config of each run that has a config."""
    if not databases.columns(connection, "configs") >= {key, "run_name", "config"}:
        return {}
    rows = connection.execute(f"SELECT id, {key}, run_name, config FROM configs ORDER BY id")
    return {run: (name, _object(path, "configs", row, config)) for row, run, name, config in rows}


def _run(path: Path, key: str, run: str, name: str, config: Mapping[str, Any]) -> ForeignRun:
    group = config.get(_GROUP)
    return ForeignRun(
        name=name,
        source=f"trackio:{path.resolve()}#{run}",
        config={field: value for field, value in config.items() if not field.startswith("_")},
        tags=(str(group),) if group else (),
        rows=LazyRows(partial(_rows, path, key, run)),
    )


def _rows(path: Path, key: str, run: str) -> Iterator[MetricRow]:
    with databases.open_read_only(path) as connection:
        yield from rows_of_sorted(_points(connection, path, key, run))


def _points(connection: sqlite3.Connection, path: Path, key: str, run: str) -> Iterator[Point]:
    logged = connection.execute(
        f"SELECT id, timestamp, step, metrics FROM metrics WHERE {key} = ? ORDER BY step, id", (run,)
    )
    for row, timestamp, step, metrics in logged:
        if not isinstance(step, int):
            raise _broken(path, "metrics", row, "its step is not a whole number")
        time = _time(path, row, timestamp)
        for name, value in _object(path, "metrics", row, metrics).items():
            if isinstance(value, int | float) or (isinstance(value, str) and value in _NON_FINITE):
                yield Point(step, time, name, float(value))


def _object(path: Path, table: str, row: int, text: Any) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (TypeError, ValueError) as error:
        raise _broken(path, table, row, "its JSON cannot be read") from error
    if not isinstance(parsed, dict):
        raise _broken(path, table, row, "its JSON is not an object")
    return parsed


def _time(path: Path, row: int, timestamp: Any) -> float:
    try:
        moment = datetime.fromisoformat(timestamp)
    except (TypeError, ValueError) as error:
        raise _broken(path, "metrics", row, "its timestamp is not an ISO 8601 time") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _broken(path: Path, table: str, row: int, what: str) -> InvalidSpec:
    return InvalidSpec(
        f"{path}, table {table}, row {row}: {what}; expected what Trackio writes, so delete that row or copy the file "
        "again."
    )
