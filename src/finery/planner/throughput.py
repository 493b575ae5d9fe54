"""How fast a training step can be: floating-point operations against the device's peak.

Pure. Operations are counted from the matrices (2 for each weight and token forward, 4 backward: arXiv:2001.08361,
section 2.1; attention as arXiv:2205.05198, appendix A). What share of the peak an implementation reaches is measured,
not computed, and stands with the frameworks.
"""

from dataclasses import dataclass
from typing import Final, Literal

from finery.core.errors import InvalidSpec
from finery.planner.accelerators import Accelerator
from finery.planner.memory import Recomputation
from finery.planner.shapes import ModelShape

Precision = Literal["bf16", "fp16", "fp8", "fp4", "fp32"]
_TERA: Final = 1e12


@dataclass(frozen=True)
class Operations:
    """Floating-point operations for one token of a training step."""

    forward: float
    backward: float
    again: float
    """Of the forward pass, computed a second time."""

    @property
    def model(self) -> float:
        """What the mathematics needs, which MFU counts."""
        return self.forward + self.backward

    @property
    def executed(self) -> float:
        """What the device computes, which HFU counts."""
        return self.model + self.again


def operations(
    shape: ModelShape,
    seq_len: int,
    *,
    trained: float = 1.0,
    recomputation: Recomputation = "none",
) -> Operations:
    """Count the operations of one token.

    Args:
        shape: The model. Of a mixture, the experts that a token meets.
        seq_len: Tokens that attend to each other; causal, so that each sees half of them.
        trained: Share of the weights that is trained: gradients of frozen weights are not computed.
        recomputation: What is computed again in the backward pass.
    """
    if seq_len < 1:
        raise InvalidSpec(f"seq_len is {seq_len}; it must be 1 or more")
    weights = shape.active_parameters - (0 if shape.is_tied else shape.embedding)
    attended = min(seq_len, shape.window or seq_len)
    layers = shape.layers * shape.attention_share
    scores = 2 * layers * attended * shape.heads * shape.head_dim  # both products, half of them causal
    forward = 2.0 * weights + scores
    backward = 2.0 * weights * (1 + trained) + 2 * scores
    head = 2.0 * shape.vocabulary * shape.hidden
    again = {"none": 0.0, "selective": float(scores), "full": forward - head}[recomputation]
    return Operations(forward, backward, again)


def peak_of(device: Accelerator, precision: Precision) -> float:
    """Operations per second that a device can reach at most.

    Raises:
        InvalidSpec: it has no such number format, or nobody published its peak.
    """
    if precision == "fp4":
        return 2 * peak_of(device, "fp8")  # NVIDIA Blackwell architecture brief: twice FP8, dense; B300 has more
    found: float | None = getattr(device, precision)
    if found is None and precision == "fp8":
        found = device.bf16
    if found is None:
        if not (device.bf16 or device.fp16 or device.fp32):
            raise InvalidSpec(f"the peak of {device.name} is not known; plan for another")
        raise InvalidSpec(f"no peak of {device.name} is known for {precision}; name another precision")
    return found * _TERA


def tokens_per_second(needed: Operations, device: Accelerator, precision: Precision, *, efficiency: float) -> float:
    """Tokens that one device trains on in a second.

    Args:
        needed: For each.
        device: Of the job.
        precision: That matrices are multiplied in.
        efficiency: Share of the peak that is reached while it computes and talks to others: 0 to 1.
    """
    if not 0 < efficiency <= 1:
        raise InvalidSpec(f"an efficiency of {efficiency:g} is no share of a peak; it must lie between 0 and 1")
    return peak_of(device, precision) * efficiency / needed.executed
