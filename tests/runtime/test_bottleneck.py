"""A run whose steps wait for data is told so, once; one that does not is left alone."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from finery.core.hooks import Decision
from finery.core.rundir import Run
from finery.core.spec import parse
from finery.jobs.specs import JobSpec
from finery.runtime.bottleneck import BOUND, STEPS, DataWatch
from tests.training import driver
from tests.training.driver import SFT_ROWS, Bench

TASK = {"algorithm": "sft", "optim": {"steps": STEPS + 5, "learning_rate": 1e-4}, "batch_size": 2}


class Controls:
    """No live settings."""

    def get(self) -> dict[str, float]:
        return {}

    def set(self, name: str, value: float) -> None:
        raise ValueError(name)


def alerts_of(bench: Bench, steps: list[dict[str, float]]) -> list[dict[str, Any]]:
    run_dir = bench.attempt(TASK, SFT_ROWS)
    run = Run.open(run_dir.path)
    watch = DataWatch(run)
    decisions = {watch.after_step(step, values, Controls()) for step, values in enumerate(steps, start=1)}
    run.events.close()
    assert decisions == {Decision.CONTINUE}
    return driver.events(run_dir, "alert")


def steps_of(waited: float, number: int) -> list[dict[str, float]]:
    return [{"seconds_data": waited, "seconds_per_step": 1.0}] * number


def test_a_wait_over_the_bound_is_said_once(bench: Bench) -> None:
    [alert] = alerts_of(bench, steps_of(BOUND + 0.05, 3 * STEPS))

    assert (alert["rule"], alert["severity"], alert["step"]) == ("data_bottleneck", "warning", STEPS + 1)
    assert alert["message"].startswith("a step waits 25% of its time for its rows (mean of the last 20)")


def test_a_wait_up_to_the_bound_a_slow_first_step_and_few_steps_are_no_matter(bench: Bench) -> None:
    slow_start = steps_of(1.0, 1) + steps_of(0.99 * BOUND, 2 * STEPS)

    assert alerts_of(bench, slow_start) == []
    assert alerts_of(bench, steps_of(1.0, STEPS)) == []
    assert alerts_of(bench, [{"seconds_per_step": 1.0}] * 2 * STEPS) == []


@pytest.mark.parametrize("is_slow", [True, False])
def test_a_real_run_is_told_when_its_rows_come_slowly_and_only_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_slow: bool
) -> None:
    torch.set_num_threads(1)
    real = transformers.Trainer.get_batch_samples

    def slowly(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.05 if is_slow else 0)
        return real(*args, **kwargs)

    monkeypatch.setattr(transformers.Trainer, "get_batch_samples", slowly)
    run_dir = bench.attempt(TASK, SFT_ROWS)
    train(run_dir.path)

    waited = [event["values"]["seconds_data"] for event in driver.events(run_dir, "metrics")]
    assert all(seconds > 0.05 for seconds in waited) is is_slow
    assert [alert["rule"] for alert in driver.events(run_dir, "alert")] == ["data_bottleneck"] * is_slow


def train(path: Path) -> None:
    import tests.training.preloaded  # noqa: F401 - each run then collects garbage in little time
    from finery.training import runner

    run = Run.open(path)
    run.hooks.append(DataWatch(run))
    runner.execute(parse(JobSpec, run.spec.job).task, run)
    run.events.close()
