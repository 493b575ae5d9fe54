"""Tells other trackers what a run logs, each from a thread of its own: a slow disk or a library that hangs holds up no
step, and what fails there ends the export, never the run."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from finery.core.errors import FineryError
from finery.core.hooks import Decision, LiveControls, StepHooks
from finery.core.rundir import Run
from finery.exporting import exporters
from finery.exporting.exporters import Exporter, RunFacts
from finery.exporting.specs import ExportSpec
from finery.jobs.specs import JobSpec

FOLDER: Final = "exports"
"""Within the run directory: a folder for each exporter."""
RULE: Final = "export_failed"
_MAX_WAITING: Final = 10_000
"""Steps that may wait for an exporter."""
_CLOSE_SECONDS: Final = 20.0


class _Step(NamedTuple):
    """Metrics of a step, on their way."""

    step: int
    values: Mapping[str, float]
    time: float


class _Export:
    """One exporter and its thread."""

    def __init__(self, run: Run, name: str, exporter: Exporter):
        self._run = run
        self._name = name
        self._exporter = exporter
        self._is_ok = True
        self._is_over = False
        self._waiting: queue.Queue[_Step | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name=f"export-{name}", daemon=True)
        self._thread.start()

    def write(self, step: _Step) -> None:
        """Leave a step for the thread. Never waits."""
        if self._is_over:
            return
        try:
            self._waiting.put_nowait(step)
        except queue.Full:
            self._fail(f"{_MAX_WAITING} steps wait for it", step.step)

    def close(self, *, is_ok: bool) -> None:
        """Let it write what is left, for a while."""
        self._is_ok = is_ok
        if not self._is_over:
            try:
                self._waiting.put(None, timeout=_CLOSE_SECONDS)
            except queue.Full:
                self._fail(f"{_MAX_WAITING} steps wait for it", None)
                return
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive() and not self._is_over:
            self._fail(f"it has not ended within {_CLOSE_SECONDS:g} s", None)

    def _work(self) -> None:
        step: _Step | None = None
        try:
            while (step := self._waiting.get()) is not None:
                self._exporter.write(step.step, step.values, time=step.time)
            self._exporter.close(is_ok=self._is_ok)
        except Exception as error:  # noqa: BLE001 - fan-out to libraries of others, none of which may end a run
            self._fail(f"{type(error).__name__}: {error}", step.step if step else None)

    def _fail(self, cause: str, step: int | None) -> None:
        self._is_over = True
        message = _message(self._name, cause)
        self._run.alert(RULE, message, severity="warning", step=step)


class ExportHooks(StepHooks):
    """Hands each step to all exporters of a run."""

    def __init__(self, exports: Sequence[_Export]):
        self._exports = exports

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        """Take in a step."""
        now = time.time()
        for export in self._exports:
            export.write(_Step(step, dict(values), now))
        return Decision.CONTINUE


@contextmanager
def started(run: Run, job: JobSpec) -> Iterator[None]:
    """Export what the body logs. Only training jobs log by steps; of others nothing is exported while they run."""
    named = job.monitoring.exports if job.kind == "train" else ()
    exports = [export for export in (_opened(run, job, spec) for spec in named) if export is not None]
    if exports:
        run.hooks.append(ExportHooks(exports))
    is_ok = False
    try:
        yield
        is_ok = True
    finally:
        for export in exports:
            export.close(is_ok=is_ok)


def _opened(run: Run, job: JobSpec, spec: ExportSpec) -> _Export | None:
    folder = run.dir.path / FOLDER / spec.name
    facts = RunFacts(job.name, run.spec.job_id, run.spec.attempt, {**run.spec.job, "seed": run.seed}, job.tags)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        params = exporters.registry.params(spec.name, spec.params)
        return _Export(run, spec.name, exporters.registry.get(spec.name).target(folder, facts, params))
    except Exception as error:  # noqa: BLE001 - as in the thread: a library of others may raise anything
        cause = str(error) if isinstance(error, FineryError) else f"{type(error).__name__}: {error}"
        run.alert(RULE, _message(spec.name, cause), severity="warning", step=None)
        return None


def _message(name: str, cause: str) -> str:
    return (
        f"metrics go to {name} no more: {cause}; training goes on and keeps them all: `finery jobs export` writes them "
        "later"
    )
