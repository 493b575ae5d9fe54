"""Spec of Kahneman-Tversky optimization."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED
from finery.training.specs.preference import PreferenceSpec


class KtoSpec(PreferenceSpec):
    """Kahneman-Tversky optimization (arXiv:2402.01306): single answers that are labelled good or bad.

    The reference is the starting model, as of dpo. Preference pairs are taken as two labelled answers each. The KL
    term is estimated over all rows of a step, each prompt with the answer of the nearest row before it that has another
    prompt, so it does not depend on `micro_batch_size`.
    """

    algorithm: Literal["kto"]
    beta: float = Field(0.1, gt=0)
    """How strongly the policy is held to the reference."""
    loss_type: Literal["kto", "apo_zero_unpaired"] = Field("kto", json_schema_extra=ADVANCED)
    """`apo_zero_unpaired` has no KL term (arXiv:2408.06266)."""
    desirable_weight: float = Field(1.0, gt=0)
    """Weight of the loss of good answers; raise it where they are the fewer."""
    undesirable_weight: float = Field(1.0, gt=0)
    """Weight of the loss of bad answers."""
    native: dict[str, Any] = Field({}, json_schema_extra=ADVANCED)
    """Overrides under the engine's own names (TRL's KTOConfig), checked against its config class."""

    @model_validator(mode="after")
    def _rows_can_be_mismatched(self) -> Self:
        if self.loss_type == "kto" and min(self.batch_size, self.micro_batch_size or self.batch_size) < 2:
            raise ValueError(
                "kto estimates its KL term from prompts with the answers of other rows; batch_size and "
                "micro_batch_size must be at least 2, or loss_type: apo_zero_unpaired"
            )
        return self
