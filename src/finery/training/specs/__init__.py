"""The algorithms, each a spec of its own, with every semantic default; all are passed to the engine explicitly."""

from typing import Annotated

from pydantic import Field

from finery.training.specs.base import DataSpec, EngineName, OptimSpec, RewardSpec, RolloutSpec
from finery.training.specs.compare import CompareSpec, PolicyTable
from finery.training.specs.dapo import DapoSpec
from finery.training.specs.dpo import DpoSpec
from finery.training.specs.grpo import GrpoSpec
from finery.training.specs.gspo import GspoSpec
from finery.training.specs.kto import KtoSpec
from finery.training.specs.orpo import OrpoSpec
from finery.training.specs.parallel import ParallelSpec
from finery.training.specs.policy_gradient import PolicyGradientSpec
from finery.training.specs.ppo import PpoSpec
from finery.training.specs.reward import RewardModelSpec
from finery.training.specs.rloo import RlooSpec
from finery.training.specs.sft import SftSpec

__all__ = [
    "CompareSpec",
    "DapoSpec",
    "DataSpec",
    "DpoSpec",
    "EngineName",
    "GrpoSpec",
    "GspoSpec",
    "KtoSpec",
    "OptimSpec",
    "OrpoSpec",
    "ParallelSpec",
    "PolicyGradientSpec",
    "PolicyTable",
    "PpoSpec",
    "RewardModelSpec",
    "RewardSpec",
    "RlooSpec",
    "RolloutSpec",
    "SftSpec",
    "TrainTask",
]

TrainTask = Annotated[
    SftSpec
    | RewardModelSpec
    | DpoSpec
    | KtoSpec
    | OrpoSpec
    | GrpoSpec
    | GspoSpec
    | DapoSpec
    | RlooSpec
    | PolicyGradientSpec
    | PpoSpec,
    Field(discriminator="algorithm"),
]
"""Closed set: a new algorithm is one spec here and one entry in each engine's table."""
