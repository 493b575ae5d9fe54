"""What share of a device's peak training programs reach: measured by others, one table with its sources.

A share is of executed operations (HFU), communication and waiting included, as median over what a source publishes for
that program, device and precision. Where a program was not seen on a device, what others reach on it stands in.
"""

from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from finery.planner.accelerators import Accelerator
from finery.planner.throughput import Precision

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
    Measured("fms", "a100", "bf16", "mixture", 0.42, 53, _FMS),
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
    Measured("megatron", "b300", "fp8", "mixture", 0.17, 22, _BRIDGE),
    Measured("megatron", "gb200", "fp8", "mixture", 0.20, 37, _BRIDGE),
    Measured("megatron", "gb300", "fp8", "mixture", 0.23, 42, _BRIDGE),
)
_USUAL: Final[dict[Kind, float]] = {"dense": 0.45, "mixture": 0.20}
"""Where nothing near was measured."""


def share(
    framework: str, device: Accelerator, precision: Precision, *, is_mixture: bool = False, without: str = ""
) -> float:
    """Share of the peak that a program is expected to reach.

    Args:
        framework: One of the table, or another.
        device: What it runs on.
        precision: That matrices are multiplied in.
        is_mixture: Whether the model has experts.
        without: A framework whose measurements are left out: how good the others are for it.
    """
    kind: Kind = "mixture" if is_mixture else "dense"
    family = device.id.partition("-")[0]
    rows = [row for row in TABLE if row.kind == kind and row.framework != without]
    for wanted in (
        [row for row in rows if row.framework == framework and row.device == family and row.precision == precision],
        [row for row in rows if row.device == family and row.precision == precision],
        [row for row in rows if row.framework == framework and row.precision == precision],
        [row for row in rows if row.framework == framework],
        [row for row in rows if row.precision == precision],
    ):
        if wanted:
            return median(row.share for row in wanted)
    return _USUAL[kind]
