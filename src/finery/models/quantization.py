"""Weights held in 4 or 8 bits with bitsandbytes, so that what is trained beside them gets its gradients."""

import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from bitsandbytes.nn import Linear4bit
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedModel,
)

from finery.models import loading

Quantization = Literal["nf4", "int8"]


def load_quantized(path: Path, quantization: Quantization, *, dtype: str, compute_dtype: str) -> PreTrainedModel:
    """Load a causal language model whose linear layers, but the output head, are quantized and frozen.

    Args:
        path: Whole model in Hugging Face form; not the adapter of one.
        quantization: `nf4` (with double quantization) or `int8`.
        dtype: Number format of what is not quantized.
        compute_dtype: Number format in which products with 4-bit weights are computed.

    Raises:
        InvalidSpec: it is a reward model.
    """
    loading.check_writes(path)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path,
        quantization_config=config(quantization, compute_dtype),
        device_map={"": _place()},
        dtype=loading.resolve_dtype(dtype),
        use_safetensors=True,
        trust_remote_code=False,
    )
    keep_gradients(model)
    return model.requires_grad_(False)


def load_reward_model(path: Path, quantization: Quantization) -> PreTrainedModel:
    """Load a reward model whose linear layers, but the head that scores, are quantized. For scoring only.

    An adapter is folded in first, by way of a folder of the whole model that is removed again.

    Args:
        path: Reward model in Hugging Face form, whole or as an adapter.
        quantization: `nf4` (with double quantization) or `int8`.
    """
    if (path / loading.ADAPTER).is_file():
        with tempfile.TemporaryDirectory(prefix="finery-folded-") as folder:
            loading.load_reward_model(path, dtype="float32").save_pretrained(folder)
            return load_reward_model(Path(folder), quantization)
    settings = config(quantization, "auto")
    settings.llm_int8_skip_modules = ["score"]
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        path,
        num_labels=1,
        quantization_config=settings,
        device_map={"": _place()},
        dtype=loading.resolve_dtype("auto"),
        use_safetensors=True,
        trust_remote_code=False,
    )
    return model


def config(quantization: Quantization, compute_dtype: str) -> BitsAndBytesConfig:
    """What transformers is told about it."""
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=loading.resolve_dtype(compute_dtype),
    )


def _place() -> torch.device:
    """This process's device, with its number: beside others that train, each has its own."""
    found = loading.device()
    return torch.device("cuda", torch.cuda.current_device()) if found.type == "cuda" else found


def keep_gradients(model: torch.nn.Module) -> None:
    """Keep 4-bit layers from packing their weights for a CPU's bfloat16 kernel.

    bitsandbytes 0.50.2 packs them at the first forward in eval mode on a CPU with avx512_bf16, and for good: neither
    `train()` nor anything else short of saving unpacks them. The kernel has no backward, so gradients end there and
    nobody is told (`Linear4bit.forward`, `matmul_4bit`).
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            layer: Any = module
            layer.support_avx512bf16_for_cpu = False
