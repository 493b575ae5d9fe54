"""Entry of the engine `verl`: one task, from a run directory to trained weights, as the driver of a Ray job.

The process is the attempt's child, as with every engine; what it asks Ray for runs in processes of their own, on one
machine or many.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import ray
from omegaconf import DictConfig

from finery.core import checkpoints
from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.models import loading
from finery.training.job import of_run
from finery.training.specs import TrainTask, processes
from finery.training.verl import checking, rewards, translating
from finery.training.verl.rewards import ATTEMPT
from finery.training.verl.sheet import Device, Inputs

_QUIET: Final = {
    "PYTHONWARNINGS": "ignore::UserWarning:verl.workers.engine",
    "TQ_LOGGING_LEVEL": "ERROR",
}
"""Keeps out of the log which optional engines verl lacks, and at each step how many threads are taken."""
CPU_ENVIRONMENT: Final = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "finery.training.verl.cpu",
    "VERL_ENGINE_DEVICE": "cuda",
}
"""What each process of a run on CPUs needs before it imports verl."""


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
    warnings.filterwarnings("ignore", category=UserWarning, module=r"verl\.workers\.engine")
    trainer = import_module("finery.training.verl.sft" if task.algorithm == "sft" else "finery.training.verl.running")
    trainer.execute(task, run)


def checkpoint_format(strategy: str) -> str:
    """Layout of the checkpoints that verl writes with a strategy."""
    return "verl-megatron" if strategy == "megatron" else "verl-fsdp"


def device(run: Run) -> Device:
    """What the run trains on. Without a word in the job file: what it was given of this machine, GPUs on a cluster."""
    resources = run.spec.job["resources"]
    if resources["device"] != "auto":
        found: Device = resources["device"]
        return found
    if resources["gpus"] is None:
        return "cuda" if run.spec.gpus or resources["cluster"] else "cpu"
    return "cuda" if resources["gpus"] else "cpu"


def environment(run: Run) -> dict[str, str]:
    """Variables of all processes of the run."""
    return {ATTEMPT: str(run.dir.path), **_QUIET, **(CPU_ENVIRONMENT if device(run) == "cpu" else {})}


def composed(task: TrainTask, run: Run, *, model: Path, train: Path, more: Mapping[str, Any]) -> DictConfig:
    """verl's whole configuration of the attempt, checked by verl and by us.

    Args:
        task: What to train.
        run: The attempt.
        model: Folder of the model.
        train: Parquet file.
        more: verl's keys that stand for how we run it, not for what the job file says.

    Raises:
        InvalidSpec: verl cannot honour a field.
    """
    from finery.training.verl.composing import compose  # noqa: PLC0415 - imports verl, which reads the environment

    resources, folder = run.spec.job["resources"], native(run)
    inputs = Inputs(
        model=model,
        train=train,
        output=folder / "checkpoints",
        seed=run.seed,
        device=device(run),
        processes_per_node=processes.number(gpus=resources["gpus"], processes=resources["processes"]),
        nodes=resources["nodes"],
        reward_file=Path(rewards.__file__),
        reward_function=rewards.score.__name__,
        resume_from=_linked(run, folder, task) if run.resume_from else None,
        is_ours=True,
    )
    translation = translating.translate(of_run(task, run.spec.job), inputs=inputs)
    checking.check(translation, inputs=inputs)
    for note in translation.notes:
        run.note(note)
    os.environ.update(translation.environment)
    return compose(replace(translation, settings={**translation.settings, **more}))


def _linked(run: Run, folder: Path, task: TrainTask) -> Path:
    """The checkpoint to go on from under the name that verl wants, which ends with its number of steps."""
    assert run.resume_from is not None
    manifest = checkpoints.read_manifest(run.resume_from)
    assert manifest is not None
    link = folder / f"global_step_{manifest.step // getattr(task, 'steps_per_batch', 1)}"
    link.unlink(missing_ok=True)
    link.symlink_to(run.resume_from)
    return link


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
def connected(run: Run, config: DictConfig) -> Iterator[None]:
    """Be the driver of a Ray job: of the cluster that started this process, else of one of its own."""
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env  # noqa: PLC0415

    runtime = get_ppo_ray_runtime_env(config)
    runtime["env_vars"] |= {**environment(run), "TRANSFER_QUEUE_ENABLE": "1"}
    is_inside = "RAY_ADDRESS" in os.environ
    alone: dict[str, Any] = {} if is_inside else {"num_cpus": 32, "include_dashboard": False}
    if not is_inside and device(run) == "cpu":
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray compares it with the number that it is told
        alone["num_gpus"] = config.trainer.n_gpus_per_node
    ray.init(runtime_env=runtime, log_to_driver=True, logging_level=logging.WARNING, **alone)
    try:
        yield
    finally:
        ray.shutdown()
