"""Training with real verl and Ray on a CPU: what a run leaves, what it obeys, and that it goes on where it stopped."""

import math
from pathlib import Path
from typing import Any

import pytest

from finery.core import checkpoints
from finery.core.gradients import WHOLE, GradientFile
from finery.core.rundir import RunDir
from finery.runtime import exits
from tests.training import driver
from tests.training.driver import Bench

GRPO: dict[str, Any] = {
    "algorithm": "grpo",
    "engine": "verl",
    "optim": {"learning_rate": 1e-3, "steps": 5},
    "rewards": [{"name": "length", "params": {"min": 1, "max": 3, "slack": 3}}, {"name": "exact", "weight": 0.5}],
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "prompts_per_step": 4,
    "kl_coef": 0.01,
}
ROWS = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(5) for b in range(4)]


@pytest.fixture(scope="module")
def grpo(tmp_path_factory: pytest.TempPathFactory, models_home: Path) -> tuple[Bench, RunDir]:
    """Two ranks, every step probed, two live settings changed after the first step."""
    bench = Bench(tmp_path_factory.mktemp("grpo"), models_home)
    monitoring = {"gradient_interval": 1, "checkpoint_interval": 2, "samples_per_step": 8}
    run_dir = bench.attempt(GRPO, ROWS, processes=2, rules=[], **monitoring)
    driver.order(run_dir, "set", learning_rate=5e-4, entropy_coef=0.02)
    driver.run_verl(run_dir)
    return bench, run_dir


def test_metrics_of_every_step_have_our_names(grpo: tuple[Bench, RunDir]) -> None:
    found = driver.metrics(grpo[1])

    assert list(found) == [1, 2, 3, 4, 5]
    wanted = {"policy_loss", "entropy", "entropy_loss", "kl_divergence", "approx_kl", "clip_fraction", "grad_norm"}
    wanted |= {"reward_mean", "reward_std", "reward/exact_mean", "reward/length_mean", "zero_std_fraction"}
    wanted |= {"advantage_mean", "response_length_mean", "diversity_score", "reward_per_length", "learning_rate"}
    for values in found.values():
        assert wanted <= set(values)
        assert all(math.isfinite(values[name]) for name in wanted)
        assert 0 < values["reward_mean"] <= 1.5
    assert found[1]["kl_divergence"] == pytest.approx(0, abs=1e-6), "the reference is the starting model"
    assert found[5]["kl_divergence"] > 1e-4
    timed = {name for event in driver.events(grpo[1], "metrics") for name in event["values"]}
    assert {"seconds_per_step", "seconds_generating", "seconds_updating", "seconds_syncing_weights"} <= timed


def test_statistics_of_gradients_make_up_the_norm_that_verl_clips_by(grpo: tuple[Bench, RunDir]) -> None:
    file = GradientFile.open(grpo[1].gradients)
    assert file is not None
    metrics = driver.metrics(grpo[1])
    names = file.layout.names("group")

    assert file.records["step"].tolist() == [1, 2, 3, 4, 5]
    for number, step in enumerate(file.records["step"].tolist()):
        whole = math.sqrt(sum(float(norm) ** 2 for norm in file.values("norm", "tensor")[number]))
        assert whole == pytest.approx(metrics[step]["grad_norm"], rel=1e-6)
        assert file.values("norm", "group")[number, names.index(WHOLE)] == pytest.approx(whole, rel=1e-6)
        # All values of both ranks are counted, each once.
        tensors = range(len(file.layout.tensors))
        histogram = file.histogram(number, list(tensors))
        assert histogram is not None
        assert histogram.sum() == sum(file.layout.tensors[one].num_values for one in tensors)
        assert 0 < metrics[step]["weight_update_ratio"] < 0.1


def test_live_settings_change_between_two_steps(grpo: tuple[Bench, RunDir]) -> None:
    metrics = driver.metrics(grpo[1])
    [answer] = driver.events(grpo[1], "control_ack")

    assert answer["outcome"] == "applied"
    assert metrics[1]["learning_rate"] == pytest.approx(1e-3)
    assert [metrics[step]["learning_rate"] for step in (2, 3, 4, 5)] == pytest.approx([5e-4] * 4)
    assert metrics[1]["entropy_loss"] == 0
    for step in (2, 5):
        assert metrics[step]["entropy_loss"] == pytest.approx(-0.02 * metrics[step]["entropy"])
        # verl reports the whole loss: without the bonus it would be that of the policy and of the divergence.
        rest = metrics[step]["policy_loss"] + 0.01 * metrics[step]["kl_divergence"]
        assert metrics[step]["loss"] == pytest.approx(rest + metrics[step]["entropy_loss"], abs=2e-3)


def test_rollouts_are_recorded_as_on_the_other_engine(grpo: tuple[Bench, RunDir]) -> None:
    records = driver.rollouts(grpo[1])

    assert len(records) == 5 * 8
    for record in records:
        assert record["completion"] is not None
        assert ROWS[record["row"]]["answer"] == record["answer"]
        assert set(record["rewards"]) == {"length", "exact"}
        assert record["reward"] == pytest.approx(record["rewards"]["length"] + 0.5 * record["rewards"]["exact"])
        assert len(record["tokens"]) == len(record["entropy"]) == len(record["kl"]) == record["length"] <= 6
    groups = [record["prompt"] for record in records[:8]]
    assert groups[:4] == [groups[0]] * 4
    assert groups[4:] == [groups[4]] * 4


def test_checkpoints_hold_the_files_of_verl_under_our_manifest(grpo: tuple[Bench, RunDir]) -> None:
    saved = checkpoints.existing(grpo[1].checkpoints)

    assert [step for step, _ in saved] == [2, 4, 5]
    for step, path in saved:
        assert checkpoints.verify(path) == []
        manifest = checkpoints.read_manifest(path)
        assert manifest is not None
        assert (manifest.engine, manifest.format, manifest.step, manifest.world_size) == ("verl", "verl-fsdp", step, 2)
        names = {file.path for file in manifest.files}
        assert {f"actor/{part}_world_size_2_rank_{rank}.pt" for part in ("model", "optim") for rank in (0, 1)} <= names
    assert not (grpo[1].path / "native").exists()


def test_a_run_goes_on_from_a_checkpoint_and_pauses_when_it_is_asked_to(grpo: tuple[Bench, RunDir]) -> None:
    bench, before = grpo
    start = checkpoints.directory(before.checkpoints, 2)
    run_dir = bench.attempt(GRPO, ROWS, processes=2, name="resumed", resume_from=start, rules=[], gradient_interval=0)
    driver.order(run_dir, "pause")

    driver.run_verl(run_dir, code=exits.PAUSED)

    first, again = driver.metrics(before), driver.metrics(run_dir)
    assert list(again) == [3]
    assert [step for step, _ in checkpoints.existing(run_dir.checkpoints)] == [3]
    # Weights, optimizer, schedule and the rows are those of the first run; completions are drawn anew.
    assert again[3]["learning_rate"] == pytest.approx(first[3]["learning_rate"])
    assert again[3]["entropy"] == pytest.approx(first[3]["entropy"], rel=1e-3)
    prompts = [
        {record["prompt"] for record in driver.rollouts(one) if record["step"] == 3} for one in (before, run_dir)
    ]
    assert prompts[0] <= prompts[1]


def test_a_checkpoint_of_another_number_of_ranks_is_refused(grpo: tuple[Bench, RunDir]) -> None:
    bench, before = grpo
    start = checkpoints.directory(before.checkpoints, 2)
    run_dir = bench.attempt(GRPO, ROWS, processes=1, name="alone", resume_from=start)

    driver.run_verl(run_dir, code=exits.FAILED)

    message = driver.events(run_dir, "status")[-1]["message"]
    assert "was saved by 2 ranks and this attempt has 1" in message
