"""The open set of exporters: one file each. An exporter writes what one attempt logs into a folder of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from finery.core.registry import Registry


@dataclass(frozen=True)
class RunFacts:
    """What the other tracker is told of a run."""

    name: str
    job_id: str
    attempt: int
    config: Mapping[str, Any]
    """The job file, complete."""
    tags: tuple[str, ...]


class Exporter(Protocol):
    """Takes the metrics of an attempt, from one thread at a time. What it raises ends the export, never the run."""

    def write(self, step: int, values: Mapping[str, float], *, time: float) -> None:
        """Add the metrics of a step.

        Args:
            step: As the run counts.
            values: NaN and the infinities are values like any other.
            time: Seconds since the Unix epoch.
        """
        ...

    def close(self, *, is_ok: bool) -> None:
        """Write what is left. `is_ok` is whether the run ended as it should."""
        ...


class Opener(Protocol):
    """Begins an export.

    Args:
        folder: Exists, and is this export's alone.
        facts: Of the run.
        params: The exporter's own parameters.

    Raises:
        Unavailable: a package that it needs is not installed.
    """

    def __call__(self, folder: Path, facts: RunFacts, params: Any) -> Exporter: ...


registry: Final[Registry[Opener]] = Registry("finery.exporting.exporters", "exporter")
