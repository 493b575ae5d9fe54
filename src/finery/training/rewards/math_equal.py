"""The reward `math_equal`."""

from collections.abc import Mapping, Sequence
from typing import Any

from finery.core import answers
from finery.core.spec import Spec
from finery.training.rewards import registry


class MathEqualParams(Spec):
    pass


@registry.register("math_equal", params=MathEqualParams)
def math_equal(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: MathEqualParams) -> list[float]:
    """1 when the answer in the completion equals the target as mathematics (1/2 = 0.5 = \\frac{1}{2}); else 0."""
    found = []
    for text, row in zip(completions, rows, strict=True):
        answer = answers.extract_answer(text)
        found.append(float(answer is not None and answers.math_equal(answer, str(row["answer"]))))
    return found
