"""Runs for benchmarks: jobs in a database whose attempts look alive, without anything that trains."""

import socket
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from finery.core import checkpoints, processes
from finery.core.db import Database
from finery.core.rundir import RunDir, SupervisorRecord
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.jobs import service as jobs
from finery.jobs import submitting
from finery.jobs.specs import JobSpec

SPEC = {
    "name": "load",
    "kind": "evaluate",
    "task": {"model": {"base": "tiny-char"}, "benchmark": {"name": "arithmetic"}, "data": "sums@1"},
}


def make_runs(db: Database, settings: Settings, number: int, raw: dict[str, Any] = SPEC) -> list[RunDir]:
    """Running jobs with an attempt each: this process stands in for their supervisors."""
    spec = parse(JobSpec, raw)
    record = SupervisorRecord(supervisor=processes.identify(), child=processes.identify())
    made = []
    for _ in range(number):
        with db.session() as session:
            job = submitting.submit(session, spec, inputs={}, code=None, now=datetime.now(UTC))
            job.state = "running"
            attempt = jobs.begin_attempt(
                session,
                job,
                runs=settings.runs,
                inputs={},
                resume_from=None,
                host=socket.gethostname(),
                worker="benchmark",
                now=datetime.now(UTC),
            )
        run_dir = RunDir.create(Path(attempt.run_dir), jobs.RunSpec.model_validate(attempt.run_spec))
        checkpoints.write_atomically(run_dir.supervisor, orjson.dumps(record.model_dump()))
        made.append(run_dir)
    return made


def median_ms(call: Callable[[], Any], times: int = 7) -> float:
    """Median duration in milliseconds, after one call that is not counted."""
    call()
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        durations.append(1000 * (time.perf_counter() - start))
    return statistics.median(durations)
