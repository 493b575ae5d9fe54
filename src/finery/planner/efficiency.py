"""What share of a device's peak training programs reach: measured by others, one table with its sources.

A share is of executed operations (HFU), communication and waiting included, as median over what a source publishes for
that program, device and precision. Elsewhere a formula stands in: devices whose peak outgrew their bandwidth, small
models, narrow experts and small batches reach less.
"""

from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from finery.planner.accelerators import Accelerator
from finery.planner.throughput import Precision, peak_of

Kind = Literal["dense", "mixture"]


@dataclass(frozen=True)
class Measured:
    """The median of a source."""

    framework: str
    device: str
    """First part of the accelerator's id."""
    precision: Precision
    kind: Kind
    share: float
    num_rows: int
    source: str


_FOUNDRY: Final = "mosaicml/llm-foundry scripts/train/benchmarking/README.md"
_BRIDGE: Final = "NVIDIA-NeMo/Megatron-Bridge docs/performance-summary.md"
_FMS: Final = "foundation-model-stack/fms-acceleration scripts/benchmarks/refs"
_FSDP: Final = "foundation-model-stack/fms-fsdp README.md"
TABLE: Final[tuple[Measured, ...]] = (
    Measured("llm-foundry", "a100", "bf16", "dense", 0.48, 139, _FOUNDRY),
    Measured("llm-foundry", "h100", "bf16", "dense", 0.39, 70, _FOUNDRY),
    Measured("llm-foundry", "h100", "fp8", "dense", 0.19, 7, _FOUNDRY),
    Measured("internevo", "a100", "bf16", "dense", 0.52, 54, "InternLM/InternEvo doc/en/train_performance.md"),
    Measured("xtuner", "a100", "bf16", "dense", 0.53, 10, "InternLM/xtuner README.md"),
    Measured("fms-fsdp", "a100", "bf16", "dense", 0.57, 4, _FSDP),
    Measured("fms-fsdp", "h100", "bf16", "dense", 0.40, 4, _FSDP),
    Measured("fms", "a100", "bf16", "dense", 0.58, 284, _FMS),
    Measured("fms", "a100", "bf16", "mixture", 0.15, 65, _FMS),
    Measured("torchtune", "a100", "bf16", "dense", 0.65, 9, "pytorch/torchtune README.md"),
    Measured("torchtune", "rtx", "bf16", "dense", 0.82, 5, "pytorch/torchtune README.md"),
    Measured("peft", "l40s", "bf16", "dense", 0.22, 63, "huggingface/peft method_comparison/MetaMathQA/results"),
    Measured("megatron", "h100", "fp8", "dense", 0.37, 3, "NVIDIA/Megatron-LM examples/llama/README.md"),
    Measured("megatron", "h100", "fp8", "dense", 0.375, 9, _BRIDGE),
    Measured("megatron", "gb200", "fp8", "dense", 0.39, 22, _BRIDGE),
    Measured("megatron", "gb300", "fp8", "dense", 0.47, 22, _BRIDGE),
    Measured("megatron", "h100", "bf16", "mixture", 0.21, 4, _BRIDGE),
    Measured("megatron", "b200", "bf16", "mixture", 0.21, 6, _BRIDGE),
    Measured("megatron", "gb200", "bf16", "mixture", 0.22, 4, _BRIDGE),
    Measured("megatron", "b300", "bf16", "mixture", 0.23, 7, _BRIDGE),
    Measured("megatron", "gb300", "bf16", "mixture", 0.27, 4, _BRIDGE),
    Measured("megatron", "h100", "fp8", "mixture", 0.12, 13, _BRIDGE),
    Measured("megatron", "b200", "fp8", "mixture", 0.14, 13, _BRIDGE),
    Measured("megatron", "b300", "fp8", "mixture", 0.16, 22, _BRIDGE),
    Measured("megatron", "gb200", "fp8", "mixture", 0.17, 37, _BRIDGE),
    Measured("megatron", "gb300", "fp8", "mixture", 0.21, 42, _BRIDGE),
)


@dataclass(frozen=True)
class Factor:
    """What a program reaches of `usual`: the median over its published speeds."""

    framework: str
    factor: float
    num_rows: int
    source: str


FACTORS: Final[tuple[Factor, ...]] = (
    Factor("fms", 0.58, 349, _FMS),
    Factor("fms-fsdp", 0.56, 8, _FSDP),
    Factor("internevo", 0.61, 54, "InternLM/InternEvo doc/en/train_performance.md"),
    Factor("llm-foundry", 0.61, 216, _FOUNDRY),
    Factor("megatron", 0.60, 236, _BRIDGE),
    Factor("peft", 0.48, 63, "huggingface/peft method_comparison/MetaMathQA/results"),
    Factor("torchtune", 0.78, 15, "pytorch/torchtune README.md"),
    Factor("xtuner", 0.55, 10, "InternLM/xtuner README.md"),
)
_BALANCE: Final = 312 / 2.039
"""Operations for each byte of memory that an A100 of 80 GB can do, which others are compared with."""
_BALANCE_POWER: Final = 0.4
"""The more operations a device can do for each byte, the less of its peak is reached. Fitted, as the four
below: chosen for the error on programs that are left out (docs/modules/planner.md)."""
_LEAST_BALANCE: Final = 100.0
"""Of devices that were measured; less is no better."""
_SIZE_POWER: Final = 0.09
"""Larger models fill a device better: by their active parameters, against 7 billion."""
_HALF_WIDTH: Final = 1500
"""Width of an expert at which a mixture reaches half of what a dense model does."""
_HALF_TOKENS: Final = 1024
"""Tokens of a micro batch at which half of what many tokens reach is reached."""
_FASTER: Final[dict[tuple[Precision, Kind], float]] = {
    ("fp8", "dense"): 1.6,
    ("fp8", "mixture"): 1.3,
    ("fp4", "dense"): 1.6 * 1.4,
    ("fp4", "mixture"): 1.3,
}
"""Against bfloat16 on the same device: matrices alone are faster."""
_USUAL_WIDTH: Final = 1536
"""Of an expert, where it is not said: between Qwen3-30B-A3B (768) and GPT-OSS (2,880)."""
_MOST: Final = 0.9


def usual(
    device: Accelerator,
    precision: Precision,
    kind: Kind = "dense",
    *,
    active: float | None = None,
    expert_width: int | None = None,
    tokens: int | None = None,
) -> float:
    """What of a peak is usual, up to the factor of a program.

    Args:
        device: What it runs on.
        precision: That matrices are multiplied in.
        kind: Of model.
        active: Parameters that a token meets; None takes 7 billion.
        expert_width: Of one expert of a mixture.
        tokens: Of a micro batch; None takes many.
    """
    half = device.bf16 or device.fp16 or device.fp32 or 1.0
    balance = max(_LEAST_BALANCE, float(half) / max(1e-3, device.bandwidth_gb_s / 1000))
    found: float = (balance / _BALANCE) ** -_BALANCE_POWER * ((active or 7e9) / 7e9) ** _SIZE_POWER
    if kind == "mixture":
        width = expert_width or _USUAL_WIDTH
        found *= width / (width + _HALF_WIDTH)
    if tokens is not None:
        found *= tokens / (tokens + _HALF_TOKENS)
    if (precision, kind) in _FASTER:
        found *= _FASTER[precision, kind] * half * 1e12 / peak_of(device, precision)
    return found


def share(
    framework: str,
    device: Accelerator,
    precision: Precision,
    *,
    is_mixture: bool = False,
    without: str = "",
    active: float | None = None,
    expert_width: int | None = None,
    tokens: int | None = None,
) -> float:
    """Share of the peak that a program is expected to reach.

    What it reached on that device where the model is not told; else what is usual times the program's factor, or for a
    program that was not seen the median of all factors.

    Args:
        framework: One of the table, or another.
        device: What it runs on.
        precision: That matrices are multiplied in.
        is_mixture: Whether the model has experts.
        without: A framework whose measurements are left out: how good the others are for it.
        active: Parameters of the model that a token meets.
        expert_width: Of one expert.
        tokens: Of a micro batch.
    """
    kind: Kind = "mixture" if is_mixture else "dense"
    family = device.id.partition("-")[0]
    if active is None and framework != without:
        wanted = (framework, family, precision, kind)
        own = [row for row in TABLE if (row.framework, row.device, row.precision, row.kind) == wanted]
        if own:
            return median(row.share for row in own)
    known = [one for one in FACTORS if one.framework != without]
    factor = median(one.factor for one in [one for one in known if one.framework == framework] or known)
    found = usual(device, precision, kind, active=active, expert_width=expert_width, tokens=tokens)
    return min(_MOST, factor * found)
