"""How far estimates of memory on a CPU are from what jobs take: `python benchmarks/planner_rss.py [--threads 2]`

Each case is a real job: `finery run` in a process of its own, under the supervisor, which reads the peak resident size
of the training process (`ru_maxrss`) when that has ended. Rows are made here, as long as each case says, so that the
longest batch is the usual one. Threads for matrix work are set, since each adds memory of its own. Prints JSON: the
cases, and median and 90th percentile of the absolute error.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from finery.core.spec import parse
from finery.jobs import estimating
from finery.jobs.estimating import Lengths
from finery.jobs.specs import TrainJob
from finery.models import loading, resolving
from finery.planner import accelerators

SMALL: Final = "smollm2-135m-instruct"
TINY: Final = "tiny-char"
STEPS: Final = 6
"""The allocator of the C library leaves holes between steps; most of them are there after a few."""
_LORA: Final = {"lora": {"rank": 16}}
_AGAIN: Final = {"gradient_checkpointing": True}
_WORDS: Final = ("data", "model", "train", "step", "loss", "token", "learn", "rate", "batch", "value")


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and task of each, without data."""
    for base in (TINY, SMALL):
        model = {"base": base}
        for tokens, rows in ((128, 4), (256, 2)) if base == SMALL else ((128, 8), (256, 32)):
            yield f"{base} sft {rows} x {tokens}", _task("sft", model, tokens, rows)
        yield f"{base} sft 4 x 128, micro 2", _task("sft", model, 128, 4, micro_batch_size=2)
        yield f"{base} sft 2 x 256, LoRA", _task("sft", model | _LORA, 256, 2)
        yield f"{base} dpo 2 x 128", _task("dpo", model, 128, 2)
        yield f"{base} dpo 1 x 256, LoRA", _task("dpo", model | _LORA, 256, 1)
        yield f"{base} grpo 2 x 4 x 32", _grpo(model, 2, 4, 32)
        yield f"{base} grpo 2 x 4 x 32, micro 4, LoRA", _grpo(model | _LORA, 2, 4, 32, micro_batch_size=4)
    small = {"base": SMALL}
    yield "sft 4 x 128, recomputed", _task("sft", small | _AGAIN, 128, 4)
    yield "sft 1 x 512, LoRA, recomputed", _task("sft", small | _LORA | _AGAIN, 512, 1)
    yield "sft 4 x 128, SGD", _task("sft", small, 128, 4, optim={"kind": "sgd", "steps": STEPS})
    yield "sft 4 x 128, averaged", _task("sft", small, 128, 4, optim={"ema_decay": 0.99, "steps": STEPS})
    yield "sft packed 512", _task("sft", small, 512, 4, packing=True)
    yield "grpo 2 x 4 x 32, micro 4, KL", _grpo(small, 2, 4, 32, micro_batch_size=4, kl_coef=0.05)


def _task(algorithm: str, model: dict[str, Any], tokens: int, rows: int, **more: Any) -> dict[str, Any]:
    data = {"max_tokens": tokens, "max_prompt_tokens": tokens // 2}
    return {
        "algorithm": algorithm,
        "model": {"dtype": "float32", **model},
        "data": data,
        "optim": {"steps": STEPS},
        "batch_size": rows,
        **more,
    }


def _grpo(model: dict[str, Any], prompts: int, completions: int, new: int, **more: Any) -> dict[str, Any]:
    return {
        "algorithm": "grpo",
        "model": {"dtype": "float32", **model},
        "data": {"max_prompt_tokens": 64},
        "rewards": "length",
        "optim": {"steps": STEPS},
        "prompts_per_step": prompts,
        "rollout": {"completions_per_prompt": completions, "max_new_tokens": new},
        **more,
    }


def write_rows(folder: Path, algorithm: str) -> Path:
    """Rows that are longer than any case reads; prompts of 64 tokens and more where completions are generated."""
    stream = random.Random(1)

    def text(number: int) -> str:
        return " ".join(stream.choice(_WORDS) for _ in range(number))

    made = {
        "sft": lambda: {"prompt": "Write.", "response": text(600)},
        "dpo": lambda: {"prompt": "Write.", "chosen": text(300), "rejected": text(300)},
        "grpo": lambda: {"prompt": text(80), "answer": "1"},
    }[algorithm]
    path = folder / f"{algorithm}.jsonl"
    path.write_text("".join(json.dumps(made()) + "\n" for _ in range(64)))
    return path


def measure(name: str, task: dict[str, Any], args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one case and compare."""
    algorithm = task["algorithm"]
    task["data"]["train"] = str(write_rows(folder, algorithm))
    job = {
        "name": "rss",
        "kind": "train",
        "task": task,
        "resources": {"gpus": 0, "cpu_threads": args.threads},
        "monitoring": {"checkpoint_interval": 1000, "rules": []},
        "seed": 1,
    }
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    ended = subprocess.run(
        [sys.executable, "-m", "finery.cli.main", "run", str(file), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "FINERY_HOME": str(args.home), "OMP_NUM_THREADS": str(args.threads)},
    )
    if ended.returncode:
        raise SystemExit(f"{name} ended with {ended.returncode}:\n{ended.stdout[-500:]}{ended.stderr[-3000:]}")
    told = json.loads(ended.stdout)
    run_dir = Path(told["run_dir"])
    measured = json.loads((run_dir / "exit.json").read_text())["peak_memory_bytes"]
    shutil.rmtree(run_dir)  # with its checkpoint, of which there would be gigabytes
    spec = parse(TrainJob, job)
    lengths = Lengths(prompt=64 if algorithm == "grpo" else 40)
    found = estimating.estimate(
        spec, estimating.shape_of(task["model"]["base"]), accelerators.find("CPU"), lengths=lengths
    )
    assert found.peak_bytes is not None, found.reason
    return {
        "case": name,
        "predicted_mib": round(found.peak_bytes / 2**20),
        "measured_mib": round(measured / 2**20),
        "error": found.peak_bytes / measured - 1,
        "phase": found.peak_phase,
        "seconds_per_step": told["last_values"]["seconds_per_step"],
    }


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="part of the name of a case")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "finery-planner-rss")
    args = parser.parse_args()
    for base in (TINY, SMALL):
        loading.materialize(resolving.resolve(base, home=args.home), base)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, task in cases():
            if args.only in name:
                rows.append(measure(name, task, args, Path(folder)))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    errors = sorted(abs(row["error"]) for row in rows)
    document = {
        "threads": args.threads,
        "cases": rows,
        "median_error": statistics.median(errors),
        "p90_error": statistics.quantiles(errors, n=10, method="inclusive")[-1] if len(errors) > 1 else errors[0],
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
