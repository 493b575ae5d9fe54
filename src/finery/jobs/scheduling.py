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


@dataclass(frozen=True)
class Free:
    """What the machine has left."""

    slots: int
    gpus: int
    all_gpus: int
    """Busy ones too."""


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

    A job that asks for more GPUs than the machine has holds nobody up.
    """
    first = _first(queue, free)
    return first if first is not None and free.slots > 0 and first.gpus <= free.gpus else None


def why_waiting(job: Waiting, queue: Sequence[Waiting], free: Free) -> str:
    """What a job of the queue waits for, in words."""
    if job.gpus > free.all_gpus:
        return f"needs {job.gpus} GPUs; this machine has {free.all_gpus}"
    first = _first(queue, free)
    if first is not None and first != job:
        return f"behind job {first.job_id}"
    if free.slots <= 0:
        return "waits for another job to end"
    return f"waits for {job.gpus} GPUs; {free.gpus} of {free.all_gpus} are free" if job.gpus > free.gpus else ""


def _first(queue: Sequence[Waiting], free: Free) -> Waiting | None:
    possible = (job for job in queue if job.gpus <= free.all_gpus)
    return min(possible, key=lambda job: (job.priority, job.job_id), default=None)
