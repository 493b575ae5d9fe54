"""How an action of a rule is undone. Pure."""

from typing import Literal, NamedTuple

from finery.core.errors import Conflict
from finery.core.events import ActionEvent

_RESUMED_BY: dict[object, Literal["resume", "retry"]] = {"paused": "resume", "cancelled": "retry"}


class Undo(NamedTuple):
    """What is asked of the job."""

    verb: Literal["set", "resume", "retry", "rewind"]
    values: dict[str, float]


def of(event: ActionEvent, attempt: int, *, newest: int) -> Undo:
    """What undoes an action.

    Args:
        event: The action.
        attempt: That reported it.
        newest: Attempt of the job.

    Raises:
        Conflict: there is nothing to undo, or no way.
    """
    if event.outcome == "refused":
        raise Conflict(f"{event.action} was refused, so there is nothing to undo")
    try:
        return _way_back(event, attempt, newest)
    except (KeyError, ValueError) as error:
        raise Conflict(f"{event.action} cannot be undone: its event does not say what was before") from error


def _way_back(event: ActionEvent, attempt: int, newest: int) -> Undo:
    if event.action == "rollback_checkpoint":
        if event.outcome == "asked" and not event.before:
            raise Conflict("the run has not gone back yet; undo it where it says that it went back")
        # The attempt that goes back asks for it; the one that went back says that it was done.
        number = attempt if event.outcome == "asked" else attempt - 1
        return Undo("rewind", {"attempt": number, "step": float(event.before["step"])})
    if "state" in event.before:
        if attempt < newest:
            raise Conflict(f"the run has gone on since {event.action}, as attempt {newest}")
        return Undo(_RESUMED_BY[event.after["state"]], {})
    if event.before:
        return Undo("set", {name: float(value) for name, value in event.before.items()})
    raise Conflict(f"{event.action} cannot be undone")
