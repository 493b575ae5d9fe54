"""Decides at each step which rules fire and what they ask for together.

Owns: conditions with what they remember, cool-downs, counts, and the order among rules that disagree. Does not own:
carrying anything out. Pure: the same metrics give the same firings, and `dump` is all that has to be kept between two
attempts.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from finery.core import conditions
from finery.core.conditions import Memory, Stale
from finery.core.hooks import Decision
from finery.rules import actions
from finery.rules.actions import Decide, Effect, Impossible, Rollback, SetControl
from finery.rules.specs import RuleSpec

MAX_ACTING: Final = 5
"""Rules that act in one step. What else fires there is recorded as an alert: many rules at once are one trouble."""


@dataclass(frozen=True)
class Asked:
    """One action of a rule that fired."""

    action: str
    effect: Effect


@dataclass(frozen=True)
class Firing:
    """A rule fired."""

    rule: RuleSpec
    step: int
    values: dict[str, float]
    """What the metrics of its condition were."""
    asked: tuple[Asked, ...]
    is_exhausted: bool = False
    """It would go back to a checkpoint, and has done so as often as it may: the run cannot be helped by it."""

    @property
    def message(self) -> str:
        """What was seen, in a line."""
        seen = ", ".join(f"{name} = {value:g}" for name, value in self.values.items())
        return f"{self.rule.when}" + (f" ({seen})" if seen else "")


@dataclass
class _Fired:
    """What is kept of a rule."""

    memory: Memory = field(default_factory=Memory)
    count: int = 0
    last_step: int | None = None
    is_muted: bool = False
    """A person has taken back what it did: it keeps quiet for the rest of the job."""


class Watch:
    """The rules of a run, from step to step."""

    def __init__(self, rules: Iterable[RuleSpec], kept: Mapping[str, Any] | None = None):
        """Begin, or go on where another attempt has ended.

        Args:
            rules: In the order of their precedence.
            kept: From `dump`; what it says of rules that are no more is left out, and so is what a rule remembers
                whose condition has changed.
        """
        self._rules = [(rule, conditions.parse(rule.when)) for rule in rules]
        self._kept = {rule.name: _restored(rule, (kept or {}).get(rule.name)) for rule, _ in self._rules}

    def dump(self) -> dict[str, Any]:
        """As plain data, for the next attempt."""
        return {
            rule.name: {
                "when": rule.when,
                "memory": self._kept[rule.name].memory.dump(),
                "count": self._kept[rule.name].count,
                "last_step": self._kept[rule.name].last_step,
                "is_muted": self._kept[rule.name].is_muted,
            }
            for rule, _ in self._rules
        }

    def step(
        self,
        step: int,
        values: Mapping[str, float],
        controls: Mapping[str, float],
        *,
        silence: Callable[[str], float | None] = lambda _: None,
    ) -> list[Firing]:
        """Take in a step and say what fires.

        Two rules that change one setting in the same step: the first of them does, and the other is told so.

        Args:
            step: Optimizer steps done, from 1.
            values: Metrics of the step.
            controls: Live settings in effect.
            silence: As of `conditions.holds`.
        """
        firings: list[Firing] = []
        changed: dict[str, str] = {}
        for rule, condition in self._rules:
            kept = self._kept[rule.name]
            conditions.remember(condition, kept.memory, step, values)
            does_hold = conditions.holds(condition, kept.memory, step, values, silence=silence)
            if not does_hold or kept.is_muted or not _is_rested(rule, kept, step):
                continue
            is_exhausted = kept.count >= rule.max_count
            if is_exhausted and not goes_back(rule):
                continue
            kept.count += not is_exhausted
            kept.last_step = step
            is_storm = sum(bool(firing.asked) for firing in firings) >= MAX_ACTING
            seen = {name: values[name] for name in sorted(conditions.metrics(condition)) if name in values}
            asked = () if is_exhausted else _asked(rule, controls, changed, is_storm=is_storm)
            firings.append(Firing(rule, step, seen, asked, is_exhausted))
        return firings


def dry_run(rules: Iterable[RuleSpec], steps: Iterable[tuple[int, Mapping[str, float]]]) -> list[Firing]:
    """What rules would have done in a run that is over, had nothing been changed by them.

    Args:
        rules: In the order of their precedence.
        steps: (step, metrics) in their order; what is said of one step in several pieces is taken together.
    """
    watch = Watch(rules)
    found: list[Firing] = []
    for step, pieces in itertools.groupby(steps, key=lambda piece: piece[0]):
        values: dict[str, float] = {}
        for _, piece in pieces:
            values |= piece
        found += watch.step(step, values, {})
    return found


def decision(firings: Sequence[Firing]) -> Decision | Rollback:
    """What happens to the run after all: going back comes before stopping, stopping before pausing, and that before
    saving."""
    effects = [asked.effect for firing in firings for asked in firing.asked]
    for effect in effects:
        if isinstance(effect, Rollback):
            return effect
    decisions = [effect.decision for effect in effects if isinstance(effect, Decide)]
    return max(decisions, key=list(Decision).index, default=Decision.CONTINUE)


OUTSIDE: Final = ("job/", "eval/")
"""What metrics are called that are born outside the run: its states, and scores of its checkpoints."""


def is_of_steps(rule: RuleSpec) -> bool:
    """Whether it is judged in the run, in the step where its metrics are born; else only who looks from outside can."""
    condition = conditions.parse(rule.when)
    is_silent = any(isinstance(node, Stale) for node in conditions.walk(condition))
    return not is_silent and not any(name.startswith(OUTSIDE) for name in conditions.metrics(condition))


def is_of_metrics(rule: RuleSpec) -> bool:
    """Whether stored metrics say all that it looks at: those of the run, and scores of its checkpoints."""
    condition = conditions.parse(rule.when)
    is_silent = any(isinstance(node, Stale) for node in conditions.walk(condition))
    return not is_silent and not any(name.startswith("job/") for name in conditions.metrics(condition))


def goes_back(rule: RuleSpec) -> bool:
    """Whether it asks for a rollback."""
    return any(action.name == "rollback_checkpoint" for action in rule.then)


def _is_rested(rule: RuleSpec, kept: _Fired, step: int) -> bool:
    # A run that went back rests no longer: what happens there now is another try.
    return kept.last_step is None or step <= kept.last_step or step - kept.last_step >= rule.cooldown_steps


def _asked(
    rule: RuleSpec, controls: Mapping[str, float], changed: dict[str, str], *, is_storm: bool
) -> tuple[Asked, ...]:
    if is_storm:
        return ()
    made = []
    for spec in rule.then:
        effect = actions.registry.get(spec.name).target(controls, actions.registry.params(spec.name, spec.params))
        if isinstance(effect, SetControl):
            first = changed.setdefault(effect.name, rule.name)
            if first != rule.name:
                effect = Impossible(f"rule {first} has changed {effect.name} in this step")
        made.append(Asked(spec.name, effect))
    return tuple(made)


def _restored(rule: RuleSpec, raw: Mapping[str, Any] | None) -> _Fired:
    if raw is None:
        return _Fired()
    memory = Memory(**raw["memory"]) if raw["when"] == rule.when else Memory()
    return _Fired(memory, raw["count"], raw["last_step"], raw["is_muted"])
