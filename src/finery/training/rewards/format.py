"""The reward `format`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from finery.core.spec import Spec
from finery.training.rewards import registry

_LONGEST = 20_000
"""Characters of a completion that are looked at: a pattern may take time that grows faster than the text."""


class FormatParams(Spec):
    pattern: str = Field(r"(?s)<think>.*</think>\s*<answer>.*</answer>", max_length=500)
    """Regular expression that the whole completion must match, white space at its ends aside."""

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern is no regular expression: {error}") from error
        return self


@registry.register("format", params=FormatParams)
def format_(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: FormatParams) -> list[float]:
    """1 when the completion has the wanted form; else 0."""
    pattern = re.compile(params.pattern)
    return [float(pattern.fullmatch(text[:_LONGEST].strip()) is not None) for text in completions]
