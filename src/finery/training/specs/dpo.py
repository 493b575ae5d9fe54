"""Spec of direct preference optimization."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED
from finery.training.specs.preference import PreferenceSpec

_SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")
SORTED = ("aot", "aot_unpaired")


class DpoSpec(PreferenceSpec):
    """Direct preference optimization (arXiv:2305.18290): pairs of answers, no reward model.

    The reference is the starting model: with LoRA the adapter switched off, otherwise a frozen copy.
    """

    algorithm: Literal["dpo"]
    beta: float = Field(0.1, gt=0)
    """How strongly the policy is held to the reference; of `ipo` its regularization."""
    loss_type: Literal[
        "sigmoid",
        "hinge",
        "ipo",
        "robust",
        "exo_pair",
        "nca_pair",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
        "apo_zero",
        "apo_down",
        "discopop",
        "sigmoid_norm",
    ] = Field("sigmoid", json_schema_extra=ADVANCED)
    """What is made of a pair's log-ratios: logistic (sigmoid, the paper's; sigmoid_norm per token), a hinge
    (arXiv:2309.06657), squared (ipo, arXiv:2310.12036), for labels that may be flipped (robust, arXiv:2403.00409),
    a divergence to the labels (exo_pair, arXiv:2402.00856), each answer for itself (nca_pair, arXiv:2402.05369;
    bco_pair, arXiv:2404.04656; sppo_hard, arXiv:2405.00675; apo_zero and apo_down, arXiv:2408.06266), sorted over the
    micro batch (aot and aot_unpaired, arXiv:2406.05882), found by search (discopop, arXiv:2406.08414)."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, json_schema_extra=ADVANCED)
    """Share of pairs whose label is taken to be flipped; of robust, exo_pair, aot and aot_unpaired only."""
    native: dict[str, Any] = Field({}, json_schema_extra=ADVANCED)
    """Overrides under the engine's own names (TRL's DPOConfig), checked against its config class."""

    @model_validator(mode="after")
    def _smoothing_fits_the_loss(self) -> Self:
        if self.label_smoothing and self.loss_type not in _SMOOTHED:
            raise ValueError(
                f"loss_type {self.loss_type} has no label_smoothing; set loss_type: robust, or label_smoothing: 0"
            )
        if self.loss_type == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss_type exo_pair needs label_smoothing above 0; its paper takes 0.001")
        return self

    @model_validator(mode="after")
    def _sorted_losses_see_the_batch(self) -> Self:
        if self.loss_type in SORTED and self.micro_batch_size not in (None, self.batch_size):
            raise ValueError(
                f"loss_type {self.loss_type} sorts the rows that are computed together, so micro_batch_size would "
                "change the loss; leave it out, or set another loss_type"
            )
        return self
