"""Job files of engine verl as specs, for the tests of its translation."""

from pathlib import Path
from typing import Any

from finery.core.spec import parse
from finery.jobs.specs import TrainJob
from finery.training.verl import translating
from finery.training.verl.sheet import Device, Inputs, Translation

REWARDED: dict[str, Any] = {"rewards": [{"name": "math_equal"}, {"name": "format", "weight": 0.2}]}


def job(task: dict[str, Any], *, resources: dict[str, Any] | None = None, **more: Any) -> TrainJob:
    """A training job; what the task leaves out is small and valid."""
    own = {"engine": "verl", "model": {"base": "tiny-char"}, "data": {"train": "arithmetic@1"}}
    rewarded = {} if task["algorithm"] in ("sft", "dpo") else REWARDED
    raw = {"name": "sums", "kind": "train", "task": {**own, **rewarded, **task}, "resources": resources or {"gpus": 0}}
    made: TrainJob = parse(TrainJob, {**raw, "seed": 7, **more})
    return made


def inputs(device: Device = "cpu", processes: int = 1, nodes: int = 1, **more: Any) -> Inputs:
    """Places that are nowhere, on so many machines."""
    return Inputs(
        model=Path("/models/tiny"),
        train=Path("/data/train.parquet"),
        output=Path("/out"),
        seed=7,
        device=device,
        processes_per_node=processes,
        nodes=nodes,
        **{"reward_file": Path("/code/rewards.py"), **more},
    )


def translated(task: dict[str, Any], device: Device = "cpu", processes: int = 1, **more: Any) -> Translation:
    """A task in verl's words, on one machine."""
    return translating.translate(job(task), inputs=inputs(device, processes, **more))
