"""Spec of group relative policy optimization."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec
from finery.models.specs import ModelSpec
from finery.training.specs.base import DataSpec, EngineName, OptimSpec, RewardSpec, RolloutSpec, check_micro_batch

_TOKEN_LOSSES = ("bnpo", "dr_grpo", "dapo", "cispo", "vespo")


class GrpoSpec(Spec):
    """Group relative policy optimization (arXiv:2402.03300)."""

    algorithm: Literal["grpo"]
    engine: EngineName = Field("auto", json_schema_extra=ADVANCED)
    model: ModelSpec
    data: DataSpec
    rewards: tuple[RewardSpec, ...] = Field(min_length=1)
    optim: OptimSpec = OptimSpec()
    rollout: RolloutSpec = RolloutSpec()
    prompts_per_step: int = Field(8, ge=1)
    """Prompts per optimizer step; each gets `rollout.completions_per_prompt` completions."""
    micro_batch_size: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Completions per forward and backward pass; None takes all of a step. Does not change the mathematics."""
    num_iterations: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """Optimizer steps on each batch of rollouts (mu in the paper)."""
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
    kl_coef: float = Field(0.0, ge=0)
    """Weight of the KL term to the starting model, in nats per token. 0 loads no reference model."""
    clip_low: float = Field(0.2, gt=0, lt=1, json_schema_extra=ADVANCED)
    """Probability ratios below 1 - clip_low get no gradient."""
    clip_high: float = Field(0.2, gt=0, json_schema_extra=ADVANCED)
    """Probability ratios above 1 + clip_high get no gradient."""
    entropy_coef: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    """Weight of the entropy bonus."""
    native: dict[str, Any] = Field({}, json_schema_extra=ADVANCED)
    """Overrides under the engine's own names (TRL's GRPOConfig), checked against its config class."""

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        check_micro_batch(
            self.prompts_per_step * self.rollout.completions_per_prompt,
            self.micro_batch_size,
            "prompts_per_step * rollout.completions_per_prompt",
        )
        return self

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
