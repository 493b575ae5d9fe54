"""What the specs of the algorithms share that compare the completions of one prompt with each other."""

from typing import Any, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED
from finery.models.specs import ModelSpec
from finery.training.specs.base import DataSpec, EngineName, OptimSpec, Rewarded, RolloutSpec, check_micro_batch
from finery.training.specs.parallel import ParallelSpec


class GroupSpec(Rewarded):
    """Completions are drawn in groups of one prompt, scored, and learned from."""

    algorithm: str
    engine: EngineName = Field("auto", json_schema_extra=ADVANCED)
    model: ModelSpec
    data: DataSpec
    optim: OptimSpec = OptimSpec()
    rollout: RolloutSpec = RolloutSpec()
    parallel: ParallelSpec = Field(ParallelSpec(), json_schema_extra=ADVANCED)
    """How the model is split over GPUs (engine verl)."""
    prompts_per_step: int = Field(8, ge=1)
    """Prompts per optimizer step; each gets `rollout.completions_per_prompt` completions."""
    micro_batch_size: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Completions per forward and backward pass; None takes all of a step. Does not change the mathematics."""
    num_iterations: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """Optimizer steps on each batch of rollouts (mu in the paper of GRPO)."""
    native: dict[str, Any] = Field({}, json_schema_extra=ADVANCED)
    """Overrides under the engine's own names, checked against its config class."""

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps on a batch of rollouts."""
        return self.num_iterations

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        check_micro_batch(
            self.prompts_per_step * self.rollout.completions_per_prompt,
            self.micro_batch_size,
            "prompts_per_step * rollout.completions_per_prompt",
        )
        return self


class ReferencedSpec(GroupSpec):
    """With a penalty for moving away from a reference model."""

    kl_coef: float = Field(0.0, ge=0)
    """Weight of the KL term to the reference model, in nats. 0 loads no reference model."""
    sync_ref_model: bool = Field(False, json_schema_extra=ADVANCED)
    """Move the reference model after the policy now and then; otherwise it stays the starting model. Needs `kl_coef`
    and full training: with LoRA the reference is the model with its adapter switched off."""
    ref_model_sync_steps: int = Field(512, ge=1, json_schema_extra=ADVANCED)
    """Optimizer steps between two moves."""
    ref_model_mixup_alpha: float = Field(0.6, gt=0, le=1, json_schema_extra=ADVANCED)
    """Share of the policy in the mixture that the reference becomes (arXiv:2404.09656); 1 replaces it."""

    @model_validator(mode="after")
    def _reference_can_move(self) -> Self:
        if self.sync_ref_model and self.kl_coef == 0:
            raise ValueError(
                "sync_ref_model moves the reference model, but kl_coef is 0, so there is none; set kl_coef"
            )
        if self.sync_ref_model and self.model.lora is not None:
            raise ValueError(
                "sync_ref_model needs a reference model of its own, but with model.lora it is the model with its "
                "adapter switched off; remove one of the two"
            )
        return self
