"""Has the rules of a run watch each step, and carries out what they ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finery.core import checkpoints
from finery.core.carried import LiveSet, RolledBack
from finery.core.errors import FineryError
from finery.core.hooks import Decision, LiveControls
from finery.core.rundir import Run
from finery.jobs.specs import JobSpec
from finery.rules import watch
from finery.rules.actions import STATE_AFTER, Decide, Impossible, Notify, Rollback, SetControl
from finery.rules.specs import RuleSpec
from finery.rules.watch import Asked, Firing, Watch
from finery.runtime.carrying import Carrying, rollback_target
from finery.runtime.control import ControlHooks


class RuleExhausted(FineryError):
    """A rule has gone back as often as it may, and the trouble is still there."""

    code = "rule_exhausted"


@dataclass
class _Turn:
    """One step in which rules fire."""

    step: int
    controls: LiveControls
    wanted: Decision | Rollback
    """What happens to the run after all."""
    sets: list[LiveSet] = field(default_factory=list)
    """Changes of live settings that were made."""


class RuleHooks:
    """Judges the rules over metrics in the step in which the metrics are born."""

    def __init__(self, run: Run, carrying: Carrying, rules: Sequence[RuleSpec], *, steps_per_batch: int):
        """Begin to watch.

        Args:
            run: The attempt.
            carrying: Of the attempt; what the rules remember is taken from there.
            rules: In the order of their precedence; those that only somebody outside can judge are left to them.
            steps_per_batch: Optimizer steps that are made with one batch of data.
        """
        self._run = run
        self.carrying = carrying
        self._steps_per_batch = steps_per_batch
        self._watch = Watch((rule for rule in rules if watch.is_of_steps(rule)), carrying.carried.rules)
        self._pending: tuple[RolledBack, int | None] | None = None
        self.decided: tuple[Decision, str] = (Decision.CONTINUE, "")
        """What the rules have decided last, and why."""

    def before_training(self, step: int, controls: LiveControls) -> None:
        """Say that a rollback has arrived."""
        stories = self.carrying.carried.rollbacks
        if not stories or stories[-1].attempt != self._run.spec.attempt - 1:
            return
        last = stories[-1]
        self._tell(
            last.rule,
            "rollback_checkpoint",
            "applied",
            f"went back from step {last.step} to step {step}",
            last.step,
            before={"step": last.step},
            after={"step": step},
        )

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        """Judge every rule and act.

        Raises:
            RuleExhausted: going back has not helped.
        """
        firings = self._watch.step(step, values, controls.get())
        self.carrying.keep_rules(self._watch.dump(), is_urgent=bool(firings))
        if not firings:
            return Decision.CONTINUE
        for firing in firings:
            rule = firing.rule
            self._run.alert(rule.name, f"{rule.name}: {firing.message}", severity=rule.severity, step=step)
        _refuse_to_loop(firings)
        self._carry_out(firings, step, controls)
        return self.decided[0]

    def confirm_rollback(self) -> None:
        """The engine has stopped to go back: have the next attempt do so."""
        assert self._pending is not None
        story, skip_step = self._pending
        saved = checkpoints.directory(self._run.dir.checkpoints, story.step)
        is_saved = checkpoints.is_sealed(saved)
        story = story.model_copy(update={"saved": str(saved) if is_saved else None})
        self.carrying.roll_back(story, skip_step=skip_step)

    def _carry_out(self, firings: Sequence[Firing], step: int, controls: LiveControls) -> None:
        wanted = watch.decision(firings)
        decision = Decision.ROLLBACK if isinstance(wanted, Rollback) else wanted
        reasons = [f"rule {firing.rule.name}: {firing.message}" for firing in firings if _asks_for(firing, wanted)]
        self.decided = (decision, reasons[0] if reasons else "")
        turn = _Turn(step, controls, wanted)
        for firing in firings:
            for asked in firing.asked:
                self._act(firing, asked, turn)
        self.carrying.changed(step, controls, turn.sets)

    def _act(self, firing: Firing, asked: Asked, turn: "_Turn") -> None:
        match asked.effect:
            case Impossible(reason):
                self._tell(firing.rule.name, asked.action, "refused", reason, turn.step)
            case Notify(channels):
                self._tell(firing.rule.name, asked.action, "asked", firing.message, turn.step, channels=channels)
            case SetControl(control, value):
                self._set(firing.rule.name, asked.action, control, value, turn)
            case Decide(decision):
                self._decide(firing.rule.name, asked.action, decision, turn)
            case Rollback() as rollback:
                self._roll_back(firing, asked.action, rollback, turn)

    def _set(self, rule: str, action: str, control: str, value: float, turn: "_Turn") -> None:
        before = turn.controls.get()[control]
        try:
            turn.controls.set(control, value)
        except ValueError as error:
            self._tell(rule, action, "refused", str(error), turn.step)
            return
        turn.sets.append(LiveSet(step=turn.step, name=control, before=before, after=value, by=f"rule {rule}"))
        story = f"{control}: {before:g} -> {value:g}"
        self._tell(rule, action, "applied", story, turn.step, before={control: before}, after={control: value})

    def _decide(self, rule: str, action: str, decision: Decision, turn: "_Turn") -> None:
        if decision is Decision.CHECKPOINT:
            self._tell(rule, action, "applied", f"a checkpoint of step {turn.step} is saved", turn.step)
        elif turn.wanted is decision:
            state = STATE_AFTER[decision]
            change = {"before": {"state": "running"}, "after": {"state": state}}
            self._tell(rule, action, "applied", f"the run is {state}", turn.step, **change)
        else:
            stronger = "goes back to a checkpoint" if isinstance(turn.wanted, Rollback) else "stops the run"
            self._tell(rule, action, "refused", f"another rule {stronger} in this step", turn.step)

    def _roll_back(self, firing: Firing, action: str, effect: Rollback, turn: "_Turn") -> None:
        rule, step = firing.rule.name, turn.step
        if effect is not turn.wanted:
            self._tell(rule, action, "refused", "another rule goes back to a checkpoint in this step", step)
            return
        # Rollouts of a batch that is left out may lie in a checkpoint between two of its steps.
        batch_began = (step - 1) // self._steps_per_batch * self._steps_per_batch
        before = batch_began if effect.skip_data else step - 1
        to_step, path = rollback_target(
            self._run.dir, self._run.spec, before=before, note=lambda message: self._run.note(message, "warning")
        )
        story = RolledBack(
            rule=rule,
            message=firing.message,
            attempt=self._run.spec.attempt,
            step=step,
            to_step=to_step,
            checkpoint=path,
            saved=None,
        )
        self._pending = (story, step if effect.skip_data else None)
        rate = turn.controls.get()["learning_rate"]
        if effect.learning_rate_factor != 1 and rate > 0:  # at 0 nothing says how high the schedule is
            cut = rate * effect.learning_rate_factor
            # Holds from the next attempt on: the state that is saved now does not contain it.
            turn.sets.append(LiveSet(step=step + 1, name="learning_rate", before=rate, after=cut, by=f"rule {rule}"))
        target = f"the checkpoint of step {to_step}" if path else "the beginning, since there is no good checkpoint"
        skipping = "; the rows of this step are left out" if effect.skip_data else ""
        change = {"before": {"step": step}, "after": {"step": to_step}}
        self._tell(rule, action, "asked", f"goes back to {target}{skipping}", step, **change)

    def _tell(self, rule: str, action: str, outcome: str, message: str, step: int, **more: Any) -> None:
        self._run.events.emit("action", rule=rule, action=action, outcome=outcome, message=message, step=step, **more)


def attach(run: Run, job: JobSpec) -> RuleHooks:
    """Have commands obeyed and rules judged between the steps of a run."""
    carrying = Carrying(run)
    steps_per_batch = getattr(job.task, "steps_per_batch", 1)
    rules = RuleHooks(run, carrying, job.monitoring.rules or (), steps_per_batch=steps_per_batch)
    run.hooks += [ControlHooks(run, carrying), rules]
    return rules


def _asks_for(firing: Firing, wanted: Decision | Rollback) -> bool:
    return any(
        asked.effect is wanted or (isinstance(asked.effect, Decide) and asked.effect.decision is wanted)
        for asked in firing.asked
    )


def _refuse_to_loop(firings: Sequence[Firing]) -> None:
    for firing in firings:
        if firing.is_exhausted:
            rule = firing.rule
            raise RuleExhausted(
                f"rule {rule.name} has gone back {rule.max_count} times, as often as it may, and holds again: "
                f"{firing.message}; look at the data and the settings, or raise max_count of the rule"
            )
