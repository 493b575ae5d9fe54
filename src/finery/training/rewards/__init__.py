"""The open set of rewards: one file per reward."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from finery.core.registry import Registry
from finery.core.rundir import Run


@dataclass(frozen=True)
class Failed:
    """In place of a score: why there is none for this completion, though there may be for others."""

    reason: str


class Reward(Protocol):
    """Scores completions.

    Args:
        completions: Texts of the policy, special tokens removed.
        rows: Data set row of each completion, same length; `prompt` is what was asked, `answer` is the target.
        params: The reward's own parameters.

    Returns:
        One finite number per completion, or why there is none.
    """

    def __call__(
        self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any
    ) -> Sequence[float | Failed]: ...


class OpenReward(ABC):
    """A reward that holds something for the length of a run, such as a model or a process."""

    @abstractmethod
    def __init__(self, params: Any, run: Run):
        """Take hold of it, once per run."""

    @abstractmethod
    def score(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Sequence[float | Failed]:
        """Score completions; see `Reward`."""

    def sizes(self) -> Mapping[str, float]:
        """Metrics of what it holds."""
        return {}

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what it holds."""


registry: Final[Registry[Reward | type[OpenReward]]] = Registry("finery.training.rewards", "reward")
"""A function, or a class for what is held from call to call."""


def prompt_text(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """What was asked, as text: each turn of a conversation with its role, a lone turn as it is."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
