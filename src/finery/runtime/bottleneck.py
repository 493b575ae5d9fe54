"""Names a step that waits for its rows: said once in the life of an attempt, as an alert."""

from collections import deque
from collections.abc import Mapping
from typing import Final

from finery.core.hooks import Decision, LiveControls, StepHooks
from finery.core.rundir import Run

STEPS: Final = 20
"""What is looked at: the newest steps, the first of an attempt left out, in which much is done once."""
BOUND: Final = 0.2
"""Share of the steps' time. A step of the smallest built-in model waits for 5 % of its 15 ms at most."""
RULE: Final = "data_bottleneck"


class DataWatch(StepHooks):
    """Compares what the steps waited for their rows (`seconds_data`) with what they took (`seconds_per_step`)."""

    def __init__(self, run: Run):
        self._run = run
        self._steps: deque[tuple[float, float]] = deque(maxlen=STEPS)
        self._is_first = True
        self._is_said = False

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        """Take in a step."""
        is_known = "seconds_data" in values and "seconds_per_step" in values
        if is_known and not self._is_first:
            self._steps.append((values["seconds_data"], values["seconds_per_step"]))
        self._is_first = False
        if not self._is_said and len(self._steps) == STEPS and waiting_share(self._steps) > BOUND:
            self._is_said = True
            self._run.alert(RULE, _message(waiting_share(self._steps)), severity="warning", step=step)
        return Decision.CONTINUE


def waiting_share(steps: deque[tuple[float, float]]) -> float:
    """Share of time that was waited, from 0 to 1.

    Args:
        steps: Seconds waited and seconds taken, of each step.
    """
    taken = sum(seconds for _, seconds in steps)
    return sum(waited for waited, _ in steps) / taken if taken > 0 else 0.0


def _message(share: float) -> str:
    return (
        f"a step waits {share:.0%} of its time for its rows (mean of the last {STEPS}); look at processor, memory and "
        "disk on the System tab: run fewer jobs at once where the processor is taken, use less memory where it is "
        "swapped out, shorten rows with data.max_tokens where they are long"
    )
