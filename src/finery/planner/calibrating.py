"""How far estimates were off for jobs that have ended, and what that says of the next one. Pure.

Owns: the statistics, and which earlier jobs speak for a new one. Does not own: where the figures are kept (jobs).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final

from finery.core.errors import InvalidSpec

FEWEST: Final = 3
"""Jobs that a correction takes at least."""


@dataclass(frozen=True)
class Seen:
    """A job that has ended."""

    device: str
    """Id of the accelerator."""
    engine: str
    algorithm: str
    predicted: float
    """Bytes, or tokens per second."""
    measured: float
    """In the same unit."""


@dataclass(frozen=True)
class Correction:
    """Measured over predicted, of jobs like the one that is asked about."""

    ratio: float
    """The median: what an estimate is to be multiplied with."""
    low: float
    """10th percentile of the ratios."""
    high: float
    """90th percentile."""
    num: int
    """Jobs."""
    scope: str
    """What they have in common with the one that is asked about: such as `device, engine and algorithm`."""


def correct(pairs: Iterable[tuple[float, float]], *, scope: str = "") -> Correction:
    """The correction that pairs of a predicted and a measured figure make.

    Raises:
        InvalidSpec: there is no pair, or a predicted figure is not above 0.
    """
    known = list(pairs)
    if not known or any(predicted <= 0 for predicted, _ in known):
        raise InvalidSpec("a correction needs at least one pair, and predictions above 0")
    ratios = sorted(measured / predicted for predicted, measured in known)
    if len(ratios) == 1:
        return Correction(ratios[0], ratios[0], ratios[0], 1, scope)
    tenths = quantiles(ratios, n=10, method="inclusive")
    return Correction(median(ratios), tenths[0], tenths[-1], len(ratios), scope)


def choose(seen: Sequence[Seen], *, device: str, engine: str, algorithm: str) -> Correction | None:
    """The correction for a job: of the jobs that are most like it, where these are at least three.

    Those of the same device, engine and algorithm come first, then those of the same device and engine, then those of
    the same device; None where these are too few, too.
    """
    levels: tuple[tuple[str, Callable[[Seen], bool]], ...] = (
        (
            "device, engine and algorithm",
            lambda one: (one.device, one.engine, one.algorithm) == (device, engine, algorithm),
        ),
        ("device and engine", lambda one: (one.device, one.engine) == (device, engine)),
        ("device", lambda one: one.device == device),
    )
    for scope, is_like in levels:
        pairs = [(one.predicted, one.measured) for one in seen if is_like(one)]
        if len(pairs) >= FEWEST:
            return correct(pairs, scope=scope)
    return None
