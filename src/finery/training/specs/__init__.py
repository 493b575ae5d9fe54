"""The algorithms, each a spec of its own, with every semantic default; all are passed to the engine explicitly."""

from typing import Annotated

from pydantic import Field

from finery.training.specs.base import DataSpec, EngineName, OptimSpec, RewardSpec, RolloutSpec
from finery.training.specs.grpo import GrpoSpec
from finery.training.specs.sft import SftSpec

__all__ = [
    "DataSpec",
    "EngineName",
    "GrpoSpec",
    "OptimSpec",
    "RewardSpec",
    "RolloutSpec",
    "SftSpec",
    "TrainTask",
]

TrainTask = Annotated[SftSpec | GrpoSpec, Field(discriminator="algorithm")]
"""Closed set: a new algorithm is one spec here and one entry in each engine's table."""
