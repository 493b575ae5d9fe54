"""Entry of the engine `trl`: one task, from a run directory to trained weights."""

import warnings
from contextlib import closing
from importlib import import_module
from typing import Final

import transformers

from finery.core import checkpoints
from finery.core.hooks import Decision
from finery.core.rundir import Run, Stopped
from finery.training.memory import largest_pass
from finery.training.specs import TrainTask
from finery.training.trl import setup
from finery.training.trl.guards import GradientGuard, memory_watched
from finery.training.trl.steps import StepCallback, remove_native

TRAINERS: Final = {
    **{name: name for name in ("sft", "reward", "dpo", "kto", "orpo")},
    **{"grpo": "grpo", "gspo": "grpo", "dapo": "dapo", "rloo": "rloo", "ppo": "ppo"},
}
"""Algorithm -> module beside this one; its `make_trainer(task, run, loaded)` gives one ready to start or to resume."""


def execute(task: TrainTask, run: Run) -> None:
    """Train to the last step, or to the step after which a stop was asked for.

    Raises:
        Stopped: a pause or cancel was asked for; the checkpoint of that step is saved.
        OutOfMemory, NoGradient: it cannot go on.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    warnings.filterwarnings("ignore", message=r"(?s).*trl\.experimental")
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()
    checkpoints.remove_debris(run.dir.checkpoints)
    monitoring = run.spec.job["monitoring"]
    with memory_watched(task, f"loading {task.model.base}"):
        loaded = setup.load(task, run)
        trainer = import_module(f"finery.training.trl.{TRAINERS[task.algorithm]}").make_trainer(task, run, loaded)
    if task.model.quantize != "none":
        setup.keep_precision(trainer.model)
    trainer.finery_run = run
    trainer.keep_last = monitoring["keep_checkpoints"]
    steps = StepCallback(run, monitoring["checkpoint_interval"])
    steps.attach(trainer)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(GradientGuard(run, task))
    trainer.add_callback(steps)
    with closing(trainer), memory_watched(task, f"training at {largest_pass(task.model_dump())}"):
        trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
    remove_native(run)
    is_early = trainer.state.global_step < task.optim.steps
    if is_early and steps.decision in (Decision.PAUSE, Decision.CANCEL):
        raise Stopped(steps.decision)
