"""Which checkpoints of a job lie on the way that led to its newest attempt. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Try:
    """An attempt, and where it began."""

    number: int
    resume_from: str | None
    """Path of a checkpoint; None for a start from nothing."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint."""

    attempt: int
    step: int
    path: str


def surviving(tries: Sequence[Try], saved: Sequence[Saved]) -> list[Saved]:
    """The checkpoints from which the job may go on, the best first.

    Those of the newest attempt, then of the one whose checkpoint it began from, up to that one, and so on. What an
    attempt did after the step to which the run went back later is no part of the run any more.
    """
    by_place = {_place(one.path): one for one in saved}
    by_number = {one.number: one for one in tries}
    found: list[Saved] = []
    present = max(tries, key=lambda one: one.number, default=None)
    last_step: float = float("inf")
    while present is not None:
        own = [one for one in saved if one.attempt == present.number and one.step <= last_step]
        found += sorted(own, key=lambda one: -one.step)
        origin = by_place.get(_place(present.resume_from or ""))
        if origin is None or origin.attempt >= present.number:
            break
        last_step, present = origin.step, by_number.get(origin.attempt)
    return found


def _place(path: str) -> tuple[str, ...]:
    """Of a checkpoint within its job's directory, which may have moved: `attempt-2/checkpoints/step-200`."""
    return tuple(path.split("/")[-3:])
