"""What do statistics of all gradients cost? `python benchmarks/gradient_probe.py [--steps 16]`

SmolLM2-135M, SFT in float32, two threads: 272 tensors, 134.5 million gradients. Our engine as the child runs it, in a
process that probes every other step and in one that probes none. Timers stand around the parts of the probe itself, so
that how long a step takes otherwise, which varies by more, does not matter. The probe: all statistics, histograms,
weight norms and update ratios, the record on the disk. Beside it, on the same gradients, a naive loop over the
parameters; and the limit, reading once what must be read (gradients, and weights before and after the step) at the
speed at which torch sums. Prints a table and, as its last line, JSON.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from finery.core.environment import child_environment
from finery.core.hooks import Decision, LiveControls, StepHooks
from finery.core.rundir import ResolvedInput, Run, RunDir, RunSpec
from finery.core.spec import parse
from finery.jobs.specs import JobSpec, TrainJob
from finery.models import loading, resolving

MODEL = "smollm2-135m-instruct"
BATCH = 8
THREADS = 2
INTERVAL = 100
EVERY = 2
WARM_UP = 3
"""Steps that are not counted."""


def write_rows(path: Path) -> None:
    """Rows of about 250 tokens."""
    stream = random.Random(1)
    lines = []
    for _ in range(200):
        numbers = [stream.randrange(10, 100) for _ in range(40)]
        row = {"prompt": "Sort: " + " ".join(map(str, numbers)), "response": " ".join(map(str, sorted(numbers)))}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))


def run_spec(rows: Path, steps: int, interval: int, home: Path) -> RunSpec:
    """What the worker would write."""
    job = {
        "name": "gradient-probe",
        "kind": "train",
        "task": {
            "algorithm": "sft",
            "model": {"base": MODEL, "dtype": "float32", "template": "chatml"},
            "data": {"train": str(rows), "max_tokens": 256},
            "optim": {"learning_rate": 1e-5, "steps": steps},
            "batch_size": BATCH,
            "loss_on": "all",
        },
        "monitoring": {"checkpoint_interval": 100_000, "gradient_interval": interval},
        "seed": 1,
    }
    model = resolving.resolve(MODEL, home=home)
    data = ResolvedInput(kind="file", path=str(rows), sha256=loading.checkpoints.file_sha256(rows))
    spec = parse(JobSpec, job).model_dump(mode="json")
    return RunSpec(job_id="1", attempt=1, job=spec, inputs={MODEL: model, str(rows): data}, seed=1)


class Timers(StepHooks):
    """Seconds in some functions, step by step, with the seconds of the whole step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._present: dict[str, float] = {}
        self._began = time.perf_counter()

    def add(self, name: str, seconds: float) -> None:
        self._present[name] = self._present.get(name, 0.0) + seconds

    def around(self, owner: type, attribute: str) -> None:
        """Count a method of a class."""
        original: Callable[..., Any] = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            found = original(*args, **kwargs)
            self.add(f"{owner.__name__}.{attribute}", time.perf_counter() - start)
            return found

        setattr(owner, attribute, timed)

    def before_training(self, step: int, controls: LiveControls) -> None:
        """Called by the engine."""
        self._present, self._began = {}, time.perf_counter()

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        """Called by the engine."""
        now = time.perf_counter()
        self.steps.append({**self._present, "step": step, "whole": now - self._began})
        self._present, self._began = {}, now
        return Decision.CONTINUE


def run_side(folder: Path, spec: RunSpec) -> dict[str, Any]:
    """Train; the timers of each step, and the largest size of the process in bytes."""
    from accelerate.optimizer import AcceleratedOptimizer  # noqa: PLC0415 - this process is one side only

    from finery.training import runner  # noqa: PLC0415
    from finery.training.trl.probe import Probe  # noqa: PLC0415
    from finery.training.trl.updates import Updates  # noqa: PLC0415

    timers = Timers()
    run = Run.open(RunDir.create(folder / "attempt-1", spec).path)
    run.hooks.append(timers)
    for attribute in ("begin", "is_due", "look", "finish"):
        timers.around(Probe, attribute)
    for attribute in ("_before_step", "_after_step"):
        timers.around(Updates, attribute)
    timers.around(AcceleratedOptimizer, "step")
    look = Probe.look

    def beside(probe: Probe, step: int) -> None:
        look(probe, step)
        start = time.perf_counter()
        gradients = [parameter.grad for parameter in probe._parameters]
        timers.add("naive", _seconds(lambda: [naive(gradient) for gradient in gradients]))
        timers.add("read", _seconds(lambda: [gradient.sum() for gradient in gradients]))
        timers.add("aside", time.perf_counter() - start)

    Probe.look = beside
    task = parse(JobSpec, spec.job)
    assert isinstance(task, TrainJob)
    runner.execute(task.task, run)
    return {"steps": timers.steps, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def naive(gradient: torch.Tensor) -> list[float]:
    """What a loop over parameters is usually written as: no histogram, no percentiles."""
    return [
        *(gradient.norm().item(), gradient.mean().item(), gradient.std().item(), gradient.min().item()),
        *(gradient.max().item(), gradient.isfinite().float().mean().item()),
    ]


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def start_side(folder: Path, rows: Path, steps: int, interval: int, home: Path) -> dict[str, Any]:
    """One side in a process of its own."""
    folder.mkdir()
    argv = [sys.executable, __file__, "--side", str(folder), str(rows), str(steps), str(interval), str(home)]
    with open(folder / "log.txt", "wb") as log:
        environment = child_environment(os.environ, cpu_threads=THREADS)
        if subprocess.call(argv, stdout=log, stderr=log, env=environment):
            raise SystemExit((folder / "log.txt").read_text()[-3000:])
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def measure(steps: int, home: Path) -> dict[str, float]:
    """Both sides, one after the other, and what follows from them; times are medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl")
        loading.materialize(resolving.resolve(MODEL, home=home), MODEL)
        probed = start_side(folder / "probed", folder / "rows.jsonl", steps, EVERY, home)
        plain = start_side(folder / "plain", folder / "rows.jsonl", min(steps, 6), 0, home)
    counted = [step for step in probed["steps"] if step["step"] > WARM_UP]
    with_probe = [step for step in counted if "Probe.look" in step]
    without = [step for step in counted if "Probe.look" not in step]

    def median(name: str, of: list[dict[str, float]]) -> float:
        return statistics.median(step[name] for step in of)

    look = statistics.median(step["Probe.look"] for step in with_probe)
    record = median("Probe.finish", with_probe)
    updates = median("AcceleratedOptimizer.step", with_probe) - median("AcceleratedOptimizer.step", without)
    hooks = ("Probe.begin", "Probe.is_due", "Probe.finish", "Updates._before_step", "Updates._after_step")
    hook = sum(median(name, without) for name in hooks)
    step = median("whole", without)
    probe = look + updates + record
    return {
        "probed_step_overhead": probe / step,
        "overall_overhead_at_100": (probe + INTERVAL * hook) / (INTERVAL * step),
        "step_ms": 1000 * step,
        "probe_ms": 1000 * probe,
        "statistics_ms": 1000 * look,
        "updates_ms": 1000 * updates,
        "record_ms": 1000 * record,
        "hook_us": 1e6 * hook,
        "naive_ms": 1000 * median("naive", with_probe),
        "limit_ms": 3000 * median("read", with_probe),
        "peak_gib": probed["peak"] / 2**30,
        "peak_without_gib": plain["peak"] / 2**30,
        "num_probed": len(with_probe),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--home", type=Path, default=Path.home() / ".finery")
    parser.add_argument("--side", nargs=5)
    args = parser.parse_args()
    if args.side:
        folder, rows, steps, interval, home = args.side
        found = run_side(Path(folder), run_spec(Path(rows), int(steps), int(interval), Path(home)))
        (Path(folder) / "result.json").write_text(json.dumps(found))
        return
    result = measure(args.steps, args.home)
    for name, value in result.items():
        print(f"{name:26} {value:12.4f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
