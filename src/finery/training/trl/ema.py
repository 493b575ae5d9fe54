"""An exponential moving average of the trained weights, kept while they are trained (Polyak averaging)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """Float32 averages of T parameters, on their devices: 4 bytes per trained weight.

    Step t, counted from 1, moves each average by `(1 - d) * (weight - average)` with
    `d = min(decay, (1 + t) / (10 + t))`, so that the start is soon forgotten (the rule of TensorFlow's
    `ExponentialMovingAverage` with `num_updates`).
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float):
        """Begin at the weights as they are.

        Args:
            parameters: The trained ones.
            decay: Between 0 and 1; 0.999 looks back over about 1,000 steps.
        """
        self._parameters = list(parameters)
        self._decay = decay
        self._averages = [parameter.detach().to(torch.float32, copy=True) for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Take in the weights after `step`, counted from 1."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.lerp_(parameter.detach().to(torch.float32), weight)

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """Within it the model has the averages for weights; after it its own again, to the bit.

        One parameter's copy at a time is made on its device; what is set aside lies in the host's memory.
        """
        kept: list[Tensor] = []
        try:
            for average, parameter in zip(self._averages, self._parameters, strict=True):
                kept.append(parameter.detach().to("cpu", copy=True))
                parameter.data.copy_(average)
            yield
        finally:
            for own, parameter in zip(kept, self._parameters, strict=False):
                parameter.data.copy_(own)

    def state(self) -> list[Tensor]:
        """(T) the averages."""
        return self._averages

    def restore(self, state: Sequence[Tensor]) -> None:
        """The inverse of `state`."""
        for average, saved in zip(self._averages, state, strict=True):
            average.copy_(saved)
