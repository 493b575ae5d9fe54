"""What happens at each step of either trainer: metrics out, decisions in, checkpoints exact to the bit.

A checkpoint is what transformers.Trainer saves (weights, optimizer, scheduler, RNG states, trainer state) and
`finery_state.pt`: what it forgets (the sampler's generator, buffered rollouts, TRL's counters). With several processes
the first saves what they share, and each its random streams and a `finery_state` of its own.
"""

import contextlib
import functools
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from finery.core import checkpoints
from finery.core.hooks import Decision, LiveControls
from finery.core.retention import Retention
from finery.core.rundir import Run
from finery.training import world
from finery.training.scoring import Scorer
from finery.training.trl import metrics
from finery.training.trl.ema import WeightAverage
from finery.training.trl.gate import FiniteGate
from finery.training.trl.phases import Phases
from finery.training.trl.probe import Probe

T = TypeVar("T")

_ALWAYS_LIVE = {name: name for name in ("checkpoint_interval", "evaluation_interval", "evaluation_hours")}
_LIVE = {
    "entropy_coef": "entropy_coef",
    "kl_coef": "beta",
    "clip_low": "epsilon_low",
    "clip_high": "epsilon_high",
    "temperature": "next_temperature",
}
"""Live settings that are plain attributes of the trainer; the learning rate lives in optimizer and scheduler."""
_WHOLE = frozenset({"checkpoint_interval", "evaluation_interval"})
"""Live settings that are whole numbers."""
_NOT_ZERO = frozenset({"learning_rate", "temperature", "checkpoint_interval"})
_SHOWN = (
    *("loss", "reward_mean", "preference_accuracy", "reward_margin", "kl_divergence", "entropy", "token_accuracy"),
    *("grad_norm", "learning_rate", "seconds_per_step"),
)
_SECONDS_PER_HOUR = 3600
_DISK_ERRORS = (OSError, SafetensorError, RuntimeError)
"""What the savers raise when the disk is full; torch.save raises a bare RuntimeError."""


class ExactTrainer(Trainer):
    """Mix-in of both trainers: saves and restores everything that the next step depends on.

    Relies on transformers 5.23 calling `_save_checkpoint` after `log` at a step whose control says save, and
    `_load_optimizer_and_scheduler` once on resume, before the first step.
    """

    checkpoint_kind: checkpoints.Kind = "policy"
    live_names: ClassVar[Mapping[str, str]] = _LIVE
    """Live setting -> attribute, for those that the trainer has."""
    shared_state: ClassVar[tuple[str, ...]] = ("reference",)
    """Parts of the exact state that are the same in all processes."""
    finery_run: Run
    retention: Retention
    checkpoint_interval: int
    evaluation_interval: int
    """Steps between checkpoints that are evaluated; 0 is none. It is there where the job has them evaluated."""
    evaluation_hours: float
    """Hours between such checkpoints; 0 is none."""
    evaluated_at = 0.0
    """`time.monotonic` when the last checkpoint was due for evaluation, or training began."""
    is_evaluation_due = False
    """Of the checkpoint of the present step."""
    scorer: Scorer | None = None
    """The rewards, where the algorithm has any."""
    ema_decay = 0.0
    """Of the average of the trained weights; 0 keeps none."""
    average: WeightAverage | None = None
    is_going_back = False
    """This attempt ends so that the next goes on from an earlier state."""
    step_began = 0.0
    """`time.perf_counter` at the beginning of the present step."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.phases = Phases()
        self.gate = FiniteGate()
        super().__init__(*args, **kwargs)

    @functools.cached_property
    def probe(self) -> Probe:
        """What looks at gradients; made with the first step, when there is an optimizer."""
        monitoring = self.finery_run.spec.job["monitoring"]
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return Probe(
            self.model,
            optimizer if isinstance(optimizer, torch.optim.Optimizer) else None,
            self.finery_run,
            # An attempt of a job that was submitted before there was a probe has neither.
            interval=monitoring.get("gradient_interval", 0),
            with_activations=monitoring.get("activations", False),
        )

    def begin_average(self) -> None:
        """Average the trained weights from here on. They are the same in all processes: the first one does it."""
        if self.ema_decay > 0 and world.rank() == 0 and self.average is None:
            trained = (parameter for parameter in self.model.parameters() if parameter.requires_grad)
            self.average = WeightAverage(trained, self.ema_decay)

    def create_accelerator_and_postprocess(self) -> None:
        """As for one process: gradients are averaged here, so the model is not wrapped for it."""
        super().create_accelerator_and_postprocess()
        self.accelerator.prepare_model = functools.partial(self.accelerator.prepare_model, evaluation_mode=True)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro batches of a step, which begins with them."""
        self.probe.begin(self.state.global_step + 1)
        self.step_began = time.perf_counter()
        self.phases.enter("data")
        found = super().get_batch_samples(*args, **kwargs)
        self.phases.enter("forward")
        return found

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass of a micro batch; what follows it is the optimizer's time."""
        self.phases.enter("forward")
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self.gate.see_loss(loss)
        self.phases.enter("optimizer")
        return loss

    def _clip_grad_norm(self, model: torch.nn.Module) -> torch.Tensor:
        self._share_gradients(model)
        self._look_at_gradients()
        norm: torch.Tensor = super()._clip_grad_norm(model)
        return norm

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: torch.Tensor | None = None) -> torch.Tensor | float:
        if grad_norm is None:
            self._share_gradients(model)
            self._look_at_gradients()
        norm: torch.Tensor | float = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.gate.closes(norm):
            self.model.zero_grad(set_to_none=True)
        return norm

    def _maybe_log_save_evaluate(self, tr_loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)
        if not tr_loss.isfinite():  # Trainer subtracts the sum from itself, which never ends for NaN
            tr_loss.zero_()

    def _share_gradients(self, model: torch.nn.Module) -> None:
        """Average the gradients of the step over all processes, before anything looks at them."""
        if world.size() > 1:
            self.gate.poison(model.parameters())
            with self.phases.during("sharing"):
                world.average_gradients(model.parameters())

    def _look_at_gradients(self) -> None:
        """Take their statistics where it is their turn, before they are clipped."""
        step = self.state.global_step + 1
        if self.probe.is_due(step):
            with self.phases.during("probing"):
                self.probe.look(step)

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        """Around the loss, and only there: where it is left the backward pass begins."""
        stack: contextlib.ExitStack = super().compute_loss_context_manager()
        stack.callback(self.phases.enter, "backward")
        return stack

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what the trainer knows of a step, what was seen of its gradients, and where its time went."""
        logs.update(self.probe.finish(self.state.global_step))
        logs.update({f"seconds_{name}": seconds for name, seconds in self.phases.take().items()})
        super().log(logs, *args, **kwargs)

    def close(self) -> None:
        """Give back what is held beside the model."""
        if self.scorer is not None:
            self.scorer.close()

    def exact_state(self) -> dict[str, Any]:
        """What a subclass needs besides the weights, optimizer, scheduler and global RNG."""
        live = {name: vars(self)[name] for name in live_attributes(self).values()}
        state: dict[str, Any] = {"total_train_tokens": self._total_train_tokens, "live": live}
        if "evaluation_hours" in live:
            state["seconds_since_evaluation"] = time.monotonic() - self.evaluated_at
        return state if self.average is None else {**state, "average": self.average.state()}

    def restore_exact_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `exact_state`."""
        self._total_train_tokens = state["total_train_tokens"]
        self.evaluated_at = time.monotonic() - state.get("seconds_since_evaluation", 0.0)
        for name, value in state["live"].items():
            setattr(self, name, value)
        if state["live"].get("entropy_coef", 0) > 0:
            self._entropy_bonus_enabled = True
        self.begin_average()
        if self.average is not None:
            self.average.restore(state["average"])

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        step = self.state.global_step
        path = checkpoints.directory(self.finery_run.dir.checkpoints, step)
        error = None
        with world.first():
            try:
                self._save_files(path)
            except _DISK_ERRORS as found:
                error = found
        failures = world.gathered([] if error is None else [str(error)])
        if world.rank() > 0:
            return
        if failures:
            self.finery_run.checkpoint_failed(path, step, error or OSError(failures[0]))
            return
        self.finery_run.checkpoint(
            path,
            engine="trl",
            format="hf-trainer",
            kind=self.checkpoint_kind,
            step=step,
            # The state before going back must not push out the one that is gone back to.
            keep=None if self.is_going_back else self.retention,
            world_size=world.size(),
            evaluate=self.is_evaluation_due,
        )

    def wants_evaluation(self, *, is_last: bool) -> bool:
        """Whether the checkpoint of this step is to be evaluated: by steps, by the clock, or as the last one."""
        if "evaluation_interval" not in vars(self):
            return False
        by_steps = self.evaluation_interval > 0 and self.state.global_step % self.evaluation_interval == 0
        seconds = time.monotonic() - self.evaluated_at
        return is_last or by_steps or 0 < self.evaluation_hours * _SECONDS_PER_HOUR <= seconds

    def _save_files(self, path: Path) -> None:
        """What this process has to keep: the first all that they share, each its own random streams and buffers."""
        state = self.exact_state()
        if world.rank() > 0:
            self._save_rng_state(str(path))
            own = {name: value for name, value in state.items() if name not in self.shared_state}
            torch.save(own, path / _state_file(world.rank()))
            return
        checkpoints.remove(path)
        path.mkdir(parents=True)
        self.save_model(str(path), _internal_call=True)
        self.processing_class.save_pretrained(path)
        self._save_optimizer_and_scheduler(str(path))
        self._save_rng_state(str(path))
        self.state.save_to_json(str(path / TRAINER_STATE_NAME))
        torch.save(state, path / _state_file(0))
        if self.average is not None:
            with self.average.in_place_of_weights():
                self._save_average(checkpoints.averaged(path))

    def _save_average(self, path: Path) -> None:
        """A checkpoint within the checkpoint: what evaluation and chat load, without what training goes on from."""
        path.mkdir()
        self.save_model(str(path), _internal_call=True)
        self.processing_class.save_pretrained(path)
        checkpoints.seal(
            path,
            engine="trl",
            format="hf-model",
            kind=self.checkpoint_kind,
            step=self.state.global_step,
            attempt=self.finery_run.spec.attempt,
            world_size=1,
            now=time.time(),
        )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            # Our own files, and their hashes were checked against the manifest before this attempt began.
            files = [Path(checkpoint) / _state_file(rank) for rank in sorted({0, world.rank()})]
            states = [torch.load(file, weights_only=False) for file in files]
            self.restore_exact_state({**states[0], **states[-1]})


def live_attributes(trainer: ExactTrainer) -> dict[str, str]:
    """Live setting -> attribute, of those that this trainer has."""
    names = {**trainer.live_names, **_ALWAYS_LIVE}
    return {name: attribute for name, attribute in names.items() if attribute in vars(trainer)}


class Controls:
    """Live settings of a trainer."""

    def __init__(self, trainer: ExactTrainer):
        self._trainer = trainer

    def get(self) -> dict[str, float]:
        """Name -> value in effect."""
        found = {"learning_rate": float(self._trainer.optimizer.param_groups[0]["lr"])}
        for name, attribute in live_attributes(self._trainer).items():
            found[name] = float(vars(self._trainer)[attribute])
        return found

    def set(self, name: str, value: float) -> None:
        """Apply a change from the next step on; of the temperature, from the next completions on."""
        if name not in self.get():
            raise ValueError(f"{name} cannot be changed here; live are {', '.join(self.get())}")
        if not math.isfinite(value) or value < 0 or (value == 0 and name in _NOT_ZERO):
            raise ValueError(f"{name} must be positive, but it is {value}")
        if name in _WHOLE and value != int(value):
            raise ValueError(f"{name} is a number of steps, but it is {value}")
        if name == "learning_rate":
            present = self.get()[name]
            if present == 0:
                raise ValueError(
                    "learning_rate cannot be changed now: the schedule is at 0, and it is scaled as a whole"
                )
            self.scale(name, value / present)
            return
        if name == "kl_coef" and self.get()["kl_coef"] == 0:
            raise ValueError("kl_coef was 0 at the start, so no reference model is loaded")
        setattr(self._trainer, live_attributes(self._trainer)[name], int(value) if name in _WHOLE else value)
        if name == "entropy_coef":
            self._trainer._entropy_bonus_enabled = value > 0

    def scale(self, name: str, factor: float) -> None:
        """Multiply the whole schedule of the learning rate."""
        if name != "learning_rate":
            raise ValueError(f"{name} follows no schedule")
        optimizer, scheduler = self._trainer.optimizer, self._trainer.lr_scheduler
        scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
            group["initial_lr"] = group["initial_lr"] * factor
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


class _Noted:
    """Live settings whose changes are written down, to be repeated in other processes."""

    def __init__(self, controls: Controls, changes: list[tuple[str, str, float]]):
        self._controls = controls
        self._changes = changes

    def get(self) -> dict[str, float]:
        return self._controls.get()

    def set(self, name: str, value: float) -> None:
        self._controls.set(name, value)
        self._changes.append(("set", name, value))

    def scale(self, name: str, factor: float) -> None:
        self._controls.scale(name, factor)
        self._changes.append(("scale", name, factor))


class StepCallback(TrainerCallback):
    """Reports each step and carries out what the hooks decide."""

    def __init__(self, run: Run):
        self._run = run
        self._controls: Controls | None = None
        self._trainer: ExactTrainer | None = None
        self._tokens_seen = 0.0
        self._seconds = 0.0
        self.decision = Decision.CONTINUE

    def attach(self, trainer: ExactTrainer) -> None:
        """Give the callback the trainer whose settings it may change."""
        self._controls = Controls(trainer)
        self._trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self._trainer is not None
        self._trainer.evaluated_at = self._trainer.evaluated_at or time.monotonic()
        self._run.status("running", step=state.global_step, total=args.max_steps)
        self._trainer.begin_average()
        self._tell_all(lambda controls: self._run.before_training(state.global_step, controls))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self._trainer is not None
        self._trainer.phases.enter(None)
        if self._trainer.average is not None and not self._trainer.gate.was_closed:
            self._trainer.average.update(state.global_step)
        self._seconds = time.perf_counter() - self._trainer.step_began

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float | None] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "train_runtime" in logs:
            return
        assert self._trainer is not None
        values = {**metrics.ours(logs), "seconds_per_step": self._seconds}
        if self._trainer.gate.was_closed:
            values["updates_skipped"] = 1.0
            self._run.note(f"step {state.global_step} changed nothing: its loss or gradients are not finite", "warning")
        seen = values.get("tokens_seen", self._tokens_seen)
        if seen > self._tokens_seen and (self._tokens_seen or state.global_step == 1):
            values["tokens_per_second"] = (seen - self._tokens_seen) / self._seconds
        self._tokens_seen = seen
        if torch.cuda.is_available():
            values["peak_memory_bytes"] = float(torch.cuda.max_memory_allocated())
        is_last = state.global_step >= args.max_steps
        self.decision, is_evaluation_due = self._decided(state.global_step, args.max_steps, values)
        self._trainer.is_evaluation_due = is_evaluation_due
        if is_evaluation_due:
            self._trainer.evaluated_at = time.monotonic()
        is_due = is_evaluation_due or state.global_step % self._trainer.checkpoint_interval == 0
        if is_last or is_due or self.decision is not Decision.CONTINUE:
            control.should_save = True
        if self.decision in (Decision.PAUSE, Decision.CANCEL, Decision.ROLLBACK):
            control.should_training_stop = True
        if self.decision is Decision.ROLLBACK:
            self._trainer.is_going_back = True
            control.should_save = _is_finite(self._trainer.model)

    def _decided(self, step: int, total: int, values: Mapping[str, float]) -> tuple[Decision, bool]:
        """Report the step and ask the hooks, in process 0; the others follow it, live settings included.

        Returns:
            What they decide, and whether the checkpoint of this step is to be evaluated.
        """
        trainer = self._trainer
        assert trainer is not None

        def ask(controls: LiveControls) -> tuple[Decision, bool]:
            self._run.log(values, step)
            print(_line(step, total, values), flush=True)  # noqa: T201 - the attempt's own log
            decision = self._run.after_step(step, values, controls)
            return decision, trainer.wants_evaluation(is_last=step >= total)

        return self._tell_all(ask)

    def _tell_all(self, ask: Callable[[LiveControls], T]) -> T:
        """What process 0 answers; the live settings that it changes are changed in all."""
        assert self._controls is not None
        changes: list[tuple[str, str, float]] = []
        answer = ask(_Noted(self._controls, changes)) if world.rank() == 0 else None
        told: tuple[Any, list[tuple[str, str, float]]] = world.told((answer, changes))
        if world.rank() > 0:
            for verb, name, value in told[1]:
                getattr(self._controls, verb)(name, value)
        found: T = told[0]
        return found


def _is_finite(model: torch.nn.Module) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def _state_file(rank: int) -> str:
    return f"finery_state_{rank}.pt" if rank else "finery_state.pt"


def _line(step: int, total: int, values: Mapping[str, float]) -> str:
    """One line of the log about a step: what a person looks at first."""
    shown = [f"{name} {values[name]:.4g}" for name in _SHOWN if name in values]
    return f"step {step}/{total}  " + "  ".join(shown)


def remove_native(run: Run) -> None:
    """Delete what the trainer left outside our layout."""
    shutil.rmtree(run.dir.path / "native", ignore_errors=True)
