"""Stops what is not a number before the optimizer applies it."""

import math
from collections.abc import Iterable

import torch


class FiniteGate:
    """Keeps a step whose loss or gradients are not finite from the optimizer: weights and its state stay as they are.

    Without gradients an optimizer changes nothing, no weight by decay either; so the gate takes them away.
    """

    def __init__(self) -> None:
        self._is_loss_finite: torch.Tensor | None = None
        self.was_closed = False
        """In the newest step."""

    def see_loss(self, loss: torch.Tensor) -> None:
        """Take in the loss of a micro batch, without waiting for it."""
        is_finite = loss.detach().isfinite()
        self._is_loss_finite = is_finite if self._is_loss_finite is None else self._is_loss_finite & is_finite

    def poison(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Have all processes find gradients that are not finite where the loss of this one was not."""
        if self._is_loss_finite is None or self._is_loss_finite:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.fill_(torch.nan)

    def closes(self, norm: torch.Tensor | float) -> bool:
        """Whether the step must not be applied.

        Args:
            norm: Of all gradients, over all processes.
        """
        is_finite = math.isfinite(norm) and (self._is_loss_finite is None or bool(self._is_loss_finite))
        self._is_loss_finite = None
        self.was_closed = not is_finite
        return self.was_closed
