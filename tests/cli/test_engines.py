"""`finery check --engine` and `finery jobs export --to PROGRAM`, without an interpreter that has verl."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.platform import JOB, Inside

GPUS = JOB.replace("{cpu_threads: 1}", "{gpus: 2}")
MINDRLHF = """name: sums
kind: train
task:
  algorithm: grpo
  model: {base: Qwen/Qwen2.5-7B-Instruct}
  data: {train: ./train.jsonl}
  rewards: [math_equal]
  loss_type: grpo
  optim: {learning_rate: 5.0e-7, steps: 20, weight_decay: 0.1}
  kl_coef: 0.01
  prompts_per_step: 16
  rollout: {completions_per_prompt: 8, max_new_tokens: 512}
  sync_ref_model: true
  ref_model_sync_steps: 50
  ref_model_mixup_alpha: 1.0
resources: {gpus: 8}
"""


@pytest.fixture(autouse=True)
def _no_verl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINERY_VERL_PYTHON", str(tmp_path / "none"))


def test_the_mapping_names_field_and_key(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "--engine", "verl")

    assert done.returncode == 0, done.stderr
    assert "task.optim.learning_rate = 0.001  ->  optim.lr = 0.001" in done.stdout
    assert f"verl itself was not asked: there is no interpreter at {os.environ['FINERY_VERL_PYTHON']}" in done.stdout


def test_the_mapping_is_there_for_programs(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "--engine", "verl", "--json")

    told = json.loads(done.stdout)
    assert {"field": "task.batch_size", "value": 4, "key": "data.train_batch_size", "told": 4} in told["fields"]
    assert told["composed_by"] is None


def test_what_an_engine_cannot_do_is_found_by_the_check(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "optim.kind=lion", "--engine", "verl")

    assert done.returncode == 2
    assert "task.optim.kind" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no interpreter at"),
        ("", "does not start"),
        (f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n', "lacks verl, ray, torch"),
    ],
)
def test_a_run_without_a_usable_interpreter_is_refused_before_it_begins(
    folder: Path, inside: Inside, content: str | None, message: str
) -> None:
    python = Path(os.environ["FINERY_VERL_PYTHON"])
    if content is not None:
        python.write_text(content)
        python.chmod(0o755)

    done = inside(folder, "run", "job.yaml", "engine=verl")

    assert done.returncode == 4
    assert message in done.stderr
    assert "FINERY_VERL_PYTHON" in done.stderr
    assert "--resume" not in done.stdout + done.stderr
    assert not (folder / "home" / "runs").exists()


def test_doctor_calls_a_named_interpreter_that_is_not_there_a_problem(folder: Path, inside: Inside) -> None:
    done = inside(folder, "doctor", "--verl", "--json")

    [found] = json.loads(done.stdout)
    assert done.returncode == 1
    assert (found["verdict"], "FINERY_VERL_PYTHON" in found["detail"]) == ("problem", True)


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


@pytest.mark.parametrize(("rewards", "row"), [("exact", {}), ("math_equal", {"answer": "blue"})])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_refused_export_leaves_nothing(
    folder: Path, inside: Inside, rewards: str, row: dict[str, str], *, is_there: bool
) -> None:
    (folder / "job.yaml").write_text(MINDRLHF.replace("math_equal", rewards))
    (folder / "train.jsonl").write_text(json.dumps({"prompt": "1+1=", "answer": "2"} | row) + "\n")
    if is_there:
        (folder / "new" / "made").mkdir(parents=True)

    done = inside(folder, "jobs", "export", "job.yaml", "--to", "mindrlhf", "--out", "new/made")

    assert done.returncode == 2, done.stderr
    assert [path.name for path in folder.glob("new/**/*")] == (["made"] if is_there else [])
    assert (folder / "new").exists() == is_there


def test_each_problem_of_an_export_is_said_once_in_a_list(folder: Path, inside: Inside) -> None:
    (folder / "job.yaml").write_text(MINDRLHF.replace("math_equal", "exact").replace("weight_decay: 0.1", "beta1: 0.9"))
    (folder / "train.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')

    done = inside(folder, "jobs", "export", "job.yaml", "--to", "mindrlhf", "--out", "made")

    summary, *listed = done.stderr.splitlines()
    assert summary.endswith("; and 1 more")
    assert [line.split(":")[0].strip() for line in listed] == ["task.optim.weight_decay", "task.rewards.0"]


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path, inside: Inside) -> None:
    (folder / "job.yaml").write_text(GPUS)

    done = inside(folder, "jobs", "export", "job.yaml", "--to", "verl", "--out", "/proc/nowhere")

    assert done.returncode == 4
    assert done.stderr.startswith("cannot write /proc/nowhere: ")
    assert done.stderr.count("\n") == 1
