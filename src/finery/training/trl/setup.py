"""What both trainers need: model, tokenizer, LoRA, and the arguments that every algorithm shares."""

import dataclasses
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

import torch
from peft import LoraConfig, TaskType
from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.models import loading
from finery.models.quantization import load_quantized
from finery.models.specs import ModelSpec
from finery.training import world
from finery.training.specs import OptimSpec, TrainTask

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "lion": "lion_32bit",
    "lion_8bit": "lion_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
"""Our names -> transformers' names."""


@dataclass(frozen=True)
class Loaded:
    """What training starts from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    lora: LoraConfig | None


def load(task: TrainTask, run: Run) -> Loaded:
    """Load what the task starts from, with every random stream at the run's seed."""
    set_seed(run.seed)
    path = loading.materialize(run.input(task.model.base), task.model.base)
    # Weights are trained in float32 unless asked otherwise: AdamW's small updates vanish in bfloat16.
    dtype = "float32" if task.model.dtype == "auto" else task.model.dtype
    tokenizer = loading.load_tokenizer(path, task.model.template)
    if task.algorithm == "reward":
        return _load_reward(task, run, path, tokenizer, dtype)
    if (path / loading.ADAPTER).is_file():
        # Folded in for good: a new adapter, and TRL's reference model, are loaded by the path that a model came from.
        path = _save_merged(loading.load_model(path, dtype=dtype), tokenizer, run.dir.path / "base")
    if task.model.quantize == "none":
        model = loading.load_model(path, dtype=dtype)
    else:
        model = load_quantized(path, task.model.quantize, dtype=dtype, compute_dtype=task.model.dtype)
    return Loaded(model, tokenizer, _lora(task.model))


def batches(size: int, micro: int | None) -> dict[str, int]:
    """Arguments that cut what an optimizer step takes into the shares of processes, and these into micro batches."""
    share = size // world.size()
    micro = micro or share
    return {"per_device_train_batch_size": micro, "gradient_accumulation_steps": share // micro}


def keep_precision(model: torch.nn.Module) -> None:
    """Train the adapters of a quantized model in float32: TRL has cast them to bfloat16, where small updates vanish."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype is torch.bfloat16:
            parameter.data = parameter.data.float()


def _load_reward(task: TrainTask, run: Run, path: Path, tokenizer: PreTrainedTokenizerBase, dtype: str) -> Loaded:
    """A model with a head that scores; LoRA trains that head whole."""
    if (path / loading.ADAPTER).is_file():
        fold = loading.load_reward_model if loading.is_reward_model(path) else loading.load_model
        path = _save_merged(fold(path, dtype=dtype), tokenizer, run.dir.path / "base")
    lora = _lora(task.model)
    if lora is not None:
        lora.task_type, lora.modules_to_save = TaskType.SEQ_CLS, ["score"]
    return Loaded(loading.start_reward_model(path, dtype=dtype), tokenizer, lora)


def common_arguments(optim: OptimSpec, model: ModelSpec, run: Run) -> dict[str, Any]:
    """Arguments of transformers.TrainingArguments: each semantic one is passed, none is left to a default.

    Raises:
        InvalidSpec: this machine cannot do what is asked for.
    """
    on_gpu = torch.cuda.is_available()
    _check_machine(optim, model, on_gpu)
    return {
        "output_dir": str(run.dir.path / "native"),
        "max_steps": optim.steps,
        "learning_rate": optim.learning_rate,
        "warmup_steps": optim.warmup_steps,
        "lr_scheduler_type": _SCHEDULES[optim.schedule],
        "weight_decay": optim.weight_decay,
        "adam_beta1": optim.beta1,
        "adam_beta2": optim.beta2,
        "adam_epsilon": optim.epsilon,
        "max_grad_norm": optim.max_grad_norm,
        "optim": _OPTIMIZERS[optim.kind],
        "seed": run.seed,
        "data_seed": run.seed,
        "bf16": model.dtype == "auto" and loading.resolve_dtype("auto") is torch.bfloat16,
        "fp16": False,
        "use_cpu": not on_gpu and (world.size() > 1 or not torch.backends.mps.is_available()),
        "gradient_checkpointing": model.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "use_liger_kernel": model.liger,
        "liger_kernel_config": {"cross_entropy": False, "fused_linear_cross_entropy": False},
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": on_gpu,
        "remove_unused_columns": False,
    }


def with_native(
    config: type[Any], arguments: dict[str, Any], native: dict[str, Any], *, unused: frozenset[str] = frozenset()
) -> Any:
    """Build the engine's config with the user's `native` overrides.

    Args:
        config: The engine's dataclass.
        arguments: What the job file sets.
        native: What the user sets directly.
        unused: Options of `config` that would change nothing here.

    Raises:
        InvalidSpec: the engine has no such option, a field of the job file owns it, it would be ignored, or its value
            has another type.
    """
    known = {field.name for field in dataclasses.fields(config) if field.init}
    types = get_type_hints(config)
    typed = {}
    for name in native:
        if name in arguments:
            raise InvalidSpec(f"native.{name} is set by a field of the job file; set that field instead")
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise InvalidSpec(f"native.{name}: {config.__name__} has no such option{hint}")
        if name in unused:
            raise InvalidSpec(f"native.{name} would change nothing: Finery does that part itself; remove it")
        try:
            typed[name] = TypeAdapter(types[name]).validate_python(native[name])
        except ValidationError as error:
            raise InvalidSpec(f"native.{name}: {error.errors()[0]['msg']}, but it is {native[name]!r}") from error
    try:
        return config(**arguments, **typed)
    except (TypeError, ValueError) as error:
        raise InvalidSpec(f"the engine does not take these settings: {error}") from error


def _check_machine(optim: OptimSpec, model: ModelSpec, on_gpu: bool) -> None:
    if optim.kind.startswith("paged_") and not on_gpu:
        raise InvalidSpec(
            f"optim.kind: {optim.kind} moves optimizer states from a GPU to host memory, and there is no GPU here; "
            f"set optim.kind: {optim.kind.removeprefix('paged_')}"
        )
    if model.liger and not on_gpu:
        raise InvalidSpec("model.liger: these kernels run on a GPU, and there is none here; remove model.liger")
    if model.liger and find_spec("liger_kernel") is None:
        raise InvalidSpec("model.liger needs a package that is not installed: pip install liger-kernel")


def _lora(spec: ModelSpec) -> LoraConfig | None:
    if spec.lora is None:
        return None
    targets = spec.lora.target_modules
    return LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        use_dora=spec.lora.kind == "dora",
        use_rslora=spec.lora.kind == "rslora",
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def _save_merged(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Write a model whose adapter was folded in as a whole one; another process may have done so."""
    if world.rank() > 0:
        return folder
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder
