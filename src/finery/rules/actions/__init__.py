"""The open set of actions: one file each. An action says what it asks for; who runs it carries that out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from finery.core.hooks import Decision
from finery.core.registry import Registry


@dataclass(frozen=True)
class SetControl:
    """Change a live setting between this step and the next."""

    name: str
    value: float


STATE_AFTER: Final[dict[Decision, Literal["paused", "cancelled"]]] = {
    Decision.PAUSE: "paused",
    Decision.CANCEL: "cancelled",
}
"""What a run is after a decision that ends its attempt."""


@dataclass(frozen=True)
class Decide:
    """Save, pause or stop before the next step."""

    decision: Decision


@dataclass(frozen=True)
class Rollback:
    """Go on from the last good checkpoint before the alert."""

    skip_data: bool
    """Leave out the rows of the batch that was being learned."""
    learning_rate_factor: float
    """What the learning rate is multiplied with from there on."""


@dataclass(frozen=True)
class Notify:
    """Tell people."""

    channels: tuple[str, ...]
    """Names of channels; none are all that there are."""


@dataclass(frozen=True)
class Impossible:
    """Nothing can be done, and why."""

    reason: str


Effect = SetControl | Decide | Rollback | Notify | Impossible


class Action(Protocol):
    """What a firing rule asks for.

    Args:
        controls: Live settings of the engine, as they are in effect.
        params: The action's own parameters.
    """

    def __call__(self, controls: Mapping[str, float], params: Any) -> Effect: ...


registry: Final[Registry[Action]] = Registry("finery.rules.actions", "action")
