"""Runs a training task in the child: picks the engine and imports it there."""

from importlib import import_module
from typing import Final

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.training import ranks
from finery.training.specs import TrainTask, processes

ENGINES: Final = {"trl": "finery.training.trl.engine"}
"""Closed set, by module name: the platform's own processes never import an engine."""


def execute(task: TrainTask, run: Run) -> None:
    """Train.

    Raises:
        InvalidSpec: the engine is not there or cannot honour a field.
        RankFailed: it is trained by several processes, and one has failed.
        Stopped: a pause or cancel was asked for and a checkpoint was saved.
    """
    name = "trl" if task.engine == "auto" else task.engine
    if name not in ENGINES:
        raise InvalidSpec(f"engine {name!r} is not available in this version; use engine: trl")
    engine = import_module(ENGINES[name])
    resources = run.spec.job["resources"]
    num = processes.number(gpus=resources["gpus"], processes=resources.get("processes"))
    with ranks.started(run, num, ENGINES[name], modules=engine.modules(task)):
        engine.execute(task, run)
