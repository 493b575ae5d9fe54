"""What an engine calls between steps, and what it offers to be changed.

Engines know this protocol and nothing of monitoring, rules or control files; `finery.runtime` puts implementations
into `Run.hooks`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Protocol


class Decision(Enum):
    """What the engine is to do before its next step."""

    CONTINUE = "continue"
    CHECKPOINT = "checkpoint"
    """Save a checkpoint, then go on."""
    ROLLBACK = "rollback"
    """Stop, so that another attempt goes on from an earlier state; this one is saved first where it is finite."""
    PAUSE = "pause"
    """Save a checkpoint, then stop; the job can be resumed."""
    CANCEL = "cancel"
    """Save a checkpoint where that is quick, then stop for good."""


class LiveControls(Protocol):
    """The settings of a running engine that may change between two steps."""

    def get(self) -> Mapping[str, float]:
        """Name -> value in effect, such as `learning_rate`."""
        ...

    def set(self, name: str, value: float) -> None:
        """Apply a change from the next step on.

        Raises:
            ValueError: the engine has no such control, or the value is outside its range.
        """
        ...

    def scale(self, name: str, factor: float) -> None:
        """Multiply a setting that follows a schedule, from the next step on; also where it is 0 now.

        Args:
            name: `learning_rate`.
            factor: Above 0.

        Raises:
            ValueError: the setting follows no schedule.
        """
        ...


class StepHooks(Protocol):
    """Called by the engine in the process and thread that trains."""

    def before_training(self, step: int, controls: LiveControls) -> None:
        """Called once, before the first step of an attempt.

        Args:
            step: Steps that the checkpoint has done from which it goes on; 0 for a start from nothing.
            controls: The engine's live settings, as the checkpoint has restored them.
        """
        return

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        """Called once per optimizer step, when its metrics are known.

        Args:
            step: Optimizer steps done so far, from 1.
            values: Metrics under Finery's names.
            controls: The engine's live settings.
        """
        ...
