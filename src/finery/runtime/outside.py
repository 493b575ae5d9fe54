"""Carries out from outside what rules over silence ask for: what a child that hangs cannot do itself."""

import time
from collections.abc import Mapping
from typing import Any, Final

from finery.core.carried import RolledBack
from finery.core.events import Phase
from finery.core.hooks import Decision
from finery.core.rundir import Command, EventWriter, RunDir, RunSpec, append_line
from finery.core.spec import parse
from finery.rules import actions
from finery.rules.actions import STATE_AFTER, Decide, Effect, Impossible, Notify, Rollback, SetControl
from finery.rules.specs import RuleSpec
from finery.rules.watch import goes_back
from finery.runtime.carrying import rollback_target
from finery.runtime.silence import SilenceWatch

_LOOK_SECONDS: Final = 1.0
_STRENGTH: Final[tuple[Phase, ...]] = ("paused", "cancelled", "rolling_back", "failed")


class Outsider:
    """The supervisor's part in the rules of a job."""

    def __init__(self, run_dir: RunDir, spec: RunSpec, events: EventWriter):
        """Begin to listen to the child of an attempt.

        Args:
            run_dir: The attempt.
            spec: Of the attempt.
            events: Where is told what was done.
        """
        self._dir = run_dir
        self._spec = spec
        self._events = events
        raw = spec.job.get("monitoring", {}).get("rules") or []
        rules = parse(tuple[RuleSpec, ...], raw, what="monitoring.rules")
        self._watch = SilenceWatch(run_dir.events / "rank0.jsonl", rules, spec.carried.rules)
        self._looked_at = 0.0
        self._num_commands = 0
        self._end: tuple[Phase, str] | None = None
        self._rollback: tuple[RuleSpec, str, Rollback] | None = None

    def look(self) -> None:
        """Judge the rules, once a second."""
        if not self._watch.is_needed or time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        for rule, message, is_exhausted in self._watch.look(time.time()):
            if is_exhausted and not goes_back(rule):
                continue
            step = self._watch.step
            self._events.emit(
                "alert", rule=rule.name, severity=rule.severity, message=f"{rule.name}: {message}", step=step
            )
            if is_exhausted:
                self._stop(
                    Decision.CANCEL, "failed", f"rule {rule.name} has gone back {rule.max_count} times: {message}"
                )
                continue
            for action in rule.then:
                entry = actions.registry.get(action.name)
                effect = entry.target(self._watch.controls, actions.registry.params(action.name, action.params))
                self._act(rule, message, action.name, effect)

    def conclude(self, returncode: int) -> None:
        """The child has ended: say why, where a rule has ended it, and hand on what the next attempt has to know."""
        if self._end is None or returncode == 0:
            return
        phase, message = self._end
        if self._rollback is not None and phase == "rolling_back":
            self._go_back(*self._rollback)
        self._events.emit("status", status=phase, message=message, step=self._watch.step, total_steps=None)

    def _act(self, rule: RuleSpec, message: str, action: str, effect: Effect) -> None:
        match effect:
            case Impossible(reason):
                self._tell(rule, action, "refused", reason)
            case Notify(channels):
                self._tell(rule, action, "asked", message, channels=channels)
            case SetControl(name, value):
                before = self._watch.controls[name]
                self._command("set", {name: value})
                self._tell(
                    rule,
                    action,
                    "asked",
                    f"{name}: {before:g} -> {value:g}",
                    before={name: before},
                    after={name: value},
                )
            case Decide(Decision.CHECKPOINT):
                self._command("checkpoint")
                self._tell(rule, action, "asked", "a checkpoint is to be saved")
            case Decide(decision):
                self._stop(decision, STATE_AFTER[decision], f"rule {rule.name}: {message}")
                change = {"before": {"state": "running"}, "after": {"state": STATE_AFTER[decision]}}
                self._tell(rule, action, "asked", f"the run is to be {STATE_AFTER[decision]}", **change)
            case Rollback():
                self._rollback = (rule, message, effect)
                self._stop(Decision.PAUSE, "rolling_back", f"rule {rule.name}: {message}")
                self._tell(rule, action, "asked", "is ended and goes back to its newest good checkpoint")

    def _stop(self, decision: Decision, phase: Phase, message: str) -> None:
        """Ask the child to stop; the supervisor ends it when it does not."""
        if self._end is None or _STRENGTH.index(phase) > _STRENGTH.index(self._end[0]):
            self._end = (phase, message)
        self._command(decision.value)

    def _command(self, command: Any, values: Mapping[str, float] | None = None) -> None:
        self._num_commands += 1
        record = Command(
            id=f"outside-{self._num_commands}",
            attempt=self._spec.attempt,
            time=time.time(),
            command=command,
            values=dict(values or {}),
        )
        append_line(self._dir.control, record.model_dump())

    def _go_back(self, rule: RuleSpec, message: str, effect: Rollback) -> None:
        step = self._watch.step
        to_step, path = rollback_target(self._dir, self._spec, before=step, note=self._note)
        story = RolledBack(
            rule=rule.name,
            message=message,
            attempt=self._spec.attempt,
            step=step,
            to_step=to_step,
            checkpoint=path,
            saved=None,
        )
        carried = self._dir.read_carried()
        # What hung was the step after the newest that is known.
        skipped = (*carried.skipped_steps, step + 1) if effect.skip_data else carried.skipped_steps
        changes = {
            "rules": carried.rules | self._watch.dump(),
            "rollbacks": (*carried.rollbacks, story),
            "skipped_steps": skipped,
        }
        self._dir.write_carried(carried.model_copy(update=changes))

    def _note(self, message: str) -> None:
        self._events.emit("log", level="warning", message=message)

    def _tell(self, rule: RuleSpec, action: str, outcome: str, message: str, **more: Any) -> None:
        step = self._watch.step
        self._events.emit("action", rule=rule.name, action=action, outcome=outcome, message=message, step=step, **more)
