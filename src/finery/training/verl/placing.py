"""Where and in which form weights are held, optimized and drawn from, in verl's words. Pure."""

from typing import Any, Final

from finery.models.specs import ModelSpec
from finery.training.specs.base import OptimSpec, RolloutSpec
from finery.training.specs.parallel import ParallelSpec
from finery.training.verl.sheet import NO_BOUND, Inputs, Sheet

ACTOR: Final = "actor_rollout_ref.actor"
REF: Final = "actor_rollout_ref.ref"
ROLLOUT: Final = "actor_rollout_ref.rollout"
MODEL: Final = "actor_rollout_ref.model"

_OPTIMIZERS: Final = {
    "adamw": ("torch.optim", "AdamW"),
    "adamw_8bit": ("bitsandbytes.optim", "AdamW8bit"),
    "sgd": ("torch.optim", "SGD"),
}
_VALUE_HEAD: Final = "score"
"""Name of the head of transformers' token classifiers, which verl takes for a critic."""
_CPU_ROLLOUT: Final = "hfcpu"


def strategy(parallel: ParallelSpec) -> str:
    """verl's name of the strategy."""
    return "fsdp2" if parallel.strategy == "auto" else parallel.strategy


def put_model(sheet: Sheet, prefix: str, model: ModelSpec, parallel: ParallelSpec, inputs: Inputs) -> None:
    """The model below `prefix`: path, LoRA, kernels."""
    sheet.put(f"{prefix}.path", str(inputs.model), "task.model.base")
    sheet.put(f"{prefix}.trust_remote_code", False)
    checkpointing = "task.model.gradient_checkpointing"
    sheet.put(f"{prefix}.enable_gradient_checkpointing", model.gradient_checkpointing, checkpointing)
    sheet.put(f"{prefix}.use_liger", model.liger, "task.model.liger")
    if not parallel.is_megatron:
        sheet.suggest(f"{prefix}.use_remove_padding", inputs.device != "cpu")
    if inputs.device == "cpu":
        sheet.suggest(f"+{prefix}.override_config.attn_implementation", "sdpa")
    if model.lora is not None:
        (_put_megatron_lora if parallel.is_megatron else _put_lora)(sheet, prefix, model)
    elif parallel.is_megatron:
        sheet.put(f"{prefix}.lora.rank", 0, "task.model.lora")
    else:
        sheet.put(f"{prefix}.lora_rank", 0, "task.model.lora")


def check_model(sheet: Sheet, model: ModelSpec, parallel: ParallelSpec, inputs: Inputs) -> None:
    """Refuse what verl has no form for."""
    if model.quantize != "none":
        sheet.refuse("task.model.quantize", "verl does not train beside quantized weights; set model.quantize: none")
    if model.dtype == "float16":
        sheet.refuse("task.model.dtype", "verl does not keep float16 weights; set bfloat16, float32 or auto")
    if model.liger and inputs.device == "cpu":
        sheet.refuse("task.model.liger", "these kernels run on a GPU; remove model.liger")
    if parallel.is_megatron and model.dtype == "float32":
        sheet.refuse("task.model.dtype", "verl's Megatron computes in bfloat16; set auto, or parallel.strategy: fsdp2")
    if inputs.device == "cpu":
        _check_cpu(sheet, parallel)


def put_engine(
    sheet: Sheet, prefix: str, model: ModelSpec, parallel: ParallelSpec, inputs: Inputs, *, is_reference: bool = False
) -> None:
    """How weights are split and held, below `prefix`: one of verl's engine configurations."""
    place = "task.parallel"
    offload = parallel.offload_reference if is_reference else parallel.offload_parameters
    name = "offload_reference" if is_reference else "offload_parameters"
    sheet.put(f"{prefix}.param_offload", offload, f"{place}.{name}")
    if not is_reference:
        sheet.put(f"{prefix}.optimizer_offload", parallel.offload_optimizer, f"{place}.offload_optimizer")
    sheet.put(f"{prefix}.seed", inputs.seed, "seed")
    if parallel.is_megatron:
        sheet.put(f"{prefix}.tensor_model_parallel_size", parallel.tensor, f"{place}.tensor")
        sheet.put(f"{prefix}.pipeline_model_parallel_size", parallel.pipeline, f"{place}.pipeline")
        sheet.put(f"{prefix}.context_parallel_size", parallel.context, f"{place}.context")
        sheet.put(f"{prefix}.expert_model_parallel_size", parallel.expert, f"{place}.expert")
        sheet.put(f"{prefix}.sequence_parallel", parallel.tensor > 1)
        sheet.put(f"{prefix}.dtype", "bfloat16", "task.model.dtype")
        sheet.put(f"{prefix}.use_mbridge", True)
        if model.gradient_checkpointing and not is_reference:
            whole = {"granularity": "full", "method": "uniform", "num_layers": 1}
            for key, value in whole.items():
                sheet.put(f"{prefix}.override_transformer_config.recompute_{key}", value, "task.model")
        return
    weights, computed, _ = dtypes(model, inputs)
    sheet.put(f"{prefix}.strategy", strategy(parallel), f"{place}.strategy")
    sheet.put(f"{prefix}.fsdp_size", parallel.fsdp_size or -1, f"{place}.fsdp_size")
    sheet.put(f"{prefix}.ulysses_sequence_parallel_size", parallel.sequence, f"{place}.sequence")
    sheet.put(f"{prefix}.model_dtype", weights, "task.model.dtype")
    mixed = {"param_dtype": computed, "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    sheet.put(f"+{prefix}.mixed_precision", mixed, "task.model.dtype")
    sheet.suggest(f"{prefix}.use_torch_compile", inputs.device == "cuda")


def dtypes(model: ModelSpec, inputs: Inputs) -> tuple[str, str, str]:
    """Number formats of the weights that are trained, of computing, and of the copy that is drawn from.

    `auto` keeps float32 weights and computes in bfloat16 on GPUs and NPUs; on a CPU it is float32 throughout.
    """
    if model.dtype == "bfloat16":
        return "bf16", "bf16", "bfloat16"
    if model.dtype == "float32" or inputs.device == "cpu":
        return "fp32", "fp32", "float32"
    return "fp32", "bf16", "bfloat16"


def put_optimizer(
    sheet: Sheet,
    prefix: str,
    optim: OptimSpec,
    parallel: ParallelSpec,
    *,
    steps_per_batch: int = 1,
    learning_rate: float | None = None,
) -> None:
    """Optimizer and schedule below `prefix`. verl moves the learning rate once per batch of rollouts."""
    sheet.put(f"{prefix}.lr", optim.learning_rate if learning_rate is None else learning_rate, _optim("learning_rate"))
    sheet.put(f"{prefix}.weight_decay", optim.weight_decay, _optim("weight_decay"))
    sheet.put(f"{prefix}.clip_grad", norm_bound(optim), _optim("max_grad_norm"))
    sheet.put(f"{prefix}.lr_warmup_steps", -(-optim.warmup_steps // steps_per_batch), _optim("warmup_steps"))
    sheet.put(f"{prefix}.lr_warmup_steps_ratio", 0.0)
    sheet.put(f"{prefix}.betas", [optim.beta1, optim.beta2], _optim("beta1"))
    if parallel.is_megatron:
        _put_megatron_optimizer(sheet, prefix, optim)
        return
    package, name = _OPTIMIZERS.get(optim.kind, ("", ""))
    sheet.put(f"{prefix}.optimizer", name, _optim("kind"))
    sheet.put(f"{prefix}.optimizer_impl", package, _optim("kind"))
    own = {"momentum": 0.0} if optim.kind == "sgd" else {"eps": optim.epsilon}
    sheet.put(f"{prefix}.override_optimizer_config", own, _optim("epsilon"))
    sheet.put(f"{prefix}.lr_scheduler_type", optim.schedule, _optim("schedule"))
    sheet.put(f"{prefix}.min_lr_ratio", 0.0)
    sheet.put(f"{prefix}.num_cycles", 0.5)
    sheet.put(f"{prefix}.zero_indexed_step", True)


def check_optimizer(sheet: Sheet, optim: OptimSpec, parallel: ParallelSpec) -> None:
    """Refuse optimizers and schedules that verl does not have."""
    known = ("adamw", "sgd") if parallel.is_megatron or strategy(parallel) == "fsdp2" else tuple(_OPTIMIZERS)
    if optim.kind not in known:
        more = "; adamw_8bit needs parallel.strategy: fsdp" if optim.kind == "adamw_8bit" else ""
        sheet.refuse("task.optim.kind", f"verl has no {optim.kind} here; set {' or '.join(known)}{more}")
    if optim.schedule == "linear" and not parallel.is_megatron:
        sheet.refuse(
            "task.optim.schedule",
            "verl falls linearly under Megatron alone; set constant or cosine, or parallel.strategy: megatron",
        )
    if optim.ema_decay:
        sheet.refuse("task.optim.ema_decay", "verl keeps no moving average of the weights; set ema_decay: 0")


def norm_bound(optim: OptimSpec) -> float:
    """Largest norm of gradients; a large number where there is no bound."""
    return optim.max_grad_norm or NO_BOUND


def rollout_name(spec: RolloutSpec, inputs: Inputs, sheet: Sheet) -> str:
    """What draws completions, in verl's words; refuses one that this device has not."""
    on_cpu = inputs.device == "cpu"
    if on_cpu:
        if spec.engine not in ("auto", "hf"):
            sheet.refuse("task.rollout.engine", f"{spec.engine} needs GPUs or NPUs; set engine: hf, or resources.gpus")
        return _CPU_ROLLOUT
    if spec.engine == "hf":
        sheet.refuse("task.rollout.engine", f"hf draws on a CPU alone; on {inputs.device} set vllm or sglang")
    return "vllm" if spec.engine in ("auto", "hf") else spec.engine


def put_rollout(sheet: Sheet, spec: RolloutSpec, model: ModelSpec, inputs: Inputs, *, num_tokens: int) -> None:
    """Sampling, and what draws. `num_tokens` is the longest prompt and completion together."""
    place, name = "task.rollout", rollout_name(spec, inputs, sheet)
    on_cpu = inputs.device == "cpu"
    if on_cpu and spec.tensor_parallel > 1:
        sheet.refuse(f"{place}.tensor_parallel", "on a CPU every process draws for itself; set tensor_parallel: 1")
    settings: dict[str, tuple[Any, str]] = {
        "name": (name, "engine"),
        "mode": ("async", ""),
        "n": (spec.completions_per_prompt, "completions_per_prompt"),
        "temperature": (spec.temperature, "temperature"),
        "top_p": (spec.top_p, "top_p"),
        "top_k": (spec.top_k or -1, "top_k"),
        "do_sample": (True, ""),
        "tensor_model_parallel_size": (spec.tensor_parallel, "tensor_parallel"),
        "gpu_memory_utilization": (spec.gpu_memory_utilization, "gpu_memory_utilization"),
        "max_model_len": (num_tokens, "max_new_tokens"),
        "calculate_log_probs": (True, ""),
    }
    for key, (value, origin) in settings.items():
        sheet.put(f"{ROLLOUT}.{key}", value, f"{place}.{origin}" if origin else "")
    sheet.put(f"{ROLLOUT}.dtype", dtypes(model, inputs)[2], "task.model.dtype")
    sheet.put(f"{ROLLOUT}.seed", inputs.seed, "seed")
    sheet.suggest(f"{ROLLOUT}.max_num_batched_tokens", max(8192, num_tokens))
    sheet.suggest(f"{ROLLOUT}.free_cache_engine", not on_cpu and spec.mode in ("sync", "colocated_async"))
    sheet.suggest(f"{ROLLOUT}.enforce_eager", inputs.device == "npu")
    if model.lora is not None and not on_cpu:
        sheet.suggest(f"{ROLLOUT}.load_format", "safetensors")
    if on_cpu:
        sheet.suggest(f"{ROLLOUT}.agent.num_workers", 1)


def _check_cpu(sheet: Sheet, parallel: ParallelSpec) -> None:
    if strategy(parallel) != "fsdp2":
        sheet.refuse("task.parallel.strategy", f"{parallel.strategy} needs GPUs; on a CPU set auto or fsdp2")
    if parallel.sequence > 1:
        sheet.refuse("task.parallel.sequence", "sequences are split between GPUs alone; set sequence: 1")
    for name in ("offload_parameters", "offload_optimizer", "offload_reference"):
        if getattr(parallel, name):
            sheet.refuse(f"task.parallel.{name}", f"on a CPU everything is in host memory already; set {name}: false")


def _put_lora(sheet: Sheet, prefix: str, model: ModelSpec) -> None:
    lora = model.lora
    assert lora is not None
    if lora.kind != "lora":
        sheet.refuse("task.model.lora.kind", f"verl's FSDP has no {lora.kind}; set kind: lora")
    if lora.dropout:
        sheet.refuse("task.model.lora.dropout", "verl's FSDP has no dropout in LoRA; set dropout: 0")
    if lora.alpha != int(lora.alpha):
        sheet.refuse("task.model.lora.alpha", f"verl takes a whole number; set {round(lora.alpha)}")
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    if prefix.startswith("critic"):
        if not sheet.is_ours:
            sheet.refuse("task.model.lora", "verl (0.9.1) fails to give its critic update matrices; remove model.lora")
        if not isinstance(targets, str):
            targets = [*targets, _VALUE_HEAD]  # it starts from random weights
    sheet.put(f"{prefix}.lora_rank", lora.rank, "task.model.lora.rank")
    sheet.put(f"{prefix}.lora_alpha", int(lora.alpha), "task.model.lora.alpha")
    sheet.put(f"{prefix}.target_modules", targets, "task.model.lora.target_modules")


def _put_megatron_lora(sheet: Sheet, prefix: str, model: ModelSpec) -> None:
    lora = model.lora
    assert lora is not None
    if lora.kind == "rslora":
        sheet.refuse("task.model.lora.kind", "Megatron has no rslora; set kind: lora or dora")
    if not isinstance(lora.target_modules, str):
        sheet.refuse(
            "task.model.lora.target_modules",
            "Megatron names layers otherwise; set all-linear, or native: actor_rollout_ref.model.lora.target_modules",
        )
    else:
        sheet.put(
            f"{prefix}.lora.target_modules",
            ["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"],
            "task.model.lora.target_modules",
        )
    sheet.put(f"{prefix}.lora.type", lora.kind, "task.model.lora.kind")
    sheet.put(f"{prefix}.lora.rank", lora.rank, "task.model.lora.rank")
    sheet.put(f"{prefix}.lora.alpha", lora.alpha, "task.model.lora.alpha")
    sheet.put(f"{prefix}.lora.dropout", lora.dropout, "task.model.lora.dropout")


def _put_megatron_optimizer(sheet: Sheet, prefix: str, optim: OptimSpec) -> None:
    sheet.put(f"{prefix}.optimizer", "sgd" if optim.kind == "sgd" else "adam", _optim("kind"))
    sheet.put(f"{prefix}.lr_decay_style", optim.schedule, _optim("schedule"))
    sheet.put(f"{prefix}.min_lr", 0.0)
    sheet.put(f"{prefix}.lr_warmup_init", 0.0)
    # verl hands Megatron no betas by themselves.
    own = {"adam_beta1": optim.beta1, "adam_beta2": optim.beta2, "adam_eps": optim.epsilon}
    own = {"sgd_momentum": 0.0} if optim.kind == "sgd" else own
    for key, value in own.items():
        sheet.put(f"+{prefix}.override_optimizer_config.{key}", value, _optim("epsilon"))


def _optim(name: str) -> str:
    return f"task.optim.{name}"
