"""Entry of the engine `verl`: one task, from a run directory to trained weights, as the driver of a Ray job.

The process is the attempt's child, as with every engine; what it asks Ray for runs in processes of their own, on one
machine or many.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import ray

from finery.core import checkpoints
from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.models import loading
from finery.training.specs import TrainTask
from finery.training.verl.rewards import ATTEMPT

CPU_ENVIRONMENT: Final = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "finery.training.verl.cpu",
    "VERL_ENGINE_DEVICE": "cuda",
}
"""What each process of a run on CPUs needs before it imports verl."""
FORMATS: Final = {"megatron": "verl-megatron"}
"""Strategy -> layout of the checkpoints; else `verl-fsdp`."""


def modules(task: TrainTask) -> tuple[str, ...]:
    """What is imported to train a task."""
    return (__name__,)


def native(run: Run) -> Path:
    """Where verl's own files lie while it trains: the model, the data, a checkpoint that is being written."""
    folder = run.dir.path / "native"
    folder.mkdir(exist_ok=True)
    return folder


def execute(task: TrainTask, run: Run) -> None:
    """Train to the last step, or to the step after which a stop was asked for.

    Raises:
        InvalidSpec: verl cannot honour a field, or the checkpoint to go on from is of another number of ranks.
        Stopped: a stop was asked for; the checkpoint of that step is saved.
    """
    checkpoints.remove_debris(run.dir.checkpoints)
    os.environ.update(environment(run))
    trainer = import_module("finery.training.verl.sft" if task.algorithm == "sft" else "finery.training.verl.running")
    trainer.execute(task, run)


def environment(run: Run) -> dict[str, str]:
    """Variables of all processes of the run."""
    on_cpu = run.spec.job["resources"].get("device") == "cpu" or run.spec.job["resources"]["gpus"] == 0
    return {ATTEMPT: str(run.dir.path), **(CPU_ENVIRONMENT if on_cpu else {})}


def check_resume(run: Run, world_size: int) -> None:
    """Refuse a checkpoint whose shards are those of another number of ranks."""
    manifest = checkpoints.read_manifest(run.resume_from) if run.resume_from else None
    if manifest is None:
        return
    if manifest.engine != "verl":
        raise InvalidSpec(
            f"the checkpoint of step {manifest.step} was saved by the engine {manifest.engine}; set engine: "
            f"{manifest.engine}, or start a new job with the checkpoint as model.base"
        )
    if manifest.world_size != world_size:
        raise InvalidSpec(
            f"the checkpoint of step {manifest.step} was saved by {manifest.world_size} ranks and this attempt has "
            f"{world_size}; give it as many, or start a new job with the checkpoint as model.base"
        )


def prepared_model(task: TrainTask, run: Run) -> Path:
    """A folder with the weights as they are, and the tokenizer with the template that the job file asks for."""
    source = loading.materialize(run.input(task.model.base), task.model.base)
    folder = native(run) / "model"
    folder.mkdir(exist_ok=True)
    for file in source.iterdir():
        target = folder / file.name
        if file.is_file() and not target.exists():
            target.symlink_to(file)
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
    for name in names:
        (folder / name).unlink(missing_ok=True)
    loading.load_tokenizer(source, task.model.template).save_pretrained(folder)
    return folder


@contextmanager
def connected(run: Run, config: Any, *, on_cpu: bool) -> Iterator[None]:
    """Be the driver of a Ray job: of the cluster that started this process, else of one of its own."""
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env  # noqa: PLC0415

    runtime = get_ppo_ray_runtime_env(config)
    runtime["env_vars"] |= {**environment(run), "TRANSFER_QUEUE_ENABLE": "1"}
    is_inside = "RAY_ADDRESS" in os.environ
    alone: dict[str, Any] = {} if is_inside else {"num_cpus": 32, "include_dashboard": False}
    if not is_inside and on_cpu:
        alone["num_gpus"] = config.trainer.n_gpus_per_node
    ray.init(runtime_env=runtime, log_to_driver=True, logging_level=logging.WARNING, **alone)
    try:
        yield
    finally:
        ray.shutdown()
