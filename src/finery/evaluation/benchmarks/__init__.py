"""Benchmarks: problems, and what counts as solving one. An open set, one file each."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import orjson

from finery.core.registry import Registry

Prompt = str | list[dict[str, Any]]
"""Text, which is one turn of the user, or chat messages."""


@dataclass(frozen=True)
class Sample:
    """One problem."""

    index: int
    """Position in the benchmark; the same problem has the same index in every evaluation of it."""
    prompt: Prompt
    target: str
    """The true answer, as text."""


@dataclass(frozen=True)
class Score:
    """Verdict on one completion."""

    answer: str | None
    """What was taken out of the completion; None when there was no answer in it."""
    correct: bool


class Benchmark(ABC):
    """One member of the set."""

    reads_data: ClassVar[bool]
    """Whether the problems come from the dataset that the job names in `data`."""

    def __init__(self, params: Any):
        self.params = params

    @abstractmethod
    def samples(self, data: Path | None) -> Iterator[Sample]:
        """The problems, in an order that never changes.

        Args:
            data: The dataset's canonical rows, where `reads_data`.
        """

    @abstractmethod
    def score(self, sample: Sample, completion: str) -> Score:
        """Judge a completion. Never raises for what a model wrote."""


registry: Registry[type[Benchmark]] = Registry("finery.evaluation.benchmarks", "benchmark")


def read_verifiable(data: Path | None) -> Iterator[Sample]:
    """The problems of a dataset of format verifiable."""
    assert data is not None, "the runner gives data to benchmarks that read it"
    with open(data, "rb") as file:
        for index, line in enumerate(file):
            row = orjson.loads(line)
            yield Sample(index, row["prompt"], row["answer"])
