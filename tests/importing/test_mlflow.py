"""Reading tracking stores of MLflow."""

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec, Unavailable
from finery.importing import mlflow
from tests.importing import peers

_SCHEMA = """
CREATE TABLE experiments (experiment_id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(256) NOT NULL);
CREATE TABLE runs (run_uuid VARCHAR(32) NOT NULL PRIMARY KEY, name VARCHAR(250), start_time BIGINT,
    lifecycle_stage VARCHAR(20), experiment_id INTEGER);
CREATE TABLE metrics (key VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT NOT NULL,
    run_uuid VARCHAR(32) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, is_nan BOOLEAN DEFAULT '0' NOT NULL,
    PRIMARY KEY (key, timestamp, step, run_uuid, value, is_nan));
CREATE TABLE params (key VARCHAR(250) NOT NULL, value VARCHAR(8000) NOT NULL, run_uuid VARCHAR(32) NOT NULL);
CREATE TABLE tags (key VARCHAR(250) NOT NULL, value VARCHAR(8000), run_uuid VARCHAR(32) NOT NULL);
INSERT INTO experiments VALUES (1, 'sums');
INSERT INTO runs VALUES ('r2', NULL, 2000, 'active', 1), ('r1', 'first', 1000, 'active', 1),
    ('r3', 'gone', 500, 'deleted', 1);
INSERT INTO params VALUES ('lr', '0.1', 'r1'), ('layers', '[1, 2]', 'r1');
INSERT INTO tags VALUES ('team', 'math', 'r1'), ('kept', '', 'r1'), ('mlflow.user', 'u', 'r1'),
    ('mlflow.runName', 'second', 'r2');
"""
_LARGEST = 1.7976931348623157e308


def _store(path: Path, metrics: Iterable[tuple[Any, ...]] = ()) -> Path:
    """Write a store; metrics are key, value, timestamp in milliseconds, run, step, is_nan."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_SCHEMA)
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", metrics)
    return path


def _run_folder(root: Path, run: str = "r1", *, stage: str = "active", start: int = 1000) -> Path:
    folder = root / "7" / run
    for name in ("metrics", "params", "tags", "artifacts"):
        (folder / name).mkdir(parents=True)
    (folder.parent / "meta.yaml").write_text("artifact_location: x\nexperiment_id: '7'\nname: sums\n")
    (folder / "meta.yaml").write_text(
        f"artifact_uri: x\nexperiment_id: '7'\nlifecycle_stage: {stage}\nrun_id: {run}\n"
        f"run_name: name of {run}\nstart_time: {start}\n"
    )
    return folder


def test_runs_of_a_database_come_oldest_first_without_the_deleted(tmp_path: Path) -> None:
    path = _store(tmp_path / "mlflow.db")

    first, second = mlflow.read(path)

    assert (first.name, second.name) == ("first", "second")
    assert first.source == f"mlflow:{path}#r1"
    assert first.config == {"layers": "[1, 2]", "lr": "0.1"}
    assert first.tags == ("experiment=sums", "kept", "team=math")
    assert list(second.rows) == []


def test_metrics_of_a_database_come_in_step_order_with_nan_and_infinity(tmp_path: Path) -> None:
    metrics = [
        ("loss", 1.0, 3000, "r1", 2, 0),
        ("loss", 5.0, 1000, "r1", 0, 0),
        ("loss", 0, 2000, "r1", 1, 1),
        ("kl", _LARGEST, 2500, "r1", 2, 0),
        ("low", -_LARGEST, 2500, "r1", 2, 0),
        ("loss", 9.0, 4000, "r1", 2, 0),
        ("loss", 7.0, 4000, "r2", 2, 0),
    ]

    run, _ = mlflow.read(_store(tmp_path / "mlflow.db", metrics))
    rows = list(run.rows)

    assert [(row.step, row.time) for row in rows] == [(0, 1.0), (1, 2.0), (2, 4.0)]
    assert rows[0].values == {"loss": 5.0}
    assert math.isnan(rows[1].values["loss"])
    assert rows[2].values == {"loss": 9.0, "kl": math.inf, "low": -math.inf}


def test_a_broken_metric_of_a_database_is_named(tmp_path: Path) -> None:
    run, _ = mlflow.read(_store(tmp_path / "mlflow.db", [("loss", "many", 1000, "r1", 0, 0)]))

    with pytest.raises(InvalidSpec, match=r"mlflow.db, table metrics, row 1"):
        list(run.rows)


def test_a_store_without_runs_is_empty(tmp_path: Path) -> None:
    path = _store(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM runs")

    assert mlflow.read(path) == []


def test_a_database_without_runs_tables_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection, connection:
        connection.execute("CREATE TABLE runs (a INTEGER)")

    with pytest.raises(InvalidSpec, match="not a tracking store of MLflow"):
        mlflow.read(tmp_path / "x.db")


def test_a_database_of_a_version_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    path = _store(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE runs DROP COLUMN start_time")

    with pytest.raises(InvalidSpec, match=r"start_time.*upgrade"):
        mlflow.read(path)


def test_a_database_that_another_program_keeps_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _store(tmp_path / "mlflow.db")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, timeout=0.0))

    with closing(connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked by another program"):
            mlflow.read(path)


def test_a_folder_of_runs_is_read(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "mlruns")
    (folder / "params/lr").write_text("0.1")
    (folder / "tags/team").write_text("math")
    (folder / "tags/mlflow.user").write_text("u")
    (folder / "metrics/train").mkdir()
    (folder / "metrics/train/loss").write_text("3000 1.0 2\n1000 nan 0\n2000 -inf 1\n4000 9.0 2\n")
    (folder / "metrics/acc").write_text("1500 0.5\n2500 0.6 1 data digest\n")

    (run,) = mlflow.read(tmp_path / "mlruns")
    rows = list(run.rows)

    assert (run.name, run.source) == ("name of r1", f"mlflow:{folder}")
    assert (run.config, run.tags) == ({"lr": "0.1"}, ("experiment=sums", "team=math"))
    assert [(row.step, row.time) for row in rows] == [(0, 1.5), (1, 2.5), (2, 4.0)]
    assert math.isnan(rows[0].values["train/loss"])
    assert rows[0].values["acc"] == 0.5
    assert rows[1].values == {"train/loss": -math.inf, "acc": 0.6}
    assert rows[2].values == {"train/loss": 9.0}


def test_runs_of_a_folder_come_oldest_first_without_the_deleted(tmp_path: Path) -> None:
    _run_folder(tmp_path, "a", start=3000)
    _run_folder(tmp_path, "b", start=1000)
    _run_folder(tmp_path, "c", stage="deleted")

    assert [run.name for run in mlflow.read(tmp_path)] == ["name of b", "name of a"]


@pytest.mark.parametrize("below", ["7", "7/r1"])
def test_an_experiment_and_a_single_run_can_be_named_too(tmp_path: Path, below: str) -> None:
    _run_folder(tmp_path)

    (run,) = mlflow.read(tmp_path / below)

    assert (run.name, run.tags) == ("name of r1", ("experiment=sums",))


def test_an_experiment_without_runs_is_empty(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0/meta.yaml").write_text("artifact_location: x\nexperiment_id: '0'\nname: Default\n")

    assert mlflow.read(tmp_path) == []


def test_a_torn_last_line_is_the_end(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path)
    (folder / "metrics/loss").write_text("1000 1.0 1\n2000 2.0 1")

    (run,) = mlflow.read(tmp_path)

    assert [row.values for row in run.rows] == [{"loss": 1.0}]


@pytest.mark.parametrize("line", ["1000", "x 1.0 1", "1000 x 1", "1000 1.0 1.5", f"1000 1.0 {2**63}", f"{10**400} 1 1"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    folder = _run_folder(tmp_path)
    (folder / "metrics/loss").write_text(f"1000 1.0 1\n{line}\n3000 1.0 2\n")
    (run,) = mlflow.read(tmp_path)

    with pytest.raises(InvalidSpec, match=r"metrics/loss, line 2 is not"):
        list(run.rows)


def test_a_broken_description_of_a_run_is_named(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path)
    (folder / "meta.yaml").write_text("run_id: [")

    with pytest.raises(InvalidSpec, match=r"r1/meta.yaml is not YAML"):
        mlflow.read(tmp_path)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="mlruns folder"):
        mlflow.read(tmp_path)


_SCRIPT = """
import mlflow
mlflow.set_tracking_uri(%r)
mlflow.set_experiment("sums")
for name, scale in (("first", 1.0), ("second", 2.0)):
    with mlflow.start_run(run_name=name):
        mlflow.log_params({"lr": 0.1 * scale, "layers": [1, 2]})
        mlflow.set_tag("team", "math")
        for step in (2, 0, 1):
            mlflow.log_metric("train/loss", scale * step, step=step, timestamp=1000 * (step + 1))
        mlflow.log_metric("kl", float("nan"), step=0, timestamp=1000)
        mlflow.log_metric("kl", float("inf"), step=1, timestamp=2000)
        mlflow.log_metric("kl", float("-inf"), step=2, timestamp=3000)
with mlflow.start_run(run_name="gone") as run:
    mlflow.log_metric("kl", 1.0)
mlflow.delete_run(run.info.run_id)
"""


@peers.needs("mlflow")
@pytest.mark.parametrize(("uri", "place"), [("sqlite:///mlflow.db", "mlflow.db"), ("./mlruns", "mlruns")])
def test_what_mlflow_writes_is_read(tmp_path: Path, uri: str, place: str) -> None:
    """Slow for the import of MLflow; the only proof that its schema and folders are what the reader expects."""
    peers.write("mlflow", _SCRIPT % uri, tmp_path, MLFLOW_ALLOW_FILE_STORE="true", MLFLOW_DISABLE_TELEMETRY="true")

    first, second = mlflow.read(tmp_path / place)

    assert [first.name, second.name] == ["first", "second"]
    assert second.config == {"layers": "[1, 2]", "lr": "0.2"}
    assert second.tags == ("experiment=sums", "team=math")
    rows = list(second.rows)
    assert [(row.step, row.time, row.values["train/loss"]) for row in rows] == [
        (0, 1.0, 0.0),
        (1, 2.0, 2.0),
        (2, 3.0, 4.0),
    ]
    assert math.isnan(rows[0].values["kl"])
    assert [row.values["kl"] for row in rows[1:]] == [math.inf, -math.inf]
