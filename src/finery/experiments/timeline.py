"""What the scores of a job's checkpoints say: which is the best, and from where on it over-fits. Pure."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from finery.evaluation import statistics

_ASKED: Final = ("benchmark", "limit", "max_new_tokens")
_SIGNIFICANT: Final = 0.05
_KEY_LENGTH: Final = 12


@dataclass(frozen=True)
class Series:
    """What checkpoints are asked. Scores of one series can be compared problem by problem."""

    key: str
    benchmark: str
    label: str
    """For people: benchmark, data and how many of the problems."""
    is_of_averages: bool = False
    """It is the moving averages of the weights that are asked."""


@dataclass(frozen=True)
class Scored:
    """A checkpoint with its score in one series."""

    checkpoint: int
    """Its id."""
    step: int
    is_on_path: bool
    """Whether it lies on the way that led to the job's newest attempt."""
    outcomes: bytes
    """One byte for each problem, in order: 1 where it was solved."""

    @property
    def accuracy(self) -> float:
        return sum(self.outcomes) / len(self.outcomes)


def series(problems: Mapping[str, Any], inputs: Mapping[str, Any]) -> Series:
    """The series of an evaluation.

    Args:
        problems: A `ProblemSet` as plain data, or the task of an evaluation.
        inputs: What the references of its job stand for, as plain data.
    """
    data = problems["data"]
    asked = [problems[name] for name in _ASKED] + [inputs[data]["sha256"] if data in inputs else data]
    of_average = problems.get("model", {}).get("base", "").endswith("/ema")
    asked += ["ema"] if of_average else []
    key = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_KEY_LENGTH]
    name = problems["benchmark"]["name"]
    params = [f"{key}={value}" for key, value in problems["benchmark"]["params"].items()]
    limit = [f"first {problems['limit']}"] if problems["limit"] else []
    average = ["EMA"] if of_average else []
    return Series(
        key, name, " · ".join([name, *params, *([_short(data)] if data else []), *limit, *average]), of_average
    )


def best(scored: Iterable[Scored], number: int = 1) -> list[Scored]:
    """Those with the highest accuracy, the best first; of equal ones the earlier."""
    return sorted(scored, key=lambda one: (-one.accuracy, one.step, one.checkpoint))[:number]


def over_fitting(scored: Sequence[Scored]) -> set[int]:
    """Checkpoints that are worse than the best before them by more than noise.

    The best is that of the way that led to the newest attempt; worse is a lower accuracy on the same problems with an
    exact paired test significant at 5 %.
    """
    path = [one for one in scored if one.is_on_path]
    top = next(iter(best(path)), None)
    if top is None:
        return set()
    return {one.checkpoint for one in path if one.step > top.step and _is_worse(one, top)}


def _is_worse(one: Scored, top: Scored) -> bool:
    if len(one.outcomes) != len(top.outcomes) or one.accuracy >= top.accuracy:
        return False
    pairs = list(zip(top.outcomes, one.outcomes, strict=True))
    improved, regressed = pairs.count((0, 1)), pairs.count((1, 0))
    return statistics.mcnemar_exact(improved, regressed) < _SIGNIFICANT


def _short(data: str) -> str:
    """`object:<sha256>` by its first digits."""
    kind, colon, digest = data.partition(":")
    return f"{kind}:{digest[:8]}" if colon else data
