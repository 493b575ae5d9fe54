"""How large the activations of a step are: root mean square of what the modules that hold trained tensors put out.

Only passes that are trained on count, not those that draw rollouts or read a reference. Where layers are computed again
in the backward pass they are seen twice, which changes no mean.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from finery.training import world


class Activations:
    """Watches some modules between `start` and `take`."""

    def __init__(self, modules: Sequence[torch.nn.Module]):
        """Watch nothing yet. A module may stand there several times."""
        self._modules = modules
        self._handles: list[RemovableHandle] = []
        self._sums: dict[torch.nn.Module, Tensor] = {}

    def start(self) -> None:
        """Begin with sums of nothing."""
        self._remove()
        self._sums = {}
        self._handles = [module.register_forward_hook(self._note) for module in dict.fromkeys(self._modules)]

    def take(self) -> list[tuple[float, float]]:
        """(sum of squares, number) of the values that each module put out since `start`, in all processes; zeros where
        there are none. Called by all of them."""
        self._remove()
        nothing = torch.zeros(2, device=next(self._modules[0].parameters()).device)
        sums = torch.stack([self._sums.get(module, nothing) for module in self._modules])
        self._sums = {}
        return [(squares, num) for squares, num in world.summed(sums).tolist()]

    def _note(self, module: torch.nn.Module, _: Any, output: Any) -> None:
        values = output[0] if isinstance(output, tuple) else output
        if not isinstance(values, Tensor) or not torch.is_grad_enabled():
            return
        squares = torch.linalg.vector_norm(values.detach(), dtype=torch.float32).square()
        found = torch.stack([squares, torch.full_like(squares, values.numel())])
        self._sums[module] = self._sums[module] + found if module in self._sums else found

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
