"""Carries commands from control.jsonl to the engine, and metrics from the engine to the event stream."""

from collections.abc import Mapping

from finery.core.carried import LiveSet
from finery.core.hooks import Decision, LiveControls
from finery.core.rundir import Command, Run, read_commands
from finery.runtime.carrying import Carrying


class ControlHooks:
    """Reads new commands between two steps, applies them once each and acknowledges."""

    def __init__(self, run: Run, carrying: Carrying):
        self._run = run
        self._carrying = carrying
        self._offset = 0
        self._seen: set[str] = set()

    def before_training(self, step: int, controls: LiveControls) -> None:
        """Bring back what was set before the run went back."""
        self._carrying.bring_back(step, controls)

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        """Apply what arrived since the last step."""
        commands, self._offset = read_commands(self._run.dir.control, self._offset, self._run.spec.attempt)
        decision = Decision.CONTINUE
        for command in commands:
            if command.id in self._seen:
                continue
            self._seen.add(command.id)
            asked = self._apply(command, step, controls)
            decision = max(decision, asked, key=list(Decision).index)
        return decision

    def _apply(self, command: Command, step: int, controls: LiveControls) -> Decision:
        if command.command == "set":
            self._set(command, step, controls)
            return Decision.CONTINUE
        self._acknowledge(command, "applied", "", step)
        return Decision(command.command)

    def _set(self, command: Command, step: int, controls: LiveControls) -> None:
        before = dict(controls.get())
        done: dict[str, float] = {}
        try:
            for name, value in command.values.items():
                controls.set(name, value)
                done[name] = value
        except ValueError as error:
            for name in done:
                controls.set(name, before[name])
            self._acknowledge(command, "rejected", str(error), step)
            return
        by = f"command {command.id}"
        sets = [LiveSet(step=step, name=name, before=before[name], after=value, by=by) for name, value in done.items()]
        self._carrying.changed(step, controls, sets)
        story = ", ".join(f"{name}: {before[name]} -> {value}" for name, value in done.items())
        self._acknowledge(command, "applied", story, step)

    def _acknowledge(self, command: Command, outcome: str, message: str, step: int) -> None:
        self._run.events.emit(
            "control_ack", command_id=command.id, command=command.command, outcome=outcome, message=message, step=step
        )
