"""What does this engine save beside the stock TRL trainer? `python benchmarks/training.py [--only NAME] [--steps 3]`

Each side is a process of its own, one after the other, since their memory would not fit side by side: the same model,
rows, seed, batch and learning rate, the same number of samples. The stock side is TRL's trainer as its documentation
uses it, in a plain environment: in float32, the same with its default of computing layers again in the backward pass,
and in bfloat16, which is given up after two minutes where the processor has to emulate it. The fastest counts, for
speed and for memory, which is the peak resident size of the process. Prints a table per case and, as its last line,
JSON.

Cases: `grpo_cpu` (SmolLM2-135M, 8 prompts x 4 completions x 48 tokens); `sft_packed` (SmolLM2-135M on `--rows`, JSON
lines with prompt and response; without it on generated rows of very different lengths); `grpo_learning` (the tiny
model, final reward of both over 5 seeds; only when asked for with `--only`); `algorithms` (reward, dpo, kto, orpo, rloo
at a small batch, float32 alone; only with `--only`).
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import training_sides as sides

from finery.core.environment import child_environment
from finery.models import loading, resolving

WARM_UP = 1
SIDES = ("stock_fp32", "stock_default", "stock_bf16", "ours")
_EMULATED_SECONDS = 120
T_4 = 2.776
"""Two-sided 95 % point of Student's t with 4 degrees of freedom: 5 seeds."""


def run_side(name: str, case: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """One side in a process of its own: seconds and tokens of each step, peak memory in bytes, what it logged.

    None where it was given up.
    """
    own = folder / name
    own.mkdir()
    (own / "case.json").write_text(json.dumps(case))
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "OMP_", "MKL_"))}
    environment = child_environment(plain, cpu_threads=case["threads"]) if name == "ours" else plain
    if case["threads"] and name != "ours":
        environment = {**plain, "OMP_NUM_THREADS": str(case["threads"])}
    argv = [sys.executable, sides.__file__, name, str(own)]
    is_emulated = name == "stock_bf16" and loading.resolve_dtype("auto") is not torch.bfloat16
    try:
        with open(own / "log.txt", "wb") as log:
            limit = _EMULATED_SECONDS if is_emulated else None
            code = subprocess.call(argv, stdout=log, stderr=log, env=environment, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if code:
        raise SystemExit(f"{name} ended with {code}:\n{(own / 'log.txt').read_text()[-3000:]}")
    found: dict[str, Any] = json.loads((own / "result.json").read_text())
    return found


def grpo_cpu(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """GRPO at the size of STACK: where the vocabulary is most of the memory."""
    rows = folder / "rows.jsonl"
    stream = random.Random(args.seed)
    lines = []
    for _ in range(64):
        a, b = stream.randrange(10, 100), stream.randrange(10, 100)
        lines.append(json.dumps({"prompt": f"What is {a} + {b}? Explain your answer.", "answer": str(a + b)}) + "\n")
    rows.write_text("".join(lines))
    case = {
        "model": "smollm2-135m-instruct",
        "home": str(args.home),
        "seed": args.seed,
        "threads": None,
        "task": {
            "algorithm": "grpo",
            "data": {"train": str(rows)},
            "rewards": [{"name": "length", "params": {"max": 60, "slack": 200}}],
            "optim": {"learning_rate": 1e-6, "steps": WARM_UP + args.steps},
            "rollout": {"completions_per_prompt": 4, "max_new_tokens": 48},
            "prompts_per_step": 8,
            "micro_batch_size": 8,
        },
    }
    loading.materialize(resolving.resolve(case["model"], home=args.home), case["model"])
    found = {name: run_side(name, case, folder) for name in SIDES}
    print("GRPO, SmolLM2-135M, 8 prompts x 4 completions x 48 tokens")
    return compared("grpo_cpu", found, samples=32)


def sft_packed(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """SFT on rows whose lengths differ: the stock trainer pads them."""
    rows = args.rows
    if rows is None:
        rows = folder / "rows.jsonl"
        stream = random.Random(args.seed)
        lengths = [min(int(stream.lognormvariate(3.5, 1.0)) + 2, 300) for _ in range(400)]
        words = ["data", "model", "train", "step", "loss", "token", "learn", "rate", "batch", "value"]
        texts = [" ".join(stream.choice(words) for _ in range(length)) for length in lengths]
        rows.write_text("".join(json.dumps({"prompt": "Write some words.", "response": text}) + "\n" for text in texts))
    steps = WARM_UP + args.steps
    case = {
        "model": "smollm2-135m-instruct",
        "home": str(args.home),
        "seed": args.seed,
        "threads": None,
        "task": {
            "algorithm": "sft",
            "data": {"train": str(rows), "max_tokens": 1024},
            "optim": {"learning_rate": 1e-5, "steps": steps},
            "batch_size": 8,
            "packing": True,
        },
    }
    loading.materialize(resolving.resolve(case["model"], home=args.home), case["model"])
    found = {name: run_side(name, case, folder) for name in SIDES}
    print("SFT, SmolLM2-135M, 8 rows a step")
    return compared("sft_packed", found, samples=8)


def algorithms(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The other algorithms that have a stock trainer, each at a small batch of SmolLM2-135M."""
    stream = random.Random(args.seed)
    pairs, problems = folder / "pairs.jsonl", folder / "problems.jsonl"
    words = ["data", "model", "train", "step", "loss", "token", "learn", "rate", "batch", "value"]

    def text(length: int) -> str:
        return " ".join(stream.choice(words) for _ in range(length))

    rows = [
        {"prompt": f"Say something about {text(20)}.", "chosen": text(stream.randrange(10, 60)), "rejected": text(30)}
        for _ in range(64)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems.write_text("".join(json.dumps({"prompt": row["prompt"], "answer": "1"}) + "\n" for row in rows))
    optim = {"learning_rate": 1e-6, "steps": WARM_UP + args.steps}
    preferences = {"data": {"train": str(pairs)}, "optim": optim, "batch_size": 8}
    rollouts = {
        "data": {"train": str(problems)},
        "rewards": [{"name": "length", "params": {"max": 60, "slack": 200}}],
        "optim": optim,
        "rollout": {"completions_per_prompt": 4, "max_new_tokens": 24},
        "prompts_per_step": 4,
    }
    model = "smollm2-135m-instruct"
    loading.materialize(resolving.resolve(model, home=args.home), model)
    figures = {}
    for name, task in {**dict.fromkeys(("reward", "dpo", "kto", "orpo"), preferences), "rloo": rollouts}.items():
        task = {"algorithm": name, **task}
        case = {"model": model, "home": str(args.home), "seed": args.seed, "threads": None, "task": task}
        (own := folder / name).mkdir()
        found = {side: run_side(side, case, own) for side in ("stock_fp32", "ours")}
        print(f"{name}, SmolLM2-135M")
        figures |= compared(name, found, samples=8 if name != "rloo" else 16)
    return figures


def grpo_learning(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The same learning: paired differences of the mean reward of the last tenth of the steps, and of all of them,
    where a side that learns later would show."""
    rows = folder / "rows.jsonl"
    digits = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10) for b in range(10)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in digits))
    steps = 120
    differences: dict[str, list[float]] = {"final": [], "all": []}
    print("GRPO, tiny-char, mean reward of the last 12 of 120 steps, and of all")
    print(f"{'seed':>5} {'stock':>8} {'ours':>8} {'difference':>11}   {'stock':>8} {'ours':>8} {'difference':>11}")
    for seed in range(args.seed, args.seed + 5):
        case = {
            "model": "tiny-char",
            "home": str(args.home),
            "seed": seed,
            "threads": 1,
            "task": {
                "algorithm": "grpo",
                "data": {"train": str(rows)},
                "rewards": [{"name": "format", "params": {"pattern": r"\d.*"}}],  # a tenth at first
                "optim": {"learning_rate": 1e-3, "steps": steps},
                "rollout": {"completions_per_prompt": 8, "max_new_tokens": 4},
                "prompts_per_step": 8,
            },
        }
        (own := folder / str(seed)).mkdir()
        curves = {}
        for name in ("stock_fp32", "ours"):
            side = run_side(name, case, own)
            assert side is not None
            curves[name] = side["reward"]
        shown = f"{seed:5}"
        for part, start in (("final", -12), ("all", 0)):
            stock, ours = (statistics.mean(curves[name][start:]) for name in ("stock_fp32", "ours"))
            differences[part].append(ours - stock)
            shown += f" {stock:8.3f} {ours:8.3f} {ours - stock:+11.3f}  "
        print(shown.rstrip(), flush=True)
    figures = {}
    for part, values in differences.items():
        mean, half = statistics.mean(values), T_4 * statistics.stdev(values) / len(values) ** 0.5
        print(f"{part}: difference {mean:+.3f}, 95 % interval {mean - half:+.3f} to {mean + half:+.3f}")
        prefix = "grpo_learning" if part == "final" else "grpo_learning.all"
        figures |= {f"{prefix}.difference": mean, f"{prefix}.half_width": half}
    return figures


def compared(case: str, sides_: dict[str, dict[str, Any] | None], *, samples: int) -> dict[str, float]:
    """Print one row per side; ratios of ours to the fastest stock side."""
    found = {name: side for name, side in sides_.items() if side is not None}
    for name in sides_.keys() - found.keys():
        print(f"{name}: not one step in {_EMULATED_SECONDS} s; this processor has no bfloat16")
    seconds = {name: statistics.median(side["seconds"][WARM_UP:] or side["seconds"]) for name, side in found.items()}
    memory = {name: side["peak_bytes"] for name, side in found.items()}
    print(f"{'side':12} {'s/step':>8} {'samples/s':>10} {'tokens/s':>9} {'peak GiB':>9} {'speed':>6} {'memory':>7}")
    stock = min((name for name in found if name != "ours"), key=lambda name: seconds[name])
    for name, side in found.items():
        print(
            f"{name:12} {seconds[name]:8.2f} {samples / seconds[name]:10.2f} "
            f"{statistics.mean(side['tokens']) / statistics.mean(side['seconds']):9.1f} {memory[name] / 2**30:9.2f} "
            f"{seconds[stock] / seconds[name]:6.2f} {memory[name] / memory[stock]:7.2f}"
        )
    gaps = [value for value in found["ours"].get("logprob_gap", []) if value is not None]
    if gaps:
        print(f"mean |log-probability when drawn - when trained| of ours: {statistics.mean(gaps):.2e} nats per token")
    return {
        f"{case}.speedup": seconds[stock] / seconds["ours"],
        f"{case}.memory_ratio": memory["ours"] / memory[stock],
        f"{case}.ours_seconds_per_step": seconds["ours"],
        f"{case}.stock_seconds_per_step": seconds[stock],
        f"{case}.ours_peak_gib": memory["ours"] / 2**30,
        f"{case}.stock_peak_gib": memory[stock] / 2**30,
    }


CASES: dict[str, Callable[[argparse.Namespace, Path], dict[str, float]]] = {
    "algorithms": algorithms,
    "grpo_cpu": grpo_cpu,
    "grpo_learning": grpo_learning,
    "sft_packed": sft_packed,
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(CASES))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="for sft_packed")
    parser.add_argument("--home", type=Path, default=Path.home() / ".finery")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    for name in [args.only] if args.only else ("grpo_cpu", "sft_packed"):
        with tempfile.TemporaryDirectory() as folder:
            figures |= CASES[name](args, Path(folder))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
