"""What to do about an attempt whose supervisor has died without a word. Used by the worker and by `finery run`."""

import os
import signal
import time
from pathlib import Path

from finery.core import processes
from finery.core.rundir import ExitRecord, RunDir, SupervisorRecord, last_event_time


def examine(path: Path) -> ExitRecord | None:
    """How an attempt ended, or None while it is alive or has not begun.

    A child without a supervisor saves and stops by itself (see `finery.runtime.__main__`); once it is gone, or its
    grace period is over and it was killed, its end is recorded here.
    """
    run_dir = RunDir(path)
    found = run_dir.read_exit()
    if found is not None:
        return found
    record = run_dir.read_supervisor()
    if record is None or processes.is_alive(record.supervisor):
        return None
    if record.child is not None and processes.is_alive(record.child):
        if time.time() - last_event_time(run_dir, _writers(run_dir)) > run_dir.read_spec().grace_seconds + 30:
            processes.kill_group(record.child, signal.SIGKILL)
        return None
    if record.child is None and _is_locked(run_dir):
        return None
    exit_ = ExitRecord(
        code=None,
        signal=None,
        oom_kills=0,
        last_heartbeat=last_event_time(run_dir, _writers(run_dir)),
        ended_at=time.time(),
        cause=_cause(record),
        recorded_by="worker",
    )
    run_dir.write_exit(exit_, patience_seconds=0)
    return exit_


def _cause(record: SupervisorRecord) -> str:
    if record.supervisor.boot_id != processes.boot_id():
        return "the machine was restarted"
    if record.child == record.supervisor:
        return "the script ended without a word"
    return "its supervisor was killed and the child stopped"


def _writers(run_dir: RunDir) -> list[str]:
    return [path.stem for path in run_dir.events.glob("*.jsonl") if path.stem != "supervisor"]


def _is_locked(run_dir: RunDir) -> bool:
    """Whether a child works on the attempt."""
    handle = run_dir.lock()
    if handle is None:
        return True
    os.close(handle)
    return False
