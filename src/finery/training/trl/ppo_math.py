"""The formulas of proximal policy optimization. Pure functions of tensors.

Dimensions: B completions, C their tokens, padded on the right. `mask_BC` is 1 where a token counts, 0 elsewhere; what
stands at masked places is without effect, and results are 0 there.

Value, reward and advantage number c belong to drawing token c: `values_BC[:, c]` is the value of the prompt and the
tokens before c. A completion ends with its last token, whether that is a stop token or the limit of length cut it off:
nothing of value comes after.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

KlEstimator = Literal["k1", "k2", "k3"]


def kl_estimates(logprobs_BC: Tensor, reference_BC: Tensor, estimator: KlEstimator) -> Tensor:
    """Divergence from the reference in nats at each token, estimated from the one token that was drawn.

    With r = p_reference / p: k1 = -log r, k2 = (log r)^2 / 2, k3 = r - 1 - log r. Drawn from p, k1 and k3 have the
    divergence as their mean; k2 is biased, and near to it where the two are. k2 and k3 are never negative.

    Args:
        logprobs_BC: Log-probabilities under the policy that drew the tokens, (B, C).
        reference_BC: Log-probabilities under the reference, (B, C).
        estimator: Which.

    Returns:
        Estimates, (B, C). Not masked.

    Source: J. Schulman, Approximating KL Divergence, http://joschu.net/blog/kl-approx.html
    """
    log_ratio_BC = reference_BC - logprobs_BC
    if estimator == "k1":
        return -log_ratio_BC
    if estimator == "k2":
        return log_ratio_BC.square() / 2
    return log_ratio_BC.exp() - 1 - log_ratio_BC


def token_rewards(scores_B: Tensor, kl_BC: Tensor, mask_BC: Tensor, kl_coef: float) -> Tensor:
    """Reward of each token: -kl_coef * kl, and the completion's score on top at its last token.

    Args:
        scores_B: Reward of the whole completion, (B,).
        kl_BC: Estimates of the divergence, nats, (B, C).
        mask_BC: (B, C).
        kl_coef: Reward that a nat costs.

    Returns:
        (B, C). A row without tokens gets nothing.

    Source: arXiv:1909.08593, section 2: R(x, y) = r(x, y) - beta log(pi(y|x) / rho(y|x)), here token by token.
    """
    rewards_BC = -kl_coef * kl_BC * mask_BC
    return rewards_BC + scores_B[:, None] * _is_last(mask_BC)


def gae(
    rewards_BC: Tensor, values_BC: Tensor, mask_BC: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimates, and the returns that values are fitted to.

    delta_c = reward_c + gamma * value_{c+1} - value_c, where the value after the last token is 0;
    advantage_c = delta_c + gamma * gae_lambda * advantage_{c+1}; return_c = advantage_c + value_c.

    Args:
        rewards_BC: (B, C).
        values_BC: (B, C).
        mask_BC: (B, C); the tokens of a row come before its padding.
        gamma: Discount per token.
        gae_lambda: 0 trusts the values (one step), 1 the rewards (Monte Carlo).

    Returns:
        Advantages and returns, each (B, C).

    Source: arXiv:1506.02438, equations 11, 12 and 16; arXiv:1707.06347, equations 11 and 12.
    """
    rewards_BC, values_BC = rewards_BC * mask_BC, values_BC * mask_BC
    advantages_BC = torch.zeros_like(rewards_BC)
    next_value_B = next_advantage_B = torch.zeros_like(rewards_BC[:, 0])
    for column in reversed(range(rewards_BC.shape[1])):
        delta_B = rewards_BC[:, column] + gamma * next_value_B - values_BC[:, column]
        next_advantage_B = (delta_B + gamma * gae_lambda * next_advantage_B) * mask_BC[:, column]
        next_value_B = values_BC[:, column]
        advantages_BC[:, column] = next_advantage_B
    return advantages_BC, advantages_BC + values_BC


def alone(tensor: Tensor) -> Tensor:
    """The sum over processes where there is one."""
    return tensor


def whiten(
    values_BC: Tensor, mask_BC: Tensor, *, shift_mean: bool = True, total: Callable[[Tensor], Tensor] = alone
) -> Tensor:
    """Scale to a standard deviation of 1, and shift to a mean of 0 unless told not to.

    Args:
        values_BC: (B, C).
        mask_BC: (B, C).
        shift_mean: Off keeps the mean where it is: of rewards the sign matters.
        total: Sums over the processes that hold rows of the batch.

    Returns:
        (value - mean) / sqrt(variance + 1e-8), plus the mean if it is kept; (B, C). The variance is over n - 1. Equal
        values, or a single one, give the mean that is asked for, not NaN.

    Source: arXiv:1909.08593, its published code (`whiten`), with the unbiased variance that TRL 1.12 takes.
    """
    num = total(mask_BC.sum())
    mean = total((values_BC * mask_BC).sum()) / num.clamp(min=1)
    centered_BC = (values_BC - mean) * mask_BC
    variance = total(centered_BC.square().sum()) / (num - 1).clamp(min=1)
    whitened_BC = centered_BC * torch.rsqrt(variance + 1e-8)
    return whitened_BC if shift_mean else (whitened_BC + mean) * mask_BC


def policy_losses(
    logprobs_BC: Tensor, old_BC: Tensor, advantages_BC: Tensor, *, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Clipped surrogate loss of each token, and whether the clipping took its gradient.

    With ratio = p / p_old: max(-A * ratio, -A * clip(ratio, 1 - clip_low, 1 + clip_high)).

    Args:
        logprobs_BC: Under the policy in training, (B, C).
        old_BC: Under the policy that drew the tokens, (B, C).
        advantages_BC: (B, C).
        clip_low: The ratio is clipped below 1 - clip_low,
        clip_high: and above 1 + clip_high.

    Returns:
        Losses and booleans, each (B, C). Not masked.

    Source: arXiv:1707.06347, equation 7, with a bound of its own for each side.
    """
    ratio_BC = (logprobs_BC - old_BC).exp()
    plain_BC = -advantages_BC * ratio_BC
    clipped_BC = -advantages_BC * ratio_BC.clamp(1 - clip_low, 1 + clip_high)
    return torch.maximum(plain_BC, clipped_BC), clipped_BC > plain_BC


def value_losses(
    values_BC: Tensor, old_BC: Tensor, returns_BC: Tensor, value_clip: float | None
) -> tuple[Tensor, Tensor]:
    """Squared error of each value, and whether the clipping took its gradient.

    (1 / 2) max((V - R)^2, (clip(V, V_old - value_clip, V_old + value_clip) - R)^2).

    Args:
        values_BC: Of the critic in training, (B, C).
        old_BC: Of the critic when the rollouts were scored, (B, C).
        returns_BC: (B, C).
        value_clip: How far a value may move; None lets it.

    Returns:
        Losses and booleans, each (B, C). Not masked.

    Source: the code of arXiv:1707.06347 (OpenAI baselines, ppo2); the paper has the plain squared error, equation 9.
    """
    plain_BC = (values_BC - returns_BC).square() / 2
    if value_clip is None:
        return plain_BC, torch.zeros_like(plain_BC, dtype=torch.bool)
    near_BC = torch.minimum(torch.maximum(values_BC, old_BC - value_clip), old_BC + value_clip)
    clipped_BC = (near_BC - returns_BC).square() / 2
    return torch.maximum(plain_BC, clipped_BC), clipped_BC > plain_BC


def adapted_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: int, num_completions: int) -> float:
    """The next coefficient: higher after a divergence above the target, lower after one below.

    kl_coef * (1 + error * num_completions / horizon), where error = clip(kl / target - 1, -0.2, 0.2).

    Args:
        kl_coef: The present one.
        kl: Measured divergence, nats.
        target: The wanted one, in the same measure.
        horizon: Completions over which the correction works; the paper's gain K is num_completions / horizon.
        num_completions: Completions that `kl` was measured on.

    Returns:
        The coefficient for the next batch.

    Source: arXiv:1909.08593, section 2.2 (e_t and beta_{t+1}). Differs: the caller gives nats per token.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * num_completions / horizon)


def explained_variance(values_BC: Tensor, returns_BC: Tensor, mask_BC: Tensor) -> float:
    """1 - variance(return - value) / variance(return): 1 is a perfect critic, 0 one that knows the mean.

    NaN where all returns are equal.
    """
    is_counted_BC = mask_BC.bool()
    values_N, returns_N = values_BC[is_counted_BC], returns_BC[is_counted_BC]
    if not len(returns_N) or returns_N.min() == returns_N.max():
        return float("nan")
    return (1 - (returns_N - values_N).var(correction=0) / returns_N.var(correction=0)).item()


def masked_mean(values_BC: Tensor, mask_BC: Tensor, total: Callable[[Tensor], Tensor] = alone) -> float:
    """Mean over what counts, `total` as of `whiten`; 0 where nothing does."""
    return (total((values_BC * mask_BC).sum()) / total(mask_BC.sum()).clamp(min=1)).item()


def _is_last(mask_BC: Tensor) -> Tensor:
    """1 at the last token of each row that has one, else 0."""
    after_BC = torch.cat([mask_BC[:, 1:], torch.zeros_like(mask_BC[:, :1])], dim=1)
    return mask_BC * (1 - after_BC)
