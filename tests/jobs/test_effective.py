"""What differs between the job file and what is in effect, and through whom."""

from datetime import UTC, datetime
from typing import Any

from finery.core.carried import LiveSet
from finery.jobs import effective
from finery.jobs.effective import Traced
from finery.jobs.tables import ControlRequest

SPEC: dict[str, Any] = {
    "monitoring": {"checkpoint_interval": 500},
    "task": {"optim": {"learning_rate": 1e-4}, "rollout": {"temperature": 1.0}, "kl_coef": 0.05},
}
CONTROLS = {"learning_rate": 3e-5, "temperature": 1.0, "kl_coef": 0.05, "checkpoint_interval": 500.0}


def change(name: str, before: float, after: float, step: int = 5, by: str = "rule drift") -> LiveSet:
    return LiveSet(step=step, name=name, before=before, after=after, by=by)


def wish(id_: int, undoes: int | None = None) -> ControlRequest:
    return ControlRequest(
        id=id_,
        job_id=1,
        verb="set",
        values={},
        by="browser",
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
        undoes=undoes,
    )


def test_a_run_as_its_job_file_says_deviates_in_nothing_though_its_learning_rate_follows_a_schedule() -> None:
    assert effective.deviations(SPEC, CONTROLS, [], {}) == []


def test_a_learning_rate_that_was_halved_is_told_at_its_peak() -> None:
    made = [Traced(1, change("learning_rate", 6e-5, 3e-5))]

    [found] = effective.deviations(SPEC, CONTROLS, made, {})

    assert (found.name, found.requested, round(found.effective, 12)) == ("learning_rate", 1e-4, 5e-5)
    assert [(one.rule, one.by, one.attempt, one.step) for one in found.changes] == [("drift", None, 1, 5)]


def test_what_was_set_back_deviates_no_more() -> None:
    made = [
        Traced(1, change("learning_rate", 6e-5, 3e-5)),
        Traced(1, change("learning_rate", 3e-5, 6e-5, by="command request-4")),
    ]

    assert effective.deviations(SPEC, CONTROLS, made, {4: wish(4, undoes=9)}) == []


def test_people_and_the_supervisor_are_named() -> None:
    made = [
        Traced(1, change("temperature", 1.0, 0.9, by="command request-4")),
        Traced(1, change("temperature", 0.9, 0.8, by="command request-5")),
        Traced(2, change("temperature", 0.8, 0.7, by="command outside-1")),
    ]

    [found] = effective.deviations(SPEC, CONTROLS | {"temperature": 0.7}, made, {4: wish(4), 5: wish(5, undoes=9)})

    assert [(one.rule, one.by, one.is_undo) for one in found.changes] == [
        (None, "browser", False),
        (None, "browser", True),
        (None, "outside-1", False),
    ]


def test_a_coefficient_that_the_algorithm_moves_deviates_without_a_change() -> None:
    [found] = effective.deviations(SPEC, CONTROLS | {"kl_coef": 0.08}, [], {})

    assert (found.name, found.requested, found.effective, found.changes) == ("kl_coef", 0.05, 0.08, [])


def test_a_setting_that_the_job_file_does_not_name_is_held_against_where_it_began() -> None:
    made = [Traced(1, change("entropy_coef", 0.0, 0.01))]

    [found] = effective.deviations(SPEC, CONTROLS | {"entropy_coef": 0.01}, made, {})

    assert (found.requested, found.effective) == (None, 0.01)


def test_a_change_is_traced_to_the_attempt_that_made_it() -> None:
    first, second, third = (change("kl_coef", 1.0, after, step) for after, step in ((0.5, 12), (0.4, 15), (0.3, 40)))
    again = first.model_copy(update={"step": 11})  # the second attempt went back to step 10 and applied it again
    begun = [(1, []), (2, [first]), (3, [again, second])]

    assert effective.traced(begun, [again, second, third]) == [(1, first), (2, second), (3, third)]


def test_what_an_attempt_gave_up_by_going_back_is_not_traced_further() -> None:
    old, new = change("kl_coef", 1.0, 0.5), change("kl_coef", 1.0, 0.2)

    assert effective.traced([(1, []), (2, [old]), (3, [])], [new]) == [(3, new)]
