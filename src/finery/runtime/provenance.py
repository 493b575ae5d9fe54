"""What a result was made with: code and its git state, packages, hardware, command and environment of the child."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

import finery
from finery.core import checkpoints
from finery.core.rundir import Run

PROVENANCE = "provenance.json"
_MAX_DIFF = 1_000_000
_SHOWN_ENVIRONMENT = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM")


def record(run: Run) -> None:
    """Write provenance.json into the attempt and point an event at it. A full disk costs the record, not the run."""
    path = run.dir.path / PROVENANCE
    try:
        checkpoints.write_atomically(path, orjson.dumps(collect(run.spec.code), option=orjson.OPT_INDENT_2))
    except OSError as error:
        run.note(f"{PROVENANCE} was not written: {error}", "warning")
        return
    run.artifact("provenance", path)


def collect(code: dict[str, Any] | None) -> dict[str, Any]:
    """Everything, as plain data. `code` is the git state of the user's folder, when it was submitted with the job."""
    return {
        "version": 1,
        "argv": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "finery": {"version": metadata.version("finery"), **git_state(Path(finery.__file__).parent)},
        "code": code,
        "packages": {dist.metadata["Name"]: dist.version for dist in metadata.distributions()},
        "hardware": hardware(),
        "environment": {name: os.environ[name] for name in _SHOWN_ENVIRONMENT if name in os.environ},
    }


def hardware() -> dict[str, Any]:
    """Processor, memory and accelerators of this machine. Sizes in bytes."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cpu_cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [],
    }
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (FileNotFoundError, subprocess.SubprocessError):
        return found
    found["gpus"] = [line.strip() for line in lines]
    return found


def git_state(folder: Path) -> dict[str, Any]:
    """Commit, branch and uncommitted changes of the work tree that `folder` lies in; empty when there is none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    diff = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    return {
        "commit": commit.strip(),
        "branch": (_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip() or None,
        "is_dirty": bool(diff),
        "diff": diff[:_MAX_DIFF],
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=20, check=True, stdin=subprocess.DEVNULL
        )
    except (FileNotFoundError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except FileNotFoundError:
        pass
    return platform.processor()
