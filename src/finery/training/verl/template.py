"""Job files in verl's words: `base_config` and `overrides`, read as ordinary job files. Pure.

    name: sums
    kind: train
    base_config: grpo_trainer
    overrides: {model.path: Qwen/Qwen2.5-0.5B-Instruct, algorithm.kl_coef: 0.001, rollout.n: 8, actor.optim.lr: 1.0e-6,
                data.train_files: arithmetic@1, trainer.total_training_steps: 100}
    rewards: [math_equal]
    resources: {gpus: 8}

`overrides` are dotted or nested, in verl's full keys or short ones. Keys that a field of ours stands for become that
field, all other full keys go to `native`. What is not said is as in every job file of ours, not as in verl's YAML.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

_A: Final = "actor_rollout_ref."
_PREFIXES: Final = {
    "model.": f"{_A}model.",
    "actor.": f"{_A}actor.",
    "rollout.": f"{_A}rollout.",
    "ref.": f"{_A}ref.",
}
"""What short keys of reinforcement learning begin with -> what verl's do."""
_SHORT: Final = {"algorithm.kl_coef": "algorithm.kl_ctrl.kl_coef", "algorithm.target_kl": "algorithm.kl_ctrl.target_kl"}
_SHORT_SFT: Final = {"actor.optim.": "optim.", "actor.": "engine."}
_SECTIONS: Final = (
    "actor_rollout_ref",
    "algorithm",
    "critic",
    "data",
    "distillation",
    "global_profiler",
    "ray_kwargs",
    "reward",
    "trainer",
    "transfer_queue",
)
_SECTIONS_SFT: Final = ("checkpoint", "data", "engine", "model", "optim", "profiler", "trainer")

_BASES: Final[dict[str, dict[str, Any]]] = {
    "grpo": {"algorithm": "grpo"},
    "gspo": {"algorithm": "gspo"},
    "dapo": {"algorithm": "dapo", "overlong": "keep"},
    "rloo": {"algorithm": "rloo"},
    "ppo": {"algorithm": "ppo", "critic": {"kind": "separate"}},
    "reinforce_plus_plus": {"algorithm": "reinforce_plus_plus"},
    "remax": {"algorithm": "remax"},
    "sft": {"algorithm": "sft"},
}
_OF_ESTIMATOR: Final = {
    "gae": "ppo",
    "grpo": "grpo",
    "rloo": "rloo",
    "reinforce_plus_plus": "reinforce_plus_plus",
    "remax": "remax",
}

_SHARED: Final[dict[str, str]] = {
    "{model}.path": "task.model.base",
    "{model}.enable_gradient_checkpointing": "task.model.gradient_checkpointing",
    "{model}.use_liger": "task.model.liger",
    "{model}.lora_rank": "task.model.lora.rank",
    "{model}.lora_alpha": "task.model.lora.alpha",
    "{model}.target_modules": "task.model.lora.target_modules",
    "{model}.lora.rank": "task.model.lora.rank",
    "{model}.lora.alpha": "task.model.lora.alpha",
    "{model}.lora.dropout": "task.model.lora.dropout",
    "{optim}.lr": "task.optim.learning_rate",
    "{optim}.weight_decay": "task.optim.weight_decay",
    "{optim}.lr_scheduler_type": "task.optim.schedule",
    "{optim}.lr_decay_style": "task.optim.schedule",
    "{optim}.lr_warmup_steps": "task.optim.warmup_steps",
    "{optim}.clip_grad": "task.optim.max_grad_norm",
    "{optim}.betas": "betas",
    "{engine}.param_offload": "task.parallel.offload_parameters",
    "{engine}.optimizer_offload": "task.parallel.offload_optimizer",
    "{engine}.fsdp_size": "task.parallel.fsdp_size",
    "{engine}.ulysses_sequence_parallel_size": "task.parallel.sequence",
    "{megatron}.param_offload": "task.parallel.offload_parameters",
    "{megatron}.optimizer_offload": "task.parallel.offload_optimizer",
    "{megatron}.tensor_model_parallel_size": "task.parallel.tensor",
    "{megatron}.pipeline_model_parallel_size": "task.parallel.pipeline",
    "{megatron}.context_parallel_size": "task.parallel.context",
    "{megatron}.expert_model_parallel_size": "task.parallel.expert",
    "data.train_files": "task.data.train",
    "data.shuffle": "task.data.shuffle",
    "trainer.total_training_steps": "steps",
    "trainer.save_freq": "save_freq",
    "trainer.nnodes": "resources.nodes",
    "trainer.n_gpus_per_node": "resources.gpus",
    "trainer.device": "resources.device",
    "trainer.seed": "seed",
}
"""Key -> our field; a name without a dot is a part of the fields that `_WORKED_OUT` names."""
_RL: Final[dict[str, str]] = {
    "data.seed": "seed",
    "data.max_prompt_length": "task.data.max_prompt_tokens",
    "data.max_response_length": "task.rollout.max_new_tokens",
    "data.train_batch_size": "batch",
    f"{_A}actor.ppo_mini_batch_size": "mini",
    f"{_A}actor.ppo_micro_batch_size_per_gpu": "task.micro_batch_size",
    f"{_A}actor.ppo_epochs": "task.num_iterations",
    f"{_A}actor.strategy": "task.parallel.strategy",
    f"{_A}actor.ulysses_sequence_parallel_size": "task.parallel.sequence",
    f"{_A}actor.grad_clip": "task.optim.max_grad_norm",
    f"{_A}actor.clip_ratio": "clip_ratio",
    f"{_A}actor.clip_ratio_low": "task.clip_low",
    f"{_A}actor.clip_ratio_high": "task.clip_high",
    f"{_A}actor.clip_ratio_c": "task.max_ratio",
    f"{_A}actor.entropy_coeff": "task.entropy_coef",
    f"{_A}actor.use_kl_loss": "use_kl_loss",
    f"{_A}actor.kl_loss_coef": "kl_loss_coef",
    f"{_A}actor.kl_loss_type": "kl_loss_type",
    f"{_A}actor.loss_agg_mode": "loss_agg_mode",
    f"{_A}actor.policy_loss.loss_mode": "loss_mode",
    f"{_A}ref.fsdp_config.param_offload": "task.parallel.offload_reference",
    f"{_A}ref.megatron.param_offload": "task.parallel.offload_reference",
    f"{_A}rollout.n": "task.rollout.completions_per_prompt",
    f"{_A}rollout.name": "task.rollout.engine",
    f"{_A}rollout.temperature": "task.rollout.temperature",
    f"{_A}rollout.top_p": "task.rollout.top_p",
    f"{_A}rollout.top_k": "task.rollout.top_k",
    f"{_A}rollout.tensor_model_parallel_size": "task.rollout.tensor_parallel",
    f"{_A}rollout.gpu_memory_utilization": "task.rollout.gpu_memory_utilization",
    "algorithm.adv_estimator": "estimator",
    "algorithm.gamma": "task.gamma",
    "algorithm.lam": "task.gae_lambda",
    "algorithm.norm_adv_by_std_in_grpo": "task.scale_rewards",
    "algorithm.use_kl_in_reward": "use_kl_in_reward",
    "algorithm.kl_penalty": "kl_penalty",
    "algorithm.kl_ctrl.kl_coef": "kl_coef",
    "algorithm.kl_ctrl.type": "kl_type",
    "algorithm.kl_ctrl.target_kl": "kl_target",
    "algorithm.kl_ctrl.horizon": "task.kl_horizon",
    "algorithm.filter_groups.enable": "filtered",
    "algorithm.filter_groups.metric": "metric",
    "algorithm.rollout_correction.rollout_is": "task.rollout.importance_correction",
    "algorithm.rollout_correction.rollout_is_threshold": "task.rollout.importance_threshold",
    "critic.optim.lr": "task.critic.learning_rate",
    "critic.cliprange_value": "task.value_clip",
    "trainer.v1.trainer_mode": "task.rollout.mode",
}
_SFT: Final[dict[str, str]] = {
    "data.train_batch_size": "task.batch_size",
    "data.micro_batch_size_per_gpu": "task.micro_batch_size",
    "data.use_dynamic_bsz": "task.packing",
    "data.max_length": "task.data.max_tokens",
    "engine.strategy": "task.parallel.strategy",
}
_FILLED: Final = {
    "RL": {"model": f"{_A}model", "optim": f"{_A}actor.optim", "engine": f"{_A}actor.fsdp_config"}
    | {"megatron": f"{_A}actor.megatron"},
    "SFT": {"model": "model", "optim": "optim", "engine": "engine", "megatron": "engine"},
}
_WORKED_OUT: Final[dict[str, tuple[str, ...]]] = {
    "batch": ("task.prompts_per_batch", "task.prompts_per_step", "task.mini_batches"),
    "mini": ("task.mini_batch_size", "task.prompts_per_step", "task.mini_batches"),
    "steps": ("task.optim.steps",),
    "save_freq": ("monitoring.checkpoint_interval",),
    "betas": ("task.optim.beta1", "task.optim.beta2"),
    "clip_ratio": ("task.clip_low", "task.clip_high"),
    "estimator": ("task.algorithm", "task.advantage"),
    "loss_mode": ("task.policy_loss", "task.loss_type", "task.ratio_level"),
    "loss_agg_mode": ("task.loss_aggregation", "task.loss_type"),
    "kl_coef": ("task.kl_coef",),
    "kl_loss_coef": ("task.kl_coef",),
    "use_kl_loss": ("task.kl_in",),
    "use_kl_in_reward": ("task.kl_in",),
    "kl_loss_type": ("task.kl_estimator",),
    "kl_penalty": ("task.kl_estimator",),
    "kl_type": ("task.kl_target",),
    "kl_target": ("task.kl_target",),
    "metric": ("task.rollout.group_filter",),
    "filtered": ("task.rollout.group_filter",),
}
"""What several keys of verl make together -> our fields that come of it."""
_COUNTS: Final = ("batch", "mini", "steps")
"""Parts that others are divided by or multiplied with."""
_SIZES: Final = "passes without gradients are as large as task.micro_batch_size"
_WITHOUT_EFFECT: Final[dict[str, str]] = {
    "trainer.logger": "Finery records what verl logs; other trackers are fed by monitoring.exports",
    "trainer.project_name": "a run has the name of its job file",
    "trainer.experiment_name": "a run has the name of its job file",
    "trainer.val_before_train": "Finery evaluates checkpoints; set monitoring.evaluation",
    "trainer.default_local_dir": "checkpoints lie in the run directory",
    "trainer.critic_warmup": "the policy learns from the first step on",
    "data.val_files": "Finery evaluates checkpoints; set monitoring.evaluation",
    "data.truncation": "longer prompts are cut on the left",
    f"{_A}actor.use_dynamic_bsz": "micro batches are of a fixed number; set task.micro_batch_size",
    f"{_A}model.use_remove_padding": "Finery chooses it by device and model",
    f"{_A}ref.log_prob_micro_batch_size_per_gpu": _SIZES,
    f"{_A}rollout.log_prob_micro_batch_size_per_gpu": _SIZES,
    f"{_A}rollout.mode": "completions are drawn by servers in any case; task.rollout.mode says when",
    "critic.ppo_micro_batch_size_per_gpu": "the critic's are as large as task.micro_batch_size",
    "critic.model.path": "the critic starts from task.model.base",
}
"""What Finery does in its own way -> which way."""
_INSTEAD: Final = {
    "trainer.total_epochs": "say how many steps: trainer.total_training_steps",
    "trainer.test_freq": "set monitoring.evaluation, with benchmarks of Finery",
    "trainer.resume_mode": "resume a job with `finery jobs resume`, or name its checkpoint as model.path",
    "data.filter_overlong_prompts": "longer prompts are cut on the left; filter the data set instead",
    "reward.custom_reward_function.path": "set rewards: [{name: python_file, params: {path: ...}}]",
    "custom_reward_function.path": "set rewards: [{name: python_file, params: {path: ...}}]",
}
_SAID: Final[dict[str, Callable[[Any], Any]]] = {
    "task.rollout.top_k": lambda value: 0 if value == -1 else value,
    "task.rollout.mode": lambda value: {
        "colocate_async": "colocated_async",
        "separate_async": "disaggregated_async",
    }.get(value, value),
    "task.rollout.engine": lambda value: "hf" if value == "hfcpu" else value,
    "task.rollout.importance_correction": lambda value: "none" if value is None else value,
    "task.scale_rewards": lambda value: {True: "group", False: "none"}.get(value, value),
    "task.parallel.fsdp_size": lambda value: None if value == -1 else value,
    "task.optim.warmup_steps": lambda value: max(0, value) if isinstance(value, int) else value,
    "task.model.lora.target_modules": lambda value: value,
}
"""Field -> our value of verl's."""
_LOSS_TYPES: Final = {"token-mean": "dapo", "seq-mean-token-mean": "grpo", "seq-mean-token-sum-norm": "dr_grpo"}
_AGGREGATIONS: Final = {
    "token-mean": "token_mean",
    "seq-mean-token-mean": "sequence_mean",
    "seq-mean-token-sum": "sequence_sum",
    "seq-mean-token-sum-norm": "constant_length",
}
_ESTIMATORS: Final = {"kl": "k1", "k1": "k1", "mse": "k2", "k2": "k2", "low_var_kl": "k3", "k3": "k3"}


class UnreadableTemplate(ValueError):
    """A key of a template that cannot be read; `key` is dotted, `overrides.rollout.nn`."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Reading:
    """A job file of ours as plain data, and how it came from one in verl's words."""

    job: dict[str, Any]
    origins: Mapping[str, str]
    """Dotted path of `job` -> that of the file's key which it was made from. Keys of ours are absent."""
    notes: tuple[str, ...]
    """Keys that have no effect, and why."""


def is_template(raw: Any) -> bool:
    """Whether plain data are a training job in verl's words."""
    if not isinstance(raw, Mapping) or raw.get("kind", "train") != "train":
        return False
    task = raw.get("task")
    return "base_config" in raw or isinstance(task, Mapping) and "base_config" in task


def lifted(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A template with all parts of its task in `task`, where a file may leave them at the top."""
    task = raw.get("task") if isinstance(raw.get("task"), Mapping) else {}
    assert isinstance(task, Mapping)
    above = {name: value for name, value in raw.items() if name not in LIFTED and name != "task"}
    return {**above, "task": {**task, **{name: raw[name] for name in LIFTED if name in raw}}}


def expanded(raw: Any) -> Any:
    """A job file of ours as plain data, from one in verl's words; anything else as it is.

    Raises:
        UnreadableTemplate: as of `read`.
    """
    return read(raw).job if is_template(raw) else raw


def read(raw: Mapping[str, Any], *, settled: Collection[str] = ()) -> Reading:
    """Read a template.

    Args:
        raw: For which `is_template`.
        settled: Dotted paths, such as `resources.gpus`, that stand whatever the template says.

    Raises:
        UnreadableTemplate: a base or key is unknown, has no counterpart, or says otherwise than a field of ours.
    """
    made = lifted(raw)
    written = made.pop("task")
    base, overrides = written.pop("base_config"), written.pop("overrides", {})
    name, is_megatron = _base(base)
    is_sft = name == "sft"
    found = _sorted_out(_flat(overrides), is_sft=is_sft)
    values = found.values
    settings: dict[str, Any] = {"task.engine": "verl"}
    if is_megatron:
        settings["task.parallel.strategy"] = "megatron"
    for place, value in values.items():
        if "." in place or place == "seed":
            settings[place] = _SAID.get(place, lambda same: same)(value)
    algorithm = _BASES[name] if is_sft else _algorithm(name, values, settings)
    _count_steps(values, settings, is_sft=is_sft)
    if settings.get("task.model.lora.rank") == 0:
        settings = {place: value for place, value in settings.items() if not place.startswith("task.model.lora.")}
    made["task"] = {**algorithm, **({"native": found.native} if found.native else {})}
    origins = {place: f"overrides.{key}" for place, key in found.origins().items()}
    for place, value in settings.items():
        _refuse_two(made, place, value, origins.get(place, "base_config"), settled)
        _put(made, place.split("."), value)
    made["task"] = _merged(made["task"], written)
    return Reading(made, origins, tuple(found.notes))


def _refuse_two(made: Mapping[str, Any], place: str, value: Any, key: str, settled: Collection[str]) -> None:
    """Within the task, our words stand above the template's; beside it, one place says what holds."""
    if place.startswith("task.") or place in settled:
        return
    here: Any = made
    for name in place.split("."):
        here = here.get(name) if isinstance(here, Mapping) else None
    if here is not None and here != value:
        raise UnreadableTemplate(key, f"{key} means {place}: {value}, but the file says {here}; leave one of the two")


LIFTED: Final = ("base_config", "overrides", "rewards", "reward_weights", "data", "model")
"""Parts of the task that may stand beside `base_config` at the top of the file."""


def _base(base: Any) -> tuple[str, bool]:
    text = str(base).removesuffix(".yaml").removesuffix("_engine")
    name = text.removesuffix("_trainer").removesuffix("_megatron")
    if name not in _BASES:
        near = get_close_matches(name, _BASES, n=1)
        hint = f"; did you mean {near[0]}_trainer?" if near else ""
        raise UnreadableTemplate(
            "base_config",
            f"base_config {base!r} is not known; it is one of {', '.join(f'{one}_trainer' for one in _BASES)}{hint}",
        )
    return name, "_megatron_" in text


def _flat(raw: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        place = f"overrides.{prefix}" if prefix else "overrides"
        raise UnreadableTemplate(place, f"{place} must be a mapping of keys and values")
    found: dict[str, Any] = {}
    for key, value in raw.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        found.update(_flat(value, path) if isinstance(value, Mapping) and value else {path: value})
    return found


@dataclass
class _Sorted:
    """What overrides say, key by key."""

    values: dict[str, Any] = field(default_factory=dict)
    """By our field, or by a name that is worked out."""
    native: dict[str, Any] = field(default_factory=dict)
    """verl's alone."""
    keys: dict[str, str] = field(default_factory=dict)
    """Name in `values` or path in `native` -> key as it is written."""
    notes: list[str] = field(default_factory=list)

    def origins(self) -> dict[str, str]:
        """Our field -> the key that it comes from, the most telling one where there are several."""
        found = {name: key for name, key in self.keys.items() if "." in name or name == "seed"}
        for name, places in _WORKED_OUT.items():
            for place in places if name in self.keys else ():
                found.setdefault(place, self.keys[name])
        return found


def _sorted_out(overrides: Mapping[str, Any], *, is_sft: bool) -> _Sorted:
    filled = _FILLED["SFT" if is_sft else "RL"]
    fields = {key.format(**filled): place for key, place in _SHARED.items()} | (_SFT if is_sft else _RL)
    found = _Sorted()
    for written, value in overrides.items():
        plain = written.lstrip("+")
        key, path = _full(plain, is_sft=is_sft), f"overrides.{written}"
        if key in _INSTEAD and value not in (None, False, -1, "auto"):
            raise UnreadableTemplate(path, f"{path} has no counterpart; {_INSTEAD[key]}")
        if key in fields:
            _refuse_no_count(fields[key], value, path)
            found.values[fields[key]] = value
            found.keys[fields[key]] = written
        elif key in _WITHOUT_EFFECT or key in _INSTEAD:
            found.notes.append(f"{path} has no effect: {_WITHOUT_EFFECT.get(key) or _INSTEAD[key]}")
        elif key != plain or key.partition(".")[0] not in (_SECTIONS_SFT if is_sft else _SECTIONS):
            raise UnreadableTemplate(path, _unknown(written, key, fields, is_sft=is_sft))
        else:
            found.native[written] = value
            found.keys[f"task.native.{written}"] = written
    return found


def _refuse_no_count(place: str, value: Any, path: str) -> None:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if place in _COUNTS and not (is_count and value > 0):
        raise UnreadableTemplate(path, f"{path} must be a whole number above 0, but it is {value!r}")
    if place == "save_freq" and not is_count:
        raise UnreadableTemplate(path, f"{path} must be a whole number, but it is {value!r}")
    if place == "betas" and not (isinstance(value, list | tuple) and len(value) == 2):
        raise UnreadableTemplate(path, f"{path} must be a list of two numbers, but it is {value!r}")


def _full(key: str, *, is_sft: bool) -> str:
    if key in _SHORT:
        return _SHORT[key]
    for short, full in (_SHORT_SFT if is_sft else _PREFIXES).items():
        if key.startswith(short):
            return f"{full}{key.removeprefix(short)}"
    return key


def _unknown(written: str, key: str, fields: Mapping[str, str], *, is_sft: bool) -> str:
    shown = {full.removeprefix(_A) if not is_sft else full for full in fields}
    near = get_close_matches(written, sorted(shown), n=3, cutoff=0.7)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    way = f"; a key of verl without a field of ours is written in full: {key}" if key != written else ""
    return f"overrides.{written} is not known{hint}{way}"


def _algorithm(name: str, values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The task's algorithm with its loss and KL term: ours where it says the same, else put together from parts."""
    estimator = values.get("estimator")
    if estimator is not None:
        chosen = _OF_ESTIMATOR.get(estimator, "policy_gradient")
        if not (chosen == "grpo" and name in ("gspo", "dapo")):
            name = chosen
    kl = _kl(name, values)
    task: dict[str, Any] = dict(_BASES.get(name, {"algorithm": name}))
    if "clip_ratio" in values:
        settings.setdefault("task.clip_low", values["clip_ratio"])
        settings.setdefault("task.clip_high", values["clip_ratio"])
    if values.get("filtered"):
        settings["task.rollout.group_filter"] = values.get("metric", "reward")
    if name == "ppo":
        return _ppo(task, values, settings, kl)
    loss, averaged = values.get("loss_mode", "vanilla"), values.get("loss_agg_mode", "token-mean")
    is_cut = values.get("mini") is not None and values.get("batch", values["mini"]) != values["mini"]
    is_named = (
        name == "grpo"
        and _grpo(task, loss, averaged, kl)
        or name in ("gspo", "dapo", "rloo")
        and _plain(name, values, kl)
    )
    if is_named and not is_cut:
        task.update({"kl_coef": kl["coef"]} if kl["coef"] else {})
        return task
    parts = {"grpo": "grpo", "gspo": "grpo", "dapo": "grpo", "rloo": "rloo"}
    if name in parts or name == "policy_gradient":
        task = {"algorithm": "policy_gradient", "advantage": parts.get(name, estimator)}
        loss = "gspo" if name == "gspo" else loss
    task["policy_loss"] = loss
    task["loss_aggregation"] = _AGGREGATIONS.get(averaged, averaged)
    if kl["coef"]:
        task |= {"kl_coef": kl["coef"], "kl_in": kl["place"], "kl_estimator": kl["estimator"]}
    return task


def _kl(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Weight, place and estimator of the KL term. `algorithm.kl_coef` alone is that of the algorithm's own place."""
    in_loss = values.get("use_kl_loss", "kl_loss_coef" in values)
    in_reward = values.get("use_kl_in_reward", False)
    if in_loss and in_reward:
        raise UnreadableTemplate(
            "overrides", "overrides: use_kl_loss and use_kl_in_reward add the KL term twice; leave one"
        )
    own = "reward" if name in ("ppo", "rloo") else "loss"
    place = "loss" if in_loss else "reward" if in_reward else own
    coef = values.get("kl_loss_coef", 0.001) if in_loss else values.get("kl_coef", 0.001 if in_reward else 0.0)
    if values.get("use_kl_loss") is False and not in_reward and own == "loss" and "kl_coef" not in values:
        coef = 0.0
    words = values.get("kl_loss_type", "low_var_kl") if place == "loss" else values.get("kl_penalty", "kl")
    if words not in _ESTIMATORS:
        raise UnreadableTemplate(
            "overrides", f"overrides: the KL estimator {words!r} is not known; it is one of {', '.join(_ESTIMATORS)}"
        )
    return {"coef": coef, "place": place, "estimator": _ESTIMATORS[words]}


def _grpo(task: dict[str, Any], loss: str, averaged: str, kl: Mapping[str, Any]) -> bool:
    """Whether our GRPO says the same; puts its loss into the task."""
    if kl["coef"] and (kl["place"] != "loss" or kl["estimator"] != "k3"):
        return False
    if loss in ("cispo", "sapo"):
        task["loss_type"] = loss
        return averaged == ("token-mean" if loss == "cispo" else "seq-mean-token-mean")
    if loss == "gspo" and averaged == "seq-mean-token-mean":
        task |= {"loss_type": "grpo", "ratio_level": "sequence"}
        return True
    if loss == "vanilla" and averaged in _LOSS_TYPES:
        task["loss_type"] = _LOSS_TYPES[averaged]
        return True
    return False


def _plain(name: str, values: Mapping[str, Any], kl: Mapping[str, Any]) -> bool:
    """Whether gspo, dapo or rloo is asked for as it is."""
    own = {"gspo": ("gspo", "seq-mean-token-mean"), "dapo": ("vanilla", "token-mean")}
    own["rloo"] = ("vanilla", "seq-mean-token-sum")
    loss, averaged = own[name]
    is_same = values.get("loss_mode", loss) == loss and values.get("loss_agg_mode", averaged) == averaged
    place = ("reward", "k1") if name == "rloo" else ("loss", "k3")
    has_kl = kl["coef"] and (kl["place"], kl["estimator"]) != place or name == "dapo" and kl["coef"]
    return is_same and not has_kl


def _ppo(
    task: dict[str, Any], values: Mapping[str, Any], settings: dict[str, Any], kl: Mapping[str, Any]
) -> dict[str, Any]:
    if kl["coef"] and kl["place"] != "reward":
        raise UnreadableTemplate(
            "overrides", "overrides: the KL term of ppo is part of the reward; set algorithm.kl_coef, not use_kl_loss"
        )
    if values.get("loss_agg_mode", "token-mean") != "token-mean" or values.get("loss_mode", "vanilla") != "vanilla":
        raise UnreadableTemplate(
            "overrides", "overrides: the loss of ppo is vanilla and its loss_agg_mode token-mean; remove them"
        )
    task = {**task, "kl_coef": kl["coef"], "kl_estimator": kl["estimator"]}
    if values.get("kl_type") == "adaptive":
        settings["task.kl_target"] = values.get("kl_target", 0.1)
    size = settings.get("task.rollout.completions_per_prompt", 1)
    if "batch" in values:
        settings["task.prompts_per_batch"] = values["batch"]
    if "mini" in values:
        settings["task.mini_batch_size"] = values["mini"] * size
    settings.setdefault("task.num_iterations", 1)
    return task


def _count_steps(values: Mapping[str, Any], settings: dict[str, Any], *, is_sft: bool) -> None:
    """Prompts per step, and steps: verl counts batches of rollouts, we count optimizer steps."""
    per_batch = 1
    if not is_sft:
        batch, mini = values.get("batch"), values.get("mini")
        is_ppo = "task.prompts_per_batch" in settings or "task.mini_batch_size" in settings
        if batch is not None and mini is not None and batch % mini:
            raise UnreadableTemplate(
                "overrides",
                f"overrides: data.train_batch_size ({batch}) must be a multiple of ppo_mini_batch_size ({mini})",
            )
        cut = batch // mini if batch and mini else 1
        if not is_ppo and (batch or mini):
            settings["task.prompts_per_step"] = mini or batch
            if cut > 1:
                settings["task.mini_batches"] = cut
        per_batch = cut * settings.get("task.num_iterations", 1)
    if "steps" in values:
        settings["task.optim.steps"] = values["steps"] * per_batch
    if values.get("save_freq", -1) > 0:
        settings["monitoring.checkpoint_interval"] = values["save_freq"] * per_batch
    if "task.optim.warmup_steps" in settings:
        settings["task.optim.warmup_steps"] *= per_batch
    if "betas" in values:
        settings["task.optim.beta1"], settings["task.optim.beta2"] = values["betas"]


def _put(place: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        place[name] = dict(place.get(name) or {})
        place = place[name]
    place.setdefault(path[-1], value)


def _merged(made: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """What was made, under what the file says in our own words."""
    both = dict(made)
    for name, value in written.items():
        old = both.get(name)
        both[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both
