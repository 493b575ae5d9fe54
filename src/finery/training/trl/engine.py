"""Entry of the engine `trl`: one task, from a run directory to trained weights."""

import warnings
from contextlib import closing
from importlib import import_module
from types import SimpleNamespace
from typing import Final

import transformers

from finery.core import checkpoints
from finery.core.errors import InvalidSpec
from finery.core.hooks import Decision
from finery.core.retention import Retention
from finery.core.rundir import Run, Stopped
from finery.training import world
from finery.training.memory import largest_pass
from finery.training.specs import TrainTask, engines
from finery.training.trl import setup
from finery.training.trl.guards import GradientGuard, memory_watched
from finery.training.trl.steps import StepCallback, remove_native

TRAINERS: Final = {
    **{name: name for name in ("sft", "reward", "dpo", "kto", "orpo")},
    **{"grpo": "grpo", "gspo": "grpo", "dapo": "dapo", "rloo": "rloo", "ppo": "ppo"},
}
"""Algorithm -> module beside this one; its `make_trainer(task, run, loaded)` gives one ready to start or to resume."""


def modules(task: TrainTask) -> tuple[str, ...]:
    """What is imported to train a task.

    Raises:
        InvalidSpec: this engine has no such algorithm.
    """
    if task.algorithm not in TRAINERS:
        raise InvalidSpec(f"engine trl has no algorithm {task.algorithm}; set task.engine: verl")
    return (__name__, f"finery.training.trl.{TRAINERS[task.algorithm]}")


def execute(task: TrainTask, run: Run) -> None:
    """Train to the last step, or to the step after which a stop was asked for; in each process of several alike.

    Raises:
        InvalidSpec: the checkpoint to go on from was saved by another number of processes.
        Stopped: a pause or cancel was asked for; the checkpoint of that step is saved.
        OutOfMemory, NoGradient: it cannot go on.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    warnings.filterwarnings("ignore", message=r"(?s).*trl\.experimental")
    if world.rank() == 0:
        transformers.logging.set_verbosity_warning()
    else:  # what it warns of has been said
        transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if world.rank() == 0:
        checkpoints.remove_debris(run.dir.checkpoints)
    _check_resume(run)
    _check_fields(task, run)
    monitoring = run.spec.job["monitoring"]
    with memory_watched(task, f"loading {task.model.base}"):
        with world.first():
            loaded = setup.load(task, run)
        trainer = import_module(f"finery.training.trl.{TRAINERS[task.algorithm]}").make_trainer(task, run, loaded)
    if task.model.quantize != "none":
        setup.keep_precision(trainer.model)
    world.start_alike(parameter for parameter in trainer.model.parameters() if parameter.requires_grad)
    if world.rank() > 0:
        transformers.set_seed(world.seed(run.seed))
    trainer.finery_run = run
    trainer.retention = Retention(monitoring["keep_checkpoints"], monitoring.get("keep_every"))
    trainer.checkpoint_interval = monitoring["checkpoint_interval"]
    trainer.ema_decay = task.optim.ema_decay
    evaluation = monitoring.get("evaluation")
    if evaluation is not None:
        trainer.evaluation_interval = evaluation["every_steps"] or 0
        trainer.evaluation_hours = evaluation["every_hours"] or 0.0
    steps = StepCallback(run)
    steps.attach(trainer)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(GradientGuard(run, task, trainer.gate))
    trainer.add_callback(steps)
    with closing(trainer), memory_watched(task, f"training at {largest_pass(task.model_dump(), world.size())}"):
        trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
    if world.rank() == 0:
        remove_native(run)
    is_early = trainer.state.global_step < task.optim.steps
    if steps.decision is Decision.ROLLBACK or (is_early and steps.decision in (Decision.PAUSE, Decision.CANCEL)):
        raise Stopped(steps.decision)


def _check_fields(task: TrainTask, run: Run) -> None:
    """Refuse what only another engine does, in a job file that was checked by nobody."""
    try:
        engines.check(task, SimpleNamespace(**run.spec.job["resources"]))
    except ValueError as error:
        raise InvalidSpec(str(error)) from error


def _check_resume(run: Run) -> None:
    """Refuse a checkpoint whose random streams and buffers are those of another number of processes."""
    manifest = checkpoints.read_manifest(run.resume_from) if run.resume_from else None
    if manifest is not None and manifest.world_size != world.size():
        raise InvalidSpec(
            f"the checkpoint of step {manifest.step} was saved by {manifest.world_size} processes and this attempt has "
            f"{world.size()}; set resources.processes: {manifest.world_size}, or start a new job with the checkpoint "
            "as model.base"
        )
