"""Spec of a comparison of policies, and its outcome."""

from typing import Any

from pydantic import Field

from finery.core.refs import ModelRef
from finery.core.spec import ADVANCED, View
from finery.models.specs import ModelSpec
from finery.training.specs.base import DrawSpec, Rewarded


class AnswerSpec(DrawSpec):
    """How answers are drawn from each model."""

    completions_per_prompt: int = Field(1, ge=1)
    """Answers of each model to each prompt."""


class CompareSpec(Rewarded):
    """Let several models answer the same prompts; score every answer, and measure how far each model has gone."""

    model: ModelSpec
    """What the others are compared to: the model that they were trained from."""
    candidates: dict[str, ModelRef] = Field(min_length=1, max_length=20)
    """Name in the table -> a model or checkpoint, as in `model.base`."""
    data: str = Field(min_length=1)
    """Prompts that nothing was trained on: a dataset version or a file."""
    max_prompt_tokens: int = Field(512, ge=1)
    """Longer prompts are cut on the left."""
    rollout: AnswerSpec = AnswerSpec()
    limit: int | None = Field(None, ge=1)
    """First n prompts only."""
    batch_size: int = Field(64, ge=1, json_schema_extra=ADVANCED)
    """Answers drawn at once."""
    micro_batch_size: int = Field(8, ge=1, json_schema_extra=ADVANCED)
    """Answers whose divergence is measured at once; this needs two whole distributions per token."""


class RewardMean(View):
    """One reward over all answers of a model."""

    mean: float
    interval: tuple[float, float] | None
    """95 % interval of the mean, from the prompts' means (normal approximation). None with a single prompt."""
    change: float | None
    """Relative to the first model's mean over the prompts that both were scored for: 1.5 is 150 % more. None for the
    first model, or where its mean is not above 0."""
    win_rate: float | None
    """Share of prompts with a higher reward than the first model's, ties counted half. None for the first model."""


class TrainingFacts(View):
    """What it took to train a checkpoint, over all attempts of its job."""

    steps: int
    seconds: float
    """Time in optimizer steps, rollouts included."""
    peak_memory_bytes: float | None
    """Most resident memory of the job's processes at a time, as sampled; None where nothing was sampled."""
    reward_model_bytes: float | None
    """Weights of the reward model that it was trained against; None where there was none."""


class PolicyRow(View):
    """One model of the comparison."""

    name: str
    model: str
    """Reference as in the job file."""
    num_answers: int
    rewards: dict[str, RewardMean]
    kl: float | None
    """Divergence from the first model per token, in nats: KL(model || first) of the whole distribution at each token
    that the model drew, mean over tokens. None where that is no finite number."""
    response_length_mean: float
    """Tokens."""
    model_bytes: int
    """Of the files that hold the weights; for an adapter, of the adapter alone."""
    training: TrainingFacts | None
    """None where the model is no checkpoint of a job."""
    reward_per_gigabyte: float | None
    """Gain of the first reward over the first model, per 10^9 bytes of peak memory in training. None without both."""


class PolicyTable(View):
    """Outcome of a comparison; the first row is what the others are compared to."""

    data: str
    num_prompts: int
    sampling: dict[str, Any]
    rows: list[PolicyRow]
