"""Job file -> verl's configuration. Pure: no verl, no torch, no file is read.

Every semantic default of ours is passed, none is left to verl's. What verl cannot honour is refused, with the field of
the job file and what would be right. `checking` then looks at the numbers together.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

from finery.core.errors import InvalidSpec
from finery.training.job import Job
from finery.training.scoring import names
from finery.training.specs import DapoSpec, GrpoSpec, GspoSpec, PolicyGradientSpec, PpoSpec, RlooSpec, SftSpec
from finery.training.specs.groups import GroupSpec
from finery.training.verl import algorithms, placing
from finery.training.verl.placing import ACTOR, MODEL, REF, ROLLOUT
from finery.training.verl.sheet import Device, Entry, Inputs, Sheet, Translation

ALGORITHMS: Final = (SftSpec, GrpoSpec, GspoSpec, DapoSpec, RlooSpec, PolicyGradientSpec, PpoSpec)
"""What verl trains."""

_TRAINERS: Final = {"sync": "sync", "colocated_async": "colocate_async", "disaggregated_async": "separate_async"}
"""Our mode -> that of verl's newer trainer."""
_ASYNC: Final = ("colocated_async", "disaggregated_async")
_SPLIT: Final = ("one_step_off", "disaggregated_async")
"""Modes that draw on GPUs of their own."""

_ALONE: Final[dict[Entry, tuple[str, str]]] = {
    "one_step_off": ("task.rollout.mode", "mode one_step_off"),
    "ppo_legacy": ("task.advantage", "an estimator of verl's older trainer"),
}
"""Entry that our own trainer has no part in -> the field that asks for it, and what it is."""


def translate(job: Job, *, inputs: Inputs) -> Translation:
    """A job in verl's words.

    Args:
        job: Complete and valid.
        inputs: Places and machines.

    Raises:
        InvalidSpec: verl cannot honour a field; one problem for each, with its path in the job file.
    """
    task = job.task
    if not isinstance(task, ALGORITHMS):
        known = ", ".join(("sft", "grpo", "gspo", "dapo", "rloo", "policy_gradient", "reinforce_plus_plus", "remax"))
        raise InvalidSpec(
            f"engine verl has no algorithm {task.algorithm}; set engine: trl, or one of {known}, ppo as the algorithm"
        )
    sheet = Sheet(is_ours=inputs.is_ours)
    placing.check_model(sheet, task.model, task.parallel, inputs)
    placing.check_optimizer(sheet, task.optim, task.parallel)
    if job.monitoring.activations:
        sheet.refuse("monitoring.activations", "engine verl does not measure them; set activations: false")
    if isinstance(task, SftSpec):
        entry, config = _put_sft(sheet, task, inputs)
    else:
        entry, config = _put_rl(sheet, task, inputs)
    if inputs.is_ours and entry in _ALONE:
        field, what = _ALONE[entry]
        sheet.refuse(
            field,
            f"{what} is run by verl's own program alone, which cannot be watched, stopped or changed; set another, or "
            "write what runs it without Finery: finery jobs export FILE --to verl",
        )
    _put_trainer(sheet, job, task, inputs, entry)
    _put_environment(sheet, inputs)
    _put_native(sheet, task.native)
    sheet.finish()
    return Translation(entry, config, sheet.settings, sheet.environment, sheet.origins, tuple(sheet.notes))


def assumed(job: Job) -> Inputs:
    """Inputs of a job that has no places yet, to find what is wrong with it whatever they are.

    `gpus: null` counts as none: what a machine has is known where the job starts.
    """
    resources = job.resources
    per_node = resources.processes or max(1, resources.gpus or 0)
    device: Device = "cuda" if resources.gpus else "cpu"
    if resources.device != "auto":
        device = cast(Device, resources.device)
    return Inputs(
        model=Path("model"),
        train=Path("train.parquet"),
        output=Path("checkpoints"),
        seed=job.seed or 0,
        device=device,
        processes_per_node=per_node,
        nodes=resources.nodes,
        reward_file=Path("rewards.py"),
        is_ours=True,
    )


def num_training(task: SftSpec | GroupSpec | PpoSpec, inputs: Inputs) -> int:
    """Processes on each machine that train; those that only draw are not among them."""
    return inputs.processes_per_node - (0 if isinstance(task, SftSpec) else _num_drawing(task, inputs))


def _num_drawing(task: GroupSpec | PpoSpec, inputs: Inputs) -> int:
    if task.rollout.mode not in _SPLIT:
        return 0
    return task.rollout.gpus or inputs.processes_per_node // 2


def _put_rl(sheet: Sheet, task: GroupSpec | PpoSpec, inputs: Inputs) -> tuple[Entry, str]:
    is_megatron = task.parallel.is_megatron
    num_tokens = task.data.max_prompt_tokens + task.rollout.max_new_tokens
    entry: Entry = "one_step_off" if task.rollout.mode == "one_step_off" else "ppo"
    config = "one_step_off_ppo_trainer" if entry == "one_step_off" else "ppo_trainer"
    if is_megatron:
        config = config.replace("_trainer", "_megatron_trainer")
    _put_data(sheet, task, inputs)
    placing.put_model(sheet, MODEL, task.model, task.parallel, inputs)
    engine = "megatron" if is_megatron else "fsdp_config"
    sheet.put(f"{ACTOR}.strategy", placing.strategy(task.parallel), "task.parallel.strategy")
    sheet.suggest(f"{ACTOR}.use_torch_compile", inputs.device == "cuda")
    placing.put_engine(sheet, f"{ACTOR}.{engine}", task.model, task.parallel, inputs)
    placing.put_engine(sheet, f"{REF}.{engine}", task.model, task.parallel, inputs, is_reference=True)
    if not is_megatron:
        sheet.put(f"{ACTOR}.ulysses_sequence_parallel_size", task.parallel.sequence, "task.parallel.sequence")
        sheet.put(f"{ACTOR}.grad_clip", placing.norm_bound(task.optim), "task.optim.max_grad_norm")
    steps = task.steps_per_batch
    placing.put_optimizer(sheet, f"{ACTOR}.optim", task.optim, task.parallel, steps_per_batch=steps)
    _put_batches(sheet, task, inputs)
    placing.put_rollout(sheet, task.rollout, task.model, inputs, num_tokens=num_tokens)
    algorithms.put_algorithm(sheet, task)
    if isinstance(task, PpoSpec):
        _put_critic(sheet, task, inputs)
    else:
        sheet.put("critic.enable", False)
    _put_mode(sheet, task, inputs)
    _put_filter(sheet, task)
    for number, reward in enumerate(task.rewards):
        if reward.on_error == "skip":
            path = f"task.rewards.{number}.on_error"
            sheet.refuse(path, "engine verl leaves no single completion out; set on_error: zero or fail")
    sheet.put("reward.custom_reward_function.path", str(inputs.reward_file) if inputs.reward_file else None)
    sheet.put("reward.custom_reward_function.name", inputs.reward_function)
    if "reward.reward_manager.name" not in sheet.settings:
        sheet.put("reward.reward_manager.name", "naive")
    if isinstance(task, PolicyGradientSpec) and task.estimator in algorithms.LEGACY and entry == "ppo":
        entry = _legacy(sheet, task)
    if entry != "ppo" and inputs.device != "cpu":
        _share_out(sheet)
    return entry, config


def _share_out(sheet: Sheet) -> None:
    """verl's older trainers give each of the workers that ask for completions as many of a batch."""
    completions = sheet.settings["data.train_batch_size"] * sheet.settings[f"{ROLLOUT}.n"]
    sheet.suggest(f"{ROLLOUT}.agent.num_workers", math.gcd(completions, 8))


def _legacy(sheet: Sheet, task: PolicyGradientSpec) -> Entry:
    if task.rollout.mode != "sync":
        sheet.refuse(
            "task.rollout.mode", f"verl estimates {task.estimator} in the modes sync and one_step_off; set sync"
        )
    if task.rollout.group_filter != "none":
        sheet.refuse("task.rollout.group_filter", f"verl cannot with advantage {task.estimator}; set none")
    sheet.put("trainer.use_v1", False, "task.advantage")
    sheet.notes.append(f"advantage {task.estimator} is estimated by verl's older trainer (trainer.use_v1=False)")
    return "ppo_legacy"


def _put_data(sheet: Sheet, task: GroupSpec | PpoSpec, inputs: Inputs) -> None:
    prompts = task.prompts_per_batch if isinstance(task, PpoSpec) else task.prompts_per_step
    if isinstance(task, PolicyGradientSpec):
        prompts *= task.mini_batches
    field = "task.prompts_per_batch" if isinstance(task, PpoSpec) else "task.prompts_per_step"
    sheet.put("data.train_files", str(inputs.train), "task.data.train")
    sheet.put("data.val_files", str(inputs.validation or inputs.train))
    if inputs.validation is None:
        sheet.suggest("data.val_max_samples", 1)
    sheet.put("data.train_batch_size", prompts, field)
    sheet.put("data.max_prompt_length", task.data.max_prompt_tokens, "task.data.max_prompt_tokens")
    sheet.put("data.max_response_length", task.rollout.max_new_tokens, "task.rollout.max_new_tokens")
    sheet.put("data.truncation", "left", "task.data.max_prompt_tokens")
    sheet.put("data.filter_overlong_prompts", False)
    sheet.put("data.shuffle", task.data.shuffle and not inputs.is_ours, "task.data.shuffle")
    sheet.put("data.seed", inputs.seed, "seed")
    sheet.put("data.prompt_key", "prompt")
    sheet.put("data.reward_fn_key", "data_source")
    sheet.put("data.return_raw_chat", True)
    sheet.put("data.trust_remote_code", False)
    sheet.suggest("data.dataloader_num_workers", 0 if inputs.device == "cpu" else 4)


def _put_batches(sheet: Sheet, task: GroupSpec | PpoSpec, inputs: Inputs) -> None:
    """verl counts mini batches in prompts and micro batches in completions of one process."""
    size = task.rollout.completions_per_prompt
    if isinstance(task, PpoSpec):
        completions, field = task.mini_batch_size or task.num_completions, "task.mini_batch_size"
        if completions % size:
            sheet.refuse(
                field,
                f"verl's mini batches are of whole prompts, so {completions} must be a multiple of "
                f"rollout.completions_per_prompt ({size})",
            )
        prompts, is_shuffled = max(1, completions // size), completions < task.num_completions
    else:
        completions, field = task.prompts_per_step * size, "task.prompts_per_step"
        prompts, is_shuffled = task.prompts_per_step, isinstance(task, PolicyGradientSpec) and task.mini_batches > 1
    replicas = max(1, inputs.nodes * num_training(task, inputs) // task.parallel.replica)
    micro = task.micro_batch_size or max(1, completions // replicas)
    sheet.put(f"{ACTOR}.ppo_mini_batch_size", prompts, field)
    sheet.put(f"{ACTOR}.ppo_micro_batch_size_per_gpu", micro, "task.micro_batch_size")
    sheet.put(f"{ACTOR}.use_dynamic_bsz", False)
    sheet.put(f"{ACTOR}.ppo_epochs", task.num_iterations, "task.num_iterations")
    sheet.put(f"{ACTOR}.shuffle", is_shuffled)
    sheet.put(f"{ACTOR}.data_loader_seed", inputs.seed, "seed")
    for prefix in (REF, ROLLOUT):
        sheet.put(f"{prefix}.log_prob_micro_batch_size_per_gpu", micro, "task.micro_batch_size")
    if task.steps_per_batch > 1 and (task.optim.warmup_steps or task.optim.schedule != "constant"):
        sheet.notes.append(
            f"the learning rate moves once per batch of rollouts, which is {task.steps_per_batch} optimizer steps"
        )


def _put_critic(sheet: Sheet, task: PpoSpec, inputs: Inputs) -> None:
    engine = "critic.megatron" if task.parallel.is_megatron else "critic.fsdp"
    placing.put_model(sheet, "critic.model", task.model, task.parallel, inputs)
    placing.put_engine(sheet, engine, task.model, task.parallel, inputs)
    placing.put_optimizer(
        sheet,
        "critic.optim",
        task.optim,
        task.parallel,
        steps_per_batch=task.steps_per_batch,
        learning_rate=task.critic.learning_rate,
    )
    sheet.put("critic.enable", True)
    sheet.put("critic.strategy", placing.strategy(task.parallel), "task.parallel.strategy")
    for key in ("ppo_mini_batch_size", "ppo_micro_batch_size_per_gpu", "ppo_epochs", "shuffle", "data_loader_seed"):
        sheet.put(f"critic.{key}", sheet.settings[f"{ACTOR}.{key}"], sheet.origins.get(f"{ACTOR}.{key}", ""))
    if not task.parallel.is_megatron:
        sheet.put("critic.ulysses_sequence_parallel_size", task.parallel.sequence, "task.parallel.sequence")
        sheet.put("critic.grad_clip", placing.norm_bound(task.optim), "task.optim.max_grad_norm")
    sheet.put("trainer.critic_warmup", 0)


def _put_mode(sheet: Sheet, task: GroupSpec | PpoSpec, inputs: Inputs) -> None:
    """When and where completions are drawn, and how the loss allows for their age."""
    spec, place = task.rollout, "task.rollout"
    mode, drawing = spec.mode, _num_drawing(task, inputs)
    _check_mode(sheet, task, inputs)
    if mode in _SPLIT:
        sheet.put("actor_rollout_ref.hybrid_engine", False, f"{place}.mode")
        sheet.put(f"{ROLLOUT}.checkpoint_engine.backend", "nccl", f"{place}.mode")
        prefix = "rollout" if mode == "one_step_off" else ROLLOUT
        sheet.put(f"{prefix}.nnodes", inputs.nodes, "resources.nodes")
        sheet.put(f"{prefix}.n_gpus_per_node", drawing, f"{place}.gpus")
    correction = spec.importance_correction
    sheet.put(
        "algorithm.rollout_correction.rollout_is",
        None if correction == "none" else correction,
        f"{place}.importance_correction",
    )
    sheet.put(
        "algorithm.rollout_correction.rollout_is_threshold", spec.importance_threshold, f"{place}.importance_threshold"
    )
    # Without a correction, ratios of what was drawn one step before are to what drew it.
    sheet.put("algorithm.rollout_correction.bypass_mode", mode == "one_step_off" and correction == "none")
    if mode == "one_step_off":
        return
    sheet.put("trainer.use_v1", True)
    sheet.put("trainer.v1.trainer_mode", _TRAINERS[mode], f"{place}.mode")
    if mode in _ASYNC:
        # verl counts the versions that a completion spans, the one that learns from it included.
        most = None if spec.max_staleness is None else spec.max_staleness + 1
        sheet.put("trainer.v1.sampler.max_off_policy_threshold", most, f"{place}.max_staleness")
        sheet.put("trainer.v1.sampler.max_off_policy_strategy", "drop", f"{place}.max_staleness")
        extra = 1.0 if spec.oversample is None else spec.oversample
        sheet.put(f"trainer.v1.{_TRAINERS[mode]}.num_warmup_batches", extra, f"{place}.oversample")
    if mode == "disaggregated_async":
        batches = sheet.settings["data.train_batch_size"] // sheet.settings[f"{ACTOR}.ppo_mini_batch_size"]
        sheet.put("trainer.v1.separate_async.parameter_sync_step", batches)


def _check_mode(sheet: Sheet, task: GroupSpec | PpoSpec, inputs: Inputs) -> None:
    spec, place = task.rollout, "task.rollout"
    mode = spec.mode
    if mode != "sync" and inputs.device == "cpu":
        sheet.refuse(f"{place}.mode", f"{mode} needs GPUs that draw while others train; on a CPU set mode: sync")
    if spec.gpus is not None and mode not in _SPLIT:
        sheet.refuse(
            f"{place}.gpus", f"in mode {mode} all GPUs draw and train; remove gpus, or set {' or '.join(_SPLIT)}"
        )
    drawing = _num_drawing(task, inputs)
    if mode in _SPLIT and inputs.device != "cpu" and not 0 < drawing < inputs.processes_per_node:
        sheet.refuse(
            f"{place}.gpus",
            f"in mode {mode} some of a machine's {inputs.processes_per_node} GPUs draw and the others train; set "
            "resources.gpus to 2 or more and rollout.gpus below it",
        )
    if spec.max_staleness is not None and mode not in _ASYNC:
        way = "always 1" if mode == "one_step_off" else "always 0"
        sheet.refuse(f"{place}.max_staleness", f"in mode {mode} it is {way}; remove it, or set {' or '.join(_ASYNC)}")
    if spec.partial_rollout is not None and spec.partial_rollout != (mode in _ASYNC):
        does = "always goes on with" if mode in _ASYNC else "never goes on with"
        sheet.refuse(
            f"{place}.partial_rollout", f"in mode {mode} verl {does} unfinished completions; remove partial_rollout"
        )
    if spec.oversample and mode == "one_step_off":
        sheet.refuse(f"{place}.oversample", "in mode one_step_off verl draws one batch at a time; remove oversample")
    if spec.oversample and mode == "sync" and _filter(task) == "none":
        sheet.refuse(
            f"{place}.oversample",
            "verl (0.9.1) draws more prompts than it needs in asynchronous modes or with a group_filter; remove "
            "oversample, or set group_filter: reward",
        )


def _filter(task: GroupSpec | PpoSpec) -> str:
    is_dynamic = isinstance(task, DapoSpec) and task.dynamic_sampling_rounds > 1
    return "reward" if is_dynamic and task.rollout.group_filter == "none" else task.rollout.group_filter


def _put_filter(sheet: Sheet, task: GroupSpec | PpoSpec) -> None:
    metric, place = _filter(task), "task.rollout.group_filter"
    if isinstance(task, DapoSpec) and task.rollout.group_filter == "none":
        place = "task.dynamic_sampling_rounds"
    sheet.put("algorithm.filter_groups.enable", metric != "none", place)
    if metric == "none":
        return
    known = {"reward", *names(task.rewards)}
    if metric not in known:
        near = get_close_matches(metric, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        sheet.refuse(place, f"there is no reward {metric!r}; set none or one of {', '.join(sorted(known))}{hint}")
    if task.rollout.completions_per_prompt < 2:
        sheet.refuse(place, "a prompt with one completion has no group; set rollout.completions_per_prompt: 2 or more")
    if task.rollout.mode == "one_step_off":
        sheet.refuse(place, "verl filters no groups in mode one_step_off; set none, or another rollout.mode")
    more = task.rollout.oversample or 0.0
    if task.rollout.mode == "sync" and more != int(more):
        sheet.refuse("task.rollout.oversample", f"with a group_filter it is in whole batches; set {math.ceil(more)}")
    sheet.put("algorithm.filter_groups.metric", metric, place)
    sheet.put("algorithm.filter_groups.max_num_gen_batches", 0)
    sheet.put("algorithm.filter_groups.max_inflight_gen_batches", 1 + int(more), "task.rollout.oversample")
    if not sheet.is_ours:
        sheet.notes.append("groups are drawn anew until the batch is full: verl has no bound on its rounds")


def _put_sft(sheet: Sheet, task: SftSpec, inputs: Inputs) -> tuple[Entry, str]:
    is_megatron = task.parallel.is_megatron
    if is_megatron:
        sheet.put("engine", "megatron", "task.parallel.strategy")
        sheet.put("optim", "megatron", "task.parallel.strategy")
    if task.loss_on == "all" and not inputs.is_ours:
        sheet.refuse("task.loss_on", "verl's loss is of the assistant's turns alone; set loss_on: response")
    if not task.data.shuffle and not inputs.is_ours:
        sheet.refuse("task.data.shuffle", "verl's SFT always shuffles; set shuffle: true")
    replicas = max(1, inputs.num_processes // task.parallel.replica)
    micro = task.micro_batch_size or max(1, task.batch_size // replicas)
    sheet.put("data.train_files", str(inputs.train), "task.data.train")
    sheet.put("data.val_files", str(inputs.validation) if inputs.validation else None)
    sheet.put("data.train_batch_size", task.batch_size, "task.batch_size")
    sheet.put("data.micro_batch_size_per_gpu", micro, "task.micro_batch_size")
    sheet.put("data.use_dynamic_bsz", task.packing, "task.packing")
    sheet.put("data.max_token_len_per_gpu", task.data.max_tokens, "task.data.max_tokens")
    sheet.put("data.max_length", task.data.max_tokens, "task.data.max_tokens")
    sheet.put("data.truncation", "right", "task.data.max_tokens")
    sheet.put("data.pad_mode", "no_padding")
    sheet.put("data.messages_key", "messages")
    sheet.suggest("data.num_workers", 0 if inputs.device == "cpu" else 4)
    placing.put_model(sheet, "model", task.model, task.parallel, inputs)
    placing.put_engine(sheet, "engine", task.model, task.parallel, inputs)
    placing.put_optimizer(sheet, "optim", task.optim, task.parallel)
    sheet.notes.append("verl's SFT visits rows in an order of its own, which no seed changes")
    return "sft", "sft_trainer_engine"


def _put_trainer(sheet: Sheet, job: Job, task: SftSpec | GroupSpec | PpoSpec, inputs: Inputs, entry: Entry) -> None:
    per_batch = 1 if isinstance(task, SftSpec) else task.steps_per_batch
    steps = math.ceil(task.optim.steps / per_batch)
    if steps * per_batch != task.optim.steps:
        sheet.notes.append(f"{steps * per_batch} optimizer steps are made: whole batches of {per_batch}")
    sheet.put("trainer.total_training_steps", steps, "task.optim.steps")
    sheet.put("trainer.total_epochs", steps, "task.optim.steps")  # an epoch has a step at least
    interval = "monitoring.checkpoint_interval"
    sheet.put("trainer.save_freq", math.ceil(job.monitoring.checkpoint_interval / per_batch), interval)
    sheet.suggest("trainer.test_freq", -1)
    sheet.suggest("trainer.logger", ["console"])
    sheet.suggest("trainer.project_name", "finery")
    sheet.put("trainer.experiment_name", job.name, "name")
    sheet.put("trainer.default_local_dir", str(inputs.output))
    sheet.put("trainer.nnodes", inputs.nodes, "resources.nodes")
    sheet.put("trainer.n_gpus_per_node", num_training(task, inputs), "resources.gpus")
    sheet.put("trainer.device", inputs.device, "resources.device")
    sheet.put("trainer.resume_mode", "resume_path" if inputs.resume_from else "disable")
    if inputs.resume_from:
        sheet.put("trainer.resume_from_path", str(inputs.resume_from))
    if entry == "sft":
        sheet.put("trainer.seed", inputs.seed, "seed")
        sheet.put("trainer.max_ckpt_to_keep", inputs.keep_checkpoints, "monitoring.keep_checkpoints")
        return
    sheet.suggest("trainer.val_before_train", False)
    for role in ("actor", "critic"):
        key = f"trainer.max_{role}_ckpt_to_keep"
        sheet.put(key, inputs.keep_checkpoints, "monitoring.keep_checkpoints")
    if inputs.device == "cpu":
        sheet.suggest("reward.num_workers", 1)
        sheet.suggest("transfer_queue.backend.SimpleStorage.num_data_storage_units", 1)


def _put_environment(sheet: Sheet, inputs: Inputs) -> None:
    sheet.environment["TOKENIZERS_PARALLELISM"] = "true"
    sheet.environment["HYDRA_FULL_ERROR"] = "1"
    if inputs.device == "cpu":
        sheet.environment["VERL_PLATFORM"] = "cpu"
    if inputs.device == "npu":
        sheet.environment["VLLM_ASCEND_ENABLE_NZ"] = "0"
        sheet.environment["HCCL_CONNECT_TIMEOUT"] = "1500"


def _put_native(sheet: Sheet, native: Mapping[str, Any]) -> None:
    """Keys of verl that the user sets, over all others but ours."""
    own = [key.removeprefix("+") for key in sheet.settings]
    owned = [key for key in own if key not in sheet.suggested]
    for key, value in _unfolded(native, owned):
        path, plain = f"task.native.{key}", key.lstrip("+~")
        taken = [one for one in owned if one == plain or one.startswith(f"{plain}.") or plain.startswith(f"{one}.")]
        if taken:
            named = next((one for one in taken if one in sheet.origins), taken[0])
            field = sheet.origins.get(named)
            sheet.refuse(
                path, f"{named} is set by Finery; {f'set {field} instead' if field else 'it cannot be changed'}"
            )
        else:
            sheet.put(plain if plain in sheet.settings else key, value, path)


def _unfolded(native: Mapping[str, Any], owned: Collection[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """Full keys and values. A mapping is opened where keys of ours lie in it; elsewhere it is a value of verl's."""
    for name, value in native.items():
        key = f"{above}{name}"
        plain = key.lstrip("+~")
        if isinstance(value, Mapping) and value and any(one.startswith(f"{plain}.") for one in owned):
            yield from _unfolded(value, owned, f"{key}.")
        else:
            yield key, value
