"""Statistics of a tensor: moments, extremes and a signed histogram on a logarithmic scale, in one pass over its memory.

Owns: the arithmetic. Does not own: which tensors are looked at, when, and where the figures go.

The histogram counts the sign, the exponent and the first four bits of the mantissa of each float32: its bins are a
sixteenth of a power of two wide, so that a percentile read from it is off by at most a thirty-second (3.2 %) of its own
value, however small that is, without sorting anything. A tensor is looked at in pieces of a few mebibytes, beside which
nothing is held: on a CPU what is computed of a piece has one place for all of them, since fresh memory costs more than
the arithmetic.
"""

import functools
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finery.core.gradients import PERCENTILES

NUM_BINS: Final = 8192

_SHIFT: Final = 19
"""Bits of a float32 that are dropped: all but sign, exponent and four of the mantissa."""
_HALF: Final = NUM_BINS // 2
_FIRST_NOT_FINITE: Final = 255 << 4
"""Codes of infinity and of what is no number, without their sign."""
_NEARLY_LOST: Final = 1e-24
"""A sum of squares below this may lack some that float32 cannot hold."""
_PIECE_CPU: Final = 1 << 20
"""Values: four mebibytes. With smaller ones the threads of a pass wait for each other longer than they work."""
_ROW: Final = 1024
_PIECE_GPU: Final = 1 << 24


@dataclass(frozen=True)
class Statistics:
    """Of the finite values of a tensor; `share_non_finite` says how many are not. All but the counts are 0 where none
    is finite."""

    num: int
    norm: float
    mean: float
    variance: float
    """Of the population."""
    min: float
    max: float
    share_non_finite: float
    histogram: Tensor
    """(NUM_BINS,) counts: first negative values, by growing magnitude, then positive ones."""

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self.variance)

    @property
    def percentiles(self) -> tuple[float, ...]:
        """In the order of `PERCENTILES`; off by at most 3.2 % of their value."""
        return percentiles(self.histogram)


def statistics(tensors: Iterable[Tensor]) -> Statistics:
    """Statistics of all values of some tensors together, such as the parts of one that several processes hold.

    Args:
        tensors: Of any shape and floating point format, on one device; computed on as float32.
    """
    counts, num, total, squares = torch.zeros(NUM_BINS, dtype=torch.int64), 0, 0.0, 0.0
    low, high = math.inf, -math.inf
    for tensor in (tensor for tensor in tensors if tensor.numel()):
        num += tensor.numel()
        found = []
        for values in _pieces(tensor):
            counts = counts.to(values.device)
            counts += torch.bincount(_codes(values), minlength=NUM_BINS)
            found.append(_moments(values))
        for part in torch.stack(found).tolist():
            total, squares = total + part[0], squares + part[1]
            low, high = min(low, part[2]), max(high, part[3])
    counts = counts.cpu()
    num_finite = num - _num_not_finite(counts)
    if num_finite == 0:
        return Statistics(num, 0, 0, 0, 0, 0, float(num > 0), counts)
    mean = total / num_finite
    return Statistics(
        num=num,
        norm=math.sqrt(squares),
        mean=mean,
        variance=max(0.0, squares / num_finite - mean * mean),
        min=low,
        max=high,
        share_non_finite=1 - num_finite / num,
        histogram=counts,
    )


def percentiles(histogram: Tensor, wanted: Iterable[float] = PERCENTILES) -> tuple[float, ...]:
    """Values below which so many per cent of the finite values lie, read from a histogram; each is the middle of its
    bin."""
    order, middles = _by_value()
    cumulative = np.cumsum(histogram.numpy()[order])
    num = int(cumulative[-1])
    if num == 0:
        return tuple(0.0 for _ in wanted)
    ranks = [min(num, max(1, math.ceil(share / 100 * num))) for share in wanted]
    return tuple(middles[np.searchsorted(cumulative, ranks)].tolist())


def combined(parts: Iterable[Statistics]) -> Statistics:
    """Of all values together, from the statistics of parts that share none: of a layer from its tensors, of a tensor
    from what each process holds of it."""
    parts = list(parts)
    counts = torch.stack([part.histogram for part in parts]).sum(0)
    num = sum(part.num for part in parts)
    finite = [part.num - _num_not_finite(part.histogram) for part in parts]
    num_finite = sum(finite)
    if num_finite == 0:
        return Statistics(num, 0, 0, 0, 0, 0, float(num > 0), counts)
    mean = math.fsum(part.mean * size for part, size in zip(parts, finite, strict=True)) / num_finite
    spread = math.fsum(
        size * (part.variance + (part.mean - mean) ** 2) for part, size in zip(parts, finite, strict=True)
    )
    having = [part for part, size in zip(parts, finite, strict=True) if size]
    return Statistics(
        num=num,
        norm=math.sqrt(math.fsum(part.norm**2 for part in parts)),
        mean=mean,
        variance=spread / num_finite,
        min=min(part.min for part in having),
        max=max(part.max for part in having),
        share_non_finite=1 - num_finite / num,
        histogram=counts,
    )


def octaves(histogram: Tensor) -> Tensor:
    """(2, 255) the histogram by powers of two, for a picture: negative and positive values in [2^e, 2^(e+1)) for the
    exponents e from -127, where all is that is smaller than 2^-126, zero among it."""
    return histogram.reshape(2, 256, 16).sum(2)[:, :255]


def squared_norm(tensor: Tensor, minus: Tensor | None = None) -> Tensor:
    """() sum of the squares of a tensor, or of what it is more than another, in float64; read piece by piece."""
    pieces = _pieces(tensor)
    if minus is not None:
        pieces = (_difference(values, other) for values, other in zip(pieces, _pieces(minus), strict=True))
    return torch.stack([_squares(values) for values in pieces]).sum()


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """The values of a tensor as float32, a few mebibytes at a time, where float64 can be computed with."""
    flat = tensor.detach().reshape(-1)
    for piece in flat.split(_PIECE_CPU if flat.device.type == "cpu" else _PIECE_GPU):
        yield (piece.cpu() if piece.device.type == "mps" else piece).float()


def _codes(values: Tensor) -> Tensor:
    """The bin of each of the values; on a CPU good until the next call in this thread."""
    bits = values.view(torch.int32)
    if values.device.type != "cpu":
        return (bits >> _SHIFT) + _HALF
    place = _place(threading.get_ident())[: len(values)]
    return torch.bitwise_right_shift(bits, _SHIFT, out=place).add_(_HALF)


def _difference(values: Tensor, other: Tensor) -> Tensor:
    """Value by value; on a CPU good until the next call in this thread."""
    if values.device.type != "cpu":
        return values - other
    return torch.sub(values, other, out=_place(threading.get_ident())[: len(values)].view(torch.float32))


@functools.lru_cache(maxsize=4)
def _place(thread: int) -> Tensor:
    return torch.empty(_PIECE_CPU, dtype=torch.int32)


def _moments(values: Tensor) -> Tensor:
    """(4,) sum, sum of squares, least and greatest of the finite values of a piece, in float64."""
    if values.device.type == "cpu":
        found = torch.stack([values.sum(), *values.aminmax()]).double()
        found = torch.stack([found[0], _squares(values), found[1], found[2]])
        if bool(found.isfinite().all()) and bool(found[1] > _NEARLY_LOST):
            return found
    is_finite = values.isfinite()
    finite = values.where(is_finite, 0).double()
    extremes = [values.where(is_finite, bound) for bound in (math.inf, -math.inf)]
    return torch.stack([finite.sum(), finite.square().sum(), extremes[0].min().double(), extremes[1].max().double()])


def _squares(values: Tensor) -> Tensor:
    """Sum of squares: in float32 along short rows and in float64 over them, which is off by at most one in ten million.
    In float32 alone it would be off by one in thirty thousand, in float64 alone it would take four times as long."""
    num = len(values) - len(values) % _ROW
    rows: Tensor = torch.linalg.vector_norm(values[:num].view(-1, _ROW), dim=1).double().square().sum()
    return rows + values[num:].double().square().sum()


def _num_not_finite(histogram: Tensor) -> int:
    return int(histogram.reshape(2, _HALF)[:, _FIRST_NOT_FINITE:].sum())


@functools.cache
def _by_value() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Bins of finite values from the most negative to the most positive, and the middle of each."""
    codes = torch.arange(_FIRST_NOT_FINITE + 1, dtype=torch.int32)
    edges = (codes << _SHIFT).view(torch.float32).double()
    edges[-1] = 2.0**128
    middles = (edges[:-1] + edges[1:]) / 2
    middles[0] = 0.0
    order = torch.cat([torch.arange(_FIRST_NOT_FINITE - 1, -1, -1), torch.arange(_FIRST_NOT_FINITE) + _HALF])
    return order.numpy(), torch.cat([-middles.flip(0), middles]).numpy()
