"""A plan in the words of those that run it: a job file, verl, TRL, accelerate, DeepSpeed, PyTorch's FSDP.

Pure. Each format takes the fastest way that fits and that it can express. What a plan does not know (data, rewards,
learning rate) is left as it is by default, or to be filled where there is no default; notes say where.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import yaml

from finery.core.errors import InvalidSpec
from finery.core.spec import parse
from finery.planner.phases import GENERATES
from finery.planner.planning import Found
from finery.planner.specs import ExportFormat, ExportView
from finery.planner.ways import GROUP, Job, Way
from finery.training.exporters import verl
from finery.training.job import of_run
from finery.training.specs import TrainTask

_DATA: Final = "./train.jsonl"
_STEPS: Final = 60
"""Where the request does not say (`optim.steps`)."""
_OPTIMIZERS: Final = {
    "adamw": "adamw",
    "adamw_8bit": "adamw_8bit",
    "adamw_paged_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
    "lion": "lion",
    "lion_8bit": "lion_8bit",
}
"""Ours -> `optim.kind` of a job file."""
_OPTIMIZERS_OF_TRL: Final = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "adamw_paged_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
    "lion": "lion_32bit",
    "lion_8bit": "lion_8bit",
}
_SYNC: Final = (
    "the plan adds gradients up after each micro batch: give the trainer accelerator_config with "
    "gradient_accumulation_kwargs: {sync_each_batch: true}"
)
_TRL_COMMANDS: Final = ("sft", "reward", "dpo", "kto", "grpo", "rloo")
_PLAIN: Final = ("none", "ddp", "zero1", "zero2", "zero3", "fsdp")


def export(found: Found, to: ExportFormat) -> ExportView:
    """The files of a plan.

    Args:
        found: What was asked and found.
        to: In whose words.

    Raises:
        InvalidSpec: nothing fits, or no way that fits can be said in these words; says which could.
    """
    way = _choose(found, to)
    return _EXPORTS[to](found, way)


def _choose(found: Found, to: ExportFormat) -> Way:
    """The fastest way that fits and can be expressed."""
    recommendation = found.recommendation
    if recommendation.best is None:
        raise InvalidSpec(f"there is no plan to export: {'; '.join(recommendation.advice)}")
    best = recommendation.best
    ways = [best, *(way for way, _ in recommendation.others if way.fits and way.job is best.job)]
    for way in ways:
        if _CAN[to](way):
            return way
    raise InvalidSpec(f"no way that fits can be exported as {to}: {_NEEDS[to]}; the fastest is {ways[0].words}")


_CAN: Final[dict[ExportFormat, Callable[[Way], bool]]] = {
    "job": lambda way: way.engine != "accelerate",
    "verl": lambda way: way.engine == "verl",
    "trl": lambda way: way.layout.sharding in _PLAIN and way.layout.split.context == 1 and way.offload != "between",
    "accelerate": lambda way: way.layout.sharding in _PLAIN and way.layout.split.context == 1,
    "deepspeed": lambda way: way.layout.sharding.startswith("zero"),
    "fsdp": lambda way: way.layout.sharding == "fsdp" and way.layout.split.context == 1,
}
_NEEDS: Final[dict[ExportFormat, str]] = {
    "job": "a job file runs copies on one host (engine trl), FSDP and Megatron (engine verl; rollouts with an engine)",
    "verl": "verl runs sft, ppo, grpo and rloo on unquantized weights with FSDP or Megatron; rollouts with an engine",
    "trl": "TRL runs copies, DeepSpeed and FSDP",
    "accelerate": "accelerate runs copies, DeepSpeed and FSDP",
    "deepspeed": "DeepSpeed has ZeRO 1, 2 and 3",
    "fsdp": "accelerate's FSDP needs several devices, and divides no sequences",
}


def document(found: Found, way: Way) -> tuple[dict[str, Any], list[str]]:
    """The job file of a way as plain data, and what is to be filled in.

    Raises:
        InvalidSpec: a job file cannot say it.
    """
    job = way.job
    notes: list[str] = []
    if job.optimizer not in _OPTIMIZERS:
        raise InvalidSpec(f"a job file has no optimizer {job.optimizer}; one of {', '.join(_OPTIMIZERS)}")
    is_verl = way.engine == "verl"
    algorithm = "sft" if job.algorithm == "pretrain" else job.algorithm
    task: dict[str, Any] = {
        "algorithm": algorithm,
        "engine": way.engine,
        "model": _model(found, job, way),
        "data": {"train": _DATA, "max_tokens": job.seq_len},
        "optim": {"kind": _OPTIMIZERS[job.optimizer], "steps": _num_steps(found, way)},
        "micro_batch_size": way.micro_batch,
    }
    if job.optimizer == "adamw_8bit" and is_verl:
        task["parallel"] = {"strategy": "fsdp"}
    notes.append(f"task.data.train is {_DATA}: name a dataset or a file")
    if algorithm in GENERATES:
        _put_rollout(task, job, way, notes)
    else:
        task["batch_size"] = job.sequences_per_step
        task["data"]["max_prompt_tokens"] = max(1, job.seq_len - job.completion)
    if job.algorithm == "pretrain":
        task |= {"loss_on": "all", "packing": True}
        task["data"]["max_tokens"] = way.micro_batch * job.seq_len
    if algorithm == "kto":
        task["data"]["max_tokens"] = job.seq_len
    parallel = {**task.get("parallel", {}), **_parallel(way)} if is_verl else {}
    if parallel:
        task["parallel"] = parallel
    resources = _resources(job)
    return {"kind": "train", "name": f"{algorithm}-{_short(found.name)}", "task": task, "resources": resources}, notes


def _resources(job: Job) -> dict[str, Any]:
    if job.device.vendor == "cpu":
        return {"gpus": 0, "processes": job.num_devices}
    per_host = min(job.num_devices, job.devices_per_host)
    if job.num_devices == per_host:
        return {"gpus": per_host}
    if job.num_devices % per_host:
        whole = per_host * (job.num_devices // per_host)
        raise InvalidSpec(
            f"engine verl takes whole hosts of {per_host} devices; plan for {whole} or {whole + per_host}"
        )
    return {"gpus": per_host, "nodes": job.num_devices // per_host}


def _model(found: Found, job: Job, way: Way) -> dict[str, Any]:
    model: dict[str, Any] = {"base": found.name if found.request.model else "./model"}
    if job.adapter is not None:
        model["lora"] = {"rank": job.adapter.rank, "alpha": 2.0 * job.adapter.rank}
        if job.adapter.decomposes:
            model["lora"]["kind"] = "dora"
    if job.quantization in ("nf4", "nf4_double", "int4"):
        model["quantize"] = "nf4"
    elif job.quantization == "int8":
        model["quantize"] = "int8"
    if way.recomputation != "none":
        model["gradient_checkpointing"] = True
    if job.liger:
        model["liger"] = True
    kinds = {"bf16": "bfloat16", "mixed": "auto", "fp32": "float32"}
    has_narrow = way.layout.sharding == "megatron" or job.adapter is not None  # frozen weights need no 32 bits
    model["dtype"] = "bfloat16" if has_narrow else kinds[job.numbers]
    if job.is_float32:
        model["dtype"] = "float32"
    elif job.precision == "fp16":
        model["dtype"] = "float16"
    return model


def _put_rollout(task: dict[str, Any], job: Job, way: Way, notes: list[str]) -> None:
    """Rollouts, rewards, and batches in prompts."""
    group = _group(job)
    prompts = job.sequences_per_step // group
    task["prompts_per_batch" if job.algorithm == "ppo" else "prompts_per_step"] = prompts
    task["data"]["max_prompt_tokens"] = job.seq_len - job.completion
    rollout: dict[str, Any] = {"completions_per_prompt": group, "max_new_tokens": job.completion}
    if way.engine == "verl" and way.rollout is not None:
        rollout |= {"engine": "vllm", "tensor_parallel": way.rollout.tensor}
        rollout["gpu_memory_utilization"] = way.rollout.share or 0.5
        if way.layout.num_generating:
            hosts = max(1, job.num_devices // job.devices_per_host)
            rollout |= {"mode": "disaggregated_async", "gpus": way.layout.num_generating // hosts}
    task["rollout"] = rollout
    task["rewards"] = [{"name": "math_equal"}]
    notes.append("task.rewards is math_equal: name the rewards of the job")
    if job.algorithm == "ppo":
        task |= {"num_iterations": 1, "critic": {"kind": "separate" if job.critic else "shared"}}
    elif job.kl:
        task["kl_coef"] = 0.001
    if not job.kl:
        task["kl_coef"] = 0.0


def _parallel(way: Way) -> dict[str, Any]:
    split, found = way.layout.split, {}
    if way.layout.sharding == "megatron":
        sizes = {"tensor": split.tensor, "pipeline": split.pipeline, "context": split.context, "expert": split.expert}
        found = {"strategy": "megatron", **{name: size for name, size in sizes.items() if size > 1}}
    elif split.context > 1:
        found = {"sequence": split.context}
    if way.offload == "between":
        found |= {"offload_parameters": True, "offload_optimizer": True, "offload_reference": True}
    return found


def _num_steps(found: Found, way: Way) -> int:
    request = found.request
    if request.steps is not None:
        return request.steps
    if request.tokens is not None:
        return max(1, round(request.tokens * 1e6 / (way.tokens_per_second * way.seconds.total)))
    return _STEPS


def _short(name: str) -> str:
    kept = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name.rpartition("/")[2])
    return kept.strip("-.")[:60] or "model"


def _job(found: Found, way: Way) -> ExportView:
    raw, notes = document(found, way)
    parse(TrainTask, raw["task"], what="the job file")
    return ExportView(files={"job.yaml": _commented(way, notes) + _yaml(raw)}, notes=notes)


def _verl(found: Found, way: Way) -> ExportView:
    """verl's own words, made by the translator of the engine and checked as it checks a job."""
    raw, notes = document(found, way)
    task: Any = parse(TrainTask, raw["task"], what="the job file")
    complete = {"monitoring": {"checkpoint_interval": 500, "keep_checkpoints": 3}, "seed": 0, **raw}
    translation = verl.translated(of_run(task, complete))
    overrides = "".join(f"{line}\n" for line in translation.overrides)
    files = {"run.sh": verl.command(translation), "overrides.txt": overrides}
    return ExportView(files=files, notes=[*notes, *translation.notes])


def _trl(found: Found, way: Way) -> ExportView:
    job = way.job
    algorithm = "sft" if job.algorithm == "pretrain" else job.algorithm
    if algorithm not in _TRL_COMMANDS:
        raise InvalidSpec(f"TRL's command line has no {algorithm}; it has {', '.join(_TRL_COMMANDS)}")
    if job.optimizer not in _OPTIMIZERS_OF_TRL:
        raise InvalidSpec(f"TRL has no optimizer {job.optimizer}; one of {', '.join(_OPTIMIZERS_OF_TRL)}")
    if way.layout.num_generating:
        raise InvalidSpec("TRL's devices that only generate are a server of their own; plan with rollouts: colocated")
    settings: dict[str, Any] = {
        "model_name_or_path": found.name if found.request.model else "./model",
        "dataset_name": "json",
        "output_dir": f"{algorithm}-{_short(found.name)}",
        "per_device_train_batch_size": way.micro_batch,
        "gradient_accumulation_steps": way.accumulation,
        "max_steps": _num_steps(found, way),
        "optim": _OPTIMIZERS_OF_TRL[job.optimizer],
        "gradient_checkpointing": way.recomputation != "none",
        **_trl_numbers(job, way),
        "use_liger_kernel": job.liger,
    }
    if algorithm in GENERATES:
        settings |= _trl_rollout(job, way)
    else:
        settings["max_length"] = job.seq_len
    if algorithm == "sft" and job.algorithm == "pretrain":
        settings["packing"] = True
    if _adds_up_late(way):
        settings["accelerator_config"] = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    settings |= _trl_adapter(job, way)
    accelerate = _accelerate(found, way)
    settings["accelerate_config"] = "accelerate.yaml"
    command = f"# trl {algorithm} --config trl.yaml\n# {way.words}\n"
    notes = ["dataset_name is json: name the data (and reward_funcs, where completions are generated)"]
    files = {"trl.yaml": command + _yaml(settings), **accelerate.files}
    return ExportView(files=files, notes=[*notes, *accelerate.notes])


def _trl_numbers(job: Job, way: Way) -> dict[str, Any]:
    """Number formats; DeepSpeed's must be those of its own file."""
    narrow = {"bf16": "bfloat16", "fp16": "float16"}.get(job.precision, "float32")
    has_zero = way.layout.sharding.startswith("zero")
    is_wide = job.is_float32 or (job.is_mixed and job.adapter is None and not (job.numbers == "bf16" and has_zero))
    is_scaled = job.precision == "fp16" and job.adapter is not None
    is_mixed = not job.is_float32 and (job.is_mixed or is_scaled or has_zero)
    return {
        "dtype": "float32" if is_wide else narrow,
        "bf16": is_mixed and job.precision == "bf16",
        "fp16": is_mixed and job.precision == "fp16",
        **({"use_cpu": True} if job.device.vendor == "cpu" else {}),
    }


def _group(job: Job) -> int:
    """Completions of a prompt, that divide the sequences of a step."""
    found = next((size for size in (GROUP, 4, 2) if job.sequences_per_step % size == 0), 0)
    if not found:
        raise InvalidSpec(
            f"{job.sequences_per_step} sequences a step are no groups of completions; plan for a multiple of {GROUP}"
        )
    return found


def _trl_rollout(job: Job, way: Way) -> dict[str, Any]:
    group = _group(job)
    found: dict[str, Any] = {"num_generations": group, "max_completion_length": job.completion}
    found["beta"] = 0.001 if job.kl else 0.0
    if way.rollout is not None and way.rollout.has_own_weights:
        found |= {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_enable_sleep_mode": True,
            "vllm_tensor_parallel_size": way.rollout.tensor,
            "vllm_gpu_memory_utilization": way.rollout.share,
            "vllm_max_model_length": job.seq_len,
        }
    return found


def _trl_adapter(job: Job, way: Way) -> dict[str, Any]:
    if job.adapter is None:
        return {}
    found: dict[str, Any] = {"use_peft": True, "lora_r": job.adapter.rank, "lora_alpha": 2 * job.adapter.rank}
    found["lora_target_modules"] = "all-linear"
    found["use_dora"] = job.adapter.decomposes
    if job.quantization == "int8":
        found["load_in_8bit"] = True
    elif job.quantization != "none":
        double = job.quantization == "nf4_double"
        found |= {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": double}
        if way.layout.split.zero == 3:  # what is stored as bytes is not divided
            found["bnb_4bit_quant_storage"] = "bfloat16" if job.precision == "bf16" else "float16"
    return found


def _adds_up_late(way: Way) -> bool:
    """Whether a trainer that is not told otherwise keeps gradients undivided until the last micro batch."""
    return way.layout.sharding == "fsdp" and way.accumulation > 1


def _accelerate_alone(found: Found, way: Way) -> ExportView:
    made = _accelerate(found, way)
    if not _adds_up_late(way):
        return made
    return ExportView(files=made.files, notes=[*made.notes, _SYNC])


def _accelerate(found: Found, way: Way) -> ExportView:
    job, sharding = way.job, way.layout.sharding
    number = job.num_devices - way.layout.num_generating
    kind = "NO" if sharding == "none" else "MULTI_GPU"
    settings: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "mixed_precision": job.precision if job.is_mixed and not job.is_float32 else "no",
        "num_machines": max(1, -(-number // job.devices_per_host)),
        "num_processes": number,
        "machine_rank": 0,
        "main_training_function": "main",
        "use_cpu": job.device.vendor == "cpu",
    }
    files: dict[str, str] = {}
    if sharding == "fsdp":
        kind = "FSDP"
        settings["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": True,
            "fsdp_offload_params": way.offload == "all",
            "fsdp_activation_checkpointing": False,  # the trainer's own, which is in its arguments
            "fsdp_cpu_ram_efficient_loading": True,
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",
        }
    elif sharding.startswith("zero"):
        kind = "DEEPSPEED"
        settings["deepspeed_config"] = {
            "deepspeed_config_file": "deepspeed.json",
            "zero3_init_flag": sharding == "zero3",
        }
        del settings["mixed_precision"]  # said in DeepSpeed's file, and refused in two places
        files = _deepspeed(way).files
    settings = {"distributed_type": kind, **settings}
    notes = []
    if settings["num_machines"] > 1:
        notes.append(
            "accelerate.yaml is of the first host: add main_process_ip and main_process_port, count machine_rank"
        )
    return ExportView(files={"accelerate.yaml": f"# {way.words}\n" + _yaml(settings), **files}, notes=notes)


def _deepspeed(way: Way) -> ExportView:
    job = way.job
    stage = int(way.layout.sharding.removeprefix("zero"))
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    if way.offload in ("optimizer", "all"):
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if way.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    settings = {
        "train_micro_batch_size_per_gpu": way.micro_batch,
        "gradient_accumulation_steps": way.accumulation,
        "train_batch_size": job.sequences_per_step,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": job.precision == "bf16"},
        "fp16": {"enabled": job.precision == "fp16"},
        "zero_optimization": zero,
    }
    return ExportView(files={"deepspeed.json": json.dumps(settings, indent=2) + "\n"}, notes=[])


def _commented(way: Way, notes: list[str]) -> str:
    return "".join(f"# {line}\n" for line in (way.words, *notes))


def _yaml(raw: dict[str, Any]) -> str:
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


_EXPORTS: Final[dict[ExportFormat, Callable[[Found, Way], ExportView]]] = {
    "job": _job,
    "verl": _verl,
    "trl": _trl,
    "accelerate": _accelerate_alone,
    "deepspeed": lambda _, way: _deepspeed(way),
    "fsdp": _accelerate_alone,
}
