"""Spec of policy gradients put together from parts: an estimator of advantages and a loss."""

from typing import Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED
from finery.training.specs.base import RolloutSpec
from finery.training.specs.groups import GroupSpec

Advantage = Literal[
    "grpo",
    "grpo_vectorized",
    "grpo_passk",
    "gdpo",
    "gpg",
    "opo",
    "optimal_token_baseline",
    "tir_optimal_token_baseline",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "remax",
    "rloo",
    "rloo_vectorized",
]
PolicyLoss = Literal[
    "vanilla",
    "gspo",
    "sapo",
    "cispo",
    "geo_mean",
    "gpg",
    "clip_cov",
    "kl_cov",
    "dppo_tv",
    "dppo_kl",
    "dro",
]
_ALONE = ("reinforce_plus_plus", "remax")
"""Estimators whose baseline is not the group."""
_OF_ALGORITHM = {
    "reinforce_plus_plus": ("reinforce_plus_plus", "reinforce_plus_plus_baseline"),
    "remax": ("remax",),
}
"""Estimators that an algorithm may have; the first is its own."""


class SingleRolloutSpec(RolloutSpec):
    """How completions are drawn from the policy, and where."""

    completions_per_prompt: int = Field(8, ge=1)
    """Completions of each prompt; one is enough for reinforce_plus_plus and remax."""


class PolicyGradientSpec(GroupSpec):
    """Policy gradients from parts (engine verl). REINFORCE++ (arXiv:2501.03262) takes the mean of the batch as its
    baseline, ReMax (arXiv:2310.10505) the reward of the likeliest completion; `policy_gradient` is any other pair of
    `advantage` and `policy_loss`."""

    algorithm: Literal["policy_gradient", "reinforce_plus_plus", "remax"]
    rollout: SingleRolloutSpec = SingleRolloutSpec()
    advantage: Advantage | None = None
    """How advantages are estimated: against the mean of the group (grpo; grpo_vectorized computes the same at once),
    for the best of a group alone (grpo_passk, arXiv:2503.19595), each reward on its own (gdpo, arXiv:2601.05242),
    scaled by the share of right answers (gpg), weighted by length (opo, arXiv:2505.23585), per token from gradient
    norms (optimal_token_baseline; tir_ over several turns), against the batch (reinforce_plus_plus; _baseline after
    the group), the likeliest completion (remax), the others of the group (rloo; rloo_vectorized computes the same at
    once). None is that of `algorithm`; policy_gradient needs one."""
    policy_loss: PolicyLoss = "vanilla"
    """Loss of a token: clipped on both sides (vanilla), with the ratio of the completion (gspo, arXiv:2507.18071;
    geo_mean, arXiv:2507.20673), with a soft gate (sapo, arXiv:2511.20347), with a bounded weight (cispo,
    arXiv:2506.13585), without ratio (gpg), with tokens of high covariance left out or held (clip_cov, kl_cov,
    arXiv:2505.22617), clipped by divergence (dppo_tv, dppo_kl, arXiv:2602.04879), with a quadratic penalty (dro)."""
    mini_batches: int = Field(1, ge=1, json_schema_extra=ADVANCED)
    """Optimizer steps in one pass over a batch of rollouts, each on `prompts_per_step` other prompts of it."""
    loss_aggregation: Literal["token_mean", "sequence_mean", "sequence_sum", "constant_length"] = Field(
        "token_mean", json_schema_extra=ADVANCED
    )
    """How token losses, the KL term and the entropy bonus are averaged: over all tokens of the step; per completion
    first; as the mean of the completions' sums; or these divided by `rollout.max_new_tokens`."""
    scale_rewards: Literal["group", "none"] = Field("group", json_schema_extra=ADVANCED)
    """Standard deviation that the advantages of grpo, grpo_vectorized, grpo_passk and gdpo are divided by."""
    gamma: float = Field(1.0, gt=0, le=1, json_schema_extra=ADVANCED)
    """Discount of rewards per token (reinforce_plus_plus)."""
    clip_low: float = Field(0.2, gt=0, json_schema_extra=ADVANCED)
    """Ratios below 1 - clip_low get no gradient; of dppo_tv and dppo_kl the divergence."""
    clip_high: float = Field(0.2, gt=0, json_schema_extra=ADVANCED)
    """Ratios above 1 + clip_high get no gradient; of dppo_tv and dppo_kl the divergence."""
    max_ratio: float | None = Field(None, gt=1, json_schema_extra=ADVANCED)
    """Bound of the ratio where the advantage is negative (vanilla), or of its weight (dppo_tv, dppo_kl); None has no
    bound."""
    cov_ratio: float = Field(2e-4, gt=0, lt=1, json_schema_extra=ADVANCED)
    """Share of the tokens that clip_cov leaves out and kl_cov holds."""
    cov_low: float = Field(1.0, json_schema_extra=ADVANCED)
    """Covariance from which clip_cov may leave a token out."""
    cov_high: float = Field(5.0, json_schema_extra=ADVANCED)
    """And up to which."""
    cov_kl_coef: float = Field(1.0, ge=0, json_schema_extra=ADVANCED)
    """Weight of the term that holds the tokens of kl_cov."""
    dro_beta: float | None = Field(None, gt=0, json_schema_extra=ADVANCED)
    """Weight of the penalty of dro, which needs one."""
    kl_coef: float = Field(0.0, ge=0)
    """Weight of the KL term to the starting model, in nats. 0 loads no reference model."""
    kl_in: Literal["reward", "loss"] = Field("loss", json_schema_extra=ADVANCED)
    """Where the KL term is: taken from the reward of each token, or added to the loss."""
    kl_estimator: Literal["k1", "k2", "k3"] = Field("k3", json_schema_extra=ADVANCED)
    """As of ppo."""
    entropy_coef: float = Field(0.0, ge=0, json_schema_extra=ADVANCED)
    """Weight of the entropy bonus, averaged as the loss is."""

    @property
    def estimator(self) -> Advantage:
        """The estimator of advantages."""
        return self.advantage or _OF_ALGORITHM[self.algorithm][0]  # type: ignore[return-value]

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps on a batch of rollouts."""
        return self.num_iterations * self.mini_batches

    @model_validator(mode="after")
    def _advantage_is_the_algorithms(self) -> Self:
        own = _OF_ALGORITHM.get(self.algorithm)
        if own is None and self.advantage is None:
            raise ValueError("algorithm policy_gradient needs an advantage, such as advantage: grpo")
        if own is not None and self.advantage is not None and self.advantage not in own:
            raise ValueError(
                f"algorithm {self.algorithm} has advantage {' or '.join(own)}, but it is {self.advantage}; remove it, "
                "or set algorithm: policy_gradient"
            )
        if self.rollout.completions_per_prompt < 2 and self.estimator not in _ALONE:
            raise ValueError(
                f"advantage {self.estimator} compares the completions of a prompt, so that one is not enough; set "
                "rollout.completions_per_prompt: 2 or more"
            )
        return self

    @model_validator(mode="after")
    def _loss_has_its_numbers(self) -> Self:
        if (self.policy_loss == "dro") != (self.dro_beta is not None):
            raise ValueError("policy_loss: dro and dro_beta go together; set both or neither")
        is_bounded = self.policy_loss in ("vanilla", "dppo_tv", "dppo_kl")
        if self.max_ratio is not None and not is_bounded:
            raise ValueError(f"policy_loss {self.policy_loss} has no max_ratio; remove it")
        if self.max_ratio is not None and self.policy_loss == "vanilla" and self.max_ratio <= 1 + self.clip_high:
            raise ValueError(f"max_ratio ({self.max_ratio}) must be above 1 + clip_high ({1 + self.clip_high})")
        if self.cov_low >= self.cov_high:
            raise ValueError(f"cov_low ({self.cov_low}) must be below cov_high ({self.cov_high})")
        return self
