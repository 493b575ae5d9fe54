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
from finery.core.git import git_state
from finery.core.rundir import Run

PROVENANCE = "provenance.json"
_SHOWN_ENVIRONMENT = (
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "TOKENIZERS_PARALLELISM",
)


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
        "packages": dict(filter(None, map(_package, metadata.distributions()))),
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


def _package(dist: metadata.Distribution) -> tuple[str, str] | None:
    """Name and version, from the head alone: what follows it is as long as a book and is parsed by `dist.metadata`."""
    text = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
    head = dict(line.split(": ", 1) for line in text.partition("\n\n")[0].splitlines() if ": " in line)
    return (head["Name"], head["Version"]) if {"Name", "Version"} <= head.keys() else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except FileNotFoundError:
        pass
    return platform.processor()
