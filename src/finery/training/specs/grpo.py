"""Spec of group relative policy optimization."""

from typing import Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED
from finery.training.specs.groups import ReferencedSpec

_TOKEN_LOSSES = ("bnpo", "dr_grpo", "dapo", "cispo", "vespo")


class GrpoSpec(ReferencedSpec):
    """Group relative policy optimization (arXiv:2402.03300)."""

    algorithm: Literal["grpo"]
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = Field(
        "dapo", json_schema_extra=ADVANCED
    )
    """How token losses are averaged: per completion (grpo), by a constant length (dr_grpo, arXiv:2503.20783), over
    all tokens of the step (dapo, arXiv:2503.14476), over all tokens of a micro batch (bnpo). Others change the
    clipping: of the ratio's weight alone (cispo, arXiv:2506.13585), by a soft gate (sapo, arXiv:2511.20347), per
    completion scaled by its length (luspo, arXiv:2602.05261), by a smooth kernel (vespo, arXiv:2602.10693)."""
    ratio_level: Literal["token", "sequence"] = Field("token", json_schema_extra=ADVANCED)
    """Whether probability ratios are clipped per token or per completion (GSPO, arXiv:2507.18071)."""
    mask_truncated: bool = Field(False, json_schema_extra=ADVANCED)
    """Whether completions that ran into `rollout.max_new_tokens` carry no loss (overlong filtering of DAPO)."""
    scale_rewards: Literal["group", "batch", "none"] = Field("group", json_schema_extra=ADVANCED)
    """Standard deviation that advantages are divided by."""
    clip_low: float = Field(0.2, gt=0, lt=1, json_schema_extra=ADVANCED)
    """Probability ratios below 1 - clip_low get no gradient."""
    clip_high: float = Field(0.2, gt=0, json_schema_extra=ADVANCED)
    """Probability ratios above 1 + clip_high get no gradient."""
    max_ratio: float | None = Field(None, gt=1, json_schema_extra=ADVANCED)
    """Bound of the ratio where the advantage is negative as well (two-sided clipping, arXiv:2505.07291), above
    1 + clip_high; None has no bound."""
    entropy_coef: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    """Weight of the entropy bonus: the mean over the tokens of each micro batch."""
    top_entropy_quantile: float = Field(1.0, gt=0, le=1, json_schema_extra=ADVANCED)
    """Share of the tokens that carry loss, those of highest entropy within each micro batch (arXiv:2506.01939)."""

    @model_validator(mode="after")
    def _ratio_fits_the_loss(self) -> Self:
        if self.loss_type == "luspo" and self.ratio_level != "sequence":
            raise ValueError("loss_type luspo is one of whole completions; set ratio_level: sequence")
        if self.loss_type in _TOKEN_LOSSES and self.ratio_level == "sequence":
            raise ValueError(
                f"loss_type {self.loss_type} adds up tokens, so that a completion's ratio would count once for each of "
                "its tokens; with ratio_level: sequence set loss_type: grpo, sapo or luspo"
            )
        return self

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if self.max_ratio is not None and self.loss_type in ("cispo", "sapo", "vespo"):
            raise ValueError(f"loss_type {self.loss_type} does not clip on both sides; remove max_ratio")
        if self.max_ratio is not None and self.max_ratio <= 1 + self.clip_high:
            raise ValueError(f"max_ratio ({self.max_ratio}) must be above 1 + clip_high ({1 + self.clip_high})")
        return self
