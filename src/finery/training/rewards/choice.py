"""The reward `choice`."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from finery.core import answers
from finery.core.spec import Spec
from finery.training.rewards import registry


class ChoiceParams(Spec):
    letters: str = Field("ABCD", pattern=r"^[A-Z]{2,26}$")
    """Capital letters of the options."""


@registry.register("choice", params=ChoiceParams)
def choice(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: ChoiceParams) -> list[float]:
    """1 when the completion chooses the letter that is the answer of its row; else 0."""
    found = []
    for text, row in zip(completions, rows, strict=True):
        chosen = answers.extract_choice(text, params.letters)
        found.append(float(chosen is not None and chosen == str(row["answer"]).strip().upper()))
    return found
