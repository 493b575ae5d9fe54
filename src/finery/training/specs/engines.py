"""Fields that only a cluster's engine honours, refused elsewhere before a job runs. Pure."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from finery.training.specs.base import DrawSpec, RolloutSpec
from finery.training.specs.parallel import ParallelSpec
from finery.training.specs.policy_gradient import PolicyGradientSpec

_OF_RESOURCES: Final = ("nodes", "device", "cluster")


def check(task: BaseModel, resources: Any) -> None:
    """Refuse a task of the engine `trl` that asks for what only `verl` does, on one machine or many.

    Args:
        task: A training task.
        resources: `resources` of the job file, as a spec or as plain values with these attributes.

    Raises:
        ValueError: names the first field, and what would be right.
    """
    if getattr(task, "engine", "auto") == "verl":
        return
    if isinstance(task, PolicyGradientSpec):
        raise ValueError(f"only engine verl has algorithm {task.algorithm}; set task.engine: verl")
    for path, value, default in _fields(task, resources):
        if value != default:
            shown = "null" if default is None else default
            raise ValueError(f"only engine verl honours {path} ({value}); set task.engine: verl, or {path}: {shown}")


def _fields(task: BaseModel, resources: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path, value and default of each field that is verl's alone."""
    rollout, parallel = getattr(task, "rollout", None), getattr(task, "parallel", None)
    if isinstance(rollout, RolloutSpec):
        for name, field in RolloutSpec.model_fields.items():
            if name not in DrawSpec.model_fields:
                yield f"task.rollout.{name}", getattr(rollout, name), field.default
    if isinstance(parallel, ParallelSpec):
        for name, field in ParallelSpec.model_fields.items():
            yield f"task.parallel.{name}", getattr(parallel, name), field.default
    defaults = {"nodes": 1, "device": "auto", "cluster": None}
    for name in _OF_RESOURCES:
        yield f"resources.{name}", getattr(resources, name, defaults[name]), defaults[name]
