"""Exported jobs, started from their own command line by verl itself up to its configuration."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from finery.core.errors import InvalidSpec
from finery.core.settings import Settings
from finery.training import exporters
from tests.conftest import need
from tests.training.jobs_of_verl import job

ROWS = [{"prompt": f"1+{number}=", "answer": str(number + 1)} for number in range(8)]
TALKS = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}] * 8
JOBS: dict[str, dict[str, Any]] = {
    "grpo": {"algorithm": "grpo", "kl_coef": 0.01, "model": {"base": "Qwen/Qwen2.5-0.5B-Instruct"}},
    "off": {"algorithm": "grpo", "rollout": {"mode": "one_step_off"}, "parallel": {"strategy": "megatron"}},
    "sft": {"algorithm": "sft"},
}


def exported(task: dict[str, Any], out: Path, gpus: int = 8) -> list[str]:
    made = job(task, resources={"gpus": gpus})
    rows = TALKS if task["algorithm"] == "sft" else ROWS
    return [path.name for path in exporters.registry.get("verl").target(made, out, data_rows=iter(rows))]


@pytest.mark.parametrize("name", JOBS)
def test_the_command_line_gives_the_configuration_that_was_checked(name: str, tmp_path: Path) -> None:
    python = Settings().verl_interpreter
    need("an interpreter with verl", python.is_file())
    out = tmp_path / "it's here"
    out.mkdir()
    files = exported(JOBS[name], out, gpus=1 if name == "sft" else 8)
    if "README.md" in files:
        (out / "model" / "config.json").write_text("{}")  # run.sh looks whether somebody has brought the weights
    environment = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}

    # hydra's own words: show the configuration instead of running the job
    done = subprocess.run(
        ["sh", str(out / "run.sh"), "--cfg", "job", "--resolve"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    composed = yaml.safe_load((out / "config.yaml").read_text())
    started = yaml.safe_load(done.stdout)
    for each in (composed, started):
        each.pop("rollout", None)
        each.get("actor_rollout_ref", {}).pop("rollout", None)  # which its main fills from the other
    assert started == composed
    assert started["data"]["train_files"] == str(out / "train.parquet")
    assert files[0] == "run.sh"
    assert {"ray_job.sh", "ray_job.yaml", "overrides.txt", "train.parquet", "config.yaml"} <= set(files)


def test_the_data_lie_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINERY_VERL_PYTHON", str(tmp_path / "none"))

    exported(JOBS["grpo"], tmp_path)

    rows = pyarrow.parquet.read_table(tmp_path / "train.parquet").to_pylist()
    assert [row["reward_model"]["ground_truth"] for row in rows] == [row["answer"] for row in ROWS]


def test_the_reward_function_scores_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINERY_VERL_PYTHON", str(tmp_path / "none"))
    exported({"algorithm": "grpo", "rewards": [{"name": "exact"}]}, tmp_path)
    spec = importlib.util.spec_from_file_location("exported_rewards", tmp_path / "rewards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    right = module.compute_score("sums", "2", "2", {"row": json.dumps(ROWS[1])})
    wrong = module.compute_score("sums", "7", "2", {"row": json.dumps(ROWS[1])})

    assert (right, wrong) == ({"score": 1.0, "exact": 1.0}, {"score": 0.0, "exact": 0.0})


@pytest.mark.parametrize(
    ("task", "gpus", "message"),
    [
        ({"algorithm": "grpo"}, 0, "needs GPUs or NPUs"),
        ({"algorithm": "grpo", "rewards": [{"name": "reward_model", "params": {"model": "x"}}]}, 8, "reward_model"),
        ({"algorithm": "grpo", "optim": {"kind": "lion"}}, 8, "lion"),
    ],
)
def test_what_verl_alone_cannot_do_is_refused(task: dict[str, Any], gpus: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=message):
        exported(task, tmp_path, gpus)
