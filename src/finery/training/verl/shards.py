"""Statistics of gradients whose values are spread over ranks.

With FSDP2 a rank holds a shard of each gradient, complete over all micro batches and ranks once the last backward pass
is done. Each rank looks at its own shards; sums and histograms are added over those that share a tensor, so that no
rank ever holds a whole one. With FSDP1 shards are flat and their tensors unknown: nothing is recorded there.

Dimensions: T tensors.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor, Shard

from finery.core.gradients import Counts, Floats32, Layout
from finery.training.gradients import GradientTable
from finery.training.statistics import NUM_BINS, Statistics, squared_norm, statistics


@dataclass(frozen=True)
class Probed:
    """What was seen of one step."""

    layout: Layout
    values: Floats32
    """(fields, columns)."""
    histograms: Counts
    """(T, 2, NUM_OCTAVES)."""
    metrics: dict[str, float]
    seconds: float


class ShardProbe:
    """Looks at the gradients of a step that is asked for, between its last backward pass and the clipping."""

    def __init__(self, engine: Any):
        """Stand between an engine of verl and its optimizer.

        Args:
            engine: An FSDP engine that is initialized; its `optimizer_step` is wrapped.
        """
        self._engine = engine
        self._step = engine.optimizer_step
        engine.optimizer_step = self._watched_step
        self._is_wanted = False
        self._found: Probed | None = None
        self._table: GradientTable | None = None
        self._parameters: list[Tensor] = []

    def probe_next(self) -> None:
        """Look at the next step of the optimizer."""
        self._is_wanted = True

    def take(self) -> Probed | None:
        """What was seen since the last call; None where nothing was, or nothing can be."""
        found, self._found = self._found, None
        return found

    def _watched_step(self) -> Any:
        if not self._is_wanted or isinstance(self._engine.module, FullyShardedDataParallel):
            return self._step()
        self._is_wanted = False
        started = time.perf_counter()
        if self._table is None:
            named = {name: p for name, p in self._engine.module.named_parameters() if p.requires_grad}
            self._parameters = list(named.values())
            self._table = GradientTable({name: parameter.numel() for name, parameter in named.items()})
        with torch.no_grad():
            self._table.fill(self._look_at)
            before = [local(parameter).clone() for parameter in self._parameters]
        seconds = time.perf_counter() - started
        norm = self._step()
        started = time.perf_counter()
        with torch.no_grad():
            self._table.put_updates(self._updates(before))
        metrics = self._table.metrics()
        seconds += time.perf_counter() - started
        self._found = Probed(self._table.layout, self._table.take(), self._table.histograms.copy(), metrics, seconds)
        return norm

    def _look_at(self, number: int) -> Statistics | None:
        gradient = self._parameters[number].grad
        if gradient is None:
            return None
        own = statistics([local(gradient)])
        return _over(_groups(gradient), own, gradient.numel())

    def _updates(self, before: Sequence[Tensor]) -> list[tuple[float, float]]:
        """(T) sums of squares of each tensor before the step, and of its change."""
        squares = []
        for old, parameter in zip(before, self._parameters, strict=True):
            new = local(parameter)
            pair = torch.zeros(2, dtype=torch.float64, device=old.device)
            if old.numel():
                pair = torch.stack([squared_norm(old), squared_norm(new, minus=old)]).to(old.device)
            for group in _groups(parameter):
                dist.all_reduce(pair, group=group)
            squares.append(pair)
        return [(before, change) for before, change in torch.stack(squares).tolist()]


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


def _groups(tensor: Tensor) -> list[dist.ProcessGroup]:
    """The ranks that share a tensor, by dimension of their mesh; copies of it elsewhere are not counted again."""
    if not isinstance(tensor, DTensor):
        return []
    mesh = tensor.device_mesh
    return [mesh.get_group(dim) for dim, place in enumerate(tensor.placements) if isinstance(place, Shard)]


def _over(groups: Sequence[dist.ProcessGroup], own: Statistics, num: int) -> Statistics:
    """Statistics of a tensor of `num` values, from those of what each rank holds."""
    if not groups:
        return own
    device = torch.device("cuda") if dist.get_backend(groups[0]) == "nccl" else torch.device("cpu")
    num_finite = own.num - round(own.share_non_finite * own.num)
    sums = torch.tensor([num_finite, own.mean * num_finite, own.norm**2], dtype=torch.float64, device=device)
    least = own.min if num_finite else float("inf")
    greatest = own.max if num_finite else float("-inf")
    ends = torch.tensor([-least, greatest], dtype=torch.float64, device=device)
    counts = own.histogram.to(device=device, dtype=torch.int64)
    for group in groups:
        dist.all_reduce(sums, group=group)
        dist.all_reduce(ends, op=dist.ReduceOp.MAX, group=group)
        dist.all_reduce(counts, group=group)
    num_finite, total, squares = sums.tolist()
    if num_finite == 0:
        return Statistics(num, 0, 0, 0, 0, 0, float(num > 0), counts.cpu().reshape(NUM_BINS))
    mean = total / num_finite
    return Statistics(
        num=num,
        norm=squares**0.5,
        mean=mean,
        variance=max(0.0, squares / num_finite - mean * mean),
        min=-float(ends[0]),
        max=float(ends[1]),
        share_non_finite=1 - num_finite / num,
        histogram=counts.cpu(),
    )
