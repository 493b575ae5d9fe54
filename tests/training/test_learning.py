"""GRPO raises the reward, and only when the reward says something: three seeds, each with a control.

Minutes of real training, hence behind the marker `learning`. The start is middling on purpose: a model that is never
right gets no signal, and one that is always right has nothing to learn.
"""

import random
from statistics import fmean
from typing import Any

import pytest

from tests.training import driver
from tests.training.driver import Bench

SEEDS = (1, 2, 3)
NUM_SFT_STEPS = 140
NUM_GRPO_STEPS = 80
NUM_PROMPTS = 100
"""Few enough to come back a dozen times: with prompts that come once the reward rose by 0.04 to 0.08 in 60 steps."""
SFT = {
    "algorithm": "sft",
    "optim": {"steps": NUM_SFT_STEPS, "learning_rate": 1e-3, "warmup_steps": 10},
    "batch_size": 64,
}
GRPO: dict[str, Any] = {
    "algorithm": "grpo",
    "optim": {"steps": NUM_GRPO_STEPS, "learning_rate": 1e-4, "warmup_steps": 10},
    "prompts_per_step": 16,
    "rollout": {"completions_per_prompt": 16, "max_new_tokens": 5},
    "rewards": [{"name": "exact"}],
}


def _sums(seed: int) -> list[tuple[str, str]]:
    """Sums of a number of up to two digits and one of one, in an order of the seed."""
    sums = [(f"{a}+{b}=", str(a + b)) for a in range(100) for b in range(10)]
    random.Random(seed).shuffle(sums)
    return sums


def _visits(seed: int) -> list[tuple[str, str]]:
    """One row for each prompt that is drawn for. Shuffled answers then differ from visit to visit of a prompt; with
    one wrong answer per prompt the control learned it by heart (0.02 to 0.12)."""
    num = NUM_GRPO_STEPS * GRPO["prompts_per_step"]
    prompts = _sums(seed)[:NUM_PROMPTS]
    return (prompts * (num // NUM_PROMPTS + 1))[:num]


def _gain(bench: Bench, name: str, rows: list[dict[str, Any]], seed: int) -> tuple[float, float]:
    """Mean reward of the first ten steps and of the last ten."""
    start = driver.checkpoint(bench.started(seed), NUM_SFT_STEPS)
    run_dir = bench.attempt(GRPO, rows, name=f"{name}-{seed}", base=start, seed=seed, samples_per_step=0)
    driver.run_here(run_dir)
    rewards = [values["reward_mean"] for _, values in sorted(driver.metrics(run_dir).items())]
    assert len(rewards) == NUM_GRPO_STEPS
    return fmean(rewards[:10]), fmean(rewards[-10:])


class _Starts(Bench):
    """A bench that also has the supervised start of each seed."""

    def started(self, seed: int) -> driver.RunDir:
        rows = [{"prompt": prompt, "response": answer} for prompt, answer in _sums(seed)]
        run_dir = self.attempt(SFT, rows, name=f"sft-{seed}", seed=seed)
        if not driver.checkpoints.existing(run_dir.checkpoints):
            driver.run_here(run_dir)
        return run_dir


@pytest.mark.learning
def test_grpo_learns_sums_and_learns_nothing_from_shuffled_answers(bench: Bench, models_home: Any) -> None:
    bench = _Starts(bench.folder, models_home)
    found: dict[tuple[str, int], tuple[float, float]] = {}
    print(f"\n{'seed':>4}  {'answers':<8}  {'first 10':>8}  {'last 10':>8}  {'gain':>7}")
    for seed in SEEDS:
        sums = _visits(seed)
        shuffled = [answer for _, answer in sums]
        random.Random(seed + 1000).shuffle(shuffled)
        for name, answers in (("true", [answer for _, answer in sums]), ("shuffled", shuffled)):
            rows = [{"prompt": prompt, "answer": answer} for (prompt, _), answer in zip(sums, answers, strict=True)]
            first, last = found[name, seed] = _gain(bench, name, rows, seed)
            print(f"{seed:>4}  {name:<8}  {first:8.3f}  {last:8.3f}  {last - first:+7.3f}", flush=True)

    for (name, seed), (first, last) in found.items():
        assert (last - first > 0.1) if name == "true" else (last - first < 0.03), (name, seed)
