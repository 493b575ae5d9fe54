"""What to say when memory runs out: how much there was, and which setting would need less."""

from collections.abc import Mapping
from typing import Any

from finery.core.errors import Unavailable


class OutOfMemory(Unavailable):
    """What was asked for does not fit into this machine's memory."""

    code = "out_of_memory"


def micro_batch_size(task: Mapping[str, Any]) -> int:
    """Rows (or completions) of one forward and backward pass of a training task, as plain data."""
    return int(task.get("micro_batch_size") or _batch_size(task))


def smaller_micro_batch_size(task: Mapping[str, Any]) -> int | None:
    """The largest micro batch of at most half the present size into which a step divides; None below one row."""
    half = micro_batch_size(task) // 2
    return next((size for size in range(half, 0, -1) if _batch_size(task) % size == 0), None)


def largest_pass(task: Mapping[str, Any]) -> str:
    """The setting that bounds what one forward and backward pass holds, with its value."""
    if task.get("packing"):
        return f"data.max_tokens: {task['data']['max_tokens']}"
    return f"micro_batch_size: {micro_batch_size(task)}"


def advice(task: Mapping[str, Any]) -> str:
    """Settings that would need less memory, the cheapest first. Empty where the task is not one of training."""
    model = task.get("model", {})
    if "algorithm" not in task:
        return ""
    smaller = smaller_micro_batch_size(task)
    longest = task.get("data", {}).get("max_tokens", 0) // 2
    settings = [
        (bool(task.get("packing")) and longest >= 2, f"data.max_tokens: {longest}"),
        (not task.get("packing") and smaller is not None, f"micro_batch_size: {smaller}"),
        (not model.get("gradient_checkpointing"), "model.gradient_checkpointing: true"),
        (model.get("lora") is None, "model.lora: {}"),
        (model.get("lora") is not None and model.get("quantize", "none") == "none", "model.quantize: nf4"),
    ]
    found = [setting for helps, setting in settings if helps]
    return f"try {', or '.join(found)}" if found else "try a smaller model"


def error(task: Mapping[str, Any], *, while_: str, peak: int, limit: int) -> OutOfMemory:
    """The one error that ends the run.

    Args:
        task: The training task as plain data.
        while_: What was going on.
        peak: Most bytes that were held.
        limit: Bytes that there are.
    """
    amounts = f"peak {peak / 2**30:.1f} GiB of {limit / 2**30:.1f} GiB"
    return OutOfMemory(f"out of memory while {while_} ({amounts}); {advice(task)}")


def _batch_size(task: Mapping[str, Any]) -> int:
    """Rows, or completions, of one optimizer step."""
    size = task.get("batch_size") or task.get("mini_batch_size")
    prompts = task.get("prompts_per_step") or task.get("prompts_per_batch") or 1
    return int(size or prompts * task.get("rollout", {}).get("completions_per_prompt", 1))
