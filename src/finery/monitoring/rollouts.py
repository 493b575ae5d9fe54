"""Recorded rollouts of a job for people to look at, read from the files of its attempts. No session.

A job's history is what its present state stands on: of each attempt the steps up to the one from which a later attempt
went on. Steps are found in the index of the files; only lines of steps that are shown are read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from finery.core import refs, rollouts
from finery.core.errors import InvalidSpec, NotFound
from finery.core.paths import resolve_inside
from finery.core.rollouts import Groups
from finery.jobs.tables import Attempt
from finery.monitoring import hacking
from finery.monitoring.specs import (
    DetectorPage,
    DetectorView,
    PromptHistory,
    PromptStep,
    RolloutGroup,
    RolloutHistory,
    RolloutPage,
    RolloutPlace,
    RolloutRow,
    RolloutSort,
    RolloutView,
)

MAX_READ: Final = 2000
"""Completions of one step that are looked at; a step has 16 where nobody asked for more."""
MAX_STEPS_INSPECTED: Final = 60
"""Steps that detectors read, spread evenly over the run."""
MAX_INSPECTED: Final = 32
"""Completions of each such step, in whole groups."""
_PREVIEW: Final = 400
"""Characters of a text in a list."""
_FIELDS: Final = ("reward", "tokens", "truncated", "diversity")


@dataclass(frozen=True)
class _Part:
    """The groups of one attempt that count."""

    attempt: int
    path: Path
    groups: Groups


History = list[_Part]


class Filter(NamedTuple):
    """Which completions of a step are listed; None is no bound."""

    text: str | None = None
    """Is in the prompt or the completion, in any case of its letters."""
    part: str | None = None
    """The part of the reward that the bounds are about; None is their weighted sum."""
    min_reward: float | None = None
    max_reward: float | None = None
    is_truncated: bool | None = None
    min_length: int | None = None
    """Tokens."""
    max_length: int | None = None


class _Recorded(BaseModel):
    """A line as engines write it. What a version before this one did not write has a default."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())
    prompt: str = ""
    completion: str = ""
    answer: Any = None
    model: str | None = None
    row: int | None = None
    reward: float | None = None
    rewards: dict[str, float | None] = {}
    weights: dict[str, float] | None = None
    advantage: float | None = None
    length: int | None = None
    is_truncated: bool = False
    tokens: list[str] | None = None
    logprob: list[float | None] | None = None
    entropy: list[float | None] | None = None
    kl: list[float | None] | None = None
    advantages: list[float | None] | None = None


@dataclass(frozen=True)
class _One:
    """A completion of a step."""

    index: int
    """Its place in the step; a line that cannot be read moves the others of its group up."""
    group: int
    """Place of its group."""
    record: _Recorded


def history(attempts: Sequence[Attempt]) -> History:
    """The recorded groups that a job stands on, in order.

    Args:
        attempts: Of the job, oldest first.
    """
    found: list[_Part] = []
    last = np.iinfo(np.int64).max
    for attempt in reversed(attempts):
        try:
            path = resolve_inside(Path(attempt.run_dir), f"samples/{rollouts.LINES}")
        except InvalidSpec:  # a link that leads elsewhere: what a run writes is not trusted
            path = None
        if path is not None:
            groups = rollouts.open_groups(path)
            groups = groups[: _behind(groups, last)]
            if len(groups):
                found.append(_Part(attempt.number, path, groups))
        start = refs.checkpoint(attempt.resumed_from) if attempt.resumed_from else None
        if start is None or start.step is None:
            break
        last = min(last, start.step)
    return found[::-1]


def over_steps(parts: History, first: int | None, last: int | None, max_columns: int) -> RolloutHistory:
    """What completions were like over the steps from one to another, both included; several steps in a column where
    there are more than columns."""
    columns: list[tuple[int, int, int]] = []
    values: dict[str, list[float | None]] = {name: [] for name in _FIELDS}
    windows = [_Part(part.attempt, part.path, _window(part.groups, first, last)) for part in parts]
    starts = [_starts_of_steps(part.groups) for part in windows]
    num_steps = sum(map(len, starts))
    num_rollouts = 0
    for part, own in zip(windows, starts, strict=True):
        if not len(own):
            continue
        num_columns = max(1, min(len(own), round(max_columns * len(own) / num_steps)))
        picked = own[np.linspace(0, len(own), num_columns + 1).astype(np.intp)[:-1]]
        ends = np.append(picked, len(part.groups))[1:] - 1
        steps = part.groups["step"]
        columns += zip(steps[picked].tolist(), steps[ends].tolist(), [part.attempt] * len(picked), strict=True)
        counts = part.groups["num"].astype(np.float64)
        num_rollouts += int(counts.sum())
        for name, column in values.items():
            column += _means(part.groups[name], counts, picked)
    return RolloutHistory(
        first_steps=[column[0] for column in columns],
        last_steps=[column[1] for column in columns],
        attempts=[column[2] for column in columns],
        **values,
        num_steps=num_steps,
        num_rollouts=num_rollouts,
        first_step=int(parts[0].groups["step"][0]) if parts else None,
        last_step=int(parts[-1].groups["step"][-1]) if parts else None,
    )


def page(
    parts: History,
    step: int | None,
    wanted: Filter,
    *,
    sort: RolloutSort = "index",
    is_descending: bool = False,
    offset: int = 0,
    limit: int = 100,
) -> RolloutPage:
    """Completions of one step, the newest by default. Raises `NotFound` where nothing was recorded at it."""
    if not parts:
        return RolloutPage(
            step=None,
            attempt=None,
            previous_step=None,
            next_step=None,
            parts=[],
            groups=[],
            rollouts=[],
            num_rollouts=0,
            num_matching=0,
            num_unreadable=0,
            num_left_out=0,
        )
    step = int(parts[-1].groups["step"][-1]) if step is None else step
    part, groups = _at(parts, step)
    found, num_unreadable = _read(part.path, groups, MAX_READ)
    matching = [one for one in found if _matches(one.record, wanted)]
    if sort != "index":
        key = _sort_key(sort)
        known = [one for one in matching if key(one) is not None]
        known.sort(key=lambda one: key(one) or 0.0, reverse=is_descending)
        matching = known + [one for one in matching if key(one) is None]
    elif is_descending:
        matching.reverse()
    previous, following = _neighbours(parts, step)
    num_rollouts = int(groups["num"].sum())
    return RolloutPage(
        step=step,
        attempt=part.attempt,
        previous_step=previous,
        next_step=following,
        parts=list(dict.fromkeys(name for one in found for name in one.record.rewards)),
        groups=[_group_view(group, number, found) for number, group in enumerate(groups)],
        rollouts=[_row(one) for one in matching[offset : offset + limit]],
        num_rollouts=num_rollouts,
        num_matching=len(matching),
        num_unreadable=num_unreadable,
        num_left_out=num_rollouts - len(found) - num_unreadable,
    )


def one(parts: History, step: int, index: int) -> RolloutView:
    """A completion with its tokens. Raises `NotFound`."""
    part, groups = _at(parts, step)
    ends = np.cumsum(groups["num"])
    number = int(np.searchsorted(ends, index, side="right"))
    found = _read(part.path, groups, MAX_READ, only=number)[0] if number < len(groups) else []
    record = next((one.record for one in found if one.index == index), None)
    if record is None:
        raise NotFound(f"step {step} has {int(ends[-1])} rollouts, numbered from 0; {index} is not there or damaged")
    fields = record.model_dump() | {"answer": None if record.answer is None else str(record.answer)}
    key = _hex(groups["prompt"][number])
    return RolloutView(step=step, attempt=part.attempt, index=index, group=number, prompt_key=key, **fields)


def of_prompt(parts: History, prompt_key: str, max_steps: int) -> PromptHistory:
    """The completions of one prompt at successive steps, at most so many, spread evenly. Raises `NotFound`."""
    key = np.uint64(int(prompt_key, 16))
    places = [(part, at) for part in parts for at in np.flatnonzero(part.groups["prompt"] == key).tolist()]
    if not places:
        raise NotFound(f"no rollout of the prompt {prompt_key} was recorded")
    picked = _spread(len(places), max_steps)
    steps, prompt = [], ""
    for part, at in (places[number] for number in picked.tolist()):
        group = part.groups[at]
        _, groups = _at([part], int(group["step"]))
        number = int(np.flatnonzero(groups["offset"] == group["offset"])[0])
        found, _ = _read(part.path, groups, MAX_READ, only=number)
        prompt = found[0].record.prompt if found else prompt
        rows = [_row(one) for one in found]
        steps.append(PromptStep(step=int(group["step"]), attempt=part.attempt, **_sums(group), rollouts=rows))
    return PromptHistory(prompt_key=prompt_key, prompt=prompt, num_steps=len(places), steps=steps)


def detectors(parts: History) -> DetectorPage:
    """What the detectors of reward hacking say of the run, from steps that are spread over it evenly."""
    starts = [_starts_of_steps(part.groups) for part in parts]
    picked = _spread(sum(map(len, starts)), MAX_STEPS_INSPECTED)
    seen: list[hacking.Seen] = []
    num_before = 0
    for part, own in zip(parts, starts, strict=True):
        here = picked[(picked >= num_before) & (picked < num_before + len(own))] - num_before
        num_before += len(own)
        for step in part.groups["step"][own[here]].tolist():
            _, groups = _at([part], step)
            for one in _read(part.path, groups, MAX_INSPECTED)[0]:
                record = one.record
                seen.append(
                    hacking.Seen(step, one.index, record.prompt, record.completion, record.reward, record.length)
                )
    found = [
        DetectorView(
            name=finding.name,
            verdict=finding.verdict,
            message=finding.message,
            figures=dict(finding.figures),
            early=list(finding.early) if finding.early else [],
            late=list(finding.late) if finding.late else [],
            samples=[RolloutPlace(step=sample.step, index=sample.index) for sample in finding.samples],
        )
        for finding in hacking.inspect(seen)
    ]
    return DetectorPage(detectors=found, num_steps=len(picked))


def _spread(num: int, most: int) -> NDArray[np.intp]:
    """At most so many of the numbers below `num`, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, num - 1, min(num, most)).round().astype(np.intp))


def _behind(groups: Groups, step: int) -> int:
    """Number of the first group of a later step."""
    return rollouts.first_where(lambda at: bool(groups["step"][at] > step), len(groups))


def _window(groups: Groups, first: int | None, last: int | None) -> Groups:
    start = 0 if first is None else _behind(groups, first - 1)
    end = len(groups) if last is None else _behind(groups, last)
    return groups[start:end]


def _starts_of_steps(groups: Groups) -> NDArray[np.intp]:
    """Where the groups of each step begin."""
    steps = groups["step"]
    if not len(steps):
        return np.zeros(0, np.intp)
    return np.concatenate([[0], np.flatnonzero(steps[1:] != steps[:-1]) + 1]).astype(np.intp)


def _means(values: NDArray[np.float32], counts: NDArray[np.float64], starts: NDArray[np.intp]) -> list[float | None]:
    """Mean over the completions of each stretch; None where nothing is known of them."""
    is_known = np.isfinite(values)
    weights = np.where(is_known, counts, 0.0)
    totals = np.add.reduceat(np.where(is_known, values, 0.0) * weights, starts)
    nums = np.add.reduceat(weights, starts)
    means = np.divide(totals, nums, out=np.full(len(starts), np.nan), where=nums > 0)
    return [value if math.isfinite(value) else None for value in means.tolist()]


def _at(parts: History, step: int) -> tuple[_Part, Groups]:
    """The groups of one step. Raises `NotFound`."""
    for part in reversed(parts):
        groups = _window(part.groups, step, step)
        if len(groups):
            return part, groups
    known = [neighbour for neighbour in _neighbours(parts, step) if neighbour is not None]
    near = f"; there are some of step {min(known, key=lambda other: abs(other - step))}" if known else ""
    raise NotFound(f"no rollouts of step {step} were recorded{near}")


def _neighbours(parts: History, step: int) -> tuple[int | None, int | None]:
    """The recorded steps before and after one."""
    before = [part.groups["step"][at - 1] for part in parts if (at := _behind(part.groups, step - 1))]
    after = [part.groups["step"][at] for part in parts if (at := _behind(part.groups, step)) < len(part.groups)]
    return int(before[-1]) if before else None, int(after[0]) if after else None


def _read(path: Path, groups: Groups, limit: int, *, only: int | None = None) -> tuple[list[_One], int]:
    """The completions of a step, whole groups up to a limit or those of one group, and how many could not be read."""
    found: list[_One] = []
    num_unreadable = num_before = 0
    for number, group in enumerate(groups):
        if only in (None, number):
            if found and len(found) + int(group["num"]) > limit:
                break
            records, num_lost = rollouts.read_group(path, group)
            checked = [record for record in map(_checked, records) if record is not None]
            num_unreadable += num_lost + len(records) - len(checked)
            found += [_One(num_before + place, number, record) for place, record in enumerate(checked)]
        num_before += int(group["num"])
    return found, num_unreadable


def _checked(raw: dict[str, Any]) -> _Recorded | None:
    try:
        return _Recorded.model_validate(raw)
    except ValidationError:
        return None


def _matches(record: _Recorded, wanted: Filter) -> bool:
    reward = record.reward if wanted.part is None else record.rewards.get(wanted.part)
    text = (wanted.text or "").casefold()
    return (
        _is_within(reward, wanted.min_reward, wanted.max_reward)
        and _is_within(record.length, wanted.min_length, wanted.max_length)
        and wanted.is_truncated in (None, record.is_truncated)
        and (text in record.completion.casefold() or text in record.prompt.casefold())
    )


def _is_within(value: float | None, least: float | None, most: float | None) -> bool:
    """Whether a number is between two bounds; one that is not known is within no bound."""
    if least is None and most is None:
        return True
    return value is not None and (least is None or value >= least) and (most is None or value <= most)


def _sort_key(sort: RolloutSort) -> Callable[[_One], float | None]:
    return lambda one: getattr(one.record, sort)


def _row(one: _One) -> RolloutRow:
    record = one.record
    return RolloutRow(
        index=one.index,
        group=one.group,
        preview=record.completion[:_PREVIEW],
        reward=record.reward,
        rewards=record.rewards,
        advantage=record.advantage,
        length=record.length,
        is_truncated=record.is_truncated,
    )


def _group_view(group: Any, number: int, found: Sequence[_One]) -> RolloutGroup:
    record = next((one.record for one in found if one.group == number), None)
    return RolloutGroup(
        prompt_key=_hex(group["prompt"]),
        prompt=record.prompt[:_PREVIEW] if record else "",
        row=record.row if record else None,
        num=int(group["num"]),
        **_sums(group),
    )


def _sums(group: Any) -> dict[str, float | None]:
    values = {name: float(group[name]) for name in _FIELDS}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _hex(key: Any) -> str:
    return f"{int(key):016x}"
