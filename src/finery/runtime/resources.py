"""Writes what a run uses into a stream of its own, for as long as its child lives."""

import threading
from pathlib import Path

from finery.core.events import encode_value
from finery.core.rundir import RESOURCES, EventWriter, RunDir
from finery.core.usage import JobSampler

_FIRST_AFTER_SECONDS = 1.0


class ResourceWatch:
    """A thread that samples a process tree. Reading a sick GPU may hang for minutes; supervision must not."""

    def __init__(self, run_dir: RunDir, pid: int, *, interval: float):
        """Begin to watch.

        Args:
            run_dir: The attempt.
            pid: Root of the process tree.
            interval: Seconds between samples.
        """
        self._interval = interval
        self._sampler = JobSampler(pid, Path(run_dir.path))
        self._events = EventWriter(run_dir.events / f"{RESOURCES}.jsonl")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="resources", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it. A sample that takes longer than a moment is given up."""
        self._is_over.set()
        self._thread.join(timeout=1.0)

    def _watch(self) -> None:
        self._sampler.sample()  # rates begin here
        wait = _FIRST_AFTER_SECONDS
        while not self._is_over.wait(wait):
            values = {name: encode_value(value) for name, value in self._sampler.sample().items()}
            self._events.emit("resource", values=values)
            wait = self._interval
