"""What does a step of this engine cost beside the bare TRL trainer? `python benchmarks/overhead.py [--pairs 40]`

SmolLM2-135M, SFT, same rows, same tokens, same settings, same environment variables, float32, in two processes that
take turns: one step of one, one step of the other, the order swapped from pair to pair. A step is timed from its
release to its end with everything that belongs to it: batch, forward, backward, optimizer, logging, events and hooks.
Prints the median of the paired ratios with its 95 % interval (bootstrap), and as its last line a JSON object.

`--loss-on all` gives every token a loss: then our trainer's shortcut, logits where there is a label only, cannot help.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finery.core.environment import child_environment
from finery.core.hooks import Decision, LiveControls, StepHooks
from finery.core.rundir import ResolvedInput, Run, RunDir, RunSpec
from finery.core.spec import parse
from finery.jobs.specs import JobSpec, TrainJob
from finery.models import loading, resolving

MODEL = "smollm2-135m-instruct"
BATCH = 8
WARM_UP = 3


def job(steps: int, rows: Path, loss_on: str) -> dict[str, Any]:
    """The job file of both sides."""
    return {
        "name": "overhead",
        "kind": "train",
        "task": {
            "algorithm": "sft",
            "model": {"base": MODEL, "dtype": "float32", "template": "chatml"},
            "data": {"train": str(rows), "max_tokens": 256},
            "optim": {"learning_rate": 1e-5, "steps": steps},
            "batch_size": BATCH,
            "loss_on": loss_on,
        },
        "monitoring": {"checkpoint_interval": 100_000},
        "seed": 1,
    }


def write_rows(path: Path) -> None:
    """Rows of about 100 tokens, half of them the response."""
    random.seed(1)
    lines = []
    for _ in range(400):
        numbers = [random.randrange(10, 100) for _ in range(16)]
        row = {"prompt": "Sort: " + " ".join(map(str, numbers)), "response": " ".join(map(str, sorted(numbers)))}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))


class Turn:
    """The other process's word between two steps."""

    def wait(self) -> None:
        print("ready", flush=True)
        if not sys.stdin.readline():
            os._exit(0)


class TurnHook(StepHooks):
    """Waits after every step of our engine."""

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        Turn().wait()
        return Decision.CONTINUE


def run_spec(folder: Path, rows: Path, steps: int, loss_on: str, home: Path) -> RunSpec:
    """What the worker would write."""
    model = resolving.resolve(MODEL, home=home)
    data = ResolvedInput(kind="file", path=str(rows), sha256=loading.checkpoints.file_sha256(rows))
    spec = parse(JobSpec, job(steps, rows, loss_on))
    return RunSpec(
        job_id="1", attempt=1, job=spec.model_dump(mode="json"), inputs={MODEL: model, str(rows): data}, seed=1
    )


def run_ours(folder: Path, spec: RunSpec) -> None:
    """Our engine as the child runs it, with its output in a file as there."""
    from finery.runtime.rules import attach  # noqa: PLC0415 - this process is one side only
    from finery.training import runner  # noqa: PLC0415

    run = Run.open(RunDir.create(folder / "attempt-1", spec).path)
    task = parse(JobSpec, spec.job)
    attach(run, task)
    run.hooks.append(TurnHook())
    assert isinstance(task, TrainJob)
    runner.execute(task.task, run)


def run_bare(folder: Path, spec: RunSpec) -> None:
    """TRL's own trainer with its own collator and loss, and the same arguments."""
    from datasets import Dataset  # noqa: PLC0415
    from transformers import PrinterCallback, TrainerCallback  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    from finery.training import rows as data  # noqa: PLC0415
    from finery.training.trl import setup  # noqa: PLC0415

    class Wait(TrainerCallback):
        def on_log(self, *_: Any, **__: Any) -> None:
            Turn().wait()

    run = Run.open(RunDir.create(folder / "attempt-1", spec).path)
    parsed = parse(JobSpec, spec.job)
    assert isinstance(parsed, TrainJob)
    task = parsed.task
    loaded = setup.load(task, run)
    found = data.read_rows(run, task.data.train)
    examples, _ = data.examples(found, loaded.tokenizer, loss_on=task.loss_on, max_tokens=task.data.max_tokens)
    visits = data.order(len(examples), task.optim.steps * BATCH, seed=1, shuffle=True)
    columns = {
        "input_ids": [e.input_ids for e in examples],
        "labels": [e.labels for e in examples],
    }
    arguments = {
        **setup.common_arguments(task.optim, task.model, run),
        "per_device_train_batch_size": BATCH,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    trainer = SFTTrainer(
        loaded.model,
        args=SFTConfig(**arguments),
        train_dataset=Dataset.from_dict(columns).select(visits),
        processing_class=loaded.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Wait())
    trainer.train()


class Side:
    """One of the two processes."""

    def __init__(self, name: str, arguments: list[str]):
        environment = child_environment(os.environ, cpu_threads=os.cpu_count())
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--side", name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._await_ready()

    def step(self) -> float:
        """Let it do one step; seconds."""
        start = time.perf_counter()
        print("go", file=self._process.stdin, flush=True)
        self._await_ready()
        return time.perf_counter() - start

    def _await_ready(self) -> None:
        while (line := self._process.stdout.readline()) != "ready\n":
            if not line:
                raise SystemExit(f"a side ended early with {self._process.wait()}")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def measure(pairs: int, loss_on: str, home: Path) -> dict[str, float]:
    """Take turns, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        write_rows(rows)
        loading.materialize(resolving.resolve(MODEL, home=home), MODEL)
        sides = {}
        for name in ("ours", "bare"):
            own = Path(folder) / name
            own.mkdir()
            sides[name] = Side(name, [str(own), str(rows), str(pairs + WARM_UP + 2), loss_on, str(home)])
        found: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(WARM_UP + pairs):
            for name in ("ours", "bare") if number % 2 else ("bare", "ours"):
                seconds = sides[name].step()
                if number >= WARM_UP:
                    found[name].append(seconds)
        for side in sides.values():
            side.close()
    ratios = [ours / bare for ours, bare in zip(found["ours"], found["bare"], strict=True)]
    random.seed(0)
    medians = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(2000))
    return {
        "pairs": pairs,
        "step_time_ratio": statistics.median(ratios),
        "ratio_low": medians[50],
        "ratio_high": medians[1949],
        "ours_step_ms": 1000 * statistics.median(found["ours"]),
        "bare_step_ms": 1000 * statistics.median(found["bare"]),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--home", type=Path, default=Path.home() / ".finery")
    parser.add_argument("--side", choices=("ours", "bare"))
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args()
    if args.side:
        folder, rows, steps, loss_on, home = args.rest
        spec = run_spec(Path(folder), Path(rows), int(steps), loss_on, Path(home))
        (run_ours if args.side == "ours" else run_bare)(Path(folder), spec)
        return
    result = {}
    print(f"{'loss on':10} {'pairs':>6} {'ours ms':>9} {'bare ms':>9} {'ratio':>7}  95 % interval")
    for loss_on in ("response", "all"):
        found = measure(args.pairs, loss_on, args.home)
        print(
            f"{loss_on:10} {found['pairs']:6} {found['ours_step_ms']:9.1f} {found['bare_step_ms']:9.1f} "
            f"{found['step_time_ratio']:7.3f}  {found['ratio_low']:.3f} to {found['ratio_high']:.3f}"
        )
        result |= found if loss_on == "response" else {f"all_{name}": value for name, value in found.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
