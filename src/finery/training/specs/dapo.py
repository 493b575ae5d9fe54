"""Spec of decoupled clip and dynamic sampling policy optimization."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED
from finery.training.specs.groups import GroupSpec


class DapoSpec(GroupSpec):
    """Decoupled clip and dynamic sampling policy optimization (arXiv:2503.14476). It has no KL term."""

    loss_type: ClassVar = "dapo"
    ratio_level: ClassVar = "token"
    scale_rewards: ClassVar = "group"
    kl_coef: ClassVar = 0.0
    entropy_coef: ClassVar = 0.0
    top_entropy_quantile: ClassVar = 1.0
    max_ratio: ClassVar = None

    algorithm: Literal["dapo"]
    clip_low: float = Field(0.2, gt=0, lt=1, json_schema_extra=ADVANCED)
    """Probability ratios of tokens below 1 - clip_low get no gradient."""
    clip_high: float = Field(0.28, gt=0, json_schema_extra=ADVANCED)
    """Probability ratios of tokens above 1 + clip_high get no gradient."""
    dynamic_sampling_rounds: int = Field(4, ge=1)
    """Rounds of generation per batch at most. Prompts whose completions all have the same reward teach nothing; other
    prompts take their place in the next round. What is still equal after the last round stays. 1 is no dynamic
    sampling."""
    overlong: Literal["mask", "soft", "keep"] = "mask"
    """Completions that run into `rollout.max_new_tokens`: carry no loss (mask); are punished, as are those close to
    the limit (soft); or are like all others (keep)."""
    overlong_buffer: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """With `overlong: soft`, how many tokens before the limit the punishment begins; it grows from 0 to 1 at the limit.
    None is a fifth of the limit, as in the paper."""

    @model_validator(mode="after")
    def _buffer_fits(self) -> Self:
        if self.overlong_buffer is None:
            return self
        if self.overlong != "soft":
            raise ValueError(f"overlong_buffer is for overlong: soft, but it is {self.overlong}; remove it or set soft")
        if self.overlong_buffer > self.rollout.max_new_tokens:
            raise ValueError(
                f"overlong_buffer ({self.overlong_buffer}) must be at most rollout.max_new_tokens "
                f"({self.rollout.max_new_tokens})"
            )
        return self

    @property
    def mask_truncated(self) -> bool:
        """Whether truncated completions carry no loss."""
        return self.overlong == "mask"
