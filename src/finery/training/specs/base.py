"""What the algorithms' specs are made of."""

from typing import Any, Literal

from pydantic import Field

from finery.core.spec import ADVANCED, Spec

EngineName = Literal["auto", "trl", "verl"]


class DataSpec(Spec):
    """What is trained on."""

    train: str = Field(min_length=1)
    """A dataset version (`arithmetic@1`; `arithmetic` takes the newest and pins it), or a file (`./train.jsonl`)."""
    max_prompt_tokens: int = Field(512, ge=1)
    """Longer prompts are cut on the left."""
    max_tokens: int = Field(1024, ge=2)
    """Prompt and response together; longer rows are cut on the right (SFT)."""
    shuffle: bool = Field(True, json_schema_extra=ADVANCED)
    """Visit rows in an order drawn from the job's seed; otherwise in file order."""


class OptimSpec(Spec):
    """AdamW (arXiv:1711.05101) and its schedule."""

    learning_rate: float = Field(1e-5, gt=0)
    steps: int = Field(60, ge=1)
    """Optimizer steps in all."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: stay, or fall to zero at the last step."""
    weight_decay: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    beta1: float = Field(0.9, ge=0, lt=1, json_schema_extra=ADVANCED)
    beta2: float = Field(0.999, ge=0, lt=1, json_schema_extra=ADVANCED)
    epsilon: float = Field(1e-8, gt=0, json_schema_extra=ADVANCED)
    max_grad_norm: float = Field(1.0, ge=0, json_schema_extra=ADVANCED)
    """Gradients are scaled down to this L2 norm; 0 leaves them."""


class RewardSpec(Spec):
    """One part of the reward."""

    name: str
    """Name in the reward registry: `math_equal`, `exact`, `choice`, `format`, `length`, `repetition`."""
    weight: float = 1.0
    params: dict[str, Any] = {}
    """Checked against the reward's params model."""


class RolloutSpec(Spec):
    """How completions are drawn from the policy."""

    completions_per_prompt: int = Field(8, ge=2)
    """Size of a group. The group's mean reward is the baseline, so one is not enough."""
    max_new_tokens: int = Field(96, ge=1)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1, json_schema_extra=ADVANCED)
    top_k: int = Field(0, ge=0, json_schema_extra=ADVANCED)
    """0 considers every token."""


def check_micro_batch(batch: int, micro: int | None, name: str) -> None:
    """Refuse a batch that does not fall into whole micro batches."""
    if micro and batch % micro:
        raise ValueError(f"{name} ({batch}) must be a multiple of micro_batch_size ({micro})")
