"""What the processes that train one task tell each other. With one process each of these gives back what it got.

Each is called by all of them, in the same order, or all of them wait for ever. Dimension: N processes.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

_BUCKET_BYTES = 64 * 2**20
"""Gradients that travel together: enough to fill the wire, little beside the model."""


def size() -> int:
    """Processes that train."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0. Number 0 writes what all have to say."""
    return dist.get_rank() if dist.is_initialized() else 0


def seed(start: int) -> int:
    """Start of a random stream that differs between processes; of process 0 it is `start` itself."""
    return start if rank() == 0 else random.Random(f"{start}/{rank()}").randrange(2**31)


def own(items: Sequence[T]) -> Sequence[T]:
    """This process's share of what all of them have; shares differ by one at most, the first ones are the larger."""
    share, num_larger = divmod(len(items), size())
    start = rank() * share + min(rank(), num_larger)
    return items[start : start + share + (rank() < num_larger)]


def gathered(items: Sequence[T]) -> list[T]:
    """The items of all processes, in the order of their numbers."""
    if size() == 1:
        return list(items)
    parts: list[list[T] | None] = [None] * size()
    dist.all_gather_object(parts, list(items))
    return [item for part in parts for item in part or ()]


def summed(tensor: Tensor) -> Tensor:
    """The sum of a tensor that each process has, without its gradient."""
    if size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def joined(tensor: Tensor) -> Tensor:
    """The rows of all processes' tensors behind each other, without their gradients; each may have another number."""
    if size() == 1:
        return tensor.detach()
    return torch.cat(gathered([tensor.detach().cpu()])).to(tensor.device)


def told(item: T) -> T:
    """What process 0 has."""
    if size() == 1:
        return item
    box = [item]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@contextmanager
def first() -> Iterator[None]:
    """Let process 0 do the body before the others do: it builds or downloads what they then find."""
    if rank() > 0:
        gathered(())
    yield
    if rank() == 0:
        gathered(())


def start_alike(parameters: Iterable[Tensor]) -> None:
    """Give the parameters of all processes the values of process 0."""
    if size() > 1:
        for parameter in parameters:
            dist.broadcast(parameter.data, src=0)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by the mean over all processes; one that some process has not counts as 0 there.

    Done once per optimizer step, after the last backward pass, in place of torch's wrapper for it: the number and kind
    of forward passes may then differ between processes, and the model stays itself.
    """
    if size() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    has_grad = torch.tensor([parameter.grad is not None for parameter in trained], device=trained[0].device)
    dist.all_reduce(num_with_grad := has_grad.int())
    found: list[Tensor] = []
    for parameter, num in zip(trained, num_with_grad.tolist(), strict=True):
        if num:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            found.append(parameter.grad)
    for bucket in _buckets(found):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= size()
        for gradient, mean in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one number format behind each other, up to a size."""
    bucket: list[Tensor] = []
    num_bytes = 0
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or num_bytes + tensor.nbytes > _BUCKET_BYTES):
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(tensor)
        num_bytes += tensor.nbytes
    if bucket:
        yield bucket
