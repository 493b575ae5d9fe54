"""How a model is split between the processes that train it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec


class ParallelSpec(Spec):
    """How a model is split over GPUs. For engine verl; the mathematics stays the same."""

    strategy: Literal["auto", "fsdp", "fsdp2", "megatron"] = Field("auto", json_schema_extra=ADVANCED)
    """PyTorch's fully sharded data parallelism in its first or second form, or Megatron; `auto` is fsdp2."""
    tensor: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """GPUs that share each layer (megatron)."""
    pipeline: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """Stages of layers, each on GPUs of its own (megatron)."""
    context: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """GPUs that share each sequence (megatron)."""
    expert: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """GPUs that share the experts of a mixture (megatron)."""
    sequence: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """GPUs that share each sequence by attention heads, of which it must be a divisor (fsdp and fsdp2; Ulysses,
    arXiv:2309.14509)."""
    fsdp_size: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """GPUs that hold one copy of the weights together (fsdp and fsdp2); None is all of them."""
    offload_parameters: bool = Field(False, json_schema_extra=ADVANCED)
    """Keep the weights in host memory between passes."""
    offload_optimizer: bool = Field(False, json_schema_extra=ADVANCED)
    """Keep the states of the optimizer in host memory between steps."""
    offload_reference: bool = Field(False, json_schema_extra=ADVANCED)
    """Keep the reference model in host memory between passes."""

    @property
    def is_megatron(self) -> bool:
        return self.strategy == "megatron"

    @property
    def replica(self) -> int:
        """Processes that work on the same rows."""
        return self.tensor * self.pipeline * self.context if self.is_megatron else self.sequence

    @model_validator(mode="after")
    def _fits_the_strategy(self) -> Self:
        if not self.is_megatron:
            for name in ("tensor", "pipeline", "context", "expert"):
                if getattr(self, name) > 1:
                    raise ValueError(f"{name} ({getattr(self, name)}) is for strategy: megatron; set it, or {name}: 1")
            return self
        if self.sequence > 1:
            raise ValueError(f"sequence ({self.sequence}) is for fsdp and fsdp2; with megatron set context instead")
        if self.fsdp_size is not None:
            raise ValueError("fsdp_size is for fsdp and fsdp2; remove it, or set strategy: fsdp2")
        return self
