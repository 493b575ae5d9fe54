"""Linear layers in 8 bits for as long as a model only draws: on a CPU a row of a few tokens costs what it costs to read
and multiply the weights, and that is two to five times less in 8 bits.

Weights are rounded per output channel to 8 bits, inputs per call to 7 (dynamic quantization): sums of 8-bit products
overflow on processors without VNNI, and what comes out was then off by 13 % where it is off by 2 now. The kernel is
FBGEMM's through `torch.ops.quantized`, whose quantized tensors PyTorch calls deprecated; its version is pinned.

What is drawn is drawn from a slightly different policy than the one that is trained, so whoever trains on it must weigh
it by the ratio of the two.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

_SMALLEST = 1 << 14
"""Weights of fewer numbers stay as they are: an adapter's, for instance."""


@contextmanager
def int8_linears(model: nn.Module) -> Iterator[None]:
    """Within it the linear layers of a float32 model on a CPU compute in 8 bits; elsewhere nothing changes.

    Takes as long as reading the weights a few times, and a quarter of their memory on top.
    """
    changed = [layer for layer in model.modules() if _is_worth_it(layer)]
    for layer in changed:
        layer.forward = partial(_forward, _packed(layer))  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward


def _is_worth_it(layer: nn.Module) -> TypeGuard[nn.Linear]:
    return (
        type(layer) is nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype is torch.float32
        and layer.weight.numel() >= _SMALLEST
        and "forward" not in vars(layer)
    )


@torch.no_grad()
def _packed(layer: nn.Linear) -> Any:
    """Weights and bias as the kernel wants them."""
    weight, bias = layer.weight.detach(), layer.bias
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    zero = torch.zeros(len(weight), dtype=torch.long)
    rounded = torch.quantize_per_channel(weight, scale, zero, axis=0, dtype=torch.qint8)
    return torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.detach())


def _forward(packed: Any, inputs: Tensor) -> Tensor:
    outputs: Tensor = torch.ops.quantized.linear_dynamic(inputs, packed, reduce_range=True)
    return outputs
