"""Who runs next: by priority, then age, and evaluations of checkpoints beside the jobs, never in their place."""

import pytest

from finery.jobs.scheduling import Free, Waiting, pick, why_waiting


def job(number: int, *, gpus: int = 0, priority: int = 10) -> Waiting:
    return Waiting(number, priority, gpus)


def beside(number: int, *, gpus: int = 0) -> Waiting:
    return Waiting(number, 20, gpus, is_beside=True)


@pytest.mark.parametrize(
    ("queue", "free", "first"),
    [
        ([job(1), beside(2)], Free(1, 0, 0, 1), 1),
        ([job(1), beside(2)], Free(0, 0, 0, 1), 2),  # the jobs' slots are taken: the evaluation has its own
        ([beside(2)], Free(1, 0, 0, 0), None),  # and takes none of theirs
        ([job(1, gpus=2), beside(2, gpus=1)], Free(1, 1, 2, 1), None),  # the free GPU is one that the job waits for
        ([job(1, gpus=2), beside(2)], Free(1, 1, 2, 1), 2),
        ([job(1, gpus=1), beside(2, gpus=1)], Free(0, 2, 2, 1), 2),
        ([job(1, gpus=9), beside(2, gpus=1)], Free(1, 1, 2, 1), 2),  # one that can never run holds nobody up
        ([beside(3), beside(2)], Free(0, 0, 0, 1), 2),
    ],
)
def test_an_evaluation_runs_beside_the_jobs(queue: list[Waiting], free: Free, first: int | None) -> None:
    chosen = pick(queue, free)

    assert (chosen and chosen.job_id) == first


def test_a_waiting_evaluation_says_what_for() -> None:
    queue = [job(1, gpus=2), beside(2, gpus=1), beside(3)]

    assert why_waiting(queue[2], queue, Free(0, 1, 2, 1)) == "behind job 2"
    assert why_waiting(queue[1], queue, Free(0, 1, 2, 0)) == "waits for another evaluation to end"
    assert why_waiting(queue[1], queue, Free(0, 1, 2, 1)) == "waits for 1 GPUs; 0 of 2 are free"
    assert why_waiting(queue[0], queue, Free(1, 1, 2, 1)) == "waits for 2 GPUs; 1 of 2 are free"
