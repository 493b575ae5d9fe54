"""Spec of REINFORCE leave-one-out."""

from typing import Literal

from pydantic import Field

from finery.core.spec import ADVANCED
from finery.training.specs.groups import ReferencedSpec


class RlooSpec(ReferencedSpec):
    """REINFORCE leave-one-out (arXiv:2402.14740): the baseline of a completion is the mean reward of the others of its
    group. The KL term is part of the reward: `kl_coef` times the log-ratio of the whole completion to the reference."""

    algorithm: Literal["rloo"]
    normalize_advantages: bool = Field(False, json_schema_extra=ADVANCED)
    """Bring the advantages of a batch to mean 0 and standard deviation 1."""
    mask_truncated: bool = Field(False, json_schema_extra=ADVANCED)
    """Whether completions that ran into `rollout.max_new_tokens` carry no loss."""
    clip_low: float = Field(0.2, gt=0, lt=1, json_schema_extra=ADVANCED)
    """Completions whose probability ratio is below 1 - clip_low get no gradient; with one iteration it is always 1."""
    clip_high: float = Field(0.2, gt=0, json_schema_extra=ADVANCED)
    """Completions whose probability ratio is above 1 + clip_high get no gradient."""
