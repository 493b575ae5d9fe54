"""Starts the supervisor of an attempt on this machine. Used by the worker and by `finery run` alike."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from finery.core import processes
from finery.core.environment import child_environment
from finery.core.rundir import RunDir, RunSpec
from finery.worker import gpus


def start(
    path: Path, spec: RunSpec, *, tokens: Mapping[str, str] | None = None, parent: int | None = None, nice: int = 0
) -> subprocess.Popen[bytes]:
    """Create the attempt's directory and start its supervisor. Doing it twice starts one.

    Args:
        path: The attempt's directory.
        spec: What goes into spec.json.
        tokens: Environment variables that hubs are asked with.
        parent: The run pauses when this process ends; None lets it run on.
        nice: How far it steps back for other processes that want the same cores, from 0 to 19.

    Raises:
        OSError: the disk is full.
    """
    run_dir = RunDir.create(path, spec)
    threads = spec.job.get("resources", {}).get("cpu_threads")
    argv = [sys.executable, "-P", "-m", "finery.runtime.supervisor", str(run_dir.path)]
    if parent is not None:
        argv += ["--parent", str(parent)]
    environment = child_environment(os.environ, cpu_threads=threads, tokens=tokens)
    made = processes.spawn_detached(
        argv,
        stdout=run_dir.stdout.with_name("supervisor.log"),
        env=environment | gpus.variables(spec.gpus, os.environ),
        cwd=run_dir.path,
    )
    if nice:
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, made.pid, nice)  # the child, which starts later, inherits it
    return made
