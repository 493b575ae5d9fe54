"""Keeps what the next attempt has to know, and brings back what the attempts before have handed on."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from finery.core import checkpoints
from finery.core.carried import Carried, LiveSet, RolledBack, to_apply
from finery.core.events import encode_value
from finery.core.hooks import LiveControls
from finery.core.rundir import Run, RunDir, RunSpec

_WRITE_SECONDS: Final = 5.0
"""Between two writes of what rules remember. What else changes is written at once."""


class Carrying:
    """`carried.json` of an attempt. A full disk costs the newest of it, never the run."""

    def __init__(self, run: Run):
        self._run = run
        self._written_at = 0.0
        self.carried: Carried = run.spec.carried
        """As it stands now."""

    def bring_back(self, step: int, controls: LiveControls) -> None:
        """Apply again the changes of live settings that the checkpoint of `step` does not contain."""
        again = to_apply(self.carried.sets, step)
        kept = [one for one in self.carried.sets if one.step <= step]
        made = []
        for one in again:
            before = controls.get().get(one.name)
            try:
                if one.name == "learning_rate":
                    controls.scale(one.name, one.after / one.before)
                else:
                    controls.set(one.name, one.after)
            except ValueError as error:
                self._run.note(f"{one.name} was not set to {one.after:g} again: {error}", "warning")
                continue
            after = controls.get()[one.name]
            self._run.note(f"{one.name}: {before:g} -> {after:g} again, as by {one.by} at step {one.step}")
            # The next checkpoint contains it; the one that this attempt began from still does not.
            made.append(one.model_copy(update={"step": step + 1}))
        self._replace(sets=(*kept, *made))
        self.tell(step, controls)

    def changed(self, step: int, controls: LiveControls, sets: Sequence[LiveSet]) -> None:
        """Note changes of live settings that were made, and tell what is in effect now."""
        if sets:
            self._replace(sets=(*self.carried.sets, *sets))
            self.tell(step, controls)
            self.write()

    def tell(self, step: int, controls: LiveControls) -> None:
        """Report the live settings in effect."""
        values = {name: encode_value(value) for name, value in controls.get().items()}
        self._run.events.emit("controls", step=step, values=values)

    def keep_rules(self, rules: Mapping[str, Any], *, is_urgent: bool) -> None:
        """Note what rules remember."""
        self._replace(rules=self.carried.rules | dict(rules))
        if is_urgent or time.monotonic() - self._written_at > _WRITE_SECONDS:
            self.write()

    def roll_back(self, story: RolledBack, *, skip_step: int | None) -> None:
        """Have the next attempt go back.

        Args:
            story: From where to where, and why.
            skip_step: Step whose batch is left out from there on.
        """
        skipped = self.carried.skipped_steps + (() if skip_step is None else (skip_step,))
        self._replace(rollbacks=(*self.carried.rollbacks, story), skipped_steps=skipped)
        self._run.dir.write_carried(self.carried)

    def write(self) -> None:
        """Write it down as it stands."""
        self._written_at = time.monotonic()
        try:
            self._run.dir.write_carried(self.carried)
        except OSError as error:
            self._run.note(f"{self._run.dir.carried.name} was not written: {error}", "warning")

    def _replace(self, **changes: Any) -> None:
        self.carried = self.carried.model_copy(update=changes)


def rollback_target(
    run_dir: RunDir, spec: RunSpec, *, before: int, note: Callable[[str], None]
) -> tuple[int, str | None]:
    """Step and path of the newest good checkpoint of at most `before` steps; (0, None) is the beginning.

    Looks at the attempt's own and at the one that it began from; what is passed over is noted.
    """
    own = [(step, path) for step, path in checkpoints.existing(run_dir.checkpoints) if step <= before]
    origin = Path(spec.resume_from) if spec.resume_from else None
    manifest = checkpoints.read_manifest(origin) if origin else None
    if origin is not None and manifest is not None and manifest.step <= before:
        own.insert(0, (manifest.step, origin))
    for step, path in reversed(own):
        problems = checkpoints.verify(path)
        if not problems:
            return step, str(path)
        note(f"checkpoint of step {step} is not gone back to: {'; '.join(problems)}")
    return 0, None
