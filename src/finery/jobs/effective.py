"""Which settings of a run are in effect otherwise than its job file says, and who changed them. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from finery.core.carried import LiveSet
from finery.core.events import MetricValue, decode_value
from finery.jobs.specs import ChangeView, DeviationView
from finery.jobs.tables import ControlRequest

_PLACES: Final = (("monitoring",), ("task",), ("task", "optim"), ("task", "rollout"))
"""Where a job file may name a live setting."""
_RENAMED: Final = {
    "evaluation_interval": ("monitoring", "evaluation", "every_steps"),
    "evaluation_hours": ("monitoring", "evaluation", "every_hours"),
}
"""Live settings that a job file names otherwise."""
_REQUEST: Final = "command request-"
_RULE: Final = "rule "


class Traced(NamedTuple):
    """A change of a live setting, and the attempt in which it was made."""

    attempt: int
    change: LiveSet


def traced(begun: Sequence[tuple[int, Sequence[LiveSet]]], sets: Sequence[LiveSet]) -> list[Traced]:
    """In which attempt each change was made.

    An attempt takes over the changes of the one before it, in their order, and adds its own at the end.

    Args:
        begun: Attempts, oldest first: number and the changes that it began with.
        sets: Changes that hold in the newest attempt.
    """
    found = []
    for index, change in enumerate(sets):
        origin = Traced(begun[-1][0], change)
        for number, taken_over in reversed(begun):
            if len(taken_over) <= index:
                break
            origin = Traced(number - 1, taken_over[index])
        found.append(origin)
    return found


def deviations(
    spec: Mapping[str, Any],
    controls: Mapping[str, MetricValue],
    made: Sequence[Traced],
    wishes: Mapping[int, ControlRequest],
) -> list[DeviationView]:
    """Settings that are not as in the job file.

    Args:
        spec: The job file.
        controls: Live settings in effect.
        made: Changes that hold.
        wishes: Id -> wish, of those by which people changed settings.
    """
    found = []
    for name in dict.fromkeys([*controls, *(one.change.name for one in made)]):
        own = [one for one in made if one.change.name == name]
        requested = _requested(spec, name)
        start = requested if requested is not None else own[0].change.before if own else None
        now = _effective(name, start, controls, [one.change for one in own])
        if start is not None and now is not None and not math.isclose(start, now, rel_tol=1e-6, abs_tol=1e-12):
            changes = [_change(one, wishes) for one in own]
            found.append(DeviationView(name=name, requested=requested, effective=now, changes=changes))
    return found


def _requested(spec: Mapping[str, Any], name: str) -> float | None:
    for place in (_RENAMED[name],) if name in _RENAMED else tuple((*place, name) for place in _PLACES):
        found: Any = spec
        for key in place:
            found = (found or {}).get(key)
        if isinstance(found, int | float):
            return float(found)
    return None


def _effective(
    name: str, start: float | None, controls: Mapping[str, MetricValue], own: Sequence[LiveSet]
) -> float | None:
    # The learning rate follows a schedule, and a change scales all of it.
    if name == "learning_rate":
        return start and start * math.prod(one.after / one.before for one in own if one.before)
    return decode_value(controls[name]) if name in controls else own[-1].after


def _change(one: Traced, wishes: Mapping[int, ControlRequest]) -> ChangeView:
    by = one.change.by
    wish = wishes.get(int(by.removeprefix(_REQUEST))) if by.startswith(_REQUEST) else None
    is_rule = by.startswith(_RULE)
    return ChangeView(
        attempt=one.attempt,
        step=one.change.step,
        before=one.change.before,
        after=one.change.after,
        rule=by.removeprefix(_RULE) if is_rule else None,
        by=None if is_rule else wish.by if wish is not None else by.removeprefix("command "),
        is_undo=wish is not None and wish.undoes is not None,
    )
