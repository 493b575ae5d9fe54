"""Runs training tasks the way a worker does, but without one: a run directory by hand, then the child process."""

import json
import multiprocessing
import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from finery.core import checkpoints, environment
from finery.core.carried import Carried
from finery.core.rundir import Command, ResolvedInput, Run, RunDir, RunSpec, append_line
from finery.core.spec import parse
from finery.jobs.specs import JobSpec
from finery.models import resolving
from finery.runtime.rules import attach
from tests.conftest import need

SFT_ROWS = [
    {"prompt": f"{a}+{b}=", "response": str(a + b)} for a, b in ((1, 2), (3, 9), (40, 8), (7, 7), (95, 9), (6, 0))
]
GRPO_ROWS = [{"prompt": row["prompt"], "answer": row["response"]} for row in SFT_ROWS]
PREFERENCE_ROWS = [
    {"prompt": row["prompt"], "chosen": row["response"], "rejected": row["response"] + "0"} for row in SFT_ROWS
]
MODEL = "tiny-char"
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.training.preloaded"])
DATA = "rows"
VERL_PYTHON = environment.interpreter(environment.VERL_PYTHON)
FAULTS = Path(__file__).parent.parent / "faults"
"""What is on PYTHONPATH of processes that are to go wrong."""


class Bench:
    """A folder in which attempts of one job are run."""

    def __init__(self, folder: Path, home: Path):
        self.folder = folder
        self.model = resolving.resolve(MODEL, home=home)
        self._inputs: dict[str, ResolvedInput] = {}

    def attempt(
        self,
        task: dict[str, Any],
        rows: list[dict[str, Any]],
        *,
        name: str = "attempt-1",
        base: Path | None = None,
        resume_from: Path | None = None,
        seed: int = 7,
        more_inputs: dict[str, ResolvedInput] | None = None,
        processes: int = 1,
        number: int = 1,
        carried: Carried | None = None,
        **monitoring: Any,
    ) -> RunDir:
        """Write the run directory of an attempt.

        Args:
            task: The task, without model and data, which are `tiny-char` and `rows`.
            rows: What is trained on.
            name: Of the run directory.
            base: Checkpoint to start from in place of `tiny-char`.
            resume_from: Checkpoint of this job to go on from.
            seed: Start of every random stream.
            more_inputs: What other references of the task stand for.
            processes: How many train together.
            number: Of the attempt.
            carried: What the attempts before have handed on.
            monitoring: Fields of `monitoring`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        inputs = {
            DATA: ResolvedInput(kind="file", path=str(file), sha256=checkpoints.file_sha256(file)),
            MODEL: self.model if base is None else ResolvedInput(kind="checkpoint", path=str(base), sha256=""),
            **(more_inputs or {}),
        }
        task = {
            **task,
            # What `auto` takes differs between processors, and the figures with it.
            "model": {"base": MODEL, "dtype": "float32"} | task.get("model", {}),
            "data": {"train": DATA} | task.get("data", {}),
        }
        raw = {
            "kind": "train",
            "name": "test",
            "task": task,
            "resources": {"gpus": 0, "processes": processes},
            "monitoring": {"keep_checkpoints": 100} | monitoring,
        }
        job = parse(JobSpec, raw).model_dump(mode="json")
        spec = RunSpec(
            job_id="1",
            attempt=number,
            carried=carried or Carried(),
            job=job,
            inputs=inputs,
            seed=seed,
            resume_from=str(resume_from) if resume_from else None,
        )
        return RunDir.create(self.folder / name, spec)


def run_child(run_dir: RunDir, *, program: tuple[str, ...] | None = None, with_faults: bool = False) -> int:
    """Run the attempt in a process of its own, with one thread; returns its exit status, negative for a signal.

    Without a `program` the process is forked from one that has only imported the engine, which saves these seconds.
    With faults, rows that hold `%` give a loss of NaN.
    """
    if with_faults:
        program = ("-m", "finery.runtime")
    if program is None:
        return _run_fork(run_dir)
    with open(run_dir.stdout, "ab") as log:
        return subprocess.run(
            [sys.executable, *program, str(run_dir.path)],
            env={**os.environ, **_ENVIRONMENT, **({"PYTHONPATH": str(FAULTS)} if with_faults else {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=300,
        ).returncode


def _run_fork(run_dir: RunDir) -> int:
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        process = _FORKS.Process(target=_child, args=(str(run_dir.path), str(run_dir.stdout)))
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    process.join(300)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"the child of {run_dir.path} did not end")
    return process.exitcode


def _child(path: str, log: str) -> None:
    """What `python -m finery.runtime PATH` does."""
    from finery.runtime import __main__ as runtime

    os.setsid()
    # Processes that this one starts come from the same server; one of its own would import the engine again.
    vars(forkserver._forkserver)["ensure_running"] = lambda: None
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(handle, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.exit(runtime.main(Path(path)))


def run_here(run_dir: RunDir) -> Run:
    """Run the attempt in this process; errors come through."""
    import tests.training.preloaded  # noqa: F401 - each run then collects garbage in little time
    from finery.training import runner

    run = Run.open(run_dir.path)
    job = parse(JobSpec, run.spec.job)
    attach(run, job)
    try:
        runner.execute(job.task, run)
    finally:
        run.events.close()
    return run


def run_verl(run_dir: RunDir, *, code: int = 0, seconds: float = 1200) -> None:
    """Run the attempt under the verl interpreter, as the driver of a Ray of its own; it must end with this code."""
    need("the interpreter of verl", VERL_PYTHON.is_file())
    with open(run_dir.stdout, "ab") as log:
        done = subprocess.run(
            [VERL_PYTHON, "-P", "-m", "finery.runtime", str(run_dir.path)],
            env={**os.environ, **_ENVIRONMENT},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    assert done.returncode == code, log_of(run_dir)


def order(run_dir: RunDir, command: str, **values: float) -> None:
    """Put a command where the child finds it after its next step."""
    record = Command(id=command, attempt=1, time=0.0, command=command, values=values)
    append_line(run_dir.control, record.model_dump())


def events(run_dir: RunDir, type_: str, *, writer: str = "rank0") -> list[dict[str, Any]]:
    """Events of one type, in order."""
    lines = (run_dir.events / f"{writer}.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == type_]


def metrics(run_dir: RunDir) -> dict[int, dict[str, float]]:
    """Step -> metrics that do not depend on the clock."""
    return {
        event["step"]: {name: value for name, value in event["values"].items() if "second" not in name}
        for event in events(run_dir, "metrics")
    }


def rollouts(run_dir: RunDir) -> list[dict[str, Any]]:
    """What was recorded of the completions."""
    return [json.loads(line) for line in (run_dir.samples / "rollouts.jsonl").read_text().splitlines()]


def checkpoint(run_dir: RunDir, step: int) -> Path:
    """The checkpoint of a step, which must be there and whole."""
    path = checkpoints.directory(run_dir.checkpoints, step)
    assert checkpoints.verify(path) == []
    return path


def weights(run_dir: RunDir, step: int) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint of the whole model."""
    return load_file(checkpoint(run_dir, step) / "model.safetensors")


def log_of(run_dir: RunDir) -> str:
    """The end of the child's output."""
    return run_dir.stdout.read_text()[-3000:]
