"""Spec of a reward model."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED
from finery.training.specs.preference import PreferenceSpec


class RewardModelSpec(PreferenceSpec):
    """Reward model: a score for each answer, so that the chosen one of a pair scores higher (arXiv:2203.02155)."""

    algorithm: Literal["reward"]
    center_rewards_coefficient: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    """Weight of the square of a pair's summed scores, which keeps scores around zero (arXiv:2312.09244)."""
    use_margin: bool = Field(True, json_schema_extra=ADVANCED)
    """Whether the column `margin`, where all rows have it, is what the scores of a pair must differ by
    (arXiv:2307.09288)."""
    native: dict[str, Any] = Field({}, json_schema_extra=ADVANCED)
    """Overrides under the engine's own names (TRL's RewardConfig), checked against its config class."""

    @model_validator(mode="after")
    def _weights_are_whole(self) -> Self:
        if self.model.quantize != "none":
            raise ValueError("a reward model is not trained beside quantized weights; set model.quantize: none")
        return self
