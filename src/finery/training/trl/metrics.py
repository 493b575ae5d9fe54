"""One table from TRL's and transformers' metric names to ours."""

import re
from collections.abc import Mapping
from typing import Final

NAMES: Final = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "mean_token_accuracy": "token_accuracy",
    "num_tokens": "tokens_seen",
    "reward": "reward_mean",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "zero_std_fraction",
    "kl": "kl_divergence",
    "accuracy": "preference_accuracy",
    "margin": "reward_margin",
    "mean_reward": "reward_mean",
    "min_reward": "reward_min",
    "max_reward": "reward_max",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "preference_accuracy",
    "logps/chosen": "logp_chosen",
    "logps/rejected": "logp_rejected",
    "nll_loss": "sft_loss",
    "log_odds_ratio": "log_odds_ratio",
    "log_odds_chosen": "log_odds_chosen",
    "policy_loss": "policy_loss",
    "entropy_coef": "entropy_coef",
    "cispo_clip_ratio": "clip_fraction",
}
_OWN: Final = re.compile(
    r"^(seconds_|advantage_|generation_|diversity_|reward/|response_|ratio_|clip_fraction|rollout_|value_"
    r"|(approx_kl|groups_resampled|reward_min|reward_max|reward_per_length|reward_errors|reward_model_bytes"
    r"|reward_mean|drawn_reward_mean|kl_divergence|kl_coef|explained_variance"
    r"|entropy_loss|grad_var|weight_norm|weight_update_ratio)$)"
)
_REWARD: Final = re.compile(r"^rewards/(.+)/(mean|std)$")
_DROPPED: Final = frozenset({"epoch", "total_flos", "step_time", "train_loss", "train_runtime"})


def ours(logs: Mapping[str, float | None]) -> dict[str, float]:
    """Translate what a trainer logged at one step. What has no name of ours is kept under `native/`."""
    found: dict[str, float] = {}
    for name, value in logs.items():
        if name in _DROPPED:
            continue
        reward = _REWARD.match(name)
        number = float("nan") if value is None else float(value)
        if name in NAMES:
            found[NAMES[name]] = number
        elif reward:
            found[f"reward/{reward[1]}_{reward[2]}"] = number
        elif _OWN.match(name):
            found[name] = number
        else:
            found[f"native/{name}"] = number
    return found
