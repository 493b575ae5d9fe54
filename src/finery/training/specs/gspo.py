"""Spec of group sequence policy optimization."""

from typing import ClassVar, Literal

from pydantic import Field

from finery.core.spec import ADVANCED
from finery.training.specs.groups import ReferencedSpec


class GspoSpec(ReferencedSpec):
    """Group sequence policy optimization (arXiv:2507.18071): probability ratios of whole completions."""

    loss_type: ClassVar = "grpo"
    ratio_level: ClassVar = "sequence"
    scale_rewards: ClassVar = "group"
    entropy_coef: ClassVar = 0.0
    top_entropy_quantile: ClassVar = 1.0
    max_ratio: ClassVar = None

    algorithm: Literal["gspo"]
    mask_truncated: bool = Field(False, json_schema_extra=ADVANCED)
    """Whether completions that ran into `rollout.max_new_tokens` carry no loss."""
    clip_low: float = Field(3e-4, gt=0, lt=1, json_schema_extra=ADVANCED)
    """Completions whose ratio (geometric mean over the tokens) is below 1 - clip_low get no gradient."""
    clip_high: float = Field(4e-4, gt=0, json_schema_extra=ADVANCED)
    """Completions whose ratio is above 1 + clip_high get no gradient."""
