"""The life of a job on one screen: which state may follow which, what may be asked for, and what an end means.

Pure: no session, no clock, no files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from finery.core.rundir import ExitRecord
from finery.jobs.specs import JobState, Verb

NEXT: Final[dict[JobState, frozenset[JobState]]] = {
    "created": frozenset({"queued", "cancelled"}),
    "queued": frozenset({"allocated", "cancelled"}),
    "allocated": frozenset(
        {"running", "pausing", "cancelling", "queued", "completed", "failed", "cancelled", "paused", "lost"}
    ),
    "running": frozenset({"pausing", "cancelling", "queued", "completed", "failed", "paused", "cancelled", "lost"}),
    "pausing": frozenset({"cancelling", "queued", "paused", "completed", "failed", "cancelled", "lost"}),
    "paused": frozenset({"queued", "cancelled"}),
    "cancelling": frozenset({"cancelled", "completed", "failed", "lost"}),
    "cancelled": frozenset({"queued"}),
    "completed": frozenset(),
    "failed": frozenset({"queued"}),
    "lost": frozenset({"running", "cancelling", "queued", "completed", "failed", "paused", "cancelled"}),
}

ACTIVE: Final[frozenset[JobState]] = frozenset({"allocated", "running", "pausing", "cancelling", "lost"})
"""States in which an attempt may be alive."""
ENDED: Final[frozenset[JobState]] = frozenset({"completed", "failed", "cancelled"})

VERBS: Final[dict[JobState, tuple[Verb, ...]]] = {
    "created": ("cancel",),
    "queued": ("cancel",),
    "allocated": ("cancel",),
    "running": ("pause", "cancel", "checkpoint", "set", "rewind"),
    "pausing": ("cancel",),
    "paused": ("resume", "cancel", "rewind"),
    "cancelling": (),
    "cancelled": ("retry", "rewind"),
    "completed": (),
    "failed": ("retry", "rewind"),
    "lost": ("cancel",),
}
"""What a user may ask for."""


@dataclass(frozen=True)
class Outcome:
    """State after an attempt has ended, and why, in words."""

    state: JobState
    cause: str


def verbs(kind: str, state: JobState) -> tuple[Verb, ...]:
    """What can be asked of a job. A script that only reports takes no wishes."""
    return () if kind == "external" else VERBS[state]


def outcome(
    exit_: ExitRecord, *, phase: str | None, message: str, stop_verb: str | None, step: int | None, asked_by: str = ""
) -> Outcome:
    """What the end of an attempt means for its job.

    Args:
        exit_: How the process ended.
        phase: The child's newest status event.
        message: That event's message; of a stop the rule that decided it, and empty for one that was asked for.
        stop_verb: `pause`, `cancel` or `rewind` when one was asked for.
        step: Steps done.
        asked_by: The rule that asked for it, and what it saw; empty for a person.
    """
    at = f" at step {step}" if step else ""
    if phase == "completed" and exit_.code in (0, None) and exit_.signal is None:
        return Outcome("completed", "")
    stopped = _stopped(phase, message, stop_verb, at, asked_by, was_killed=exit_.signal is not None)
    if stopped is not None:
        return stopped
    if phase == "paused":
        return Outcome("failed", f"{exit_.cause or 'stopped without being asked'}; a checkpoint was saved{at}")
    if exit_.oom_kills > 0 and exit_.signal == "SIGKILL":
        _, _, advice = exit_.cause.partition("; ")
        return Outcome("failed", f"killed by the kernel, out of memory (SIGKILL){at}" + (advice and f"; {advice}"))
    if phase == "failed" and message:
        return Outcome("failed", f"{message}{at}")
    if exit_.signal:
        return Outcome("failed", f"killed by {exit_.signal}{at}")
    return Outcome("failed", f"{exit_.cause or f'ended with exit code {exit_.code}'}{at}")


def _stopped(
    phase: str | None, message: str, stop_verb: str | None, at: str, asked_by: str, *, was_killed: bool
) -> Outcome | None:
    """What it means that an attempt was stopped, by a wish or a rule; None where it was not."""
    has_stopped = phase in ("paused", "cancelled", "rolling_back")
    if stop_verb and (has_stopped or was_killed):
        if stop_verb == "rewind":
            return Outcome("queued", f"{asked_by and f'{asked_by}; '}goes on from another checkpoint")
        state: JobState = "cancelled" if stop_verb == "cancel" else "paused"
        killed = f"did not stop in time after {stop_verb} and was killed{at}"
        return Outcome(state, f"{asked_by or f'{stop_verb} was asked for'}; stopped{at}" if has_stopped else killed)
    if phase == "rolling_back":
        return Outcome("queued", f"{message}; goes back to a checkpoint")
    if has_stopped and message:
        return Outcome("cancelled" if phase == "cancelled" else "paused", f"{message}; stopped{at}")
    return None


def after_dependencies(states: Iterable[tuple[int, JobState]]) -> Outcome | None:
    """What becomes of a `created` job given the states of those it waits for; None while it must go on waiting."""
    waiting = []
    for job_id, state in states:
        if state in ("failed", "cancelled"):
            return Outcome("cancelled", f"job {job_id}, which it waits for, {state}")
        if state != "completed":
            waiting.append(job_id)
    return None if waiting else Outcome("queued", "")
