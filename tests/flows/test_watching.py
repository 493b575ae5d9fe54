"""Runs that watch themselves: something goes wrong in a real run of the tiny model, and a rule acts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from finery.core.rundir import RunDir
from finery.rules import defaults
from finery.runtime import exits
from tests.platform import Server
from tests.training import driver
from tests.training.driver import Bench

NUM_STEPS = 60
ROWS = [{"prompt": f"{a}+{b}=", "response": str(a + b)} for a in range(20) for b in range(10)]
SFT: dict[str, Any] = {
    "algorithm": "sft",
    "optim": {"learning_rate": 2e-3, "steps": NUM_STEPS},
    "batch_size": 6,
}
JOB: dict[str, Any] = {
    "name": "tiny",
    "kind": "train",
    "task": {**SFT, "model": {"base": "tiny-char", "dtype": "float32"}, "data": {"train": "./train.jsonl"}},
    "resources": {"cpu_threads": 1},
    "monitoring": {"checkpoint_interval": 7, "keep_checkpoints": 2},
    "seed": 3,
    "grace_seconds": 2,
}
GRPO: dict[str, Any] = {
    "algorithm": "grpo",
    "optim": {"learning_rate": 1e-2, "steps": 40},
    "prompts_per_step": 4,
    "rollout": {"completions_per_prompt": 8, "max_new_tokens": 6},
    "rewards": [{"name": "format", "params": {"pattern": "[0-9].*"}}],
}
PROMPTS = [{"prompt": row["prompt"], "answer": row["response"]} for row in ROWS]


@pytest.fixture(scope="module")
def models_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def bench(tmp_path: Path, models_home: Path) -> Bench:
    return Bench(tmp_path, models_home)


# without a server


def test_a_batch_of_nan_is_gone_back_from_left_out_and_the_run_ends_like_a_clean_one(
    tmp_path: Path, bench: Bench
) -> None:
    clean = []
    for seed in range(1, 6):
        run_dir = bench.attempt(SFT, ROWS, name=f"clean-{seed}", seed=seed)
        assert driver.run_child(run_dir) == exits.COMPLETED, driver.log_of(run_dir)
        clean.append(_loss(bench, run_dir))
    rows = [dict(row) for row in ROWS]
    rows[20]["prompt"] = "3+%="

    done, tries = _run(tmp_path, rows, JOB)

    assert done["state"] == "completed"
    assert len(tries) == 2  # the row does not come again in the second pass
    assert min(clean) <= _loss(bench, tries[-1]) <= max(clean)
    left_out = tries[-1].read_spec().carried
    straight = bench.attempt(SFT, rows, name="straight", seed=JOB["seed"], carried=left_out)
    assert driver.run_child(straight) == exits.COMPLETED, driver.log_of(straight)
    weights = [driver.weights(run_dir, NUM_STEPS) for run_dir in (straight, tries[-1])]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for before, after in zip(tries, tries[1:], strict=False):
        story = before.read_carried().rollbacks[-1]
        assert after.read_spec().resume_from == story.checkpoint
        assert after.read_spec().carried.skipped_steps[-1] == story.step
        [arrived] = driver.events(after, "action")[:1]
        assert (arrived["outcome"], arrived["before"], arrived["after"]) == (
            "applied",
            {"step": story.step},
            {"step": story.to_step},
        )
    losses = {step: values["loss"] for run_dir in tries for step, values in driver.metrics(run_dir).items()}
    assert sorted(losses) == list(range(1, NUM_STEPS + 1))
    assert "NaN" not in losses.values()


def test_data_that_stays_bad_fails_the_run_after_the_last_try(tmp_path: Path) -> None:
    rules = [
        {"name": "bad", "when": "isnan(loss)", "then": ["rollback_checkpoint"], "cooldown_steps": 1, "max_count": 2}
    ]
    job = {**JOB, "monitoring": {"rules": rules}}

    done, tries = _run(tmp_path, [{**row, "prompt": "%"} for row in ROWS], job)

    assert (done["state"], done["code"]) == ("failed", 1)
    assert "rule bad has gone back 2 times" in done["cause"]
    assert len(tries) == 3
    assert tries[-1].read_spec().carried.skipped_steps == (1, 1)


def test_a_run_that_hangs_in_a_batch_is_ended_and_goes_on_without_it(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    rows[20]["prompt"] = "3+@="
    rules = [{"name": "stuck", "when": "stale for 5s", "then": ["rollback_checkpoint"]}]
    job = {**JOB, "monitoring": {"checkpoint_interval": 3, "rules": rules}}

    done, tries = _run(tmp_path, rows, job)

    assert done["state"] == "completed", done
    assert len(tries) > 1
    [alert] = driver.events(tries[0], "alert", writer="supervisor")
    assert alert["rule"] == "stuck"
    last = max(driver.metrics(tries[0]))
    assert tries[0].read_carried().skipped_steps == (last + 1,)


def test_processes_that_wait_for_each_other_for_ever_are_paused(tmp_path: Path) -> None:
    """One of two hangs; the other waits for it where they share their gradients."""
    rows = [dict(row) for row in ROWS]
    rows[9]["prompt"] = "3+@="
    rules = [{"name": "stuck", "when": "stale for 5s", "then": ["pause_training"], "severity": "error"}]
    job = {**JOB, "resources": {"cpu_threads": 1, "gpus": 0, "processes": 2}, "monitoring": {"rules": rules}}
    job["task"] = {**JOB["task"], "data": {"train": "./train.jsonl", "shuffle": False}}

    done, tries = _run(tmp_path, rows, job)

    assert done["state"] == "paused"
    assert "rule stuck: stale for 5s" in done["cause"]
    assert max(driver.metrics(tries[0])) == 1


# dynamics of real runs


def test_a_learning_rate_that_explodes_is_paused_by_the_default_rules(bench: Bench) -> None:
    task = {**SFT, "optim": {"learning_rate": 20, "kind": "sgd", "max_grad_norm": 0, "steps": 40}}
    run_dir = bench.attempt(task, ROWS, rules=_defaults("grad_explosion"))

    assert driver.run_child(run_dir) == exits.PAUSED, driver.log_of(run_dir)

    [action] = driver.events(run_dir, "action")
    assert (action["rule"], action["action"], action["outcome"]) == ("grad_explosion", "pause_training", "applied")
    assert driver.metrics(run_dir)[action["step"]]["grad_norm"] > 100
    assert max(driver.metrics(run_dir)) == action["step"]
    driver.checkpoint(run_dir, action["step"])


def test_an_entropy_that_collapses_recovers_after_its_coefficient_was_raised(bench: Bench) -> None:
    params = {"start": 0.05, "factor": 2, "cap": 1}
    rule = {
        "name": "entropy_collapse",
        "when": "entropy < 2",
        "then": [{"name": "increase_entropy_coef", "params": params}],
        "cooldown_steps": 2,
    }
    watched = bench.attempt(GRPO, PROMPTS, name="watched", rules=[rule])
    alone = bench.attempt(GRPO, PROMPTS, name="alone", rules=[])

    for run_dir in (watched, alone):
        assert driver.run_child(run_dir) == exits.COMPLETED, driver.log_of(run_dir)

    entropies = [values["entropy"] for values in driver.metrics(watched).values()]
    actions = driver.events(watched, "action")
    assert [action["before"]["entropy_coef"] for action in actions][:2] == [0, 0.05]
    assert min(entropies) < 2 < entropies[-1]
    assert driver.metrics(alone)[40]["entropy"] < 2


def test_a_drift_from_the_reference_is_slowed_down(bench: Bench) -> None:
    task = {**GRPO, "optim": {"learning_rate": 5e-3, "steps": 20}, "kl_coef": 0.01}
    rule = {
        "name": "drift",
        "when": "kl > 0.2",
        "then": [{"name": "reduce_lr", "params": {"factor": 0.1}}],
        "cooldown_steps": 4,
    }
    watched = bench.attempt(task, PROMPTS, name="watched", rules=[rule])
    alone = bench.attempt(task, PROMPTS, name="alone", rules=[])

    for run_dir in (watched, alone):
        assert driver.run_child(run_dir) == exits.COMPLETED, driver.log_of(run_dir)

    first = driver.events(watched, "action")[0]
    steps = driver.metrics(watched)
    assert steps[first["step"]]["learning_rate"] == pytest.approx(5e-3)
    assert steps[first["step"] + 1]["learning_rate"] == pytest.approx(0.5e-3)
    assert steps[20]["kl_divergence"] < driver.metrics(alone)[20]["kl_divergence"] / 2


# under the platform


def test_the_platform_goes_back_and_an_undo_goes_on_from_the_state_before(server: Server, tmp_path: Path) -> None:
    """What is asked of a rollback on the command line is here asked of the worker, and taken back by a person."""
    server.generate("sums", num_rows=200, format="sft")
    rule = {
        "name": "back",
        "when": "learning_rate > 0.9e-5 for 12 steps",
        "then": [{"name": "rollback_checkpoint", "params": {"learning_rate_factor": 0.5}}],
        "max_count": 1,
    }
    spec = {
        **JOB,
        "task": {**SFT, "model": {"base": "tiny-char"}, "data": {"train": "sums@1"}, "optim": {"steps": 100_000}},
        "monitoring": {"checkpoint_interval": 5, "rules": [rule]},
    }
    job_id = server.submit(spec)

    server.await_attempt(job_id, 2)
    server.await_step(job_id, 13)

    job = server.job(job_id)
    second = job["attempts"][1]
    assert second["resumed_from"] == f"job:{job_id}/step:10"
    assert second["skipped_steps"] == [12]
    assert [(one["name"], one["after"] / one["before"]) for one in second["sets"]] == [("learning_rate", 0.5)]
    assert job["controls"]["learning_rate"] == pytest.approx(0.5e-5)
    story = server.client.get(f"/jobs/{job_id}/story")["entries"]
    asked = next(entry for entry in story if entry["event"].get("outcome") == "asked")
    assert (asked["attempt"], asked["undo"]) == (1, "rewind")

    server.client.post(f"/jobs/{job_id}/actions/{asked['cursor']}/undo", {})
    server.await_attempt(job_id, 3)
    server.await_step(job_id, 30)

    job = server.job(job_id)
    third = job["attempts"][2]
    assert third["resumed_from"] == f"job:{job_id}/step:12"
    assert (third["skipped_steps"], third["sets"]) == ([], [])
    assert job["controls"]["learning_rate"] == pytest.approx(1e-5)
    assert job["state"] == "running"  # the rule holds again, and keeps quiet: a person has decided otherwise
    server.ask(job_id, "cancel")


def test_pausing_by_a_rule_is_undone_by_one_request(server: Server) -> None:
    server.generate("sums", num_rows=200, format="sft")
    rule = {"name": "once", "when": "loss > 0 for 5 steps", "then": ["pause_training"], "max_count": 1}
    spec = {
        **JOB,
        "task": {**SFT, "model": {"base": "tiny-char"}, "data": {"train": "sums@1"}, "optim": {"steps": 20}},
        "monitoring": {"rules": [rule]},
    }
    job_id = server.submit(spec)
    job = server.await_state(job_id, "paused")
    assert job["cause"].startswith("rule once: loss > 0 for 5 steps")
    action = next(entry for entry in server.client.get(f"/jobs/{job_id}/story")["entries"] if entry["undo"])

    server.client.post(f"/jobs/{job_id}/actions/{action['cursor']}/undo", {})

    server.await_state(job_id, "completed")


def _run(folder: Path, rows: list[dict[str, Any]], job: dict[str, Any]) -> tuple[dict[str, Any], list[RunDir]]:
    """`finery run` with faults: what it said at its end, and the attempts."""
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "job.json").write_text(json.dumps(job))
    home = folder / "home"
    environment = {**os.environ, "FINERY_HOME": str(home), "PYTHONPATH": str(driver.FAULTS), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "finery.cli.main", "run", "job.json", "--json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    tries = sorted((home / "runs").glob("*/attempt-*"), key=lambda path: int(path.name.removeprefix("attempt-")))
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout), "code": done.returncode}, [RunDir(path) for path in tries]


def _loss(bench: Bench, run_dir: RunDir) -> float:
    """Of the final weights, over all rows: the loss that one more step would begin with."""
    task = {**SFT, "optim": {"steps": 1}, "batch_size": len(ROWS)}
    measured = bench.attempt(
        task,
        ROWS,
        name=f"loss-{run_dir.path.parent.name}-{run_dir.path.name}",
        base=driver.checkpoint(run_dir, NUM_STEPS),
    )
    driver.run_here(measured)
    return driver.metrics(measured)[1]["loss"]


def _defaults(*names: str) -> list[dict[str, Any]]:

    return [rule.model_dump(mode="json") for rule in defaults.rules() if rule.name in names]
