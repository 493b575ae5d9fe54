"""The open set of rewards: one file per reward."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from finery.core.registry import Registry


class Reward(Protocol):
    """Scores completions.

    Args:
        completions: Texts of the policy, special tokens removed.
        rows: Data set row of each completion, same length; `answer` is the target.
        params: The reward's own parameters.

    Returns:
        One finite number per completion.
    """

    def __call__(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]: ...


registry: Final[Registry[Reward]] = Registry("finery.training.rewards", "reward")
