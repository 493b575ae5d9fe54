"""Spec of proximal policy optimization."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec
from finery.models.specs import ModelSpec
from finery.training.specs.base import DataSpec, EngineName, OptimSpec, Rewarded, RolloutSpec, check_micro_batch
from finery.training.specs.parallel import ParallelSpec


class PpoRolloutSpec(RolloutSpec):
    """How completions are drawn from the policy."""

    completions_per_prompt: int = Field(1, ge=1)
    """Completions of each prompt. The critic is the baseline, so one is enough."""


class CriticSpec(Spec):
    """What predicts the rewards that are still to come, and so gives advantages their baseline."""

    kind: Literal["shared", "separate"] = "shared"
    """`shared` is a value head on the actor's own layers: next to no memory, and its loss trains those layers too.
    `separate` is a model of its own: as much memory again, and neither disturbs the other."""
    start: Literal["actor", "reward_model"] = "actor"
    """Weights that a separate critic starts from: those of the actor, or those of the first reward `reward_model`,
    head included. It is trained in full, or with update matrices where the actor is."""
    learning_rate: float | None = Field(None, gt=0)
    """Of the value head and of a separate critic; None takes `optim.learning_rate`. The schedule is the same."""


class PpoSpec(Rewarded):
    """Proximal policy optimization (arXiv:1707.06347), with rewards as in arXiv:1909.08593."""

    algorithm: Literal["ppo"]
    engine: EngineName = Field("auto", json_schema_extra=ADVANCED)
    model: ModelSpec
    data: DataSpec
    optim: OptimSpec = OptimSpec()
    critic: CriticSpec = CriticSpec()
    rollout: PpoRolloutSpec = PpoRolloutSpec()
    parallel: ParallelSpec = Field(ParallelSpec(), json_schema_extra=ADVANCED)
    """How the model is split over GPUs (engine verl)."""
    prompts_per_batch: int = Field(64, ge=1)
    """Prompts per batch of rollouts; each gets `rollout.completions_per_prompt` completions."""
    mini_batch_size: int | None = Field(None, ge=1)
    """Completions per optimizer step; None takes the whole batch of rollouts."""
    micro_batch_size: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Completions per forward and backward pass; None takes the whole mini batch. Does not change the mathematics."""
    num_iterations: int = Field(4, ge=1)
    """Passes over each batch of rollouts, in mini batches of a new order each time."""
    gamma: float = Field(1.0, gt=0, le=1, json_schema_extra=ADVANCED)
    """Discount of rewards per token."""
    gae_lambda: float = Field(0.95, ge=0, le=1, json_schema_extra=ADVANCED)
    """How far advantages trust the rewards that came (1) rather than the critic (0) (arXiv:1506.02438)."""
    clip_low: float = Field(0.2, gt=0, lt=1, json_schema_extra=ADVANCED)
    """Probability ratios below 1 - clip_low get no gradient."""
    clip_high: float = Field(0.2, gt=0, json_schema_extra=ADVANCED)
    """Probability ratios above 1 + clip_high get no gradient."""
    value_coef: float = Field(0.1, ge=0, json_schema_extra=ADVANCED)
    """Weight of the critic's loss."""
    value_clip: float | None = Field(0.2, gt=0, json_schema_extra=ADVANCED)
    """How far a value may move from what it was when the rollouts were scored; None lets it."""
    kl_coef: float = Field(0.05, ge=0)
    """Reward that a nat of divergence from the starting model costs, per token. 0 loads no reference model."""
    kl_estimator: Literal["k1", "k2", "k3"] = Field("k1", json_schema_extra=ADVANCED)
    """How the divergence at a token is estimated, for the reward and for `kl_divergence`, from r = p_reference / p:
    -log r (k1), (log r)^2 / 2 (k2), r - 1 - log r (k3)."""
    kl_target: float | None = Field(None, gt=0)
    """Mean divergence per token, in nats, that `kl_coef` is steered to after each batch of rollouts; None keeps it."""
    kl_horizon: int = Field(10_000, ge=1, json_schema_extra=ADVANCED)
    """Completions over which `kl_coef` is corrected: one batch moves it by at most a fifth of its share of these."""
    entropy_coef: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    """Weight of the entropy bonus."""
    missing_eos_penalty: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    """Taken from the reward of a completion that ran into `rollout.max_new_tokens`."""
    whiten_advantages: bool = Field(True, json_schema_extra=ADVANCED)
    """Whether the advantages of a batch are scaled and shifted to mean 0 and standard deviation 1."""
    whiten_rewards: bool = Field(False, json_schema_extra=ADVANCED)
    """Whether the token rewards of a batch are scaled to standard deviation 1; their mean stays."""
    native: dict[str, Any] = Field({}, json_schema_extra=ADVANCED)
    """Overrides under the engine's own names (transformers' TrainingArguments), checked against its config class."""

    @property
    def num_completions(self) -> int:
        """Completions of a batch of rollouts."""
        return self.prompts_per_batch * self.rollout.completions_per_prompt

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps on a batch of rollouts."""
        return self.num_iterations * (self.num_completions // (self.mini_batch_size or self.num_completions))

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        mini = self.mini_batch_size or self.num_completions
        if self.num_completions % mini:
            raise ValueError(
                f"prompts_per_batch * rollout.completions_per_prompt ({self.num_completions}) must be a multiple of "
                f"mini_batch_size ({mini})"
            )
        check_micro_batch(
            mini, self.micro_batch_size, "mini_batch_size" if self.mini_batch_size else "the batch of rollouts"
        )
        return self

    @model_validator(mode="after")
    def _kl_has_a_reference(self) -> Self:
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("kl_target steers kl_coef by factors, so kl_coef must start above 0")
        return self

    @model_validator(mode="after")
    def _critic_has_its_start(self) -> Self:
        if self.critic.start == "reward_model":
            if self.critic.kind != "separate":
                raise ValueError("critic.start: reward_model needs critic.kind: separate")
            if all(spec.name != "reward_model" for spec in self.rewards):
                raise ValueError("critic.start: reward_model needs a reward of that name among rewards")
        return self
