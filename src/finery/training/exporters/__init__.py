"""The open set of exporters: one file each. An exporter writes what another program needs to run a job without us.

A member is added by one file with

    @register("name")
    def export(job, out, *, data_rows=None): ...
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from finery.core.registry import Registry
from finery.core.spec import Spec
from finery.training.job import Job


class Exporter(Protocol):
    """Writes a job as files for another program.

    Args:
        job: Complete and valid.
        out: An empty folder that exists.
        data_rows: Rows of `task.data.train` as the dataset version has them; None writes everything but the data, and
            says in the files where they belong.

    Returns:
        The files written, in the order in which a person reads them.

    Raises:
        InvalidSpec: the program cannot honour a field of the job; names it.
    """

    def __call__(self, job: Job, out: Path, *, data_rows: Iterator[dict[str, Any]] | None = None) -> list[Path]: ...


class NoParams(Spec):
    """An exporter is told by the job file alone."""


registry: Final[Registry[Exporter]] = Registry("finery.training.exporters", "export target")


def register(name: str) -> Callable[[Exporter], Exporter]:
    """Add the decorated function as what `finery jobs export --to NAME` calls."""
    return registry.register(name, params=NoParams)
