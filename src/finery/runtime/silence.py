"""Judges the rules that a run cannot judge itself: whether nothing comes of it any more.

Runs in the supervisor, beside the child, so that it works without the platform and sees a child that hangs in its data
or waits for another process for ever.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from finery.core import conditions
from finery.core.conditions import Condition, Memory, Stale
from finery.core.rundir import StreamReplaced, read_new_lines
from finery.rules.specs import RuleSpec

_MAX_BYTES = 1 << 20
"""Read at one look; a run that writes faster than that is not silent."""


@dataclass
class Silent:
    """A rule over silence, and what is kept of it."""

    rule: RuleSpec
    condition: Condition
    count: int
    memory: Memory = field(default_factory=Memory)
    is_holding: bool = False
    """It held at the last look: it fires again only after the run was heard in between."""


class SilenceWatch:
    """Follows the stream of a child and says which rules over silence begin to hold."""

    def __init__(self, stream: Path, rules: Iterable[RuleSpec], kept: Mapping[str, Any]):
        """Begin to listen.

        Args:
            stream: The child's events.
            rules: Of the job; those without `stale` are left out.
            kept: From `dump` of the attempt before.
        """
        self._stream = stream
        self._offset = 0
        self._began: float | None = None
        self._heard: dict[str, float] = {}
        self.step = 0
        """Steps done by the newest event."""
        self.controls: dict[str, float] = {}
        """Live settings in effect."""
        self._values: dict[str, float] = {}
        self._rules = [
            Silent(rule, condition, int(kept.get(rule.name, {}).get("count", 0)))
            for rule, condition in ((rule, conditions.parse(rule.when)) for rule in rules)
            if any(isinstance(node, Stale) for node in conditions.walk(condition))
            and not kept.get(rule.name, {}).get("is_muted")
        ]

    @property
    def is_needed(self) -> bool:
        """Whether there is any such rule."""
        return bool(self._rules)

    def dump(self) -> dict[str, Any]:
        """As plain data, for the next attempt."""
        return {one.rule.name: {"count": one.count} for one in self._rules}

    def look(self, now: float) -> list[tuple[RuleSpec, str, bool]]:
        """Rules that hold now and did not before: (rule, what was seen, whether it has fired as often as it may).

        Args:
            now: Seconds since the epoch, as the times of events.
        """
        self._listen()
        if self._began is None:
            return []
        found = []
        for one in self._rules:
            truth = conditions.holds(one.condition, one.memory, self.step, self._values, silence=self._since(now))
            begins, one.is_holding = bool(truth) and not one.is_holding, bool(truth)
            if begins:
                is_exhausted = one.count >= one.rule.max_count
                one.count += not is_exhausted
                seen = f"{one.rule.when} (nothing for {now - self._heard['']:.0f} s, step {self.step})"
                found.append((one.rule, seen, is_exhausted))
        return found

    def _since(self, now: float) -> Callable[[str], float]:
        began = self._began or now
        return lambda name: now - max(self._heard.get(name, 0.0), began)

    def _listen(self) -> None:
        try:
            lines, self._offset = read_new_lines(self._stream, self._offset, max_bytes=_MAX_BYTES)
        except StreamReplaced:
            return
        for line in lines:
            try:
                self._take(orjson.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue

    def _take(self, event: Mapping[str, Any]) -> None:
        moment = float(event["time"])
        self._heard[""] = max(self._heard.get("", 0.0), moment)
        if event.get("step") is not None:
            self.step = int(event["step"])
        if event["type"] == "controls":
            self.controls = {name: float(value) for name, value in event["values"].items()}
        if event["type"] != "metrics":
            return
        # Loading a model may take long and says nothing: silence counts from the first step on.
        self._began = self._began or moment
        values = {name: float(value) for name, value in event["values"].items()}
        self._values |= values
        self._heard |= dict.fromkeys(values, moment)
        for one in self._rules:
            conditions.remember(one.condition, one.memory, self.step, values)
