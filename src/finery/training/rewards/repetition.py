"""The reward `repetition`."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from finery.core import texts
from finery.core.spec import Spec
from finery.training.rewards import registry


class RepetitionParams(Spec):
    ngram: int = Field(3, ge=1, le=50)
    """Units that count as said again when they come in the same order."""
    unit: texts.Unit = "words"
    """What is counted; each Chinese, Japanese and Korean character is a word."""


@registry.register("repetition", params=RepetitionParams)
def repetition(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: RepetitionParams) -> list[float]:
    """0 when nothing is said twice, down to -1: minus the share of n-grams that occurred before (arXiv:2502.03373)."""
    return [_score(texts.parts(text, params.unit), params.ngram) for text in completions]


def _score(parts: list[str], ngram: int) -> float:
    grams = [tuple(parts[at : at + ngram]) for at in range(len(parts) - ngram + 1)]
    return len(set(grams)) / len(grams) - 1.0 if grams else 0.0
