"""Who runs next. Pure."""

from collections.abc import Sequence
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


def pick(queue: Sequence[Waiting], free: Free) -> Waiting | None:
    """The first job by priority, then age, if it fits. While it waits for GPUs no younger one overtakes it."""
    if free.slots <= 0 or not queue:
        return None
    first = min(queue, key=lambda job: (job.priority, job.job_id))
    return first if first.gpus <= free.gpus else None
