"""Rewards of completions: opened once per run, checked at each call, and what happens when one fails."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from finery.core.errors import FineryError, InvalidSpec
from finery.core.rundir import Run
from finery.training import rewards
from finery.training.rewards import Failed, OpenReward
from finery.training.specs import RewardSpec

SAMPLES: Final = "reward_errors"
"""samples/reward_errors.jsonl holds the completions for which a reward failed."""

_MAX_RECORDED = 16
"""Failures of one reward in one call that are recorded in full."""
_EXCERPT = 200
_UNSCORED: Final = {"zero": 0.0, "skip": math.nan}


class RewardFailed(FineryError):
    """A reward raised or gave something that is no finite number."""

    code = "reward_failed"


def names(specs: Sequence[RewardSpec]) -> list[str]:
    """What the parts are called in metrics: the reward's name, numbered where one is used more than once."""
    total, seen = Counter(spec.name for spec in specs), Counter[str]()
    found = []
    for spec in specs:
        seen[spec.name] += 1
        found.append(f"{spec.name}_{seen[spec.name]}" if total[spec.name] > 1 else spec.name)
    return found


class Scorer:
    """The rewards of one run."""

    def __init__(self, specs: Sequence[RewardSpec], run: Run):
        """Open every reward: models are loaded and processes started here.

        Raises:
            InvalidSpec: a reward does not exist or cannot be opened with its parameters.
        """
        self._run = run
        self._specs = tuple(specs)
        self._names = names(specs)
        self._params = [rewards.registry.params(spec.name, spec.params) for spec in specs]
        self._open: dict[str, OpenReward] = {}
        self._num_failed = 0
        self._told: set[tuple[str, str]] = set()
        try:
            for spec, name, params in zip(self._specs, self._names, self._params, strict=True):
                target = rewards.registry.get(spec.name).target
                if isinstance(target, type):
                    self._open[name] = target(params, run)
        except BaseException:
            self.close()
            raise

    def score(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], *, step: int) -> list[list[float]]:
        """Scores of completions: one list per reward, one number per completion, unweighted.

        Args:
            completions: Texts of the policy.
            rows: Data set row of each.
            step: The optimizer step that they are for, from 1.

        Returns:
            Finite numbers; NaN where a reward failed whose spec says `skip`. Such a completion is to be left out of
            means and gets no gradient.

        Raises:
            RewardFailed: a reward failed whose spec says `fail`.
        """
        self._num_failed = 0
        return [self._column(index, completions, rows, step) for index in range(len(self._specs))]

    def metrics(self) -> dict[str, float]:
        """Of the last call: completions times rewards that failed, and sizes of what is held."""
        found = {"reward_errors": float(self._num_failed)}
        for reward in self._open.values():
            for name, size in reward.sizes().items():
                found[name] = found.get(name, 0.0) + size
        return found

    def close(self) -> None:
        """Give back models and processes. Doing it twice is harmless."""
        while self._open:
            self._open.popitem()[1].close()

    def _column(
        self, index: int, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], step: int
    ) -> list[float]:
        scores = self._scored(index, completions, rows)
        failed = {at: score for at, score in enumerate(scores) if isinstance(score, Failed)}
        if failed:
            self._report(index, failed, completions, rows, step)
        otherwise = _UNSCORED.get(self._specs[index].on_error, math.nan)
        return [otherwise if isinstance(score, Failed) else score for score in scores]

    def _scored(
        self, index: int, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> list[float | Failed]:
        """What a reward gave, checked."""
        name = self._names[index]
        try:
            if name in self._open:
                found = list(self._open[name].score(completions, rows))
            else:
                target = rewards.registry.get(self._specs[index].name).target
                assert not isinstance(target, type)
                found = list(target(completions, rows, self._params[index]))
        except InvalidSpec:
            raise
        except Exception as error:  # noqa: BLE001 - code of users may raise anything; it is recorded, and on_error says
            reason = str(error) if isinstance(error, FineryError) else f"raised {type(error).__name__}: {error}"
            return [Failed(reason)] * len(completions)
        if len(found) != len(completions):
            return [Failed(f"gave {len(found)} scores for {len(completions)} completions")] * len(completions)
        return [_checked(score) for score in found]

    def _report(
        self,
        index: int,
        failed: Mapping[int, Failed],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        step: int,
    ) -> None:
        """Record what failed; end the run where the spec says so."""
        name, handling = self._names[index], self._specs[index].on_error
        self._num_failed += len(failed)
        records = [
            {
                "reward_error": failure.reason,
                "reward_name": name,
                "handled": handling,
                "prompt": rewards.prompt_text(rows[at].get("prompt", "")),
                "completion": completions[at],
                "answer": rows[at].get("answer"),
                "step": step,
            }
            for at, failure in list(failed.items())[:_MAX_RECORDED]
        ]
        self._run.samples(SAMPLES, records, step)
        first = records[0]
        message = (
            f"the reward {name} {first['reward_error']}, for {len(failed)} of {len(completions)} completions; "
            f"the first is {_excerpt(first['completion'])} to the prompt {_excerpt(first['prompt'])}"
        )
        if handling == "fail":
            raise RewardFailed(f"{message}; on_error: skip or zero would let the job go on")
        kind = (name, str(first["reward_error"])[:_EXCERPT])
        if kind not in self._told:
            self._told.add(kind)
            done = "scored 0" if handling == "zero" else "left out"
            self._run.alert("reward_failed", f"{message}; they are {done}", severity="warning", step=step)


def _checked(score: object) -> float | Failed:
    if isinstance(score, Failed):
        return score
    try:
        number = float(score)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return Failed(f"gave {_excerpt(score)}, which is no number")
    return number if math.isfinite(number) else Failed(f"gave {number}")


def _excerpt(text: object) -> str:
    shown = str(text)
    return repr(shown if len(shown) <= _EXCERPT else f"{shown[:_EXCERPT]}...")
