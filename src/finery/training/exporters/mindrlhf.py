"""The export target `mindrlhf`: a GRPO job as a folder that MindRLHF runs on Ascend, without us.

Names of keys, scripts and verifier functions are those of github.com/mindspore-ai/mindrlhf at e8a8fc1 (August 2025):
`mindrlhf/configs/grpo_configs.py`, `examples/grpo/qwen_grpo_tutorial`, `model_configs/qwen_grpo`. Its tutorial still
says `start_lr` and `end_lr`; the code reads `lr_schedule.lr` and `lr_schedule.min_lr`.

Its loss is the one that we call `loss_type: grpo`: per-token k3 divergence and clipped ratios, averaged per completion,
then over completions. What it cannot do is refused, all of it at once.
"""

import re
import subprocess
from collections.abc import Iterator
from os import environ
from pathlib import Path
from typing import Any, Final

import orjson

from finery.core import environment
from finery.core.errors import InvalidSpec, Problem
from finery.core.refs import is_local_path
from finery.training.exporters import register
from finery.training.job import Job
from finery.training.mindrlhf import configuration, scripts
from finery.training.mindrlhf.configuration import DATA, RECORDS, VERIFIERS
from finery.training.mindrlhf.layout import CARDS, cards_of, layout_of, shape_of
from finery.training.rewards.format import FormatParams
from finery.training.specs.grpo import GrpoSpec

_WEIGHT_DECAY: Final = 0.1
"""`set_weight_decay` of `mindrlhf/utils/configs.py` takes this, whatever `optimizer.weight_decay` says."""
_NUMBER: Final = re.compile(r"[-+]?\d+\.?\d*")
"""What `accuracy_reward` finds in an answer."""


@register("mindrlhf")
def export(job: Job, out: Path, *, data_rows: Iterator[dict[str, Any]] | None = None) -> list[Path]:
    """A folder with which MindRLHF trains the job on Ascend: configuration, data, conversions, msrun."""
    task = job.task
    if not isinstance(task, GrpoSpec):
        raise InvalidSpec(f"task.algorithm: MindRLHF trains with grpo, this job with {task.algorithm}; set grpo")
    problems = list(_problems(job, task))
    if problems:
        first, more = problems[0], f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        told = f"MindRLHF cannot train this job as it is: {first.path}: {first.message}{more}"
        raise InvalidSpec(told, tuple(problems))
    shape = shape_of(task.model.base)
    layout = layout_of(job, task, shape)
    num_rows = _write_rows(task, data_rows, out) if data_rows is not None else None
    epochs = _epochs(task, num_rows)
    texts = {
        "README.md": scripts.readme(job, task, layout, epochs, num_rows),
        "run_qwen_grpo.yaml": configuration.HEADER
        + configuration.as_yaml(configuration.grpo(job, task, shape, layout, epochs)),
        "finetune_qwen2_5.yaml": configuration.as_yaml(configuration.trained(shape)),
        "predict_qwen2_5.yaml": configuration.as_yaml(configuration.generating(task, shape)),
        "convert_model.sh": scripts.convert_model(task, layout),
        "convert_data.sh": scripts.convert_data(task),
        "run_grpo.sh": scripts.run(task, layout),
    }
    for name, text in texts.items():
        (out / name).write_text(text)
        if name.endswith(".sh"):
            (out / name).chmod(0o755)
    written = [out / name for name in texts]
    if num_rows is not None:
        written += [out / DATA, *_records(task, out)]
    return written


def _problems(job: Job, task: GrpoSpec) -> Iterator[Problem]:
    """Fields that MindRLHF cannot honour."""
    wanted: dict[str, tuple[Any, Any, str]] = {
        "task.loss_type": (task.loss_type, "grpo", "its loss is averaged per completion"),
        "task.ratio_level": (task.ratio_level, "token", "its ratios are those of tokens"),
        "task.scale_rewards": (task.scale_rewards, "group", "it divides by the standard deviation of the group"),
        "task.mask_truncated": (task.mask_truncated, False, "it has no overlong filtering"),
        "task.max_ratio": (task.max_ratio, None, "it has no two-sided clipping"),
        "task.entropy_coef": (task.entropy_coef, 0, "it has no entropy bonus"),
        "task.top_entropy_quantile": (task.top_entropy_quantile, 1, "all tokens carry loss"),
        "task.model.lora": (task.model.lora, None, "it trains all weights"),
        "task.model.template": (task.model.template, "auto", "it takes the template of the model's tokenizer"),
        "task.data.shuffle": (task.data.shuffle, True, "its data set is shuffled"),
        "task.optim.kind": (task.optim.kind, "adamw", "of the optimizers of a job file it has this one"),
        "task.optim.weight_decay": (task.optim.weight_decay, _WEIGHT_DECAY, "it is fixed in its code"),
        "task.optim.max_grad_norm": (task.optim.max_grad_norm, 1, "gradients are clipped to this norm"),
        "task.optim.ema_decay": (task.optim.ema_decay, 0, "it keeps no averages of weights"),
        "task.native": (task.native, {}, "these are keys of another engine"),
    }
    for path, (given, can, why) in wanted.items():
        if given != can:
            shown = "nothing" if can is None else can
            yield Problem(path, f"{given!r} cannot be honoured, {why}; set {shown}")
    if task.sync_ref_model and task.ref_model_mixup_alpha != 1:
        yield Problem("task.ref_model_mixup_alpha", "it replaces the reference model as a whole; set 1")
    if task.model.dtype not in ("auto", "bfloat16"):
        yield Problem("task.model.dtype", f"it computes in bfloat16, not in {task.model.dtype}; set bfloat16")
    yield from _reward_problems(task)
    if cards_of(job) not in CARDS:
        yield Problem("resources.gpus", f"there are layouts for {' and '.join(map(str, CARDS))} cards a machine")


def _reward_problems(task: GrpoSpec) -> Iterator[Problem]:
    for index, reward in enumerate(task.rewards):
        path = f"task.rewards.{index}"
        if reward.name not in VERIFIERS:
            known = " and ".join(VERIFIERS)
            yield Problem(path, f"it has no verifier function like {reward.name}; it has ones for {known}")
        elif reward.name == "format" and FormatParams(**reward.params) != FormatParams():
            yield Problem(f"{path}.params", "its format_reward has a fixed pattern, our default; remove the pattern")


def _write_rows(task: GrpoSpec, rows: Iterator[dict[str, Any]], out: Path) -> int:
    """Write the rows as they are; how many. MindRLHF compares numbers alone."""
    are_numbers = any(reward.name == "math_equal" for reward in task.rewards)
    place = out / DATA
    place.parent.mkdir(parents=True, exist_ok=True)
    num_rows = 0
    with open(place, "wb") as file:
        for number, row in enumerate(rows, start=1):
            if are_numbers and not _NUMBER.search(str(row.get("answer", ""))):
                raise InvalidSpec(
                    f"task.data.train: row {number} of {task.data.train} has the answer "
                    f"{str(row.get('answer'))[:80]!r}; "
                    "the accuracy reward of MindRLHF compares numbers, and fails on an answer without one"
                )
            file.write(orjson.dumps(row) + b"\n")
            num_rows = number
    if not num_rows:
        raise InvalidSpec(f"task.data.train: {task.data.train} has no rows")
    return num_rows


def _epochs(task: GrpoSpec, num_rows: int | None) -> int:
    """Passes over the data that make at least the steps of the job; an incomplete batch is dropped."""
    if num_rows is None:
        return 1
    if num_rows < task.prompts_per_step:
        raise InvalidSpec(
            f"task.prompts_per_step: a step takes {task.prompts_per_step} prompts, and {task.data.train} has "
            f"{num_rows} rows; MindRLHF drops an incomplete batch, so it would do nothing"
        )
    return -(-task.optim.steps // (num_rows // task.prompts_per_step))


def _records(task: GrpoSpec, out: Path) -> list[Path]:
    """Convert the rows now where mindspore and the model's tokenizer are on this machine; `convert_data.sh` else."""
    python = environment.interpreter(environment.MINDSPORE_PYTHON)
    if not python.is_file() or not is_local_path(task.model.base):
        return []
    command = [str(python), *scripts.conversion(task, str(Path(task.model.base).expanduser().resolve()))]
    done = subprocess.run(
        command, cwd=out, env=environment.foreign_environment(environ), capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise InvalidSpec(f"task.data.train: the rows cannot be written as MindRecord: {said[0]}")
    return [out / RECORDS, out / f"{RECORDS}.db"]
