"""The reward `exact`."""

from collections.abc import Mapping, Sequence
from typing import Any

from finery.core import answers
from finery.core.spec import Spec
from finery.training.rewards import registry


class ExactParams(Spec):
    ignore_case: bool = False
    """Whether `Paris` equals `paris`."""


@registry.register("exact", params=ExactParams)
def exact(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: ExactParams) -> list[float]:
    """1 when the whole completion is the answer, white space aside; else 0."""
    return [
        float(answers.exact_equal(text, str(row["answer"]), ignore_case=params.ignore_case))
        for text, row in zip(completions, rows, strict=True)
    ]
