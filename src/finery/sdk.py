"""Reports from any script: `finery.init`, `finery.log`, `finery.finish`, named as in W&B.

    import finery

    run = finery.init(project="sums", name="baseline", config={"learning_rate": 1e-4})
    for step in range(100):
        finery.log({"loss": 1 / (step + 1)})
    finery.finish()

The script writes into a run directory of its own machine; the server reads it from there, so a server that restarts or
is away costs the script nothing. A script that raises is shown as failed with the exception, one that is killed as
failed too. Needs neither torch nor a GPU.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TextIO

from finery.core import processes
from finery.core.client import connect
from finery.core.errors import Conflict
from finery.core.git import git_state
from finery.core.rundir import ExitRecord
from finery.core.rundir import Run as RunHandle
from finery.runtime.resources import ResourceWatch

_RESOURCE_INTERVAL_SECONDS = 10.0
_current: "Run | None" = None


class Run:
    """A run that this script reports into. Also a context manager that finishes it."""

    def __init__(self, job: Mapping[str, Any], run_dir: Path, url: str, config: Mapping[str, Any]):
        self.id = int(job["id"])
        """Number of the run."""
        self.name = str(job["name"])
        self.url = f"{url}/runs/{self.id}"
        """Page of the run."""
        self.config = dict(config)
        self._run = RunHandle.open(run_dir)
        self._step = -1
        self._skipped: set[str] = set()
        self._is_finished = False
        self._output = _Output(self._run.dir.stdout)
        self._watch = ResourceWatch(self._run.dir, os.getpid(), interval=_RESOURCE_INTERVAL_SECONDS)
        self._run.status("running", "reporting")

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics.

        Args:
            values: Name -> number; tensors and arrays of one element are numbers too. Nested mappings become names
                with dots. What is no number is left out, and said once by name.
            step: Where they belong; the step after the last one by default. Several calls may have the same step.

        Raises:
            Conflict: the run is finished.
        """
        if self._is_finished:
            raise Conflict("this run is finished; finery.init begins another one")
        self._step = self._step + 1 if step is None else int(step)
        numbers = dict(self._numbers(values))
        if numbers:
            self._run.log(numbers, self._step)

    def alert(self, title: str, text: str = "") -> None:
        """Record something that a person should know."""
        self._run.alert("script", f"{title}: {text}" if text else title, severity="warning", step=max(self._step, 0))

    def finish(self, exit_code: int = 0) -> None:
        """End the run; `exit_code` other than 0 makes it a failed one. Calling it again does nothing."""
        self._end(exit_code, "" if exit_code == 0 else f"the script ended it with exit code {exit_code}")

    def _end(self, code: int, cause: str) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        self._output.close()
        self._watch.stop()
        self._run.status("failed" if code else "completed", cause)
        self._run.events.close()
        now = time.time()
        record = ExitRecord(
            code=code, signal=None, oom_kills=0, last_heartbeat=now, ended_at=now, cause=cause, recorded_by="script"
        )
        with suppress(OSError):  # a full disk: the server sees that this process is gone
            self._run.dir.write_exit(record, patience_seconds=5)
        global _current
        if _current is self:
            _current = None

    def _numbers(self, values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if isinstance(value, Mapping):
                yield from self._numbers(value, f"{name}.")
                continue
            try:
                yield name, float(value.item() if hasattr(value, "item") else value)
            except (TypeError, ValueError, RuntimeError):
                if name not in self._skipped:
                    self._skipped.add(name)
                    self._run.note(f"{name} is left out: {type(value).__name__} is no number", "warning")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(1 if kind else 0, _told(error) if error else "")


def init(
    project: str = "",
    *,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    tags: tuple[str, ...] | list[str] = (),
    notes: str = "",
) -> Run:
    """Begin a run that this script reports into.

    Args:
        project: What it belongs to; shown as a setting of the run.
        name: Of the run; the script's file by default.
        config: Settings, as plain data; other values are kept as text.
        tags: Words to find it by.
        notes: What to remember about it.

    Raises:
        Unavailable: no server answers (`finery up`, FINERY_SERVER). Conflict: the server runs on another machine, or
            a run of this script is not finished. InvalidSpec: a name or tag that cannot be one.
    """
    global _current
    if _current is not None:
        raise Conflict(f"run {_current.id} of this script is not finished; call finery.finish() first")
    settings = {str(key): _plain(value) for key, value in (config or {}).items()}
    spec = {
        "name": name or Path(sys.argv[0] or "script").stem or "script",
        "kind": "external",
        "task": {"project": project, "config": settings},
        "tags": list(tags),
    }
    code = git_state(Path.cwd()) or None
    with connect() as client:
        body = {"spec": spec, "process": processes.identify().model_dump(), "code": code}
        begun = client.post("/jobs/external", body)
        if notes:
            client.patch(f"/jobs/{begun['job']['id']}", {"notes": notes})
        _current = Run(begun["job"], Path(begun["run_dir"]), client.url, settings)
    return _current


def log(values: Mapping[str, Any], step: int | None = None) -> None:
    """Record metrics of the run that `init` began; see `Run.log`.

    Raises:
        Conflict: there is none.
    """
    _present().log(values, step)


def finish(exit_code: int = 0) -> None:
    """End the run that `init` began; see `Run.finish`. Does nothing when there is none."""
    if _current is not None:
        _current.finish(exit_code)


def _present() -> Run:
    if _current is None:
        raise Conflict("no run is begun; call finery.init() first")
    return _current


def _plain(value: Any) -> Any:
    """Plain data as it is, anything else as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class _Output:
    """Copies what the script prints into the run's log, while it is open."""

    def __init__(self, path: Path):
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the run
        self._lock = threading.Lock()
        self._before = (sys.stdout, sys.stderr)
        sys.stdout, sys.stderr = (_Tee(stream, self._write) for stream in self._before)

    def _write(self, text: str) -> None:
        with self._lock, suppress(OSError, ValueError):  # a full or closed log never stops a script
            self._file.write(text.encode("utf-8", "replace"))

    def close(self) -> None:
        sys.stdout, sys.stderr = self._before
        self._file.close()


class _Tee:
    """A stream that also tells what is written to it."""

    def __init__(self, stream: TextIO, tell: Any):
        self._stream, self._tell = stream, tell

    def write(self, text: str) -> int:
        self._tell(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_excepthook = sys.excepthook


def _tell_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _excepthook(kind, error, trace)
    if _current is not None:
        _current._end(130 if issubclass(kind, KeyboardInterrupt) else 1, _told(error))


def _exit(code: Any = None) -> NoReturn:
    """sys.exit, with its code remembered: at exit nobody can ask for it any more."""
    if _current is not None and code not in (None, 0):
        _current._end(code if isinstance(code, int) else 1, f"the script exited with {code}")
    _sys_exit(code)


_sys_exit = sys.exit
sys.exit = _exit
sys.excepthook = _tell_exception
atexit.register(finish)


def _forget_in_child() -> None:
    """A forked process is not the script: it must neither end the run nor write into it."""
    global _current
    _current = None


os.register_at_fork(after_in_child=_forget_in_child)

__all__ = ["Run", "finish", "init", "log"]
