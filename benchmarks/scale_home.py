"""What `ui_scale.py` looks at: a home with 10,000 runs and one of 60 metrics x 1,000,000 steps that goes on."""

import math
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from runs import make_runs

from finery import migrations
from finery.core.db import Database
from finery.core.rundir import RunDir
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.jobs import submitting
from finery.jobs.specs import JobSpec, TrainJob
from finery.jobs.tables import Attempt, Job
from finery.monitoring import ingest
from finery.monitoring.blocks import Axes, Group

NUM_RUNS = 10_000
NUM_STEPS = 1_000_000
METRICS = (
    *("loss", "reward_mean", "reward_std", "kl_divergence", "entropy", "clip_fraction", "grad_norm", "learning_rate"),
    *("seconds_per_step", "response_length_mean", "advantage_mean", "generation_tokens_per_second"),
    *(f"grad_norm/layer_{i}" for i in range(24)),
    *(f"reward/part_{i}_mean" for i in range(24)),
)
_ROWS = 32 * 1024
_SECONDS_PER_STEP = 0.2
_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)


def fill(settings: Settings, num_runs: int, num_steps: int) -> RunDir:
    """Make the database and the runs, of which the middle one comes first by name; returns the one that is alive."""
    db = Database(settings.url)
    migrations.upgrade(db, lock=settings.home / "migrate.lock")
    _add_finished(db, num_runs)
    run_dir = make_runs(db, settings, 1, _job("zz-long", _RATES[0]))[0]
    _add_steps(db, int(run_dir.path.parent.name), num_steps)
    db.close()
    return run_dir


def write_steps(stream: Path, first_step: int, pause_seconds: float) -> None:
    """Append a row of all metrics now and then, as a child does, until the process is ended."""
    with open(stream, "ab", buffering=0) as file:
        step = first_step
        while True:
            values = {name: math.sin(step / 50 + i) + 2 for i, name in enumerate(METRICS)}
            row = {"type": "metrics", "seq": step, "time": time.time(), "step": step, "values": values}
            file.write(orjson.dumps(row) + b"\n")
            step += 1
            time.sleep(pause_seconds)


def _job(name: str, rate: float) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "train",
        "task": {
            "algorithm": "sft",
            "model": {"base": "tiny-char"},
            "data": {"train": "sums@1"},
            "optim": {"learning_rate": rate, "steps": 100},
        },
    }


def _add_finished(db: Database, number: int) -> None:
    specs = {rate: parse(JobSpec, _job("run", rate)) for rate in _RATES}
    now = datetime.now(UTC)
    for start in range(1, number + 1, 500):
        with db.session() as session:
            for index in range(start, min(start + 500, number + 1)):
                spec = specs[_RATES[index % len(_RATES)]]
                assert isinstance(spec, TrainJob)
                name = "a-first" if index == number // 2 else f"run-{index:05d}"
                named = spec.model_copy(update={"name": name, "tags": ("sweep", f"part-{index % 7}")})
                begun = now - timedelta(minutes=number - index)
                job = submitting.submit(session, named, inputs={}, code=None, now=begun)
                _finish(job, index, begun)


def _finish(job: Job, index: int, begun: datetime) -> None:
    job.state = "failed" if index % 11 == 0 else "completed"
    job.cause = "ValueError: the loss is not finite at step 60" if job.state == "failed" else ""
    job.attempt, job.step, job.total_steps, job.seconds_per_step = 1, 100, 100, 0.1
    job.started_at, job.ended_at = begun, begun + timedelta(seconds=30)
    job.last_values = {
        "loss": 1 + math.sin(index),
        "reward_mean": (index % 100) / 100,
        "entropy": 1.5,
        "grad_norm": 2.0 + index % 3,
        "token_accuracy": 0.5,
    }


def _add_steps(db: Database, job_id: int, number: int) -> None:
    """Store steps that the run has behind it, through the code that stores what the worker reads."""
    random = np.random.default_rng(0)
    began = time.time() - number * _SECONDS_PER_STEP
    for start in range(0, number, _ROWS):
        steps = np.arange(start, min(start + _ROWS, number))
        noise_RM = random.standard_normal((len(steps), len(METRICS)))
        values_RM = np.exp(-steps / number)[:, None] * (2 + 0.3 * noise_RM)
        axes = Axes(steps, steps, steps, began + steps * _SECONDS_PER_STEP)
        with db.session() as session:
            job = session.get_one(Job, job_id)
            attempt = session.query(Attempt).filter_by(job_id=job_id).one()
            job.total_steps = 2 * number
            ingest.store(session, job, attempt, "rank0", [Group(METRICS, axes, values_RM)], 0, now=datetime.now(UTC))
