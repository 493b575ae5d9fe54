"""Tracking stores of MLflow: its SQLite database, and the `mlruns/` folder of versions before 3."""

import math
import sqlite3
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from finery.core.errors import InvalidSpec
from finery.importing import databases
from finery.importing.records import ForeignRun, MetricRow
from finery.importing.rows import INT64_MAX, INT64_MIN, LazyRows, Point, rows_of, rows_of_sorted

_META: Final = "meta.yaml"
_OWN_TAGS: Final = "mlflow."
_RUN_NAME: Final = "mlflow.runName"
_LARGEST: Final = 1.7976931348623157e308
"""What MLflow's database holds in place of infinity."""


def matches(path: Path) -> bool:
    """Whether the path is a tracking store of MLflow; raises InvalidSpec for a damaged SQLite file."""
    if path.is_dir():
        return next(_metas(path), None) is not None
    if not databases.is_database(path):
        return False
    with databases.open_read_only(path) as connection:
        return _is_store(connection)


def read(path: Path) -> list[ForeignRun]:
    """Read every run of a tracking store that is not deleted.

    Args:
        path: The SQLite file, or `mlruns/`, or the folder of one experiment or one run in it.

    Returns:
        One run per MLflow run, oldest first. The config is its params, whose values are strings. Tags are
        `key=value`, without those that MLflow sets itself (`mlflow.*`), after `experiment=<name>`.
        Infinity is read back from the largest float, which the database holds in its place.

    Raises:
        InvalidSpec: The path is no tracking store, or a place in it is broken; the message names it. Metrics are read
            while the rows are iterated. The last line of a metric file is left out as long as it has no line end.
        Unavailable: Another program keeps the database locked.
    """
    return _folder_runs(path) if path.is_dir() else _database_runs(path)


def _is_store(connection: sqlite3.Connection) -> bool:
    return "run_uuid" in databases.columns(connection, "runs") and "is_nan" in databases.columns(connection, "metrics")


def _database_runs(path: Path) -> list[ForeignRun]:
    with databases.open_read_only(path) as connection:
        if not _is_store(connection):
            raise InvalidSpec(f"{path} is not a tracking store of MLflow: it has no table of runs; name its mlflow.db.")
        runs = connection.execute(
            "SELECT runs.run_uuid, runs.name, experiments.name FROM runs LEFT JOIN experiments USING (experiment_id) "
            "WHERE runs.lifecycle_stage IS NOT 'deleted' ORDER BY runs.start_time, runs.rowid"
        ).fetchall()
        params = "SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key"
        tags = "SELECT key, value FROM tags WHERE run_uuid = ? ORDER BY key"
        return [
            _run(
                source=f"mlflow:{path.resolve()}#{run_id}",
                name=name,
                run_id=run_id,
                params=dict(connection.execute(params, (run_id,)).fetchall()),
                tags=dict(connection.execute(tags, (run_id,)).fetchall()),
                experiment=experiment,
                rows=LazyRows(partial(_database_rows, path, run_id)),
            )
            for run_id, name, experiment in runs
        ]


def _run(
    *,
    source: str,
    name: str | None,
    run_id: str,
    params: Mapping[str, str],
    tags: Mapping[str, str | None],
    experiment: str | None,
    rows: LazyRows,
) -> ForeignRun:
    shown = [f"{key}={value}" if value else key for key, value in tags.items() if not key.startswith(_OWN_TAGS)]
    return ForeignRun(
        name=name or tags.get(_RUN_NAME) or run_id,
        source=source,
        config=params,
        tags=((f"experiment={experiment}",) if experiment else ()) + tuple(shown),
        rows=rows,
    )


def _database_rows(path: Path, run_id: str) -> Iterator[MetricRow]:
    with databases.open_read_only(path) as connection:
        yield from rows_of_sorted(_database_points(connection, path, run_id))


def _database_points(connection: sqlite3.Connection, path: Path, run_id: str) -> Iterator[Point]:
    logged = connection.execute(
        "SELECT rowid, step, timestamp, key, value, is_nan FROM metrics WHERE run_uuid = ? "
        "ORDER BY step, timestamp, rowid",
        (run_id,),
    )
    for row, step, milliseconds, key, value, is_nan in logged:
        if not (isinstance(step, int) and isinstance(value, int | float) and isinstance(milliseconds, int | None)):
            raise InvalidSpec(
                f"{path}, table metrics, row {row}: step, timestamp and value are not numbers; expected what MLflow "
                "writes, so delete that row or copy the file again."
            )
        time = None if milliseconds is None else milliseconds / 1000
        yield Point(step, time, key, math.nan if is_nan else _with_infinity(float(value)))


def _with_infinity(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) == _LARGEST else value


def _folder_runs(path: Path) -> list[ForeignRun]:
    metas = list(_metas(path))
    if not metas:
        raise InvalidSpec(f"{path} holds no runs or experiments of MLflow; name its mlruns folder.")
    runs = [(folder, meta) for folder, meta in metas if _is_live_run(meta)]
    runs.sort(key=lambda run: (_start(run[1]), run[0]))
    return [_folder_run(folder, meta) for folder, meta in runs]


def _is_live_run(meta: Mapping[str, Any]) -> bool:
    return bool(meta.get("run_id") or meta.get("run_uuid")) and meta.get("lifecycle_stage") != "deleted"


def _start(meta: Mapping[str, Any]) -> int:
    start = meta.get("start_time")
    return start if isinstance(start, int) else 0


def _metas(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and content of each meta.yaml of a run or an experiment, at the depths at which MLflow has them."""
    for pattern in (_META, f"*/{_META}", f"*/*/{_META}"):
        for file in sorted(path.glob(pattern)):
            meta = _meta(file)
            if meta.keys() & {"run_id", "run_uuid"} or meta.keys() >= {"experiment_id", "artifact_location"}:
                yield file.parent, meta


def _meta(file: Path) -> dict[str, Any]:
    try:
        meta = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise InvalidSpec(f"{file} is not YAML ({error}); expected what MLflow writes, so copy it again.") from error
    return meta if isinstance(meta, dict) else {}


def _folder_run(folder: Path, meta: Mapping[str, Any]) -> ForeignRun:
    experiment_file = folder.parent / _META
    experiment = _meta(experiment_file).get("name") if experiment_file.is_file() else None
    return _run(
        source=f"mlflow:{folder.resolve()}",
        name=meta.get("run_name") or meta.get("name"),
        run_id=str(meta.get("run_id") or meta.get("run_uuid")),
        params=_texts(folder / "params"),
        tags=_texts(folder / "tags"),
        experiment=experiment,
        rows=LazyRows(partial(_folder_rows, folder)),
    )


def _texts(folder: Path) -> dict[str, str]:
    """Content of each file by its name; a name with slashes is a file in folders."""
    return {name: file.read_text(encoding="utf-8", errors="replace") for name, file in _files(folder)}


def _files(folder: Path) -> list[tuple[str, Path]]:
    return [(file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*")) if file.is_file()]


def _folder_rows(folder: Path) -> Iterator[MetricRow]:
    return rows_of(point for name, file in _files(folder / "metrics") for point in _file_points(name, file))


def _file_points(name: str, file: Path) -> Iterator[Point]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            if line.strip():
                yield _point(name, file, number, line)


def _point(name: str, file: Path, number: int, line: bytes) -> Point:
    """From `timestamp value [step [dataset digest]]`, the timestamp in milliseconds."""
    try:
        milliseconds, value, step = [*line.split(), b"0"][:3]
        point = Point(int(step), int(milliseconds) / 1000, name, float(value))
        if not INT64_MIN <= point.step <= INT64_MAX:
            raise ValueError("the step does not fit in 64 bits")
    except (ValueError, OverflowError) as error:
        raise InvalidSpec(
            f"{file}, line {number} is not `timestamp value step`; expected three numbers, so delete that line or copy "
            "the file again."
        ) from error
    return point
