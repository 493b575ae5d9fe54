"""Spec of supervised fine-tuning."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec
from finery.models.specs import ModelSpec
from finery.training.specs.base import DataSpec, EngineName, OptimSpec, check_micro_batch
from finery.training.specs.parallel import ParallelSpec


class SftSpec(Spec):
    """Supervised fine-tuning: cross entropy on the response's tokens."""

    algorithm: Literal["sft"]
    engine: EngineName = Field("auto", json_schema_extra=ADVANCED)
    model: ModelSpec
    data: DataSpec
    optim: OptimSpec = OptimSpec()
    parallel: ParallelSpec = Field(ParallelSpec(), json_schema_extra=ADVANCED)
    """How the model is split over GPUs (engine verl)."""
    batch_size: int = Field(8, ge=1)
    """Rows per optimizer step."""
    micro_batch_size: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Rows per forward and backward pass; None takes the whole batch, or with `packing` as many rows as fit. Does not
    change the mathematics."""
    packing: bool = False
    """Put the rows of a step behind each other without padding, in passes of at most `data.max_tokens` tokens. No row
    sees another, and the mathematics is the same: a step still takes `batch_size` rows. Faster where lengths differ."""
    loss_on: Literal["response", "all"] = Field("response", json_schema_extra=ADVANCED)
    """Which tokens carry loss."""
    native: dict[str, Any] = Field({}, json_schema_extra=ADVANCED)
    """Overrides under the engine's own names (TRL's SFTConfig), checked against its config class."""

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        if not self.packing:
            check_micro_batch(self.batch_size, self.micro_batch_size, "batch_size")
        return self
