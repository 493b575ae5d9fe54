"""What the specs of learning from preferences have in common."""

from typing import Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec
from finery.models.specs import ModelSpec
from finery.training.specs.base import DataSpec, EngineName, OptimSpec, check_micro_batch


class PreferenceSpec(Spec):
    """Model, data and batches of an algorithm that compares answers.

    A row's prompt is cut on the left to `data.max_prompt_tokens`, prompt and answer together on the right to
    `data.max_tokens`; a row of which one answer is cut off as a whole is left out.
    """

    engine: EngineName = Field("auto", json_schema_extra=ADVANCED)
    model: ModelSpec
    data: DataSpec
    optim: OptimSpec = OptimSpec()
    batch_size: int = Field(8, ge=1)
    """Rows per optimizer step; a pair is one row."""
    micro_batch_size: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Rows per forward and backward pass; None takes the whole batch. Does not change the mathematics."""

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        check_micro_batch(self.batch_size, self.micro_batch_size, "batch_size")
        return self

    @model_validator(mode="after")
    def _answers_are_compared_without_noise(self) -> Self:
        if self.model.lora is not None and self.model.lora.dropout:
            raise ValueError("answers are compared without dropout, or noise would decide; set model.lora.dropout: 0")
        return self
