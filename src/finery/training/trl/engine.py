"""Entry of the engine `trl`: one task, from a run directory to trained weights."""

import warnings
from importlib import import_module
from typing import Final

import transformers

from finery.core import checkpoints
from finery.core.hooks import Decision
from finery.core.rundir import Run, Stopped
from finery.training.specs import TrainTask
from finery.training.trl import setup
from finery.training.trl.steps import StepCallback, remove_native

TRAINERS: Final = {"sft": "sft", "grpo": "grpo"}
"""Algorithm -> module beside this one; its `make_trainer(task, run, loaded)` gives one ready to start or to resume."""


def execute(task: TrainTask, run: Run) -> None:
    """Train to the last step, or to the step after which a stop was asked for.

    Raises:
        Stopped: a pause or cancel was asked for; the checkpoint of that step is saved.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()
    checkpoints.remove_debris(run.dir.checkpoints)
    monitoring = run.spec.job["monitoring"]
    loaded = setup.load(task, run)
    trainer = import_module(f"finery.training.trl.{TRAINERS[task.algorithm]}").make_trainer(task, run, loaded)
    trainer.finery_run = run
    trainer.keep_last = monitoring["keep_checkpoints"]
    steps = StepCallback(run, monitoring["checkpoint_interval"])
    steps.attach(trainer)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(steps)
    trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
    remove_native(run)
    is_early = trainer.state.global_step < task.optim.steps
    if is_early and steps.decision in (Decision.PAUSE, Decision.CANCEL):
        raise Stopped(steps.decision)
