"""`finery check --engine` and `finery jobs export --to PROGRAM`, without an interpreter that has verl."""

import json
from pathlib import Path

import pytest

from tests.platform import JOB, Inside

GPUS = JOB.replace("{cpu_threads: 1}", "{gpus: 2}")


@pytest.fixture(autouse=True)
def _no_verl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINERY_VERL_PYTHON", str(tmp_path / "none"))


def test_the_mapping_names_field_and_key(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "--engine", "verl")

    assert done.returncode == 0, done.stderr
    assert "task.optim.learning_rate = 0.001  ->  optim.lr = 0.001" in done.stdout
    assert "verl itself was not asked" in done.stdout


def test_the_mapping_is_there_for_programs(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "--engine", "verl", "--json")

    told = json.loads(done.stdout)
    assert {"field": "task.batch_size", "value": 4, "key": "data.train_batch_size", "told": 4} in told["fields"]
    assert told["composed_by"] is None


def test_what_an_engine_cannot_do_is_found_by_the_check(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "optim.kind=lion", "--engine", "verl")

    assert done.returncode == 2
    assert "task.optim.kind" in done.stderr


def test_a_job_file_is_exported_with_its_data(folder: Path, inside: Inside) -> None:
    (folder / "job.yaml").write_text(GPUS)

    done = inside(folder, "jobs", "export", "job.yaml", "--to", "verl", "--out", "made")

    assert done.returncode == 0, done.stderr
    assert {"run.sh", "ray_job.sh", "train.parquet"} <= {path.name for path in (folder / "made").iterdir()}
    assert "torchrun" in (folder / "made" / "run.sh").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("job.yaml", "--to", "verl"), "--out"),
        (("job.yaml", "--to", "vrl", "--out", "made"), "known: "),
        (("job.yaml", "1", "--to", "verl", "--out", "made"), "one job"),
        (("job.yaml", "--to", "verl", "--out", "."), "not empty"),
        (("job.yaml", "--to", "verl", "--out", "made"), "needs GPUs"),
    ],
)
def test_an_export_that_cannot_be_says_why(
    folder: Path, inside: Inside, arguments: tuple[str, ...], message: str
) -> None:
    done = inside(folder, "jobs", "export", *arguments)

    assert done.returncode != 0
    assert message in done.stderr
