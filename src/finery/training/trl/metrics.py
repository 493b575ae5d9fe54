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
    "policy_loss": "policy_loss",
    "entropy_coef": "entropy_coef",
    "clip_ratio/region_mean": "clip_fraction",
    "clip_ratio/low_mean": "clip_fraction_low",
    "clip_ratio/high_mean": "clip_fraction_high",
    "completions/mean_length": "response_length_mean",
    "completions/min_length": "response_length_min",
    "completions/max_length": "response_length_max",
    "completions/clipped_ratio": "response_truncated_fraction",
}
_OWN: Final = re.compile(r"^(seconds_|advantage_|generation_|diversity_|reward/)")
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
