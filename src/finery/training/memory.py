"""What to say when memory runs out: how much there was, and which setting would need less."""

import json
from collections.abc import Mapping
from typing import Any

from finery.core.errors import InvalidSpec, Unavailable
from finery.core.spec import parse
from finery.training.specs import TrainTask


class OutOfMemory(Unavailable):
    """What was asked for does not fit into this machine's memory."""

    code = "out_of_memory"


def micro_batch_size(task: Mapping[str, Any], num_processes: int = 1) -> int:
    """Rows (or completions) of one forward and backward pass of a training task, as plain data."""
    return int(task.get("micro_batch_size") or _batch_size(task) // num_processes)


def largest_pass(task: Mapping[str, Any], num_processes: int = 1) -> str:
    """The setting that bounds what one forward and backward pass of a process holds, with its value."""
    if task.get("packing"):
        return f"data.max_tokens: {task['data']['max_tokens']}"
    return f"micro_batch_size: {micro_batch_size(task, num_processes)}"


def advice(task: Mapping[str, Any], num_processes: int = 1) -> str:
    """Settings that would need less memory and that the task can have, the cheapest first. Empty where the task is not
    one of training."""
    if "algorithm" not in task:
        return ""
    found = []
    for path, values in _cheaper(task, num_processes):
        value = next((value for value in values if _is_possible(task, path, value)), None)
        if value is not None:
            found.append(f"{path}: {value if isinstance(value, str) else json.dumps(value)}")
    return f"try {', or '.join(found)}" if found else "try a smaller model"


def error(task: Mapping[str, Any], *, while_: str, peak: int, limit: int, num_processes: int = 1) -> OutOfMemory:
    """The one error that ends the run.

    Args:
        task: The training task as plain data.
        while_: What was going on.
        peak: Most bytes that were held.
        limit: Bytes that there are.
        num_processes: Processes that train.
    """
    amounts = f"peak {peak / 2**30:.1f} GiB of {limit / 2**30:.1f} GiB"
    return OutOfMemory(f"out of memory while {while_} ({amounts}); {advice(task, num_processes)}")


def _cheaper(task: Mapping[str, Any], num_processes: int) -> list[tuple[str, list[Any]]]:
    """Dotted paths of settings and values of each that need less memory, the nearest to the present one first."""
    model, longest = task.get("model", {}), task.get("data", {}).get("max_tokens", 0)
    half = micro_batch_size(task, num_processes) // 2
    sizes = [size for size in range(half, 0, -1) if _batch_size(task) // num_processes % size == 0]
    return [
        ("data.max_tokens", [longest // 2] if task.get("packing") else []),
        ("micro_batch_size", [] if task.get("packing") else sizes),
        ("model.gradient_checkpointing", [] if model.get("gradient_checkpointing") else [True]),
        ("model.lora", [{}] if model.get("lora") is None else []),
        (
            "model.quantize",
            ["nf4"] if model.get("lora") is not None and model.get("quantize", "none") == "none" else [],
        ),
    ]


def _is_possible(task: Mapping[str, Any], path: str, value: Any) -> bool:
    """Whether the task is one with this setting changed."""
    outer, _, inner = path.rpartition(".")
    try:
        parse(TrainTask, {**task, **({outer: {**task[outer], inner: value}} if outer else {inner: value})})
    except InvalidSpec:
        return False
    return True


def _batch_size(task: Mapping[str, Any]) -> int:
    """Rows, or completions, of one optimizer step."""
    size = task.get("batch_size") or task.get("mini_batch_size")
    prompts = task.get("prompts_per_step") or task.get("prompts_per_batch") or 1
    return int(size or prompts * task.get("rollout", {}).get("completions_per_prompt", 1))
