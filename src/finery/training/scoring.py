"""Rewards of completions, checked."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from finery.core.errors import FineryError
from finery.training import rewards
from finery.training.specs import RewardSpec


class RewardFailed(FineryError):
    """A reward raised or gave something that is no finite number."""

    code = "reward_failed"


def score(
    specs: Sequence[RewardSpec], completions: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[list[float]]:
    """Scores of completions: one list per reward, one number per completion, unweighted.

    Raises:
        RewardFailed: a reward raised, or gave no finite number for each completion.
    """
    return [_scored(spec, completions, rows) for spec in specs]


def _scored(spec: RewardSpec, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Scores of one reward, checked."""
    entry = rewards.registry.get(spec.name)
    try:
        found = entry.target(completions, rows, rewards.registry.params(spec.name, spec.params))
    except FineryError:
        raise
    except Exception as error:
        raise RewardFailed(f"the reward {spec.name} raised {type(error).__name__}: {error}") from error
    if len(found) != len(completions):
        raise RewardFailed(f"the reward {spec.name} gave {len(found)} scores for {len(completions)} completions")
    for text, score in zip(completions, found, strict=True):
        if not math.isfinite(score):
            raise RewardFailed(f"the reward {spec.name} gave {score} for the completion {text[:200]!r}")
    return found
