"""Arithmetic: problems with one number as answer, from a verifiable dataset. The last number of a completion counts.

Made for the generator `arithmetic`; any verifiable dataset whose answers are plain numbers will do.
"""

from collections.abc import Iterator
from pathlib import Path

from finery.core import answers
from finery.core.spec import Spec
from finery.evaluation.benchmarks import Benchmark, Sample, Score, read_verifiable, registry


class ArithmeticParams(Spec):
    """Nothing to choose."""


@registry.register("arithmetic", params=ArithmeticParams)
class Arithmetic(Benchmark):
    """Problems with a number as answer (your dataset); the last number of the completion counts."""

    reads_data = True

    def samples(self, data: Path | None) -> Iterator[Sample]:
        """The rows of the dataset."""
        return read_verifiable(data)

    def score(self, sample: Sample, completion: str) -> Score:
        """Compare the last number with the target, exactly."""
        answer = answers.last_number(completion)
        return Score(answer, answer is not None and answers.numbers_equal(answer, sample.target))
