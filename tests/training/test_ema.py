"""The average of the weights is the average of the weights, costs training nothing, and is a model like any other."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finery.core import checkpoints
from finery.models import loading
from finery.training.trl.steps import ExactTrainer
from tests.training import driver
from tests.training.driver import GRPO_ROWS, SFT_ROWS, Bench

OPTIM = {"steps": 6, "learning_rate": 1e-3, "ema_decay": 0.5}
SFT: dict[str, Any] = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4}
SAMPLED: dict[str, Any] = {
    "optim": OPTIM,
    "rollout": {"completions_per_prompt": 2, "max_new_tokens": 4},
    "rewards": [{"name": "format", "params": {"pattern": r".*[0-4].*"}}],
}
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "sft": (SFT, SFT_ROWS),
    "lora": ({**SFT, "model": {"lora": {"rank": 4}}}, SFT_ROWS),
    "grpo": ({**SAMPLED, "algorithm": "grpo", "prompts_per_step": 2}, GRPO_ROWS),
    "ppo": ({**SAMPLED, "algorithm": "ppo", "prompts_per_batch": 4}, GRPO_ROWS),
}


@pytest.mark.parametrize("case", CASES)
def test_the_average_follows_its_rule_and_leaves_training_as_it_is(bench: Bench, case: str) -> None:
    task, rows = CASES[case]
    plain = {**task, "optim": {**OPTIM, "ema_decay": 0.0}}
    alone, averaged = (
        bench.attempt(one, rows, name=name, checkpoint_interval=1)
        for one, name in ((plain, "alone"), (task, "averaged"))
    )
    for run_dir in (alone, averaged):
        driver.run_here(run_dir)

    steps = [_tensors(driver.checkpoint(averaged, step)) for step in range(1, 7)]
    for step, weights in enumerate(steps, start=1):
        other = _tensors(driver.checkpoint(alone, step))
        assert all(torch.equal(weights[name], other[name]) for name in weights)
    found = _follow_the_rule(averaged, steps)
    assert any(not torch.equal(found[-1][name], weight) for name, weight in steps[-1].items())
    assert not checkpoints.is_sealed(checkpoints.averaged(driver.checkpoint(alone, 6)))


def test_a_resumed_run_goes_on_with_its_average_to_the_bit(bench: Bench) -> None:
    straight = bench.attempt(SFT, SFT_ROWS, name="straight", checkpoint_interval=3)
    driver.run_here(straight)
    resumed = bench.attempt(
        SFT, SFT_ROWS, name="resumed", resume_from=driver.checkpoint(straight, 3), checkpoint_interval=3
    )

    assert driver.run_child(resumed) == 0, driver.log_of(resumed)

    ends = [_tensors(_average(run_dir, 6)) for run_dir in (straight, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_two_processes_keep_the_average_of_what_both_train(bench: Bench) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS, processes=2, checkpoint_interval=1)

    assert driver.run_child(run_dir) == 0, driver.log_of(run_dir)

    _follow_the_rule(run_dir, [_tensors(driver.checkpoint(run_dir, step)) for step in range(1, 7)])


def test_a_step_that_is_not_a_number_does_not_move_the_average(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(trainer: ExactTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = whole(trainer, *args, **kwargs)
        if trainer.state.global_step == 2:
            trainer.gate.see_loss(torch.tensor(math.nan))
        return loss

    whole = ExactTrainer.training_step
    monkeypatch.setattr(ExactTrainer, "training_step", breaks)
    run_dir = bench.attempt(SFT, SFT_ROWS, checkpoint_interval=1, rules=[])
    driver.run_here(run_dir)

    before, after, later = (_tensors(_average(run_dir, step)) for step in (2, 3, 4))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(after[name], later[name]) for name in after)


def test_the_average_answers_as_a_model(bench: Bench) -> None:
    for case in ("sft", "lora", "ppo"):
        task, rows = CASES[case]
        run_dir = bench.attempt(task, rows, name=case)
        driver.run_here(run_dir)
        models = [loading.load_model(path) for path in (driver.checkpoint(run_dir, 6), _average(run_dir, 6))]
        ids = torch.arange(10)[None]
        last, average = (model(input_ids=ids).logits for model in models)
        assert average.isfinite().all()
        assert not torch.equal(last, average)


def _follow_the_rule(run_dir: driver.RunDir, steps: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """The averages after each step, which must be those of the weights of the steps."""
    found = [_tensors(_average(run_dir, step)) for step in range(1, 7)]
    for number in range(1, 6):
        decay = min(0.5, (2 + number) / (11 + number))
        for name, weight in steps[number].items():
            expected = decay * found[number - 1][name] + (1 - decay) * weight
            torch.testing.assert_close(found[number][name], expected, rtol=1e-5, atol=1e-7)
    return found


def _average(run_dir: driver.RunDir, step: int) -> Path:
    path = checkpoints.averaged(driver.checkpoint(run_dir, step))
    assert checkpoints.verify(path) == []
    return path


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    [file] = path.glob("*.safetensors")
    return load_file(file)
