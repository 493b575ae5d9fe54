"""What is not a number never reaches the weights."""

import math
from typing import Any

import pytest
import torch

from finery.core.carried import Carried
from finery.runtime import exits
from finery.training.trl.steps import ExactTrainer
from tests.training import driver
from tests.training.driver import GRPO_ROWS, PREFERENCE_ROWS, SFT_ROWS, Bench

OPTIM = {"steps": 4, "learning_rate": 1e-3, "weight_decay": 0.1}
FORM = {"name": "format", "params": {"pattern": r".*[0-4].*"}}
ROLLOUT = {"completions_per_prompt": 4, "max_new_tokens": 6}
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "sft": ({"algorithm": "sft", "optim": OPTIM, "batch_size": 4, "micro_batch_size": 2}, SFT_ROWS),
    "sft-unclipped": ({"algorithm": "sft", "optim": {**OPTIM, "max_grad_norm": 0}, "batch_size": 4}, SFT_ROWS),
    "sft-sgd": ({"algorithm": "sft", "optim": {**OPTIM, "kind": "sgd"}, "batch_size": 4}, SFT_ROWS),
    "sft-adafactor": ({"algorithm": "sft", "optim": {**OPTIM, "kind": "adafactor"}, "batch_size": 4}, SFT_ROWS),
    "sft-8bit": ({"algorithm": "sft", "optim": {**OPTIM, "kind": "adamw_8bit"}, "batch_size": 4}, SFT_ROWS),
    "dpo": ({"algorithm": "dpo", "optim": OPTIM, "batch_size": 4}, PREFERENCE_ROWS),
    "grpo": (
        {"algorithm": "grpo", "optim": OPTIM, "prompts_per_step": 3, "rollout": ROLLOUT, "rewards": [FORM]},
        GRPO_ROWS,
    ),
    "ppo": (
        {"algorithm": "ppo", "optim": OPTIM, "prompts_per_batch": 6, "rollout": ROLLOUT, "rewards": [FORM]},
        GRPO_ROWS,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_step_that_is_not_a_number_changes_no_weight_and_no_state_of_the_optimizer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, case: str, broken: str
) -> None:
    task, rows = CASES[case]
    _break_step(monkeypatch, 3, broken)
    run_dir = bench.attempt(task, rows, checkpoint_interval=1, rules=[])

    driver.run_here(run_dir)

    states = {step: _state(run_dir, step) for step in (2, 3, 4)}
    assert states[2].keys() == states[3].keys()
    assert all(torch.equal(states[2][name], states[3][name]) for name in states[2])
    assert not all(torch.equal(states[3][name], states[4][name]) for name in states[3])
    steps = driver.metrics(run_dir)
    assert {step: values.get("updates_skipped") for step, values in steps.items()} == {1: None, 2: None, 3: 1, 4: None}
    assert steps[3]["loss" if broken == "loss" else "grad_norm"] == "NaN"
    assert math.isfinite(steps[4]["loss"])
    [note] = [event for event in driver.events(run_dir, "log") if "changed nothing" in event["message"]]
    assert note["message"].startswith("step 3 ")


def test_all_processes_leave_out_a_step_that_is_bad_in_one(bench: Bench) -> None:
    task = {"algorithm": "sft", "optim": {**OPTIM, "steps": 3}, "batch_size": 2, "data": {"shuffle": False}}
    rows = [*SFT_ROWS[:3], {"prompt": "%", "response": "1"}, *SFT_ROWS[3:]]
    run_dir = bench.attempt(task, rows, processes=2, checkpoint_interval=1, rules=[])

    assert driver.run_child(run_dir, with_faults=True) == exits.COMPLETED, driver.log_of(run_dir)

    weights = [driver.weights(run_dir, step) for step in (1, 2, 3)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[1][name], weights[2][name]) for name in weights[1])


def test_a_batch_that_is_left_out_is_followed_by_the_next(bench: Bench) -> None:
    task = {"algorithm": "sft", "optim": OPTIM, "batch_size": 1, "data": {"shuffle": False}}
    losses = {}
    for name, rows, skipped in (("all", SFT_ROWS, ()), ("left", SFT_ROWS, (2,)), ("cut", _without(1), ())):
        run_dir = bench.attempt(task, rows, name=name, carried=Carried(skipped_steps=skipped))
        driver.run_here(run_dir)
        losses[name] = [values["loss"] for values in driver.metrics(run_dir).values()]

    assert losses["left"] == losses["cut"] != losses["all"]


def _without(index: int) -> list[dict[str, Any]]:
    return [row for position, row in enumerate(SFT_ROWS) if position != index]


def _state(run_dir: driver.RunDir, step: int) -> dict[str, torch.Tensor]:
    """Weights, and all tensors that the optimizer keeps."""
    path = driver.checkpoint(run_dir, step)
    state = torch.load(path / "optimizer.pt", weights_only=True)["state"]
    kept = {
        f"{parameter}.{name}": value
        for parameter, values in state.items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    return {**driver.weights(run_dir, step), **kept}


def _break_step(monkeypatch: pytest.MonkeyPatch, broken_step: int, what: str) -> None:
    base = ExactTrainer.training_step

    def training_step(self: ExactTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = base(self, *args, **kwargs)
        if self.state.global_step + 1 != broken_step:
            return loss
        if what == "gradient":
            next(p for p in self.model.parameters() if p.grad is not None).grad.view(-1)[0] = torch.nan
            return loss
        loss = loss * torch.nan
        self.gate.see_loss(loss)
        return loss

    monkeypatch.setattr(ExactTrainer, "training_step", training_step)
