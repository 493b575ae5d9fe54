"""How far one step of the optimizer moves each parameter, exactly, for any optimizer that treats each by itself.

An optimizer steps all parameters at once, and to compare before with after one would have to copy all weights. So a
step that is measured is taken in parts: the gradients of all parameters but a few are hidden, which every optimizer
passes over; these few are copied, stepped and compared; and so on. A part is as large as the largest parameter, or 16
MiB. The step that was asked for then finds nothing left to do. Each parameter is stepped once, with the same numbers,
so that the weights are the same to the bit. That would not hold for an optimizer in which the step of one parameter
depends on others (a norm over all of them); none of ours is one.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

from finery.training.statistics import squared_norm
from finery.training.trl.guards import is_out_of_memory

_LEAST_BYTES: Final = 1 << 24
"""Small parameters together: a step of each by itself would take its time."""


class Updates:
    """Measures the next step of an optimizer, each time it is asked to."""

    def __init__(self, parameters: Sequence[Tensor], optimizer: Optimizer):
        """Hook into the steps of an optimizer of T parameters."""
        self._parameters = parameters
        self._is_wanted = False
        self._is_in_parts = False
        self._hidden: dict[int, Tensor] = {}
        self._found: list[tuple[float, float]] | None = None
        optimizer.register_step_pre_hook(self._before_step)
        optimizer.register_step_post_hook(self._after_step)

    def measure_next(self) -> None:
        """Ask for the next step, if it comes before `take`."""
        self._is_wanted = True

    def take(self) -> list[tuple[float, float]] | None:
        """(T) sums of squares of each parameter before the step and of its change. None where no step was measured, or
        there was no memory for a copy."""
        found, self._found, self._is_wanted = self._found, None, False
        return found

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        if not self._is_wanted:
            return
        self._is_wanted, self._is_in_parts = False, True
        found: dict[int, tuple[float, float]] = {}
        stepped = [number for number, parameter in enumerate(self._parameters) if parameter.grad is not None]
        self._hide(stepped)
        for part in _parts(stepped, [self._parameters[number].nbytes for number in stepped]):
            found |= zip(part, self._step(optimizer, part), strict=False)
        for number in sorted(set(range(len(self._parameters))) - set(stepped)):
            found[number] = (squared_norm(self._parameters[number]).item(), 0.0)
        is_whole = len(found) == len(self._parameters)
        self._found = [found[number] for number in range(len(found))] if is_whole else None
        self._is_in_parts = False

    def _after_step(self, *_: Any) -> None:
        """Give the gradients back: others may look at them after the step."""
        if not self._is_in_parts:
            self._show(list(self._hidden))

    def _step(self, optimizer: Optimizer, part: Sequence[int]) -> list[tuple[float, float]]:
        """Step some parameters only; nothing is known of them where there is no memory."""
        parameters = [self._parameters[number] for number in part]
        before = _copies(parameters)
        self._show(part)
        optimizer.step()
        self._hide(part)
        if before is None:
            return []
        weights = [squared_norm(copy) for copy in before]
        changes = [squared_norm(after, minus=copy) for after, copy in zip(parameters, before, strict=True)]
        squares = torch.stack([*weights, *changes]).tolist()
        return list(zip(squares[: len(part)], squares[len(part) :], strict=True))

    def _hide(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            gradient = self._parameters[number].grad
            assert gradient is not None
            self._hidden[number] = gradient
            self._parameters[number].grad = None

    def _show(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._parameters[number].grad = self._hidden.pop(number)


def _copies(parameters: Sequence[Tensor]) -> list[Tensor] | None:
    try:
        return [parameter.detach().clone() for parameter in parameters]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


def _parts(numbers: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers in order, cut into parts whose sizes together are at most the largest one."""
    limit = max([*sizes, _LEAST_BYTES])
    part: list[int] = []
    size = 0
    for number, own in zip(numbers, sizes, strict=True):
        if part and size + own > limit:
            yield part
            part, size = [], 0
        part.append(number)
        size += own
    if part:
        yield part
