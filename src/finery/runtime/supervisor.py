"""`python -m finery.runtime.supervisor RUN_DIR`: starts one child, waits for it, and records how it ended.

Runs in its own session, so that neither a closed terminal nor the end of the worker reaches it. Holds the lock
`supervisor.lock` of the attempt: a second supervisor of the same attempt exits at once, so that spawning is
idempotent. Imports no torch and holds little memory: it is the last that the kernel would kill.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from finery.core import checkpoints, processes
from finery.core.rundir import (
    Command,
    EventWriter,
    ExitRecord,
    ProcessIdentity,
    RunDir,
    SupervisorRecord,
    append_line,
    last_event_time,
    read_commands,
)
from finery.runtime.outside import Outsider
from finery.training import memory
from finery.training.specs.processes import number as processes_of

if TYPE_CHECKING:
    from finery.runtime.resources import ResourceWatch

_POLL_SECONDS = 0.1
_RESOURCE_INTERVAL_SECONDS = 10.0
_TERM_SECONDS = 5.0
"""Between SIGTERM and SIGKILL, after the grace period is over."""
_KEEPER_SECONDS = 10.0
"""For what holds a job's own Ray cluster together to take it down, before all of it is killed one by one."""


class Supervisor:
    """Watches one child."""

    def __init__(self, run_dir: RunDir, interpreter: str, parent: int | None):
        self._dir = run_dir
        self._spec = run_dir.read_spec()
        self._interpreter = interpreter
        self._parent = parent
        self._control_offset = 0
        self._kill_at: float | None = None
        self._why_killed = ""
        self._events = EventWriter(run_dir.events / "supervisor.jsonl")
        self._outsider = Outsider(run_dir, self._spec, self._events)

    def run(self) -> int:
        """Start the child, wait for its end, write exit.json."""
        oom_before = processes.oom_kills()
        if self._spec.cluster is not None:
            processes.adopt_orphans()
        child = self._start()
        signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        watch = self._watch_resources(child.pid)
        while child.poll() is None:
            self._outsider.look()
            self._obey(child)
            self._reap(child)
            time.sleep(_POLL_SECONDS)
        if watch is not None:
            watch.stop()
        _kill_rest(child.pid)
        self._end_cluster()
        self._outsider.conclude(child.returncode)
        self._record(child.returncode, processes.oom_kills() - oom_before)
        return 0

    def _start(self) -> subprocess.Popen[bytes]:
        # Written before the child exists: whoever finds this file and no living supervisor knows that there was one.
        self._write_record(None)
        child = processes.spawn_detached(
            [self._interpreter, "-P", "-m", self._module, str(self._dir.path)],
            stdout=self._dir.stdout,
            env=dict(os.environ),
            cwd=self._dir.path,
        )
        self._write_record(_identify(child.pid))
        return child

    @property
    def _module(self) -> str:
        """What is started: the child, or who has it run on a Ray cluster."""
        return "finery.runtime" if self._spec.cluster is None else "finery.runtime.cluster"

    def _reap(self, child: subprocess.Popen[bytes]) -> None:
        if self._spec.cluster is not None:
            processes.reap_orphans(keep=child.pid)

    def _end_cluster(self) -> None:
        """A cluster that was started for the job is gone before its end is recorded, whoever was killed."""
        if self._spec.cluster is None:
            return
        left = processes.end_descendants(patience_seconds=_KEEPER_SECONDS)
        if left:
            self._events.emit("log", level="error", message=f"processes {left} of this run cannot be ended")

    def _watch_resources(self, pid: int) -> "ResourceWatch | None":
        try:
            from finery.runtime.resources import ResourceWatch  # noqa: PLC0415 - an engine's environment may lack psutil
        except ImportError as error:
            self._events.emit("log", level="warning", message=f"what the run uses is not recorded: {error}")
            return None
        interval = self._spec.job.get("monitoring", {}).get("resource_interval", _RESOURCE_INTERVAL_SECONDS)
        return ResourceWatch(self._dir, pid, interval=interval)

    def _write_record(self, child: ProcessIdentity | None) -> None:
        record = SupervisorRecord(supervisor=processes.identify(), child=child)
        checkpoints.write_atomically(self._dir.supervisor, orjson.dumps(record.model_dump()))

    def _obey(self, child: subprocess.Popen[bytes]) -> None:
        """Give a child that was asked to stop its grace period, then end it."""
        commands, self._control_offset = read_commands(self._dir.control, self._control_offset, self._spec.attempt)
        now = time.monotonic()
        for command in commands:
            # The first wish decides: a launcher that is being ended writes one more.
            if command.command in ("pause", "cancel") and self._kill_at is None:
                self._why_killed = f"did not stop within {self._spec.grace_seconds:g} s of {command.command}"
                self._kill_at = now + self._spec.grace_seconds
        if self._parent is not None and os.getppid() != self._parent:
            self._parent = None
            self._ask_for_pause()
        if self._kill_at is not None and now >= self._kill_at:
            self._events.emit("log", level="warning", message=f"the child {self._why_killed}; it is killed")
            _kill_group(child.pid, signal.SIGTERM if now < self._kill_at + _TERM_SECONDS else signal.SIGKILL)

    def _ask_for_pause(self) -> None:
        command = Command(id="foreground-ended", attempt=self._spec.attempt, time=time.time(), command="pause")
        append_line(self._dir.control, command.model_dump())

    def _record(self, returncode: int, oom_kills: int) -> None:
        killed_by = _signal_name(-returncode) if returncode < 0 else None
        record = ExitRecord(
            code=returncode if returncode >= 0 else None,
            signal=killed_by,
            oom_kills=oom_kills,
            last_heartbeat=last_event_time(self._dir),
            ended_at=time.time(),
            cause=self._cause(returncode, killed_by, oom_kills),
            recorded_by="supervisor",
            peak_memory_bytes=_peak_memory_bytes(),
        )
        self._dir.write_exit(record)
        self._events.close()

    def _cause(self, returncode: int, killed_by: str | None, oom_kills: int) -> str:
        if self._kill_at is not None and time.monotonic() >= self._kill_at and killed_by:
            return self._why_killed
        if killed_by == "SIGKILL" and oom_kills:
            resources = self._spec.job.get("resources", {})
            num = processes_of(gpus=resources.get("gpus"), processes=resources.get("processes"))
            advice = memory.advice(self._spec.job.get("task", {}), num)
            return "; ".join(["killed by the kernel, out of memory", *([advice] if advice else [])])
        if killed_by:
            return f"killed by {killed_by}"
        return "" if returncode == 0 else f"ended with exit code {returncode}"


def _identify(pid: int) -> ProcessIdentity | None:
    try:
        return processes.identify(pid)
    except ProcessLookupError:
        return None


def _kill_group(pgid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):
        return


def _kill_rest(pgid: int) -> None:
    """End what the child has left behind in its process group, such as data loaders."""
    _kill_group(pgid, signal.SIGKILL)


def _peak_memory_bytes() -> int:
    """Of the largest process that has ended; the child is the largest that a supervisor starts."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def main(arguments: list[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="finery.runtime.supervisor")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--interpreter", default=sys.executable)
    parser.add_argument("--parent", type=int, help="stop gracefully when this process is no longer the parent")
    options = parser.parse_args(arguments)
    run_dir = RunDir(options.run_dir.resolve())
    lock = run_dir.lock("supervisor.lock")
    if lock is None or run_dir.supervisor.exists() or run_dir.exit.exists():
        return 0  # another supervisor has this attempt, or had it
    os.set_inheritable(lock, False)
    return Supervisor(run_dir, options.interpreter, options.parent).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
