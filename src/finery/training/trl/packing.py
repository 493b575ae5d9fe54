"""Rows behind each other without padding, each blind to the others.

Owns: which rows go into one forward pass, and the attention within it. Does not own: rows, labels, the loss.

A pass is one sequence of several rows whose position ids begin anew at each. Everything but attention works on single
tokens; attention is computed row by row, so that no mask is needed and each row costs the square of its own length: on
a CPU, for 6 rows of 1,024 tokens in all, a quarter of the time that one pass with a block-diagonal mask takes.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from finery.core.errors import InvalidSpec

ATTENTION: Final = "finery_packed"
"""Name of the attention below in transformers' registry."""

_ROUNDING = 1e-3
"""By how much logits of a row alone and of the same row packed may differ, relative to the largest. Seeing another
row changes them by orders of magnitude more."""
_NOT_POSSIBLE = (
    "packing: rows of a {} would see each other or attend in another way than alone, since its layers mix tokens in a "
    "way of their own; set packing: false"
)


def bins(lengths: Sequence[int], *, max_tokens: int, max_rows: int | None = None) -> list[list[int]]:
    """Distribute rows over as few passes as best fit decreasing finds.

    Args:
        lengths: Tokens of each row.
        max_tokens: Tokens of a pass.
        max_rows: Rows of a pass; None is no limit.

    Returns:
        Row numbers of each pass, longest row first. Each pass has at least one.

    Raises:
        ValueError: a row is longer than a pass.
    """
    if max(lengths) > max_tokens:
        raise ValueError(f"a row of {max(lengths)} tokens does not fit into a pass of {max_tokens}")
    found: list[list[int]] = []
    free: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        fitting = [
            at
            for at, room in enumerate(free)
            if room >= lengths[row] and (max_rows is None or len(found[at]) < max_rows)
        ]
        if not fitting:
            found.append([])
            free.append(max_tokens)
            fitting = [len(found) - 1]
        tightest = min(fitting, key=lambda at: free[at])
        found[tightest].append(row)
        free[tightest] -= lengths[row]
    return found


def positions(lengths: Sequence[int]) -> Tensor:
    """Position ids (1, T) of rows behind each other."""
    return torch.cat([torch.arange(length) for length in lengths])[None]


def prepare(model: PreTrainedModel) -> None:
    """Let the model take packed rows, and prove on two short ones that neither sees the other.

    Raises:
        InvalidSpec: rows of this model cannot be kept apart.
    """
    AttentionInterface.register(ATTENTION, _attend_by_row)
    size = model.get_input_embeddings().num_embeddings
    first, second = torch.arange(5) * 7 % size, (torch.arange(6) * 5 + 3) % size
    device = model.get_input_embeddings().weight.device
    with torch.no_grad():
        alone = [model(input_ids=row[None].to(device), use_cache=False).logits[0] for row in (first, second)]
        try:
            model.set_attn_implementation(ATTENTION)
            packed = model(
                input_ids=torch.cat([first, second])[None].to(device),
                position_ids=positions([5, 6]).to(device),
                packed_lengths=[5, 6],
                use_cache=False,
            ).logits[0]
        except (ValueError, TypeError) as error:
            raise InvalidSpec(_NOT_POSSIBLE.format(type(model).__name__)) from error
    expected = torch.cat(alone).float()
    if (packed.float() - expected).abs().max() > _tolerance(expected, alone[0].dtype):
        raise InvalidSpec(_NOT_POSSIBLE.format(type(model).__name__))


def _tolerance(logits: Tensor, dtype: torch.dtype) -> float:
    rounding = max(_ROUNDING, 8 * torch.finfo(dtype).eps)
    return rounding * logits.abs().max().item()


def _attend_by_row(
    module: torch.nn.Module,
    query_1HTD: Tensor,
    key_1KTD: Tensor,
    value_1KTD: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_lengths: Sequence[int],
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row of a pass.

    Dimensions: H query heads, K key heads (each serves H / K query heads), T tokens of the pass, D per head.

    Raises:
        InvalidSpec: a row is longer than the model's window, or it caps its scores; neither is done here.
    """
    if softcap is not None or (sliding_window is not None and max(packed_lengths) > sliding_window):
        raise InvalidSpec(_NOT_POSSIBLE.format(type(module).__name__))
    parts = (tensor.split(list(packed_lengths), dim=2) for tensor in (query_1HTD, key_1KTD, value_1KTD))
    rows = [
        scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        )
        for query, key, value in zip(*parts, strict=True)
    ]
    return torch.cat(rows, dim=2).transpose(1, 2).contiguous(), None
