"""Runs a training task in the child: picks the engine and imports it there."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.training.specs import TrainTask, processes

ENGINES: Final = {"trl": "finery.training.trl.engine", "verl": "finery.training.verl.engine"}
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
        raise InvalidSpec(f"engine {name!r} is not available in this version; use one of {', '.join(ENGINES)}")
    if name == "verl":
        # Its ranks are actors that Ray starts where there is room; this process is their driver.
        if find_spec("verl") is None:
            raise InvalidSpec(
                f"there is no verl in {sys.executable}; `make verl` builds an environment that has it, and "
                "FINERY_VERL_PYTHON names another one"
            )
        import_module(ENGINES[name]).execute(task, run)
        return
    from finery.training import ranks  # noqa: PLC0415 - imports torch, which the driver of a cluster has no use for

    with _bitsandbytes_quickly(task):
        engine = import_module(ENGINES[name])
    resources = run.spec.job["resources"]
    num = processes.number(gpus=resources["gpus"], processes=resources.get("processes"))
    with ranks.started(run, num, ENGINES[name], modules=engine.modules(task)):
        engine.execute(task, run)


@contextmanager
def _bitsandbytes_quickly(task: TrainTask) -> Iterator[None]:
    """Import it without torch's compiler where the task has no use for it.

    peft imports it in any case; for functions that only 8-bit optimizers and quantized weights call on a CPU it hands
    code to torch.compile at once, which imports inductor: 2.3 of the 9.1 s of processor time in which an engine is
    imported (torch 2.13.0, bitsandbytes 0.50.2).
    """
    switch = "TORCHDYNAMO_DISABLE"
    text = task.model_dump_json()
    if switch in os.environ or any(word in text for word in ("8bit", "int8", "nf4")):
        yield
        return
    os.environ[switch] = "1"
    try:
        yield
    finally:
        del os.environ[switch]
