"""What can be split between processes: each takes an equal share of every batch. Pure."""

from finery.training.specs import DpoSpec, KtoSpec, PpoSpec, TrainTask
from finery.training.specs.dpo import SORTED
from finery.training.specs.groups import GroupSpec


def number(*, gpus: int | None, processes: int | None) -> int:
    """Processes that train, from what a job says of its resources."""
    return processes or max(1, gpus or 0)


def check(task: TrainTask, num: int) -> None:
    """Refuse a task whose batches do not fall to `num` processes in equal shares.

    Raises:
        ValueError: they do not, or its loss needs all rows of a step in one place.
    """
    if num == 1:
        return
    if isinstance(task, DpoSpec) and task.loss_type in SORTED:
        raise ValueError(
            f"loss_type {task.loss_type} sorts the rows that are computed together, so {num} processes would change "
            "the loss; set resources.processes: 1, or another loss_type"
        )
    for name, size in _batches(task).items():
        if size % num:
            below, above = size - size % num, size + num - size % num
            raise ValueError(
                f"{name} ({size}) must be a multiple of the number of processes ({num}), which take equal shares; set "
                f"it to {f'{below} or {above}' if below else above}, or change resources"
            )
    name, size = list(_batches(task).items())[-1]
    share, micro = size // num, task.micro_batch_size
    is_packed = getattr(task, "packing", False)
    if micro and share % micro and not is_packed:
        raise ValueError(
            f"{name} ({size}) over {num} processes is {share} for each, which must be a multiple of micro_batch_size "
            f"({micro}); set micro_batch_size: {share}, or leave it out"
        )
    if isinstance(task, KtoSpec) and task.loss_type == "kto" and share < 2:
        raise ValueError(
            f"kto estimates its KL term from the rows of each process, so batch_size ({size}) must be at least "
            f"{2 * num} for {num} processes"
        )


def _batches(task: TrainTask) -> dict[str, int]:
    """What is split, under the names of its fields; the last is what an optimizer step takes."""
    if isinstance(task, PpoSpec):
        rollouts = "task.prompts_per_batch * task.rollout.completions_per_prompt"
        mini = {} if task.mini_batch_size is None else {"task.mini_batch_size": task.mini_batch_size}
        return {rollouts: task.num_completions, **mini}
    if isinstance(task, GroupSpec):
        completions = task.prompts_per_step * task.rollout.completions_per_prompt
        return {"task.prompts_per_step * task.rollout.completions_per_prompt": completions}
    return {"task.batch_size": task.batch_size}
