"""What happens at each step of either trainer: metrics out, decisions in, checkpoints exact to the bit.

A checkpoint is what transformers.Trainer saves (weights, optimizer, scheduler, RNG states, trainer state) and
`finery_state.pt`: what it forgets (the sampler's generator, buffered rollouts, TRL's counters).
"""

import contextlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from finery.core import checkpoints
from finery.core.hooks import Decision
from finery.core.rundir import Run
from finery.training.scoring import Scorer
from finery.training.trl import metrics
from finery.training.trl.phases import Phases

_STATE = "finery_state.pt"
_LIVE = {"entropy_coef": "entropy_coef", "kl_coef": "beta", "clip_low": "epsilon_low", "clip_high": "epsilon_high"}
"""Live settings that are plain attributes of the trainer; the learning rate lives in optimizer and scheduler."""
_SHOWN = (
    *("loss", "reward_mean", "preference_accuracy", "reward_margin", "kl_divergence", "entropy", "token_accuracy"),
    *("grad_norm", "learning_rate", "seconds_per_step"),
)
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
    finery_run: Run
    keep_last: int
    scorer: Scorer | None = None
    """The rewards, where the algorithm has any."""
    step_began = 0.0
    """`time.perf_counter` at the beginning of the present step."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.phases = Phases()
        super().__init__(*args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro batches of a step, which begins with them."""
        self.step_began = time.perf_counter()
        self.phases.enter("forward")
        return super().get_batch_samples(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass of a micro batch; what follows it is the optimizer's time."""
        self.phases.enter("forward")
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self.phases.enter("optimizer")
        return loss

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        """Around the loss, and only there: where it is left the backward pass begins."""
        stack: contextlib.ExitStack = super().compute_loss_context_manager()
        stack.callback(self.phases.enter, "backward")
        return stack

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what the trainer knows of a step, and where its time went."""
        logs.update({f"seconds_{name}": seconds for name, seconds in self.phases.take().items()})
        super().log(logs, *args, **kwargs)

    def close(self) -> None:
        """Give back what is held beside the model."""
        if self.scorer is not None:
            self.scorer.close()

    def exact_state(self) -> dict[str, Any]:
        """What a subclass needs besides the weights, optimizer, scheduler and global RNG."""
        live = {name: vars(self)[name] for name in self.live_names.values() if name in vars(self)}
        return {"total_train_tokens": self._total_train_tokens, "live": live}

    def restore_exact_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `exact_state`."""
        self._total_train_tokens = state["total_train_tokens"]
        for name, value in state["live"].items():
            setattr(self, name, value)
        if state["live"].get("entropy_coef", 0) > 0:
            self._entropy_bonus_enabled = True

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        step = self.state.global_step
        path = checkpoints.directory(self.finery_run.dir.checkpoints, step)
        checkpoints.remove(path)
        try:
            path.mkdir(parents=True)
            self.save_model(str(path), _internal_call=True)
            self.processing_class.save_pretrained(path)
            self._save_optimizer_and_scheduler(str(path))
            self._save_rng_state(str(path))
            self.state.save_to_json(str(path / TRAINER_STATE_NAME))
            torch.save(self.exact_state(), path / _STATE)
        except _DISK_ERRORS as error:
            self.finery_run.checkpoint_failed(path, step, error)
            return
        self.finery_run.checkpoint(
            path,
            engine="trl",
            format="hf-trainer",
            kind=self.checkpoint_kind,
            step=step,
            keep_last=self.keep_last,
        )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            # Our own file, and its hash was checked against the manifest before this attempt began.
            self.restore_exact_state(torch.load(Path(checkpoint) / _STATE, weights_only=False))


class Controls:
    """Live settings of a trainer."""

    def __init__(self, trainer: ExactTrainer):
        self._trainer = trainer

    def get(self) -> dict[str, float]:
        """Name -> value in effect."""
        found = {"learning_rate": float(self._trainer.optimizer.param_groups[0]["lr"])}
        for name, attribute in self._trainer.live_names.items():
            if attribute in vars(self._trainer):
                found[name] = float(vars(self._trainer)[attribute])
        return found

    def set(self, name: str, value: float) -> None:
        """Apply a change from the next step on."""
        if name not in self.get():
            raise ValueError(f"{name} cannot be changed here; live are {', '.join(self.get())}")
        if value < 0 or (name == "learning_rate" and value == 0):
            raise ValueError(f"{name} must be positive, but it is {value}")
        if name == "learning_rate":
            self._set_learning_rate(value)
            return
        if name == "kl_coef" and self.get()["kl_coef"] == 0:
            raise ValueError("kl_coef was 0 at the start, so no reference model is loaded")
        setattr(self._trainer, self._trainer.live_names[name], value)
        if name == "entropy_coef":
            self._trainer._entropy_bonus_enabled = value > 0

    def _set_learning_rate(self, value: float) -> None:
        """Scale the whole schedule so that the present step has this rate."""
        optimizer, scheduler = self._trainer.optimizer, self._trainer.lr_scheduler
        present = optimizer.param_groups[0]["lr"]
        if present == 0:
            raise ValueError("learning_rate cannot be changed now: the schedule is at 0, and it is scaled as a whole")
        factor = value / present
        scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
            group["initial_lr"] = group["initial_lr"] * factor
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


class StepCallback(TrainerCallback):
    """Reports each step and carries out what the hooks decide."""

    def __init__(self, run: Run, interval: int):
        self._run = run
        self._interval = interval
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
        self._run.status("running", step=state.global_step, total=args.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self._trainer is not None
        self._trainer.phases.enter(None)
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
        assert self._controls is not None
        values = {**metrics.ours(logs), "seconds_per_step": self._seconds}
        seen = values.get("tokens_seen", self._tokens_seen)
        if seen > self._tokens_seen and (self._tokens_seen or state.global_step == 1):
            values["tokens_per_second"] = (seen - self._tokens_seen) / self._seconds
        self._tokens_seen = seen
        self._run.log(values, state.global_step)
        print(_line(state.global_step, args.max_steps, values), flush=True)  # noqa: T201 - the attempt's own log
        self.decision = self._run.after_step(state.global_step, values, self._controls)
        is_last = state.global_step >= args.max_steps
        is_due = state.global_step % self._interval == 0
        if is_last or is_due or self.decision is not Decision.CONTINUE:
            control.should_save = True
        if self.decision in (Decision.PAUSE, Decision.CANCEL):
            control.should_training_stop = True


def _line(step: int, total: int, values: Mapping[str, float]) -> str:
    """One line of the log about a step: what a person looks at first."""
    shown = [f"{name} {values[name]:.4g}" for name in _SHOWN if name in values]
    return f"step {step}/{total}  " + "  ".join(shown)


def remove_native(run: Run) -> None:
    """Delete what the trainer left outside our layout."""
    shutil.rmtree(run.dir.path / "native", ignore_errors=True)
