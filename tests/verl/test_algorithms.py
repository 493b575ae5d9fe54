"""Algorithms of real verl and Ray on a CPU: supervised steps, critics, adapters, filtered groups, failing rewards."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from finery.core import checkpoints
from finery.runtime import exits
from tests.training import driver
from tests.training.driver import Bench
from tests.verl.test_engine import GRPO, ROWS

SFT: dict[str, Any] = {
    "algorithm": "sft",
    "optim": {"learning_rate": 1e-3, "steps": 4, "warmup_steps": 2, "schedule": "cosine"},
    "batch_size": 6,
}
PPO: dict[str, Any] = {
    "algorithm": "ppo",
    "engine": "verl",
    "model": {"base": "tiny-char", "lora": {"rank": 4}},
    "critic": {"kind": "separate"},
    "prompts_per_batch": 8,
    "mini_batch_size": 4,
    "num_iterations": 1,
    "rewards": GRPO["rewards"],
    "rollout": {"completions_per_prompt": 1, "max_new_tokens": 6},
    "optim": {"learning_rate": 1e-3, "steps": 4},
}
BREAKS = """
from pathlib import Path

seen = Path(__file__).with_suffix(".count")


def reward(prompts, completions, **columns):
    number = int(seen.read_text()) if seen.exists() else 0
    seen.write_text(str(number + len(completions)))
    if number > 240:
        raise ValueError("the grader is away")
    return [float(number > 90 and len(completion) % 2) for completion in completions]
"""
"""A reward that teaches nothing at first, is often the same for a whole group then, and fails at last."""


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory, models_home: Path) -> dict[int, dict[str, float]]:
    """Metrics of the other engine's steps."""
    other = Bench(tmp_path_factory.mktemp("trl"), models_home).attempt({**SFT, "engine": "trl"}, driver.SFT_ROWS)
    driver.run_here(other)
    return driver.metrics(other)


@pytest.mark.parametrize("processes", [1, 2])
def test_supervised_steps_are_those_of_the_other_engine(
    bench: Bench, processes: int, supervised: dict[int, dict[str, float]]
) -> None:
    run_dir = bench.attempt({**SFT, "engine": "verl"}, driver.SFT_ROWS, processes=processes)

    driver.run_verl(run_dir)

    found = driver.metrics(run_dir)
    assert list(found) == list(supervised) == [1, 2, 3, 4]
    for step, values in supervised.items():
        assert found[step]["loss"] == pytest.approx(values["loss"], rel=1e-4)
        assert found[step]["grad_norm"] == pytest.approx(values["grad_norm"], rel=1e-3)
        assert found[step]["learning_rate"] == pytest.approx(values["learning_rate"], rel=1e-6)


def test_a_critic_trains_beside_an_adapter_of_the_policy(bench: Bench) -> None:
    run_dir = bench.attempt(PPO, ROWS, gradient_interval=0, rules=[])

    driver.run_verl(run_dir)

    found = driver.metrics(run_dir)
    assert list(found) == [2, 4], "a batch of rollouts serves two optimizer steps"
    assert all(0 < values["grad_norm"] < math.inf for values in found.values())
    assert all(0 < values["value_loss"] < math.inf for values in found.values())
    saved = driver.checkpoint(run_dir, 4)
    assert {file.relative_to(saved).parts[0] for file in saved.rglob("*.pt")} == {"actor", "critic", "data.pt"}
    weights = torch.load(saved / "actor" / "model_world_size_1_rank_0.pt", weights_only=False)
    assert any("lora_A" in name for name in weights)


def test_filtered_groups_train_until_a_reward_fails_whose_words_end_the_run(bench: Bench) -> None:
    reward = bench.folder / "broken.py"
    reward.parent.mkdir(exist_ok=True)
    reward.write_text(BREAKS)
    task = {
        "algorithm": "dapo",
        "engine": "verl",
        "optim": {"steps": 100, "learning_rate": 1e-3},
        "rewards": [{"name": "python_file", "params": {"path": str(reward)}}],
        "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
        "prompts_per_step": 4,
    }
    more = {str(reward): driver.ResolvedInput(kind="file", path=str(reward), sha256=checkpoints.file_sha256(reward))}
    run_dir = bench.attempt(task, ROWS, more_inputs=more, gradient_interval=0, rules=[])

    driver.run_verl(run_dir, code=exits.FAILED)

    assert "the grader is away" in driver.events(run_dir, "status")[-1]["message"]
    found = driver.metrics(run_dir)
    assert 8 < found[1]["groups_resampled"] <= 12, "three rounds of four groups at most"
    assert found[1]["zero_std_fraction"] == 1, "what is still equal then is trained on"
    # Most completions are cut at once, and carry no loss; of some steps all.
    for values in found.values():
        assert all(math.isfinite(value) for value in values.values()), values
    assert max(values["grad_norm"] for values in found.values()) > 0
