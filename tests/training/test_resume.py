"""A resumed run is the run that was never interrupted, to the last bit.

Slow, since each resume is a process of its own that loads torch, and earns it: this is the platform's first promise.
The data have fewer rows than a run visits, so every run passes the end of an epoch.
"""

from typing import Any

import pytest

from finery.core import checkpoints
from tests.training import driver
from tests.training.driver import GRPO_ROWS, PREFERENCE_ROWS, SFT_ROWS, Bench

OPTIM = {"steps": 10, "learning_rate": 1e-3, "warmup_steps": 3, "schedule": "cosine", "weight_decay": 0.1}
SFT = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4, "micro_batch_size": 2}
LORA = {**SFT, "model": {"lora": {"rank": 4, "dropout": 0.1}}}
GRPO = {
    "algorithm": "grpo",
    "optim": OPTIM,
    "prompts_per_step": 4,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "micro_batch_size": 8,
    "num_iterations": 2,
    "kl_coef": 0.01,
    "rewards": [{"name": "exact"}, {"name": "format", "params": {"pattern": r".*\d.*"}}],
}
# In the middle of a pair of iterations, of the prompts that stand in for others, and of the reference's mixture.
DAPO = {name: value for name, value in GRPO.items() if name != "kl_coef"} | {
    **{"algorithm": "dapo", "overlong": "soft", "overlong_buffer": 3, "dynamic_sampling_rounds": 3}
}
SYNCED = {**GRPO, "algorithm": "gspo", "sync_ref_model": True, "ref_model_sync_steps": 2}
PREFERENCE = {"optim": OPTIM, "batch_size": 4, "micro_batch_size": 2}
MOVING = {"sync_ref_model": True, "ref_model_sync_steps": 2}
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "sft": (SFT, SFT_ROWS),
    "sft-lora": (LORA, SFT_ROWS),
    "grpo": (GRPO, GRPO_ROWS),
    "gspo": (SYNCED, GRPO_ROWS),
    "dapo": (DAPO, GRPO_ROWS),
    "rloo": ({**GRPO, "algorithm": "rloo"}, GRPO_ROWS),
    "reward": ({**PREFERENCE, "algorithm": "reward"}, PREFERENCE_ROWS),
    "reward-lora": ({**PREFERENCE, "algorithm": "reward", "model": {"lora": {"rank": 4}}}, PREFERENCE_ROWS),
    "dpo": ({**PREFERENCE, "algorithm": "dpo"}, PREFERENCE_ROWS),
    "dpo-lora": ({**PREFERENCE, "algorithm": "dpo", "model": {"lora": {"rank": 4}}}, PREFERENCE_ROWS),
    "dpo-synced": ({**PREFERENCE, "algorithm": "dpo", "native": MOVING}, PREFERENCE_ROWS),
    "kto": ({**PREFERENCE, "algorithm": "kto"}, PREFERENCE_ROWS),
    "orpo": ({**PREFERENCE, "algorithm": "orpo"}, PREFERENCE_ROWS),
}
KILLED_IN_STEP_7 = """
import os, signal, sys
from pathlib import Path
from finery.core.hooks import Decision
from finery.runtime import __main__ as child, rules

class Killer(rules.ControlHooks):
    def after_step(self, step, values, controls):
        if step == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return Decision.CONTINUE

rules.ControlHooks = Killer
child.main(Path(sys.argv[1]))
"""


def _assert_same_end(resumed: driver.RunDir, straight: driver.RunDir) -> None:
    after = {step: values for step, values in driver.metrics(straight).items() if step > 5}
    assert driver.metrics(resumed) == after
    assert sorted(after) == [6, 7, 8, 9, 10]
    ends = [driver.checkpoint(run_dir, 10) for run_dir in (resumed, straight)]
    names = {path.name for path in ends[0].glob("*.safetensors")}
    assert names
    for name in names:
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes(), name


def _assert_learns(run_dir: driver.RunDir) -> None:
    """Without gradients two runs would agree whatever was forgotten."""
    steps = driver.metrics(run_dir)
    assert max(values["grad_norm"] for values in steps.values()) > 0
    assert steps[6]["grad_norm"] > 0


@pytest.mark.parametrize("case", CASES)
def test_a_run_resumed_in_a_new_process_ends_in_the_same_bytes(bench: Bench, case: str) -> None:
    task, rows = CASES[case]
    straight = bench.attempt(task, rows, name="straight", checkpoint_interval=5)
    driver.run_here(straight)
    resumed = bench.attempt(
        task, rows, name="resumed", resume_from=driver.checkpoint(straight, 5), checkpoint_interval=5
    )

    assert driver.run_child(resumed) == 0, driver.log_of(resumed)

    _assert_learns(straight)
    _assert_same_end(resumed, straight)


def test_a_run_killed_between_two_iterations_resumes_between_two_iterations(bench: Bench) -> None:
    """Steps 7 and 8 share rollouts, and so do 5 and 6: the kill and the last good checkpoint lie within a pair."""
    straight = bench.attempt(GRPO, GRPO_ROWS, name="straight", checkpoint_interval=5)
    driver.run_here(straight)
    killed = bench.attempt(GRPO, GRPO_ROWS, name="killed", checkpoint_interval=5)

    assert driver.run_child(killed, program=("-c", KILLED_IN_STEP_7)) == -9, driver.log_of(killed)
    latest, complaints = checkpoints.latest_good(killed.checkpoints)
    assert (latest, complaints) == (killed.checkpoints / "step-5", [])
    resumed = bench.attempt(GRPO, GRPO_ROWS, name="resumed", resume_from=latest, checkpoint_interval=5)
    assert driver.run_child(resumed) == 0, driver.log_of(resumed)

    assert max(driver.metrics(killed)) == 7
    _assert_learns(straight)
    _assert_same_end(resumed, straight)
