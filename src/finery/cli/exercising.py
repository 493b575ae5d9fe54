"""The last part of `finery doctor --verl --smoke`: ways of training, gone wherever this machine has the parts.

A way is a job file of two steps on a small built-in model, run as `finery run` runs any, in a home of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from finery.cli.findings import Finding

_SECONDS: Final = 1200
_FINERY: Final = "from finery.cli.main import main; main()"
_GRPO: Final[dict[str, Any]] = {
    "algorithm": "grpo",
    "engine": "verl",
    "rewards": [{"name": "length", "params": {"min": 1, "max": 20, "slack": 20}}],
    "optim": {"steps": 2, "learning_rate": 1e-6},
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 16},
    "prompts_per_step": 4,
    "kl_coef": 0.01,
}
_PPO: Final[dict[str, Any]] = {
    **{name: _GRPO[name] for name in ("engine", "rewards", "optim", "kl_coef")},
    "algorithm": "ppo",
    "critic": {"kind": "separate"},
    "prompts_per_batch": 16,
    "num_iterations": 1,
    "rollout": {"completions_per_prompt": 1, "max_new_tokens": 16},
}
_SFT: Final[dict[str, Any]] = {"algorithm": "sft", "engine": "verl", "optim": {"steps": 2}, "batch_size": 8}


@dataclass(frozen=True)
class Way:
    """A way of training."""

    name: str
    task: dict[str, Any]
    num: int = 1
    """GPUs or NPUs that it takes."""
    packages: tuple[str, ...] = ("vllm",)
    """What verl's interpreter must have."""
    device: str = "cuda"


def _rollout(**more: Any) -> dict[str, Any]:
    return {**_GRPO, "rollout": {**_GRPO["rollout"], **more}}


WAYS: Final = (
    Way("sft, FSDP2, on a CPU", _SFT, num=2, packages=(), device="cpu"),
    Way("grpo, FSDP2, own rollouts, on a CPU", _GRPO, num=2, packages=(), device="cpu"),
    Way("sft, FSDP2", _SFT, packages=()),
    Way("grpo, FSDP2, vLLM", _GRPO),
    Way("grpo, FSDP2, vLLM, LoRA", {**_GRPO, "model": {"lora": {"rank": 8}}}),
    Way("grpo, FSDP2, SGLang", _rollout(engine="sglang"), packages=("sglang",)),
    Way(
        "grpo, FSDP2 on 2 GPUs, weights and optimizer offloaded",
        {
            **_GRPO,
            "parallel": {"offload_parameters": True, "offload_optimizer": True, "offload_reference": True},
        },
        num=2,
    ),
    Way("grpo, FSDP2, vLLM on 2 GPUs together", _rollout(tensor_parallel=2), num=2),
    Way("ppo, critic of its own, vLLM", _PPO),
    Way("grpo, colocated_async, vLLM", _rollout(mode="colocated_async"), num=2),
    Way("grpo, disaggregated_async, vLLM", _rollout(mode="disaggregated_async"), num=2),
    Way(
        "grpo, Megatron with 2 tensor parallel ranks, vLLM",
        {**_GRPO, "parallel": {"strategy": "megatron", "tensor": 2}},
        num=2,
        packages=("vllm", "megatron-core"),
    ),
    Way("grpo, FSDP2, vLLM, on NPUs", _GRPO, packages=("vllm", "torch-npu"), device="npu"),
)


def exercised(packages: Set[str], *, num_gpus: int, num_npus: int) -> Iterator[Finding]:
    """Go each way that can be gone here; say of the others what they lack.

    Args:
        packages: Distributions that verl's interpreter has.
        num_gpus: GPUs of this machine.
        num_npus: Ascend NPUs.
    """
    there = {"cpu": 2, "cuda": num_gpus, "npu": num_npus}
    for way in WAYS:
        lacking = [name for name in way.packages if name not in packages]
        if way.num > there[way.device]:
            lacking.insert(0, f"{way.num} {'NPUs' if way.device == 'npu' else 'GPUs'}")
        if lacking:
            yield Finding(f"way: {way.name}", "missing", f"needs {', '.join(lacking)}", "not shown to work here")
            continue
        started = time.monotonic()
        failure = _gone(way)
        seconds = time.monotonic() - started
        if failure:
            yield Finding(f"way: {way.name}", "problem", failure, "jobs of this kind fail here")
        else:
            yield Finding(f"way: {way.name}", "ok", f"two steps and a checkpoint, {seconds:.0f} s")


def _gone(way: Way) -> str:
    """Run two steps; what went wrong, or nothing."""
    with tempfile.TemporaryDirectory(prefix="finery-smoke-") as folder:
        file = Path(folder) / "job.yaml"
        file.write_text(yaml.safe_dump(_job(way, Path(folder))))
        done = subprocess.run(
            [sys.executable, "-P", "-c", _FINERY, "run", str(file), "--json"],
            env={**os.environ, "FINERY_HOME": str(Path(folder) / "home")},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        try:
            told = orjson.loads(done.stdout)
        except orjson.JSONDecodeError:
            return (done.stderr.strip() or done.stdout.strip())[-300:]
        return "" if told["state"] == "completed" else f"{told['state']}: {told['cause']}"


def _job(way: Way, folder: Path) -> dict[str, Any]:
    rows = folder / "rows.jsonl"
    answers = [{"prompt": f"{n}+{n}=", "answer": str(2 * n), "response": str(2 * n)} for n in range(32)]
    key = "response" if way.task["algorithm"] == "sft" else "answer"
    rows.write_text("".join(json.dumps({"prompt": row["prompt"], key: row[key]}) + "\n" for row in answers))
    on_cpu = way.device == "cpu"
    resources = {"gpus": 0, "processes": way.num} if on_cpu else {"gpus": way.num, "device": way.device}
    base = "tiny-char" if on_cpu else "smollm2-135m-instruct"
    return {
        "name": "smoke",
        "kind": "train",
        "task": {**way.task, "model": {"base": base, **way.task.get("model", {})}, "data": {"train": str(rows)}},
        "resources": resources,
    }
