"""One table from verl's metric names to ours."""

import re
from collections.abc import Mapping
from typing import Any, Final

NAMES: Final = {
    "actor/pg_loss": "policy_loss",
    "actor/entropy": "entropy",
    "actor/entropy_loss": "native/actor/entropy_loss",
    "actor/kl_loss": "kl_divergence",
    "actor/reward_kl_penalty": "kl_divergence",
    "actor/reward_kl_penalty_coeff": "kl_coef",
    "actor/ppo_kl": "approx_kl",
    "actor/pg_clipfrac": "clip_fraction",
    "actor/grad_norm": "grad_norm",
    "actor/lr": "learning_rate",
    "actor/loss": "loss",
    "critic/vf_loss": "value_loss",
    "critic/vf_clipfrac": "value_clip_fraction",
    "critic/vpred_mean": "value_mean",
    "critic/vf_explained_var": "explained_variance",
    "critic/grad_norm": "value_grad_norm",
    "critic/lr": "value_learning_rate",
    "train/loss": "loss",
    "train/grad_norm": "grad_norm",
    "train/lr": "learning_rate",
    "train/global_tokens": "tokens_in_step",
    "perf/total_num_tokens": "tokens_in_step",
    "training/filter_groups/evicted_samples": "groups_resampled",
    "timing_s/step": "seconds_per_step",
    "timing_s/gen": "seconds_generating",
    "timing_s/reward": "seconds_rewarding",
    "timing_s/old_log_prob": "seconds_scoring",
    "timing_s/ref": "seconds_reference",
    "timing_s/values": "seconds_values",
    "timing_s/adv": "seconds_advantages",
    "timing_s/update_critic": "seconds_updating_critic",
    "timing_s/update_actor": "seconds_updating",
    "timing_s/update_weights": "seconds_syncing_weights",
    "timing_s/save_checkpoint": "seconds_saving",
    "perf/mfu/actor": "model_flops_utilization",
}
"""verl's name -> ours."""

_MEASURED_HERE: Final = re.compile(
    r"^(critic/(score|rewards|advantages|returns)/|response_length|response/|prompt_length/|num_turns/|training/(epoch|"
    r"global_step|num_turns)|timing_per_token_ms/|global_seqlen/)"
)
"""What has one of ours in its place, or says the same twice."""


def ours(logs: Mapping[str, Any]) -> dict[str, float]:
    """Translate what verl logged at one step. What has no name of ours is kept under `native/`."""
    found: dict[str, float] = {}
    for name, value in logs.items():
        if _MEASURED_HERE.match(name):
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        found[NAMES.get(name, f"native/{name}")] = number
    return found
