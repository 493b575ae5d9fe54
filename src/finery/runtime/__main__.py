"""`python -m finery.runtime RUN_DIR`: the child process that does the work of one attempt."""

import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from finery.core.errors import FineryError
from finery.core.events import Phase
from finery.core.hooks import Decision
from finery.core.rundir import LEASE, Run, RunDir, Stopped
from finery.core.spec import parse
from finery.jobs.specs import JobSpec
from finery.runtime import exits, exports, provenance
from finery.runtime.bottleneck import DataWatch
from finery.runtime.output import PatientOutput
from finery.runtime.rules import attach

EXECUTORS: Final = {
    "train": "finery.training.runner",
    "evaluate": "finery.evaluation.runner",
    "compare": "finery.training.comparing",
}
"""Closed set: what a job can be. Modules are imported here, in the child, and nowhere else."""

_ENDS: Final[dict[Decision, tuple[Phase, int]]] = {
    Decision.PAUSE: ("paused", exits.PAUSED),
    Decision.CANCEL: ("cancelled", exits.CANCELLED),
    Decision.ROLLBACK: ("rolling_back", exits.ROLLED_BACK),
}
_ORPHAN_POLL_SECONDS = 1.0
_LEASE_SECONDS = 60.0
"""A child on somebody else's cluster that nobody has followed for so long saves and stops."""


def main(path: Path) -> int:
    """Do the work of the attempt in `path` and return the exit status."""
    lock = RunDir(path).lock()
    if lock is None:
        print(f"{path} is being worked on by another process", file=sys.stderr)  # noqa: T201 - goes to the attempt's log
        return exits.BUSY
    sys.stdout, sys.stderr = PatientOutput(sys.stdout), PatientOutput(sys.stderr)
    run = Run.open(path)
    signal.signal(signal.SIGTERM, lambda *_: run.request_stop(Decision.PAUSE))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, args=(run, os.getppid()), daemon=True).start()
    if run.spec.cluster is not None and run.spec.cluster.address:
        threading.Thread(target=_watch_lease, args=(run,), daemon=True).start()
    run.status("running", "starting")
    try:
        return _work(run)
    except Exception as error:  # noqa: BLE001 - the only witness: recorded, printed to the log, told by the exit status
        traceback.print_exc()
        run.status("failed", str(error) if isinstance(error, FineryError) else f"{type(error).__name__}: {error}")
        return exits.FAILED
    finally:
        run.events.close()


def _work(run: Run) -> int:
    provenance.record(run)
    job = parse(JobSpec, run.spec.job, what="spec.json")
    rules = attach(run, job)
    run.hooks.append(DataWatch(run))
    executor = import_module(EXECUTORS[job.kind])
    try:
        with exports.started(run, job):
            executor.execute(job.task, run)
    except Stopped as stopped:
        if stopped.decision is Decision.ROLLBACK:
            rules.confirm_rollback()
        decided, reason = rules.decided
        phase, code = _ENDS[stopped.decision]
        run.status(phase, reason if decided is stopped.decision else "")
        return code
    run.status("completed")
    return exits.COMPLETED


def _watch_parent(run: Run, parent: int) -> None:
    """End an orphan. Nobody would see it train, so it saves, stops, and is killed when it cannot."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_POLL_SECONDS)
    _stop_orphan(run, "the supervisor is gone; saving a checkpoint and stopping")


def _watch_lease(run: Run) -> None:
    """End a child whose launcher on another machine no longer touches the lease. Compares no clocks of two machines."""
    lease = run.dir.path / LEASE
    seen, seen_at = lease.read_text(), time.monotonic()
    while time.monotonic() - seen_at < _LEASE_SECONDS:
        time.sleep(_ORPHAN_POLL_SECONDS)
        with suppress(OSError):
            if (now := lease.read_text()) != seen:
                seen, seen_at = now, time.monotonic()
    _stop_orphan(run, f"nobody has followed this run for {_LEASE_SECONDS:g} s; saving a checkpoint and stopping")


def _stop_orphan(run: Run, message: str) -> None:
    run.note(message, "error")
    run.request_stop(Decision.PAUSE)
    time.sleep(run.spec.grace_seconds)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
