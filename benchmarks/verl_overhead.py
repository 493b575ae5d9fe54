"""What watching costs a step of verl: `python benchmarks/verl_overhead.py [--model NAME] [--steps N]`.

One real run on a CPU with each hook timed where it is called, in the driver and in the ranks: all of them hold the
step up, so that their sum is the overhead. Comparing runs with and without them would drown 2 % in the noise of the
machine. Counted are: reading what was drawn, its metrics, recording rollouts, translating and writing metrics, default
rules, and live settings; and, at probed steps, statistics of gradients and updates. The share over a run is that of
plain steps with the probe's share at the default interval. Runs itself again under the interpreter of verl.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import wraps
from pathlib import Path
from typing import Any

from finery.core import environment
from finery.core.checkpoints import file_sha256
from finery.core.rundir import ResolvedInput, Run, RunDir, RunSpec
from finery.core.spec import parse
from finery.jobs.specs import JobSpec
from finery.rules import defaults

INTERVAL = 100
"""Steps between probes, by default."""
TASK: dict[str, Any] = {
    "algorithm": "grpo",
    "engine": "verl",
    "optim": {"learning_rate": 1e-6},
    "rewards": [{"name": "length", "params": {"min": 1, "max": 40, "slack": 40}}, {"name": "exact"}],
    "prompts_per_step": 8,
    "kl_coef": 0.01,
}


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--home", type=Path, default=Path.home() / ".finery")
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        measured(options.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = prepared(Path(folder), options.model, options.steps, options.tokens, options.home)
        python = environment.interpreter(environment.VERL_PYTHON)
        with open(path / "logs" / "stdout.log", "ab") as log:
            done = subprocess.run([python, __file__, "--child", path], stdout=log, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.exit((path / "logs" / "stdout.log").read_text()[-3000:])
        show(options.model, json.loads((path / "timed.json").read_text()))


def prepared(folder: Path, model: str, steps: int, tokens: int, home: Path) -> Path:
    """A run directory of the job."""
    from finery.models import loading, resolving  # noqa: PLC0415 - of the default environment

    resolved = resolving.resolve(model, home=home)
    loading.materialize(resolved, model)
    rows = folder / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"What is {n}+{n}?", "answer": str(2 * n)}) + "\n" for n in range(64))
    )
    task = {
        **TASK,
        "model": {"base": model, "dtype": "float32"},
        "data": {"train": "rows", "max_prompt_tokens": 64},
        "optim": {**TASK["optim"], "steps": steps},
        "rollout": {"completions_per_prompt": 4, "max_new_tokens": tokens},
    }
    # Every third step is probed, so that there are both kinds.
    raw = {"kind": "train", "name": "overhead", "task": task, "resources": {"gpus": 0, "processes": 1}}
    raw["monitoring"] = {"gradient_interval": 3, "checkpoint_interval": 1000}
    job = defaults.filled(parse(JobSpec, raw).model_dump(mode="json"))
    data = ResolvedInput(kind="file", path=str(rows), sha256=file_sha256(rows))
    spec = RunSpec(job_id="1", attempt=1, job=job, inputs={"rows": data, model: resolved}, seed=1)
    return RunDir.create(folder / "attempt-1", spec).path


def measured(path: Path) -> None:
    """Train with a clock around each hook, and write seconds by step. Under verl's interpreter."""
    from finery.runtime.rules import attach  # noqa: PLC0415 - of the other environment
    from finery.training.verl import engine  # noqa: PLC0415

    run = Run.open(path)
    job = parse(JobSpec, run.spec.job)
    os.environ.update(engine.environment(run))
    from finery.training.verl import ppo, recorder  # noqa: PLC0415 - import verl, which reads the environment

    spent: dict[str, list[float]] = defaultdict(list)

    def clocked(owner: Any, name: str, what: str) -> None:
        inner = getattr(owner, name)

        @wraps(inner)
        def outer(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[what].append(time.perf_counter() - started)

        setattr(owner, name, outer)

    for name in ("_drawn", "_measure", "_keep"):
        clocked(ppo.WatchedTrainer, name, name)
    clocked(recorder.Recorder, "step", "step")
    attach(run, job)
    engine.execute(job.task, run)
    run.events.close()
    events = [json.loads(line) for line in (path / "events" / "rank0.jsonl").read_text().splitlines()]
    spent["seconds_per_step"] = [e["values"]["seconds_per_step"] for e in events if e["type"] == "metrics"]
    spent["probing"] = [e["values"].get("seconds_probing", 0.0) for e in events if e["type"] == "metrics"]
    (path / "timed.json").write_text(json.dumps(spent))


def show(model: str, spent: dict[str, list[float]]) -> None:
    """Print medians over the steps, the first left out: much is done once there. So is the last, which saves."""
    inner = slice(1, -1)
    plain = [at for at, seconds in enumerate(spent["probing"]) if seconds == 0][inner]
    probed = [at for at, seconds in enumerate(spent["probing"]) if seconds > 0][1:]
    step = statistics.median(spent["seconds_per_step"][at] for at in plain)
    hooks = {
        name: statistics.median(spent[name][at] for at in plain) for name in ("_drawn", "_measure", "_keep", "step")
    }
    total = sum(hooks.values())
    probe = statistics.median(spent["probing"][at] for at in probed) if probed else 0.0
    print(f"{model}: a step takes {step:.3f} s (median of {len(plain)})")
    for name, seconds in hooks.items():
        print(f"  {name:<10} {1000 * seconds:8.2f} ms  {seconds / step:7.2%}")
    print(f"  {'all hooks':<10} {1000 * total:8.2f} ms  {total / step:7.2%}")
    share = f"every {INTERVAL} steps {probe / step / INTERVAL:.3%}"
    print(f"  {'a probe':<10} {1000 * probe:8.2f} ms  {probe / step:7.2%}, {share}")
    print(f"  over a run {(total + probe / INTERVAL) / step:.2%} (at most 2 % is asked)")


if __name__ == "__main__":
    main()
