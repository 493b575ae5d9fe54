"""What happens at each step of either trainer: metrics out, decisions in, checkpoints under our manifest.

A checkpoint holds exactly verl's own files (`verl-fsdp`, `verl-megatron`): shards of weights, optimizer and scheduler
with the random streams of each rank, and where the data stood.
"""

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from ray.exceptions import RayError

from finery.core import checkpoints
from finery.core.gradients import GradientWriter
from finery.core.hooks import Decision
from finery.core.retention import Retention
from finery.core.rundir import Run, Stopped
from finery.training.verl.shards import Probed

_NOT_ZERO: Final = frozenset({"learning_rate", "checkpoint_interval"})
_WHOLE: Final = frozenset({"checkpoint_interval", "evaluation_interval"})
_SECONDS_PER_HOUR: Final = 3600
_DISK_ERRORS: Final = (OSError, RuntimeError, RayError)
_SHOWN: Final = ("loss", "reward_mean", "kl_divergence", "entropy", "grad_norm", "learning_rate", "seconds_per_step")


class Trainer(Protocol):
    """What the recorder asks of a trainer of verl."""

    def save(self, step: int, path: Path) -> None:
        """Write the files of a checkpoint into a folder that is made for it."""
        ...

    def is_finite(self) -> bool:
        """Whether all weights are."""
        ...

    def rate(self) -> float:
        """The learning rate of the next step."""
        ...

    def scale_rate(self, factor: float) -> float:
        """Multiply the schedule of the learning rate; gives the rate of the next step."""
        ...

    def set_loss(self, name: str, value: float) -> None:
        """Change a live setting of the loss."""
        ...

    def probe_next(self) -> None:
        """Look at the gradients of the next step."""
        ...

    def take_probed(self) -> Probed | None:
        """What was seen of them."""
        ...


class Recorder:
    """The run's side of a trainer. A step counts optimizer steps, of which verl makes some with each of its own."""

    def __init__(
        self,
        run: Run,
        trainer: Trainer,
        *,
        num_steps: int,
        steps_per_batch: int,
        world_size: int,
        format: str,
        settings: Mapping[str, float],
    ):
        """Begin to record.

        Args:
            run: The attempt.
            trainer: Of verl.
            num_steps: Optimizer steps in all.
            steps_per_batch: Of these with each batch of rollouts, which is what verl calls a step.
            world_size: Ranks that train.
            format: Of checkpoints.
            settings: Live settings of the algorithm and their values at the start.
        """
        self._run = run
        self._trainer = trainer
        self._num_steps = num_steps
        self._steps_per_batch = steps_per_batch
        self._world_size = world_size
        self._format = format
        monitoring = run.spec.job["monitoring"]
        self._retention = Retention(monitoring["keep_checkpoints"], monitoring.get("keep_every"))
        self._gradient_interval: int = monitoring.get("gradient_interval", 0)
        self._live = {**settings, "checkpoint_interval": float(monitoring["checkpoint_interval"])}
        evaluation = monitoring.get("evaluation")
        if evaluation is not None:
            self._live["evaluation_interval"] = float(evaluation["every_steps"] or 0)
            self._live["evaluation_hours"] = float(evaluation["every_hours"] or 0)
        self._evaluated_at = time.monotonic()
        self._writer: GradientWriter | None = None
        self._saved_step: int | None = None

    def begin(self, step: int) -> None:
        """Before the first step of the attempt.

        Args:
            step: Optimizer steps done.
        """
        self._live["learning_rate"] = self._trainer.rate()
        self._run.status("running", step=step, total=self._num_steps)
        self._run.before_training(step, self)
        self._look_ahead(step)

    def step(self, batch: int, values: Mapping[str, float]) -> None:
        """Record a step of verl's, and do what the hooks decide.

        Args:
            batch: Its number, from 1.
            values: Metrics under our names.

        Raises:
            Stopped: the attempt is to end here; what is to be saved is saved.
        """
        step = min(batch * self._steps_per_batch, self._num_steps)
        rate_to_come = values.get("learning_rate", self._live["learning_rate"])
        # verl tells the rate of the step to come; a step is reported with the rate that it was made with.
        values = {**values, **self._recorded_gradients(step), "learning_rate": self._live["learning_rate"]}
        self._live["learning_rate"] = rate_to_come
        if "entropy_coef" in self._live and "entropy" in values:
            values["entropy_loss"] = 0.0 - self._live["entropy_coef"] * values["entropy"]
        if not math.isfinite(values.get("grad_norm", 0.0)):
            values["updates_skipped"] = 1.0
            self._run.note(f"step {step} changed nothing: its gradients are not finite", "warning")
        self._run.log(values, step)
        shown = "  ".join(f"{name} {values[name]:.4g}" for name in _SHOWN if name in values)
        print(f"step {step}/{self._num_steps}  {shown}", flush=True)  # noqa: T201 - the attempt's own log
        decision = self._run.after_step(step, values, self)
        is_last = step >= self._num_steps
        is_evaluated = self._wants_evaluation(step, is_last=is_last)
        is_going_back = decision is Decision.ROLLBACK
        is_due = is_last or is_evaluated or step % int(self._live["checkpoint_interval"]) < self._steps_per_batch
        if (is_due or decision is not Decision.CONTINUE) and not (is_going_back and not self._trainer.is_finite()):
            self._save(step, evaluate=is_evaluated, keep=None if is_going_back else self._retention)
        if is_going_back or (decision in (Decision.PAUSE, Decision.CANCEL) and not is_last):
            raise Stopped(decision)
        self._look_ahead(step)

    def get(self) -> dict[str, float]:
        """Live settings in effect."""
        return dict(self._live)

    def set(self, name: str, value: float) -> None:
        """Apply a change from the next step on. Raises `ValueError`."""
        if name not in self._live:
            raise ValueError(f"{name} cannot be changed here; live are {', '.join(self._live)}")
        if not math.isfinite(value) or value < 0 or (value == 0 and name in _NOT_ZERO):
            raise ValueError(f"{name} must be positive, but it is {value}")
        if name in _WHOLE and value != int(value):
            raise ValueError(f"{name} is a number of steps, but it is {value}")
        if name == "learning_rate":
            if self._live[name] == 0:
                raise ValueError(
                    "learning_rate cannot be changed now: the schedule is at 0, and it is scaled as a whole"
                )
            self.scale(name, value / self._live[name])
            return
        if name == "kl_coef" and self._live[name] == 0:
            raise ValueError("kl_coef was 0 at the start, so no reference model is loaded")
        if name not in ("checkpoint_interval", "evaluation_interval", "evaluation_hours"):
            self._trainer.set_loss(name, value)
        self._live[name] = value

    def scale(self, name: str, factor: float) -> None:
        """Multiply the whole schedule of the learning rate. Raises `ValueError`."""
        if name != "learning_rate":
            raise ValueError(f"{name} follows no schedule")
        self._live[name] = self._trainer.scale_rate(factor)

    def finish(self) -> None:
        """Training is over: what verl may have saved beside is removed."""
        shutil.rmtree(self._run.dir.path / "native", ignore_errors=True)

    def _look_ahead(self, step: int) -> None:
        """Have the next step probed, if it is due."""
        upcoming = range(step + 1, step + self._steps_per_batch + 1)
        if self._gradient_interval and any(one == 1 or one % self._gradient_interval == 0 for one in upcoming):
            self._trainer.probe_next()
            self._is_probing = True
        else:
            self._is_probing = False

    def _recorded_gradients(self, step: int) -> dict[str, float]:
        found = self._trainer.take_probed() if self._is_probing else None
        if found is None:
            return {}
        if self._writer is None:
            self._writer = GradientWriter(self._run.dir.gradients, found.layout)
        try:
            offset = self._writer.append(step, time.time(), found.values, found.histograms)
        except OSError as error:
            self._run.note(f"statistics of the gradients of step {step} were not kept: {error}", "warning")
        else:
            self._run.gradients(self._writer.path, offset, step)
        return {**found.metrics, "seconds_probing": found.seconds}

    def _wants_evaluation(self, step: int, *, is_last: bool) -> bool:
        if "evaluation_interval" not in self._live:
            return False
        interval = int(self._live["evaluation_interval"])
        seconds = time.monotonic() - self._evaluated_at
        by_clock = 0 < self._live["evaluation_hours"] * _SECONDS_PER_HOUR <= seconds
        if is_last or (interval and step % interval < self._steps_per_batch) or by_clock:
            self._evaluated_at = time.monotonic()
            return True
        return False

    def _save(self, step: int, *, evaluate: bool, keep: Retention | None) -> None:
        path = checkpoints.directory(self._run.dir.checkpoints, step)
        checkpoints.remove(path)
        try:
            path.parent.mkdir(exist_ok=True)
            self._trainer.save(step // self._steps_per_batch, path)
        except _DISK_ERRORS as error:
            self._run.checkpoint_failed(path, step, error)
            return
        self._run.checkpoint(
            path,
            engine="verl",
            format=self._format,
            step=step,
            keep=keep,
            world_size=self._world_size,
            evaluate=evaluate,
        )
