"""What translators and exporters read of a training job: the job file itself has this shape. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from finery.training.specs import TrainTask


class Resources(Protocol):
    """`resources` of a job file."""

    @property
    def gpus(self) -> int | None: ...
    @property
    def processes(self) -> int | None: ...
    @property
    def nodes(self) -> int: ...
    @property
    def device(self) -> str: ...


class Monitoring(Protocol):
    """`monitoring` of a job file, as far as engines are told of it."""

    @property
    def checkpoint_interval(self) -> int: ...
    @property
    def keep_checkpoints(self) -> int: ...
    @property
    def activations(self) -> bool: ...


class Job(Protocol):
    """A training job. `finery.jobs.specs.TrainJob` is one; this layer must not import it."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> TrainTask: ...
    @property
    def resources(self) -> Resources: ...
    @property
    def monitoring(self) -> Monitoring: ...
    @property
    def seed(self) -> int | None: ...


@dataclass(frozen=True)
class _Read:
    name: str
    task: TrainTask
    resources: Any
    monitoring: Any
    seed: int | None


def of_run(task: TrainTask, raw: Mapping[str, Any]) -> Job:
    """The job of a run directory: its task as a spec, and the complete job file as plain data (`run.spec.job`)."""
    resources = {"nodes": 1, "device": "auto", "processes": None, **raw["resources"]}
    return _Read(
        name=raw["name"],
        task=task,
        resources=SimpleNamespace(**resources),
        monitoring=SimpleNamespace(**{"activations": False, **raw["monitoring"]}),
        seed=raw.get("seed"),
    )
