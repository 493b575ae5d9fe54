"""What both trainers need: model, tokenizer, LoRA, and the arguments that every algorithm shares."""

import dataclasses
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import torch
from peft import LoraConfig
from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.models import loading
from finery.models.specs import ModelSpec
from finery.training.specs import OptimSpec, TrainTask

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


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
    model = loading.load_model(path, dtype=dtype)
    tokenizer = loading.load_tokenizer(path, task.model.template)
    if task.model.lora is not None and (path / "adapter_config.json").is_file():
        path = _save_merged(model, tokenizer, run.dir.path / "base")
        model = loading.load_model(path, dtype=dtype)
    return Loaded(model, tokenizer, _lora(task.model))


def common_arguments(optim: OptimSpec, model: ModelSpec, run: Run) -> dict[str, Any]:
    """Arguments of transformers.TrainingArguments: each semantic one is passed, none is left to a default."""
    on_gpu = torch.cuda.is_available()
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
        "optim": "adamw_torch_fused",
        "seed": run.seed,
        "data_seed": run.seed,
        "bf16": model.dtype == "auto" and loading.resolve_dtype("auto") is torch.bfloat16,
        "fp16": False,
        "use_cpu": not on_gpu and not torch.backends.mps.is_available(),
        "gradient_checkpointing": False,
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


def _lora(spec: ModelSpec) -> LoraConfig | None:
    if spec.lora is None:
        return None
    targets = spec.lora.target_modules
    return LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def _save_merged(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """A new adapter names its base by path, so an adapter that was folded in must lie somewhere as a whole model."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder
