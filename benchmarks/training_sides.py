"""The two sides of `training.py`: `python training_sides.py SIDE FOLDER` runs one and leaves FOLDER/result.json."""

import itertools
import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finery.core.hooks import Decision, LiveControls, StepHooks
from finery.core.rundir import ResolvedInput, Run, RunDir, RunSpec
from finery.core.spec import parse
from finery.jobs.specs import JobSpec, TrainJob
from finery.models import loading, resolving


class Clock:
    """Seconds from the end of one step to the end of the next; the first is counted from the start of training."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.logged: list[dict[str, float]] = []
        self._last = time.perf_counter()

    def start(self) -> None:
        self._last = time.perf_counter()

    def step(self, values: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
        self.logged.append(dict(values))


class ClockHook(StepHooks):
    """The clock at our engine."""

    def __init__(self, clock: Clock):
        self._clock = clock

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        self._clock.step(values)
        return Decision.CONTINUE


def open_run(case: dict[str, Any], folder: Path) -> tuple[Run, TrainJob]:
    """A run directory as the worker writes it, and its job."""
    model = case["model"]
    job = {
        "name": "training",
        "kind": "train",
        "task": {**case["task"], "model": {"base": model, "template": "chatml", **case.get("model_fields", {})}},
        "monitoring": {"checkpoint_interval": 1_000_000, "samples_per_step": 0},
        "seed": case["seed"],
    }
    spec = parse(JobSpec, job)
    assert isinstance(spec, TrainJob)
    rows = Path(case["task"]["data"]["train"])
    inputs = {
        model: resolving.resolve(model, home=Path(case["home"])),
        str(rows): ResolvedInput(kind="file", path=str(rows), sha256=loading.checkpoints.file_sha256(rows)),
    }
    written = RunSpec(job_id="1", attempt=1, job=spec.model_dump(mode="json"), inputs=inputs, seed=case["seed"])
    return Run.open(RunDir.create(folder / "attempt-1", written).path), spec


def run_ours(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Our engine as the child runs it."""
    from finery.runtime.rules import attach  # noqa: PLC0415 - this process is one side only
    from finery.training import runner  # noqa: PLC0415

    run, job = open_run(case, folder)
    clock = Clock()
    attach(run, job)
    run.hooks.append(ClockHook(clock))
    runner.execute(job.task, run)
    seen = [0.0, *(values.get("tokens_seen", 0.0) for values in clock.logged)]
    return {
        "seconds": clock.seconds,
        "tokens": [after - before for before, after in itertools.pairwise(seen)],
        "loss": [values["loss"] for values in clock.logged],
        "reward": [values.get("reward_mean") for values in clock.logged],
        "logprob_gap": [values.get("rollout_logprob_gap_mean") for values in clock.logged],
    }


def stock_arguments(task: Any, case: dict[str, Any], folder: Path, side: str) -> dict[str, Any]:
    """What the stock trainers are told; the rest is their default.

    TRL computes layers again in the backward pass unless told otherwise, which is slower and takes less memory:
    `stock_default` leaves it so.
    """
    return {
        "output_dir": str(folder / "native"),
        "max_steps": task.optim.steps,
        "learning_rate": task.optim.learning_rate,
        "lr_scheduler_type": "constant",
        "gradient_accumulation_steps": 1,
        "bf16": side == "stock_bf16",
        **({} if side == "stock_default" else {"gradient_checkpointing": False}),
        "use_cpu": True,
        "seed": case["seed"],
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def clock_callback(clock: Clock) -> Any:
    """The clock at a stock trainer."""
    from transformers import TrainerCallback  # noqa: PLC0415 - this process is one side only

    class Times(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.start()

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            if logs and "train_runtime" not in logs:
                clock.step(logs)

    return Times()


def stock_result(clock: Clock) -> dict[str, Any]:
    """What a stock side reports."""
    seen = [0.0, *(float(values.get("num_tokens", 0.0)) for values in clock.logged)]
    return {
        "seconds": clock.seconds,
        "tokens": [after - before for before, after in itertools.pairwise(seen)],
        "loss": [float(values["loss"]) for values in clock.logged],
        "reward": [float(values.get("reward", 0.0)) for values in clock.logged],
    }


def run_stock_sft(case: dict[str, Any], folder: Path, side: str) -> dict[str, Any]:
    """TRL's SFTTrainer on the same tokens and labels, in the same order."""
    import torch  # noqa: PLC0415 - this process is one side only
    from datasets import Dataset  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    from finery.training import rows as data  # noqa: PLC0415

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    run, job = open_run(case, folder)
    task = job.task
    path = loading.materialize(run.input(case["model"]), case["model"])
    tokenizer = loading.load_tokenizer(path, "chatml")
    examples, _ = data.examples(
        data.read_rows(run, task.data.train), tokenizer, loss_on=task.loss_on, max_tokens=task.data.max_tokens
    )
    visits = data.order(len(examples), task.optim.steps * task.batch_size, seed=run.seed, shuffle=True)
    masks = [[int(label != -100) for label in example.labels] for example in examples]
    rows = Dataset.from_dict({"input_ids": [example.input_ids for example in examples], "completion_mask": masks})
    clock = Clock()
    trainer = InOrder(
        loading.load_model(path, dtype="float32"),
        args=SFTConfig(
            **stock_arguments(task, case, folder, side),
            per_device_train_batch_size=task.batch_size,
            max_length=task.data.max_tokens,
        ),
        train_dataset=rows.select(visits),
        processing_class=tokenizer,
    )
    trainer.add_callback(clock_callback(clock))
    trainer.train()
    return stock_result(clock)


def run_stock_groups(case: dict[str, Any], folder: Path, side: str) -> dict[str, Any]:
    """TRL's GRPOTrainer or RLOOTrainer with the same settings, all completions of a step in one batch."""
    from datasets import Dataset  # noqa: PLC0415 - this process is one side only
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer  # noqa: PLC0415

    from finery.training import rewards  # noqa: PLC0415
    from finery.training import rows as data  # noqa: PLC0415

    run, job = open_run(case, folder)
    task = job.task
    path = loading.materialize(run.input(case["model"]), case["model"])
    tokenizer = loading.load_tokenizer(path, "chatml")
    found = data.read_rows(run, task.data.train)
    visits = data.order(len(found), task.optim.steps * task.prompts_per_step, seed=run.seed, shuffle=True)
    prompts = [{"prompt": [{"role": "user", "content": found[row]["prompt"]}], "row": row} for row in visits]
    reward = task.rewards[0]
    params = rewards.registry.params(reward.name, reward.params)

    def score(completions: list[Any], row: list[int], **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        return rewards.registry.get(reward.name).target(texts, [found[number] for number in row], params)

    clock = Clock()

    batch = task.prompts_per_step * task.rollout.completions_per_prompt
    is_rloo = task.algorithm == "rloo"
    trainer = (RLOOTrainer if is_rloo else GRPOTrainer)(
        loading.load_model(path, dtype="float32"),
        reward_funcs=[score],
        args=(RLOOConfig if is_rloo else GRPOConfig)(
            **stock_arguments(task, case, folder, side),
            per_device_train_batch_size=batch,
            num_generations=task.rollout.completions_per_prompt,
            max_completion_length=task.rollout.max_new_tokens,
            temperature=task.rollout.temperature,
            top_k=0,
            shuffle_dataset=False,
            **(
                {"beta": task.kl_coef}
                if is_rloo
                else {"loss_type": task.loss_type, "scale_rewards": task.scale_rewards}
            ),
        ),
        train_dataset=Dataset.from_list(prompts),
        processing_class=tokenizer,
    )
    trainer.add_callback(clock_callback(clock))
    trainer.train()
    return stock_result(clock)


def run_stock_preference(case: dict[str, Any], folder: Path, side: str) -> dict[str, Any]:
    """TRL's trainer of an algorithm that learns from pairs, on the same rows; it renders and tokenizes them itself."""
    from datasets import Dataset  # noqa: PLC0415 - this process is one side only
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer  # noqa: PLC0415
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer  # noqa: PLC0415

    from finery.training import rows as data  # noqa: PLC0415

    kinds: dict[str, tuple[Any, Any]] = {
        "dpo": (DPOTrainer, DPOConfig),
        "kto": (KTOTrainer, KTOConfig),
        "orpo": (ORPOTrainer, ORPOConfig),
        "reward": (RewardTrainer, RewardConfig),
    }
    run, job = open_run(case, folder)
    task = job.task
    path = loading.materialize(run.input(case["model"]), case["model"])
    tokenizer = loading.load_tokenizer(path, "chatml")
    found = data.read_rows(run, task.data.train)
    if task.algorithm == "kto":
        found = [
            {"prompt": row["prompt"], "completion": row[key], "label": key == "chosen"}
            for row in found
            for key in ("chosen", "rejected")
        ]
    visits = data.order(len(found), task.optim.steps * task.batch_size, seed=run.seed, shuffle=True)
    rows = [_as_messages(found[row]) for row in visits]
    load = loading.start_reward_model if task.algorithm == "reward" else loading.load_model
    trainer_kind, config = kinds[task.algorithm]
    clock = Clock()
    trainer = trainer_kind(
        load(path, dtype="float32"),
        args=config(
            **stock_arguments(task, case, folder, side),
            per_device_train_batch_size=task.batch_size,
            max_length=task.data.max_tokens,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.add_callback(clock_callback(clock))
    trainer.train()
    return stock_result(clock)


def _as_messages(row: dict[str, Any]) -> dict[str, Any]:
    """A row as TRL takes conversations."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant", "completion": "assistant"}
    return {key: [{"role": roles[key], "content": text}] if key in roles else text for key, text in row.items()}


def main() -> None:
    """Run one side."""
    side, folder = sys.argv[1], Path(sys.argv[2])
    case = json.loads((folder / "case.json").read_text())
    if side == "ours":
        result = run_ours(case, folder)
    else:
        stock = {"sft": run_stock_sft, "grpo": run_stock_groups, "rloo": run_stock_groups}
        result = stock.get(case["task"]["algorithm"], run_stock_preference)(case, folder, side)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (folder / "result.json").write_text(json.dumps({**result, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
