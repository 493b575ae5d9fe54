"""Gradient checkpointing and the KV cache exclude each other: in transformers the cache silently loses.

A layer that is checkpointed drops `past_key_values` with no more than a warning, so whatever reads a cache must either
switch checkpointing off, which it may where no gradient is wanted, or do without the cache.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


def drops_cache(model: torch.nn.Module) -> bool:
    """Whether a forward pass of the model, in its present mode, would lose its KV cache."""
    return any(layer.training for layer in _checkpointed(model))


@contextmanager
def cache_kept(model: torch.nn.Module) -> Iterator[None]:
    """Within it nothing is checkpointed, so that a KV cache works."""
    layers = _checkpointed(model)
    for layer in layers:
        layer.gradient_checkpointing = False
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = True


def _checkpointed(model: torch.nn.Module) -> list[Any]:
    return [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
    ]
