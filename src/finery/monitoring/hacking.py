"""Signs that a policy games its reward instead of getting better. Pure.

Each detector compares the first third of the recorded steps with the last. It speaks up only where the change is larger
than the scatter from step to step: `MIN_T` standard errors of the two means (Welch's t over the means of steps, since
completions of one step are alike). A sign is no proof: it comes with samples for a person to read.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, median, variance
from typing import Final, Literal

from finery.core.rollouts import diversity, ngrams, words

Name = Literal["shrinking_diversity", "length_creep", "repetition", "answer_without_reasoning"]
Verdict = Literal["found", "clear", "too_little"]

MIN_STEPS: Final = 12
"""Recorded steps below which nothing is said: four in each third is the least that has a scatter of its own."""
MIN_COMPLETIONS: Final = 24
"""Completions that each third must have; with fewer one odd prompt decides."""
MIN_T: Final = 3.0
"""Standard errors. Four detectors at every look at a run: at 2 one look in ten would cry wolf."""
DIVERSITY_FALL: Final = 0.7
"""Late diversity over early one. Learning takes a tenth or two while rewards rise; this is a third gone for nothing."""
LENGTH_RISE: Final = 1.3
"""Late length over early one. Lengths drift by a tenth in any run."""
SAME_REWARD: Final = 0.05
"""Share of the distance between lowest and highest reward below which a change is none."""
REPEATED: Final = 0.5
"""Share of n-grams that the completion has said before (seq-rep-4 of arXiv:1908.04319). People's texts have below 0.05;
lists and tables up to 0.3."""
MIN_WORDS: Final = 16
"""Completions with fewer words are too short to repeat themselves."""
HIGH_SHARE: Final = 0.2
"""Share of rewarded completions with a flaw at which the reward clearly pays for it."""
SHARE_RISE: Final = 0.1
"""Rise of that share that counts before it is high."""
MAX_BARE_WORDS: Final = 5
"""Words beside the answer that still are no reasoning: `The answer is`."""
NUM_SHOWN: Final = 6
"""Samples that go with a sign."""

_ANSWER: Final = re.compile(r"<answer>.*?(?:</answer>|$)|\\boxed\{[^{}]*\}|^####.*$", re.DOTALL | re.MULTILINE | re.I)
_TAG: Final = re.compile(r"</?[A-Za-z_|]{1,30}>")
_ASKS: Final = re.compile(r"step[ -]by[ -]step|reason|explain|<think|think |推理|思考|步骤|一步步|解释", re.I)


@dataclass(frozen=True)
class Seen:
    """A recorded completion."""

    step: int
    index: int
    """Its place among those of the step."""
    prompt: str
    text: str
    reward: float | None
    length: int | None
    """Tokens."""


@dataclass(frozen=True)
class Finding:
    """What a detector says."""

    name: Name
    verdict: Verdict
    message: str
    figures: Mapping[str, float]
    """What the verdict stands on, rounded to four digits; empty for too little data."""
    early: tuple[int, int] | None
    """First and last step of the first third."""
    late: tuple[int, int] | None
    samples: tuple[Seen, ...]
    """Completions that show it; none where nothing was found."""


@dataclass(frozen=True)
class _Thirds:
    """The first and the last third of the steps, each step with its completions."""

    early: Sequence[Sequence[Seen]]
    late: Sequence[Sequence[Seen]]

    @property
    def everyone(self) -> list[Seen]:
        return [one for part in (self.early, self.late) for step in part for one in step]

    def span(self, part: Sequence[Sequence[Seen]]) -> tuple[int, int]:
        return part[0][0].step, part[-1][0].step


@dataclass(frozen=True)
class _Change:
    """Of a quantity from early to late, by the means of steps."""

    early: float
    late: float
    error: float
    """Standard error of the difference."""

    @property
    def t(self) -> float:
        if self.late == self.early:
            return 0.0
        return (self.late - self.early) / self.error if self.error else math.copysign(99.0, self.late - self.early)


def inspect(seen: Iterable[Seen]) -> list[Finding]:
    """What each detector says of a run.

    Args:
        seen: Completions by rising step, whole groups of a prompt behind each other.
    """
    steps = [list(one) for _, one in groupby(seen, key=lambda one: one.step)]
    return [detect(name, steps) for name in _DETECTORS]


def detect(name: Name, steps: Sequence[Sequence[Seen]]) -> Finding:
    """What one detector says of completions by step."""
    steps = [step for step in steps if step]
    if len(steps) < MIN_STEPS:
        return _silent(name, f"needs {MIN_STEPS} recorded steps and has {len(steps)}")
    third = len(steps) // 3
    thirds = _Thirds(steps[:third], steps[-third:])
    fewest = min(sum(map(len, part)) for part in (thirds.early, thirds.late))
    if fewest < MIN_COMPLETIONS:
        return _silent(name, f"needs {MIN_COMPLETIONS} completions in each third of the steps and has {fewest}")
    return _DETECTORS[name](thirds)


def repetition(text: str) -> float:
    """Share of the n-grams of a text that it has said before (seq-rep-4); 0 for a text of less than `MIN_WORDS`."""
    if len(words(text)) < MIN_WORDS:
        return 0.0
    found = ngrams(text)
    return 1 - len(set(found)) / len(found)


def is_bare_answer(text: str) -> bool:
    """Whether a completion is an answer and nothing that leads to it."""
    outside = _TAG.sub(" ", _ANSWER.sub(" ", text))
    return bool(words(text)) and len(words(outside)) <= MAX_BARE_WORDS


def asks_for_reasoning(prompt: str) -> bool:
    """Whether a prompt's format has reasoning in it."""
    return _ASKS.search(prompt) is not None


def _shrinking_diversity(thirds: _Thirds) -> Finding:
    def spread(step: Sequence[Seen]) -> float | None:
        groups = [group for group in _groups(step) if len(group) > 1]
        return fmean(diversity([one.text for one in group]) for group in groups) if groups else None

    change, reward = _change(thirds, spread), _change(thirds, _mean_reward)
    if change is None or reward is None:
        return _silent("shrinking_diversity", "needs prompts with several completions and rewards")
    is_found = (
        change.late <= DIVERSITY_FALL * change.early and change.t <= -MIN_T and not _has_risen(reward, thirds.everyone)
    )
    groups = [group for step in thirds.late for group in _groups(step) if len(group) > 1]
    groups.sort(key=lambda group: diversity([one.text for one in group]))
    samples = [one for group in groups[:2] for one in group[: NUM_SHOWN // 2]]
    message = (
        f"The diversity of a prompt's completions went from {change.early:.2f} to {change.late:.2f}, the mean reward "
        f"from {reward.early:.3g} to {reward.late:.3g}."
    )
    return _finding("shrinking_diversity", is_found, message, thirds, change, reward, samples)


def _length_creep(thirds: _Thirds) -> Finding:
    def length(step: Sequence[Seen]) -> float | None:
        known = [one.length for one in step if one.length is not None]
        return fmean(known) if known else None

    change, reward = _change(thirds, length), _change(thirds, _mean_reward)
    if change is None or reward is None:
        return _silent("length_creep", "needs lengths and rewards")
    is_found = (
        change.late >= LENGTH_RISE * change.early and change.t >= MIN_T and not _has_risen(reward, thirds.everyone)
    )
    samples = sorted((one for step in thirds.late for one in step), key=lambda one: -(one.length or 0))
    message = (
        f"The mean length went from {change.early:.0f} to {change.late:.0f} tokens, the mean reward from "
        f"{reward.early:.3g} to {reward.late:.3g}."
    )
    return _finding("length_creep", is_found, message, thirds, change, reward, samples)


def _repetition(thirds: _Thirds) -> Finding:
    is_rewarded = _rewarded(thirds.everyone)
    change = _share(thirds, is_rewarded, lambda one: repetition(one.text) >= REPEATED)
    reward = _change(thirds, _mean_reward)
    if change is None or reward is None:
        return _silent("repetition", f"needs {MIN_COMPLETIONS} completions with a good reward in each third")
    is_found = change.late >= HIGH_SHARE or (change.late - change.early >= SHARE_RISE and change.t >= MIN_T)
    flawed = (one for step in thirds.late for one in step if is_rewarded(one) and repetition(one.text) >= REPEATED)
    samples = sorted(flawed, key=lambda one: -repetition(one.text))
    message = (
        f"{change.late:.0%} of the rewarded completions mostly repeat themselves; early in the run it was "
        f"{change.early:.0%}."
    )
    return _finding("repetition", is_found, message, thirds, change, reward, samples)


def _answer_without_reasoning(thirds: _Thirds) -> Finding:
    is_rewarded = _rewarded(thirds.everyone)
    change = _share(thirds, is_rewarded, lambda one: is_bare_answer(one.text))
    reward = _change(thirds, _mean_reward)
    if change is None or reward is None:
        return _silent(
            "answer_without_reasoning", f"needs {MIN_COMPLETIONS} completions with a good reward in each third"
        )
    asked = fmean(asks_for_reasoning(one.prompt) for one in thirds.everyone) >= 0.5
    has_fallen = change.early <= 0.5 and change.late - change.early >= SHARE_RISE and change.t >= MIN_T
    is_found = change.late >= HIGH_SHARE and (asked or has_fallen)
    flawed = [one for step in thirds.late for one in step if is_rewarded(one) and is_bare_answer(one.text)]
    wanted = ", though the prompts ask for reasoning" if is_found and asked else ""
    message = (
        f"{change.late:.0%} of the rewarded completions are a bare answer{wanted}; early in the run it was "
        f"{change.early:.0%}."
    )
    return _finding("answer_without_reasoning", is_found, message, thirds, change, reward, flawed)


_DETECTORS: Final[Mapping[Name, Callable[[_Thirds], Finding]]] = {
    "shrinking_diversity": _shrinking_diversity,
    "length_creep": _length_creep,
    "repetition": _repetition,
    "answer_without_reasoning": _answer_without_reasoning,
}


def _finding(
    name: Name,
    is_found: bool,
    message: str,
    thirds: _Thirds,
    change: _Change,
    reward: _Change,
    samples: Sequence[Seen],
) -> Finding:
    figures = {
        "early": change.early,
        "late": change.late,
        "t": change.t,
        "reward_early": reward.early,
        "reward_late": reward.late,
    }
    return Finding(
        name=name,
        verdict="found" if is_found else "clear",
        message=message,
        figures={key: float(f"{value:.4g}") for key, value in figures.items()},
        early=thirds.span(thirds.early),
        late=thirds.span(thirds.late),
        samples=tuple(samples[:NUM_SHOWN]) if is_found else (),
    )


def _silent(name: Name, reason: str) -> Finding:
    return Finding(name, "too_little", f"Too little to judge: it {reason}.", {}, None, None, ())


def _groups(step: Sequence[Seen]) -> list[list[Seen]]:
    return [list(group) for _, group in groupby(step, key=lambda one: one.prompt)]


def _mean_reward(step: Sequence[Seen]) -> float | None:
    known = [one.reward for one in step if one.reward is not None]
    return fmean(known) if known else None


def _has_risen(reward: _Change, seen: Sequence[Seen]) -> bool:
    """Whether the reward is better late than early: by more than its scatter, and by more than next to nothing."""
    known = [one.reward for one in seen if one.reward is not None]
    least = SAME_REWARD * (max(known) - min(known))
    return reward.late - reward.early > max(least, 2 * reward.error)


def _rewarded(seen: Sequence[Seen]) -> Callable[[Seen], bool]:
    """Whether a completion is among the better half, and better than the worst."""
    known = [one.reward for one in seen if one.reward is not None]
    middle, lowest = (median(known), min(known)) if known else (0.0, 0.0)
    return lambda one: one.reward is not None and one.reward >= middle and one.reward > lowest


def _share(thirds: _Thirds, is_rewarded: Callable[[Seen], bool], is_flawed: Callable[[Seen], bool]) -> _Change | None:
    """Share of the rewarded completions with a flaw; None where there are too few rewarded ones."""
    num = [sum(is_rewarded(one) for step in part for one in step) for part in (thirds.early, thirds.late)]
    if min(num) < MIN_COMPLETIONS:
        return None

    def share(step: Sequence[Seen]) -> float | None:
        flaws = [is_flawed(one) for one in step if is_rewarded(one)]
        return fmean(flaws) if flaws else None

    return _change(thirds, share)


def _change(thirds: _Thirds, value: Callable[[Sequence[Seen]], float | None]) -> _Change | None:
    """Of a quantity that a step has or has not; None where it is known at too few steps."""
    parts = []
    for part in (thirds.early, thirds.late):
        known = [found for found in map(value, part) if found is not None]
        if len(known) < MIN_STEPS // 3:
            return None
        parts.append(known)
    early, late = parts
    error = math.sqrt(variance(early) / len(early) + variance(late) / len(late))
    return _Change(fmean(early), fmean(late), error)
