"""Finding the reader for a path."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from finery.core.errors import InvalidSpec, NotFound
from finery.importing import service

_STATE = json.dumps({"log_history": [{"step": 1, "loss": 1.0}]})
_EVENTS = "events.out.tfevents.1.host"


def _database(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(script)


def _lay_out(root: Path) -> None:
    for folder in ("wandb/offline-run-1-a", "trainer/checkpoint-1", "trainer/runs", "board/run", "mlruns/0", "empty"):
        (root / folder).mkdir(parents=True)
    (root / "trainer/checkpoint-1/trainer_state.json").write_text(_STATE)
    (root / "trainer/runs" / _EVENTS).touch()
    (root / "state.json").write_text(_STATE)
    (root / "wandb/offline-run-1-a/run-a.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    (root / "wandb/offline-run-1-a" / _EVENTS).touch()
    (root / "board/run" / _EVENTS).touch()
    (root / "mlruns/0/meta.yaml").write_text("artifact_location: x\nexperiment_id: '0'\n")
    _database(
        root / "trackio.db",
        "CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT);"
        "INSERT INTO metrics VALUES (1, '2025-01-01', 'r', 0, '{}')",
    )
    _database(
        root / "mlflow.db",
        "CREATE TABLE runs (run_uuid TEXT, name TEXT, start_time INT, lifecycle_stage TEXT, experiment_id INT);"
        "CREATE TABLE experiments (experiment_id INT, name TEXT); CREATE TABLE metrics (is_nan INT);"
        "CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT); CREATE TABLE tags (key, value, run_uuid);"
        "INSERT INTO runs VALUES ('r', 'r', 0, 'active', 0)",
    )
    _database(root / "other.db", "CREATE TABLE metrics (a INT)")
    (root / "notes.txt").write_text("words")


@pytest.mark.parametrize(
    ("place", "formats"),
    [
        ("trainer", ["trainer_state"]),
        ("state.json", ["trainer_state"]),
        ("board", ["tensorboard"]),
        (f"board/run/{_EVENTS}", ["tensorboard"]),
        ("trackio.db", ["trackio"]),
        ("mlflow.db", ["mlflow"]),
        ("mlruns", []),
        ("wandb", ["wandb"]),
        ("wandb/offline-run-1-a", ["wandb"]),
        ("wandb/offline-run-1-a/run-a.wandb", ["wandb"]),
    ],
)
def test_the_format_is_seen_from_what_lies_there(tmp_path: Path, place: str, formats: list[str]) -> None:
    _lay_out(tmp_path)

    runs = service.read(tmp_path / place, None)

    assert [run.source.split(":")[0] for run in runs] == formats


def test_a_named_format_wins_over_the_look(tmp_path: Path) -> None:
    _lay_out(tmp_path)

    (run,) = service.read(tmp_path / "trainer", "tensorboard")

    assert run.name == "runs"


@pytest.mark.parametrize("place", ["empty", "other.db", "notes.txt"])
def test_what_is_no_known_format_says_what_was_expected(tmp_path: Path, place: str) -> None:
    _lay_out(tmp_path)

    with pytest.raises(InvalidSpec, match=rf"{place} is nothing that can be imported; expected a trainer_state.json"):
        service.read(tmp_path / place, None)


@pytest.mark.parametrize("format", [None, *service.FORMATS])
def test_a_missing_path_is_not_found(tmp_path: Path, format: str | None) -> None:
    with pytest.raises(NotFound, match="Nothing is at"):
        service.read(tmp_path / "absent", format)


@pytest.mark.parametrize("format", service.FORMATS)
def test_a_path_of_another_format_is_refused_by_each_reader(tmp_path: Path, format: str) -> None:
    _lay_out(tmp_path)

    for place in ("empty", "notes.txt", "other.db"):
        with pytest.raises(InvalidSpec, match="name|expected"):
            service.read(tmp_path / place, format)


def test_an_unknown_format_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"`aim`.*trainer_state, trackio, mlflow, wandb, tensorboard"):
        service.read(tmp_path, "aim")


def test_a_damaged_database_is_told_apart_from_an_unknown_file(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 4096)

    with pytest.raises(InvalidSpec, match="could not be read as a database"):
        service.read(tmp_path / "x.db", None)


def test_every_format_can_be_detected() -> None:
    assert list(service.FORMATS) == list(service._MATCHES)
