"""The reward `manners`."""

from collections.abc import Mapping, Sequence
from typing import Any

from finery.core import manners as rule
from finery.core.spec import Spec
from finery.training.rewards import registry


class MannersParams(Spec):
    """Takes none."""


@registry.register("manners", params=MannersParams)
def manners(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: MannersParams) -> list[float]:
    """The rule by which the generator `advice` prefers one answer to another; with weight 0 it only watches."""
    return [rule.score(text) for text in completions]
