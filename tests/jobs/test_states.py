"""The life of a job."""

import pytest

from finery.core.rundir import ExitRecord
from finery.jobs import scheduling, states
from finery.jobs.scheduling import Free, Waiting


def ended(code: int | None = 0, signal: str | None = None, oom_kills: int = 0, cause: str = "") -> ExitRecord:
    return ExitRecord(
        code=code,
        signal=signal,
        oom_kills=oom_kills,
        last_heartbeat=0,
        ended_at=0,
        cause=cause,
        recorded_by="supervisor",
    )


@pytest.mark.parametrize(
    ("exit_", "phase", "stop_verb", "state", "cause"),
    [
        (ended(0), "completed", None, "completed", ""),
        (ended(0), "completed", "pause", "completed", ""),
        (ended(None, cause="its supervisor was killed"), "completed", None, "completed", ""),
        (ended(3), "paused", "pause", "paused", "pause was asked for"),
        (ended(4), "cancelled", "cancel", "cancelled", "cancel was asked for"),
        (ended(None, "SIGKILL"), "running", "cancel", "cancelled", "did not stop in time"),
        (ended(None, "SIGKILL"), "running", "pause", "paused", "did not stop in time"),
        (ended(None, "SIGKILL"), "running", None, "failed", "killed by SIGKILL at step 7"),
        (ended(None, "SIGKILL", 1), "running", None, "failed", "out of memory"),
        (
            ended(None, "SIGKILL", 1, cause="killed by the kernel, out of memory; try micro_batch_size: 2"),
            "running",
            None,
            "failed",
            "killed by the kernel, out of memory (SIGKILL) at step 7; try micro_batch_size: 2",
        ),
        (ended(1), "failed", None, "failed", "boom"),
        (ended(3, cause="its supervisor was killed"), "paused", None, "failed", "a checkpoint was saved"),
        (ended(0), "running", None, "failed", "exit code 0"),
        (ended(None, cause="the machine was restarted"), "running", None, "failed", "the machine was restarted"),
    ],
)
def test_an_end_means(exit_: ExitRecord, phase: str, stop_verb: str | None, state: str, cause: str) -> None:
    found = states.outcome(exit_, phase=phase, message="boom" if phase == "failed" else "", stop_verb=stop_verb, step=7)

    assert found.state == state
    assert cause in found.cause


def test_every_state_says_what_may_follow_and_what_may_be_asked() -> None:
    assert set(states.NEXT) == set(states.VERBS)
    for following in states.NEXT.values():
        assert following <= set(states.NEXT)


def test_a_job_waits_for_all_it_depends_on() -> None:
    assert states.after_dependencies([(1, "completed"), (2, "running")]) is None
    ready = states.after_dependencies([(1, "completed"), (2, "completed")])
    assert ready is not None
    assert ready.state == "queued"
    dead = states.after_dependencies([(1, "failed"), (2, "running")])
    assert dead is not None
    assert dead.state == "cancelled"
    assert "job 1" in dead.cause


def test_the_first_by_priority_then_age_runs_and_is_not_overtaken_while_it_waits_for_gpus() -> None:
    low, old, young = Waiting(1, 20, 0), Waiting(2, 10, 4), Waiting(3, 10, 0)

    assert scheduling.pick([low, young, old], Free(1, 8, 8)) == old
    assert scheduling.pick([low, young, old], Free(1, 2, 8)) is None
    assert scheduling.pick([low], Free(0, 8, 8)) is None


def test_a_job_that_never_fits_holds_nobody_up_and_each_is_told_what_it_waits_for() -> None:
    huge, big, small = Waiting(1, 10, 16), Waiting(2, 10, 4), Waiting(3, 10, 0)
    queue = [huge, big, small]
    few_free, no_slot = Free(1, 2, 8), Free(0, 8, 8)

    assert scheduling.pick(queue, Free(1, 8, 8)) == big
    assert [scheduling.why_waiting(job, queue, few_free) for job in queue] == [
        "needs 16 GPUs; this machine has 8",
        "waits for 4 GPUs; 2 of 8 are free",
        "behind job 2",
    ]
    assert scheduling.why_waiting(big, queue, no_slot) == "waits for another job to end"
