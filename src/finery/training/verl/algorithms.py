"""Advantages, losses and KL terms of each algorithm, in verl's words. Pure.

verl computes losses over all processes and micro batches alike, so that `micro_batch_size` changes no mathematics.
"""

from collections.abc import Callable
from typing import Any, Final

from finery.training.scoring import names
from finery.training.specs import DapoSpec, GrpoSpec, GspoSpec, PolicyGradientSpec, PpoSpec, RlooSpec
from finery.training.specs.groups import GroupSpec, ReferencedSpec
from finery.training.verl.placing import ACTOR
from finery.training.verl.sheet import NO_BOUND, Sheet

LEGACY: Final = frozenset({"remax", "gdpo", "optimal_token_baseline", "tir_optimal_token_baseline"})
"""Estimators whose numbers only verl's older trainer gathers."""

_KL: Final = {"k1": "kl", "k2": "mse", "k3": "low_var_kl"}
_AGGREGATED: Final = {
    "grpo": "seq-mean-token-mean",
    "sapo": "seq-mean-token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
    "dapo": "token-mean",
    "cispo": "token-mean",
}
"""Loss type of ours -> how verl averages."""
_NAMED: Final = {
    "token_mean": "token-mean",
    "sequence_mean": "seq-mean-token-mean",
    "sequence_sum": "seq-mean-token-sum",
    "constant_length": "seq-mean-token-sum-norm",
}
_SCALED: Final = ("grpo", "grpo_vectorized", "grpo_passk", "gdpo")


def put_algorithm(sheet: Sheet, task: GroupSpec | PpoSpec) -> None:
    """Advantage, loss, clipping, KL and entropy of a task; refuses what verl does otherwise."""
    for kind, put in _WRITERS.items():
        if isinstance(task, kind):
            put(sheet, task)
            return
    raise AssertionError(f"no translation of {task.algorithm}")


def _put_grpo(sheet: Sheet, task: GrpoSpec | GspoSpec | DapoSpec) -> None:
    _put_advantage(sheet, "grpo", scaled=task.scale_rewards)
    if task.loss_type not in _AGGREGATED:
        sheet.refuse("task.loss_type", f"verl has no loss {task.loss_type}; set one of {', '.join(_AGGREGATED)}")
    mode = {"cispo": "cispo", "sapo": "sapo"}.get(task.loss_type, "vanilla")
    if task.ratio_level == "sequence":
        if task.loss_type == "sapo":
            sheet.refuse("task.ratio_level", "verl's sapo has ratios of tokens; set ratio_level: token")
        mode = "gspo"
    _put_loss(sheet, mode, _AGGREGATED.get(task.loss_type, "token-mean"), "task.loss_type", task)
    # The weight of cispo has a bound above alone, as in its paper.
    _put_clipping(sheet, low=1.0 if mode == "cispo" else task.clip_low, high=task.clip_high, most=task.max_ratio)
    if mode == "gspo" and task.max_ratio is not None:
        sheet.refuse("task.max_ratio", "verl's ratio of completions has no such bound; remove max_ratio")
    if task.entropy_coef and task.loss_type not in ("dapo", "cispo"):
        sheet.refuse(
            "task.entropy_coef",
            f"verl averages the entropy bonus as the loss, which loss_type {task.loss_type} does not over tokens; set "
            "loss_type: dapo or cispo, or entropy_coef: 0",
        )
    sheet.put(f"{ACTOR}.entropy_coeff", task.entropy_coef, "task.entropy_coef")
    if task.top_entropy_quantile < 1:
        sheet.refuse("task.top_entropy_quantile", "verl's loss is of all tokens; set top_entropy_quantile: 1.0")
    _check_truncated(sheet, "task.overlong" if isinstance(task, DapoSpec) else "task.mask_truncated", task)
    _put_kl(sheet, place="loss", coef=task.kl_coef, estimator="k3")
    _check_reference(sheet, task)
    if isinstance(task, DapoSpec):
        _put_overlong(sheet, task)


def _put_overlong(sheet: Sheet, task: DapoSpec) -> None:
    if task.overlong != "soft":
        return
    limit = task.rollout.max_new_tokens
    length = task.overlong_buffer or max(1, limit // 5)
    punished = {"enable": True, "len": length, "penalty_factor": 1.0, "log": True}
    sheet.put("reward.reward_manager.name", "dapo", "task.overlong")
    sheet.put("+reward.reward_kwargs.overlong_buffer_cfg", punished, "task.overlong_buffer")
    sheet.put("+reward.reward_kwargs.max_resp_len", limit, "task.rollout.max_new_tokens")


def _put_rloo(sheet: Sheet, task: RlooSpec) -> None:
    _put_advantage(sheet, "rloo", scaled="none")
    _put_loss(sheet, "vanilla", "seq-mean-token-sum", "task.algorithm", task)
    _put_clipping(sheet, low=task.clip_low, high=task.clip_high, most=None)
    if task.num_iterations > 1:
        sheet.refuse(
            "task.num_iterations",
            "rloo clips the ratio of a completion and verl those of its tokens, which is the same for one iteration "
            "alone; set num_iterations: 1, or algorithm: policy_gradient with advantage: rloo",
        )
    if task.normalize_advantages:
        sheet.refuse("task.normalize_advantages", "verl's rloo does not; set normalize_advantages: false")
    _check_truncated(sheet, "task.mask_truncated", task)
    sheet.put(f"{ACTOR}.entropy_coeff", 0.0)
    _put_kl(sheet, place="reward", coef=task.kl_coef, estimator="k1")
    _check_reference(sheet, task)


def _put_policy_gradient(sheet: Sheet, task: PolicyGradientSpec) -> None:
    estimator, place = task.estimator, "task.advantage"
    _put_advantage(sheet, estimator, scaled=task.scale_rewards if estimator in _SCALED else "none", place=place)
    if task.scale_rewards == "none" and estimator not in _SCALED:
        sheet.refuse("task.scale_rewards", f"advantage {estimator} has no such choice; remove scale_rewards")
    sheet.put("algorithm.gamma", task.gamma, "task.gamma")
    if task.gamma < 1 and estimator != "reinforce_plus_plus":
        sheet.refuse("task.gamma", f"advantage {estimator} does not discount; set gamma: 1.0")
    if estimator.endswith("optimal_token_baseline"):
        sheet.put(f"{ACTOR}.calculate_sum_pi_squared", True, place)
    if estimator == "gdpo":
        sheet.put("+algorithm.gdpo_reward_keys", names(task.rewards), "task.rewards")
        sheet.put("+algorithm.gdpo_reward_weights", [reward.weight for reward in task.rewards], "task.rewards")
    _put_loss(sheet, task.policy_loss, _NAMED[task.loss_aggregation], "task.loss_aggregation", task)
    _put_clipping(sheet, low=task.clip_low, high=task.clip_high, most=task.max_ratio)
    covariance = {
        "clip_cov_ratio": task.cov_ratio,
        "kl_cov_ratio": task.cov_ratio,
        "clip_cov_lb": task.cov_low,
        "clip_cov_ub": task.cov_high,
        "ppo_kl_coef": task.cov_kl_coef,
    }
    for key, value in covariance.items():
        sheet.put(f"{ACTOR}.policy_loss.{key}", value, "task.cov_ratio")
    sheet.put(f"{ACTOR}.policy_loss.dro_beta", task.dro_beta, "task.dro_beta")
    if task.policy_loss in ("sapo", "geo_mean") and task.loss_aggregation != "sequence_mean":
        sheet.refuse(
            "task.loss_aggregation",
            f"verl's {task.policy_loss} averages per completion whatever is asked for; set sequence_mean",
        )
    sheet.put(f"{ACTOR}.entropy_coeff", task.entropy_coef, "task.entropy_coef")
    _put_kl(sheet, place=task.kl_in, coef=task.kl_coef, estimator=task.kl_estimator)


def _put_ppo(sheet: Sheet, task: PpoSpec) -> None:
    sheet.put("algorithm.adv_estimator", "gae", "task.algorithm")
    sheet.put("algorithm.gamma", task.gamma, "task.gamma")
    sheet.put("algorithm.lam", task.gae_lambda, "task.gae_lambda")
    _put_loss(sheet, "vanilla", "token-mean", "task.algorithm", task)
    _put_clipping(sheet, low=task.clip_low, high=task.clip_high, most=None)
    sheet.put(f"{ACTOR}.entropy_coeff", task.entropy_coef, "task.entropy_coef")
    _put_kl(
        sheet,
        place="reward",
        coef=task.kl_coef,
        estimator=task.kl_estimator,
        target=task.kl_target,
        horizon=task.kl_horizon,
    )
    if task.critic.kind != "separate":
        sheet.refuse("task.critic.kind", "verl's critic is a model of its own; set critic.kind: separate")
    if task.critic.start != "actor":
        sheet.refuse("task.critic.start", "verl's critic starts from the actor's weights; set critic.start: actor")
    if task.value_coef != PpoSpec.model_fields["value_coef"].default:
        sheet.refuse(
            "task.value_coef",
            "verl's critic has an optimizer of its own, so that its loss has no weight; remove value_coef and set "
            "critic.learning_rate",
        )
    sheet.put("critic.cliprange_value", NO_BOUND if task.value_clip is None else task.value_clip, "task.value_clip")
    sheet.put("critic.loss_agg_mode", "token-mean")
    if not task.whiten_advantages:
        sheet.refuse("task.whiten_advantages", "verl always does; set whiten_advantages: true")
    if task.whiten_rewards:
        sheet.refuse("task.whiten_rewards", "verl does not; set whiten_rewards: false")
    if task.missing_eos_penalty:
        sheet.refuse("task.missing_eos_penalty", "verl takes nothing for it; set missing_eos_penalty: 0")


_WRITERS: Final[dict[type | tuple[type, ...], Callable[[Sheet, Any], None]]] = {
    (GrpoSpec, GspoSpec, DapoSpec): _put_grpo,
    RlooSpec: _put_rloo,
    PolicyGradientSpec: _put_policy_gradient,
    PpoSpec: _put_ppo,
}


def _put_advantage(sheet: Sheet, estimator: str, *, scaled: str, place: str = "task.algorithm") -> None:
    sheet.put("algorithm.adv_estimator", estimator, place)
    sheet.put("algorithm.gamma", 1.0)
    sheet.put("algorithm.lam", 1.0)
    sheet.put("algorithm.norm_adv_by_std_in_grpo", scaled == "group", "task.scale_rewards")
    if scaled == "batch":
        sheet.refuse("task.scale_rewards", "verl divides by the deviation of a group or not at all; set group or none")


def _put_loss(sheet: Sheet, mode: str, aggregated: str, place: str, task: GroupSpec | PpoSpec) -> None:
    sheet.put(f"{ACTOR}.policy_loss.loss_mode", mode, "task.policy_loss" if "aggregation" in place else place)
    sheet.put(f"{ACTOR}.loss_agg_mode", aggregated, place)
    scale = task.rollout.max_new_tokens if aggregated.endswith("-norm") else None
    sheet.put(f"{ACTOR}.loss_scale_factor", scale, "task.rollout.max_new_tokens")
    sheet.put(f"{ACTOR}.tau_pos", 1.0)
    sheet.put(f"{ACTOR}.tau_neg", 1.05)


def _put_clipping(sheet: Sheet, *, low: float, high: float, most: float | None) -> None:
    sheet.put(f"{ACTOR}.clip_ratio", high, "task.clip_high")
    sheet.put(f"{ACTOR}.clip_ratio_low", low, "task.clip_low")
    sheet.put(f"{ACTOR}.clip_ratio_high", high, "task.clip_high")
    # verl bounds the ratio of negative advantages at 3 unless it is told otherwise.
    sheet.put(f"{ACTOR}.clip_ratio_c", NO_BOUND if most is None else most, "task.max_ratio")


def _put_kl(
    sheet: Sheet, *, place: str, coef: float, estimator: str, target: float | None = None, horizon: int = 10_000
) -> None:
    in_reward, in_loss = place == "reward" and coef > 0, place == "loss" and coef > 0
    sheet.put("algorithm.use_kl_in_reward", in_reward, "task.kl_coef")
    sheet.put("algorithm.kl_penalty", _KL[estimator], "task.kl_estimator")
    sheet.put("algorithm.kl_ctrl.type", "fixed" if target is None else "adaptive", "task.kl_target")
    sheet.put("algorithm.kl_ctrl.kl_coef", coef, "task.kl_coef")
    sheet.put("algorithm.kl_ctrl.horizon", horizon, "task.kl_horizon")
    if target is not None:
        sheet.put("algorithm.kl_ctrl.target_kl", target, "task.kl_target")
    sheet.put(f"{ACTOR}.use_kl_loss", in_loss, "task.kl_coef")
    sheet.put(f"{ACTOR}.kl_loss_coef", coef, "task.kl_coef")
    sheet.put(f"{ACTOR}.kl_loss_type", _KL[estimator], "task.kl_estimator")


def _check_reference(sheet: Sheet, task: GroupSpec) -> None:
    if isinstance(task, ReferencedSpec) and task.sync_ref_model:
        sheet.refuse("task.sync_ref_model", "verl's reference stays the starting model; set sync_ref_model: false")


def _check_truncated(sheet: Sheet, path: str, task: GrpoSpec | GspoSpec | DapoSpec | RlooSpec) -> None:
    if task.mask_truncated and not sheet.is_ours:
        way = "overlong: soft or keep" if isinstance(task, DapoSpec) else "mask_truncated: false"
        sheet.refuse(path, f"verl's loss is of truncated completions too; set {way}")
