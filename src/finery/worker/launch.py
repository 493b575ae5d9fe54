"""Starts the supervisor of an attempt on this machine. Used by the worker and by `finery run` alike."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from finery.core import processes
from finery.core.rundir import RunDir, RunSpec

_HIDDEN_PREFIX = "FINERY_"
_MALLOC = {
    # glibc hands freed memory back and faults it in again at every step: a third of the time of a CPU step.
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def child_environment(
    base: Mapping[str, str], *, cpu_threads: int | None, tokens: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What the processes of an attempt inherit: no address, token or database of the platform, but hubs' `tokens`."""
    threads = str(cpu_threads or os.cpu_count() or 1)
    kept = {name: value for name, value in base.items() if not name.startswith(_HIDDEN_PREFIX)}
    return {
        **kept,
        **(tokens or {}),
        **{name: base.get(name, value) for name, value in _MALLOC.items()},
        # Threads that spin while they wait make a busy machine three times slower and win 10 % on a quiet one.
        "OMP_WAIT_POLICY": base.get("OMP_WAIT_POLICY", "PASSIVE"),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }


def start(
    path: Path, spec: RunSpec, *, tokens: Mapping[str, str] | None = None, parent: int | None = None
) -> subprocess.Popen[bytes]:
    """Create the attempt's directory and start its supervisor. Doing it twice starts one.

    Args:
        path: The attempt's directory.
        spec: What goes into spec.json.
        tokens: Environment variables that hubs are asked with.
        parent: The run pauses when this process ends; None lets it run on.

    Raises:
        OSError: the disk is full.
    """
    run_dir = RunDir.create(path, spec)
    threads = spec.job.get("resources", {}).get("cpu_threads")
    argv = [sys.executable, "-P", "-m", "finery.runtime.supervisor", str(run_dir.path)]
    if parent is not None:
        argv += ["--parent", str(parent)]
    return processes.spawn_detached(
        argv,
        stdout=run_dir.stdout.with_name("supervisor.log"),
        env=child_environment(os.environ, cpu_threads=threads, tokens=tokens),
        cwd=run_dir.path,
    )
