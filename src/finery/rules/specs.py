"""A rule as a user writes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from finery.core import conditions
from finery.core.errors import InvalidSpec
from finery.core.spec import ADVANCED, Spec
from finery.rules import actions


@contextmanager
def _told_with_its_place() -> Iterator[None]:
    """Have whoever reads the document say in which line of it the trouble is."""
    try:
        yield
    except InvalidSpec as error:
        raise ValueError(str(error)) from error


Severity = Literal["info", "warning", "error"]


class ActionSpec(Spec):
    """What a rule does when it fires; in short its name alone."""

    name: str
    """A registered action, such as `pause_training` or `reduce_lr`."""
    params: dict[str, Any] = {}
    """The action's own parameters."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, raw: Any) -> Any:
        return {"name": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        with _told_with_its_place():
            actions.registry.params(self.name, self.params)
        return self


class RuleSpec(Spec):
    """Watch metrics and act."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")
    """Small letters, digits and underscores."""
    when: str
    """Condition, such as `grad_norm > 100` or `reward_std < 0.01 for 500 steps`."""
    then: tuple[ActionSpec, ...] = Field((), max_length=8)
    """Actions, in this order. Without one the alert is only recorded."""
    severity: Severity = "warning"
    cooldown_steps: int = Field(100, ge=1, json_schema_extra=ADVANCED)
    """After it has fired it rests for so many steps, and fires again after them where it still holds."""
    max_count: int = Field(5, ge=1, le=1000, json_schema_extra=ADVANCED)
    """How often it fires in the life of a job, over all attempts."""

    @field_validator("when")
    @classmethod
    def _can_be_read(cls, text: str) -> str:
        with _told_with_its_place():
            conditions.parse(text)
        return text


def distinct(rules: tuple[RuleSpec, ...]) -> tuple[RuleSpec, ...]:
    """The rules, each name once.

    Raises:
        ValueError: a name comes twice.
    """
    names = [rule.name for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"each rule needs a name of its own; there are several of {', '.join(twice)}")
    return rules
