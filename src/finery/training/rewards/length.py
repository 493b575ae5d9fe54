"""The reward `length`."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from finery.core import texts
from finery.core.spec import Spec
from finery.training.rewards import registry


class LengthParams(Spec):
    unit: texts.Unit = "characters"
    """What is counted; each Chinese, Japanese and Korean character is a word."""
    min: int = Field(0, ge=0)
    """Shorter completions lose."""
    max: int = Field(2000, ge=1)
    """Longer completions lose."""
    slack: int = Field(0, ge=0)
    """Beyond either end the reward falls from 1 to 0 over this many units; 0 lets it fall at once."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) must not be above max ({self.max})")
        return self


@registry.register("length", params=LengthParams)
def length(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: LengthParams) -> list[float]:
    """1 when the completion is as long as wanted, else falling to 0 (the soft overlong penalty of arXiv:2503.14476)."""
    return [_score(len(texts.parts(text, params.unit)), params) for text in completions]


def _score(size: int, params: LengthParams) -> float:
    beyond = max(params.min - size, size - params.max, 0)
    if beyond == 0:
        return 1.0
    return max(0.0, 1.0 - beyond / params.slack) if params.slack else 0.0
