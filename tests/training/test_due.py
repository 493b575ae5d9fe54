"""Which checkpoints a training process marks for evaluation, and which it keeps."""

from typing import Any

import pytest

from finery.core import retention
from finery.core.rundir import RunDir
from tests.training import driver
from tests.training.driver import SFT_ROWS, Bench

OPTIM = {"steps": 8, "learning_rate": 1e-3}
SFT: dict[str, Any] = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4}
ALWAYS = 1e-9
NEVER = 1000.0


def plan(**changes: Any) -> dict[str, Any]:
    return {"benchmarks": [{"benchmark": {"name": "arithmetic"}, "data": "problems"}], **changes}


def saved(run_dir: RunDir) -> dict[int, bool]:
    """Step of each checkpoint -> whether it is to be evaluated."""
    return {event["step"]: event["evaluate"] for event in driver.events(run_dir, "checkpoint")}


def test_by_steps_between_other_checkpoints_and_at_the_end(bench: Bench) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS, checkpoint_interval=5, evaluation=plan(every_steps=3))

    driver.run_here(run_dir)

    assert saved(run_dir) == {3: True, 5: False, 6: True, 8: True}
    for step, is_due in saved(run_dir).items():
        assert (retention.EVALUATION in retention.holds(driver.checkpoint(run_dir, step))) == is_due


def test_what_waits_for_its_evaluation_is_not_deleted(bench: Bench) -> None:
    monitoring = {"checkpoint_interval": 1, "keep_checkpoints": 1, "keep_every": 5}
    run_dir = bench.attempt(SFT, SFT_ROWS, evaluation=plan(every_steps=3), **monitoring)

    driver.run_here(run_dir)

    left = sorted(int(path.name.removeprefix("step-")) for path in run_dir.checkpoints.glob("step-*"))
    assert left == [3, 5, 6, 8]


@pytest.mark.parametrize(("hours", "steps"), [(ALWAYS, range(1, 9)), (NEVER, [8])])
def test_by_the_clock_in_two_processes(bench: Bench, hours: float, steps: Any) -> None:
    """The first decides for both: each would save alone, and wait for the other, if their clocks decided."""
    evaluation = plan(every_hours=hours)
    run_dir = bench.attempt(SFT, SFT_ROWS, processes=2, checkpoint_interval=100, evaluation=evaluation)

    assert driver.run_child(run_dir) == 0, driver.log_of(run_dir)

    assert saved(run_dir) == dict.fromkeys(steps, True)


def test_the_interval_is_live_and_outlasts_a_resume(bench: Bench) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS, checkpoint_interval=100, evaluation=plan(every_steps=100, every_hours=NEVER))
    driver.order(run_dir, "set", evaluation_interval=2)
    driver.run_here(run_dir)
    assert saved(run_dir) == {2: True, 4: True, 6: True, 8: True}

    again = plan(every_steps=100, every_hours=NEVER)
    middle = driver.checkpoint(run_dir, 4)
    resumed = bench.attempt(
        SFT, SFT_ROWS, name="resumed", resume_from=middle, checkpoint_interval=100, evaluation=again
    )
    driver.run_here(resumed)

    assert saved(resumed) == {6: True, 8: True}
    off = bench.attempt(SFT, SFT_ROWS, name="off", checkpoint_interval=100, evaluation=plan(every_steps=2))
    driver.order(off, "set", evaluation_interval=0, evaluation_hours=0)
    driver.run_here(off)
    assert saved(off) == {8: True}


def test_without_a_plan_there_is_no_such_setting(bench: Bench) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS, checkpoint_interval=4)
    driver.order(run_dir, "set", evaluation_interval=2)

    driver.run_here(run_dir)

    [answer] = driver.events(run_dir, "control_ack")
    assert answer["outcome"] == "rejected"
    assert "evaluation_interval cannot be changed here" in answer["message"]
    assert saved(run_dir) == {4: False, 8: False}
