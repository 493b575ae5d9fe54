"""What the child processes that hold models inherit from the platform's environment."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VERL_PYTHON: Final = "FINERY_VERL_PYTHON"
"""Names the interpreter that has verl; `.venv-verl` otherwise."""
MINDSPORE_PYTHON: Final = "FINERY_MINDSPORE_PYTHON"
"""Names the interpreter that has mindspore; `.venv-mindspore` otherwise."""
_INTERPRETERS: Final = {VERL_PYTHON: ".venv-verl", MINDSPORE_PYTHON: ".venv-mindspore"}
_HIDDEN_PREFIX = "FINERY_"
_SECRET_PREFIX = "JOB_SECRET_"
HUB_TOKENS: Final = ("HF_TOKEN", "MODELSCOPE_API_TOKEN")
"""Secrets, and environment variables, that hubs are asked with."""
_HARMLESS = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"})
_HARMLESS_PREFIXES = ("LC_", "OMP_", "MKL_", "OPENBLAS_", "CUDA_", "NVIDIA_", "MALLOC_")
_MALLOC = {
    # glibc hands freed memory back and faults it in again at every step: a third of the time of a CPU step.
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def child_environment(
    base: Mapping[str, str], *, cpu_threads: int | None, tokens: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What a child inherits: no address, token or database of the platform, but hubs' `tokens` and interpreters."""
    threads = str(cpu_threads or os.cpu_count() or 1)
    kept = {name: value for name, value in base.items() if name in _INTERPRETERS or not name.startswith(_HIDDEN_PREFIX)}
    return {
        **kept,
        **(tokens or {}),
        **{name: base.get(name, value) for name, value in _MALLOC.items()},
        **_waiting(base),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }


def interpreter(variable: str, base: Mapping[str, str] = os.environ) -> Path:
    """Where the Python of an environment of its own is, or would be: as the variable says, else beside this one.

    Args:
        variable: `VERL_PYTHON` or `MINDSPORE_PYTHON`.
        base: The environment in which it is looked up.
    """
    named = base.get(variable)
    return Path(named) if named else Path(sys.prefix).parent / _INTERPRETERS[variable] / "bin" / "python"


def foreign_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Of a tool of ours under another interpreter: no GPU, no network, this package where that one has not got it."""
    kept = {name: value for name, value in base.items() if not name.startswith(("VERL_", "RAY_"))}
    source = Path(__file__).parents[2]
    if source.name not in ("site-packages", "dist-packages"):
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), kept.get("PYTHONPATH", "")]))
    return {**kept, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def for_other_hosts(base: Mapping[str, str]) -> dict[str, str]:
    """What a child on another machine is handed of its launcher's environment: tokens of hubs and the job's secrets."""
    return {name: value for name, value in base.items() if name in HUB_TOKENS or name.startswith(_SECRET_PREFIX)}


def _waiting(base: Mapping[str, str]) -> dict[str, str]:
    """How threads wait for the next piece of work, unless the user says how.

    A product of matrices is often shorter than it takes to wake a thread that sleeps: with the first waits of a moment
    (1,000 rounds) one of 32 rows takes 0.72 ms and with sleep at once 0.89. On a busy machine the usual 300,000 rounds
    take 24 ms, these 1.5 and sleep 1.4.
    """
    if "OMP_WAIT_POLICY" in base or "GOMP_SPINCOUNT" in base:
        return {}
    return {"GOMP_SPINCOUNT": "1000"}


def secret_variable(name: str) -> str:
    """The environment variable in which a job is handed a secret that it names; never one that programs know."""
    return f"{_SECRET_PREFIX}{name}"


def without_secrets(base: Mapping[str, str]) -> dict[str, str]:
    """What code of users inherits: what finds and tunes programs, and none of the names that are not known to be that.

    A token may lie in any variable, so that those which pass are listed, not those which do not.
    """
    return {name: value for name, value in base.items() if name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)}
