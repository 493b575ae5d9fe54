"""Who runs next. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

PRIORITIES = {"high": 0, "normal": 10, "low": 20}


@dataclass(frozen=True)
class Waiting:
    """A queued job."""

    job_id: int
    priority: int
    gpus: int
    is_beside: bool = False
    """It evaluates a checkpoint for a training job: it has a slot of its own, and never takes the place of a job."""


@dataclass(frozen=True)
class Free:
    """What the machine has left."""

    slots: int
    gpus: int
    all_gpus: int
    """Busy ones too."""
    slots_beside: int = 0
    """For evaluations of checkpoints."""


def num_gpus(wanted: int | None, all_gpus: int) -> int:
    """GPUs that a job takes; None asks for one where the machine has any."""
    return min(1, all_gpus) if wanted is None else wanted


def lowest_free(num: int, names: Sequence[str], held: Collection[str]) -> tuple[str, ...]:
    """The first `num` GPUs of the machine that nobody holds."""
    free = tuple(name for name in names if name not in held)
    assert len(free) >= num, f"{num} GPUs for an attempt, but {len(free)} are free"
    return free[:num]


def pick(queue: Sequence[Waiting], free: Free) -> Waiting | None:
    """The first job by priority, then age, if it fits. While it waits for GPUs no younger one overtakes it.

    A job that asks for more GPUs than the machine has holds nobody up. An evaluation of a checkpoint goes beside the
    jobs; it takes only GPUs that the first job of the queue does not need.
    """
    first = _first(queue, free)
    if first is not None and free.slots > 0 and first.gpus <= free.gpus:
        return first
    beside = _first(queue, free, is_beside=True)
    if beside is not None and free.slots_beside > 0 and beside.gpus <= _left(free, first):
        return beside
    return None


def why_waiting(job: Waiting, queue: Sequence[Waiting], free: Free) -> str:
    """What a job of the queue waits for, in words."""
    if job.gpus > free.all_gpus:
        return f"needs {job.gpus} GPUs; this machine has {free.all_gpus}"
    first = _first(queue, free, is_beside=job.is_beside)
    if first is not None and first != job:
        return f"behind job {first.job_id}"
    if (free.slots_beside if job.is_beside else free.slots) <= 0:
        return f"waits for another {'evaluation' if job.is_beside else 'job'} to end"
    gpus = _left(free, _first(queue, free)) if job.is_beside else free.gpus
    return f"waits for {job.gpus} GPUs; {gpus} of {free.all_gpus} are free" if job.gpus > gpus else ""


def _left(free: Free, first: Waiting | None) -> int:
    """GPUs that the first job of the queue leaves free."""
    return max(0, free.gpus - (first.gpus if first else 0))


def _first(queue: Sequence[Waiting], free: Free, *, is_beside: bool = False) -> Waiting | None:
    possible = (job for job in queue if job.gpus <= free.all_gpus and job.is_beside == is_beside)
    return min(possible, key=lambda job: (job.priority, job.job_id), default=None)
