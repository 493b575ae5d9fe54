"""An export as a job file asks for it."""

from typing import Any, Self

from pydantic import model_validator

from finery.core.spec import Spec
from finery.exporting import exporters


class ExportSpec(Spec):
    """A tracker that is told too; in short its name alone."""

    name: str
    """A registered exporter: `tensorboard` or `wandb`."""
    params: dict[str, Any] = {}
    """The exporter's own parameters."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, raw: Any) -> Any:
        return {"name": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        exporters.registry.params(self.name, self.params)
        return self


def distinct(exports: tuple[ExportSpec, ...]) -> tuple[ExportSpec, ...]:
    """The exports, each name once.

    Raises:
        ValueError: a name comes twice.
    """
    names = [export.name for export in exports]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"each exporter is named once; there are several of {', '.join(twice)}")
    return exports
