"""Math: problems whose answers are mathematics, from a verifiable dataset (GSM8K, MATH, AIME as imported).

The answer is what the completion boxes, marks with `####`, or calls the answer, else its last number; it is compared
symbolically (math-verify), so that `\\frac{1}{2}` equals `0.5`. Differs from the papers: zero-shot with the model's
template; they fine-tune (GSM8K, arXiv:2110.14168) or show examples (MATH, arXiv:2103.03874).
"""

from collections.abc import Iterator
from pathlib import Path

from finery.core import answers
from finery.core.spec import Spec
from finery.evaluation.benchmarks import Benchmark, Sample, Score, read_verifiable, registry


class MathParams(Spec):
    """Nothing to choose."""


@registry.register("math", params=MathParams)
class Math(Benchmark):
    """Problems with mathematics as answer (your dataset: GSM8K, MATH, AIME ...), compared symbolically."""

    reads_data = True

    def samples(self, data: Path | None) -> Iterator[Sample]:
        """The rows of the dataset."""
        return read_verifiable(data)

    def score(self, sample: Sample, completion: str) -> Score:
        """Extract the answer and compare it as mathematics."""
        answer = answers.extract_answer(completion)
        return Score(answer, answer is not None and answers.math_equal(answer, sample.target))
