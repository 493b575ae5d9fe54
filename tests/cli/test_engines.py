"""`finery check --engine` and `finery jobs export --to PROGRAM`, without an interpreter that has verl."""

import json
import os
import subprocess
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
    size = {"field": "task.batch_size", "value": 4, "key": "data.train_batch_size", "told": 4, "done_here": None}
    assert size in told["fields"]
    assert told["composed_by"] is None


TEMPLATE = """name: sums
kind: train
base_config: sft_trainer
overrides: {model.path: tiny-char, data.train_files: ./train.jsonl, trainer.resume_mode: auto, optim.lr: 1.0e-3}
"""


def test_what_finery_does_itself_is_said(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "--engine", "verl")

    assert "trainer.max_ckpt_to_keep = None   (Finery keeps and removes checkpoints itself)" in done.stdout


def test_a_template_is_checked_for_an_engine_with_overrides(folder: Path, inside: Inside) -> None:
    (folder / "template.yaml").write_text(TEMPLATE)

    done = inside(folder, "check", "template.yaml", "optim.steps=3", "--engine", "verl")

    assert done.returncode == 0, done.stderr
    assert "task.optim.steps = 3  ->  trainer.total_training_steps = 3" in done.stdout
    assert "note: overrides.trainer.resume_mode has no effect: " in done.stdout


def test_what_a_template_sets_is_no_default(folder: Path, inside: Inside) -> None:
    (folder / "template.yaml").write_text(TEMPLATE)

    lines = inside(folder, "check", "template.yaml").stdout.splitlines()

    assert "task.optim.learning_rate = 0.001" in lines
    assert "task.engine = verl" in lines
    assert "task.optim.weight_decay = 0.0   (default)" in lines
    assert any(line.startswith("note: overrides.trainer.resume_mode") for line in lines)


def test_what_a_short_form_says_is_no_default(folder: Path, inside: Inside) -> None:
    grpo = (
        JOB.replace("sft", "grpo")
        .replace("  batch_size: 4\n", "  rewards: exact,format\n")
        .replace(", max_tokens: 64", "")
    )
    (folder / "grpo.yaml").write_text(grpo)

    lines = inside(folder, "check", "grpo.yaml").stdout.splitlines()

    assert "task.rewards.1.name = format" in lines
    assert "task.rewards.1.weight = 1.0   (default)" in lines


def test_a_pipeline_names_its_engines_itself(folder: Path, inside: Inside) -> None:
    (folder / "two.yaml").write_text("name: two\nkind: pipeline\njobs: []\n")

    done = inside(folder, "check", "two.yaml", "--engine", "verl")

    assert done.returncode == 2
    assert "two.yaml is a pipeline, whose jobs name their engines" in done.stderr


def test_a_complaint_about_the_whole_job_names_no_kind_as_its_place(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "task.parallel={strategy: fsdp2}")

    assert "job.yaml is not valid: only engine verl" in done.stderr


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
    ("base", "way"),
    [
        ("tiny-char", "builtin.build("),
        ("org/name@abc123", "hf download org/name --revision abc123"),
        ("modelscope:org/name", "modelscope download --model org/name --local_dir model"),
    ],
)
def test_an_export_says_how_to_bring_weights_that_verl_cannot_find(
    folder: Path, inside: Inside, base: str, way: str
) -> None:
    (folder / "job.yaml").write_text(GPUS.replace("tiny-char", base))

    done = inside(folder, "jobs", "export", "job.yaml", "--to", "verl", "--out", "made")
    run = subprocess.run(["sh", folder / "made" / "run.sh"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert f"the weights of {base} are not in the export" in done.stderr
    assert way in (folder / "made" / "model" / "README.md").read_text()
    assert run.returncode == 1
    assert way in run.stderr


def test_an_export_with_a_model_of_the_hub_needs_no_weights(folder: Path, inside: Inside) -> None:
    (folder / "job.yaml").write_text(GPUS.replace("tiny-char", "org/name"))

    done = inside(folder, "jobs", "export", "job.yaml", "--to", "verl", "--out", "made")

    assert "weights" not in done.stderr
    assert not (folder / "made" / "model").exists()


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
