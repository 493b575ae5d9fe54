"""Spec of odds ratio preference optimization."""

from typing import Any, Literal

from pydantic import Field

from finery.core.spec import ADVANCED
from finery.training.specs.preference import PreferenceSpec


class OrpoSpec(PreferenceSpec):
    """Odds ratio preference optimization (arXiv:2403.07691): SFT on the chosen answers and, in the same step, an odds
    ratio that disfavours the rejected ones. Has no reference model."""

    algorithm: Literal["orpo"]
    beta: float = Field(0.1, ge=0)
    """Weight of the odds ratio term; lambda in the paper."""
    loss_on: Literal["response", "all"] = Field("response", json_schema_extra=ADVANCED)
    """Which tokens of the chosen conversation the SFT term is about: the answer, as in the paper's formula, or the
    prompt too, as in the paper's code."""
    native: dict[str, Any] = Field({}, json_schema_extra=ADVANCED)
    """Overrides under the engine's own names (TRL's ORPOConfig), checked against its config class."""
