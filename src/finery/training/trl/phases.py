"""Where the time of a step goes: one timeline, cut into named phases.

The phases of a step add up to the step. On CUDA the cuts are events in the stream, which cost no waiting: work that
the host has only queued counts for the phase that queued it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Phases:
    """Seconds of the phases of a step, summed over its micro batches.

    A phase lasts until the next one begins. Phases may nest: the outer one goes on where the inner one ends.
    """

    def __init__(self) -> None:
        self._on_cuda = torch.cuda.is_available()
        self._cuts: list[tuple[str | None, float | torch.cuda.Event]] = []

    def enter(self, name: str | None) -> None:
        """Begin a phase; None is time that is not counted."""
        if self._on_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._cuts.append((name, event))
        else:
            self._cuts.append((name, time.perf_counter()))

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Count the body as phase `name`, then go on with the phase before."""
        outer = self._cuts[-1][0] if self._cuts else None
        self.enter(name)
        yield
        self.enter(outer)

    def take(self) -> dict[str, float]:
        """Phase -> seconds since the last call; the present phase goes on."""
        if not self._cuts:
            return {}
        self.enter(self._cuts[-1][0])
        if self._on_cuda:
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for (name, start), (_, end) in zip(self._cuts, self._cuts[1:], strict=False):
            if name is not None:
                found[name] = found.get(name, 0.0) + _seconds(start, end)
        self._cuts = self._cuts[-1:]
        return found


def _seconds(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float)
        assert isinstance(end, float)
        return end - start
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000
