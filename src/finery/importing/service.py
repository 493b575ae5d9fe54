"""Which reader reads what: runs of other trackers by format, or by looking at what lies there."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from finery.core.errors import InvalidSpec, NotFound
from finery.importing import mlflow, tensorboard, trackio, trainer_state, wandb
from finery.importing.records import ForeignRun

FORMATS: Final[Mapping[str, Callable[[Path], list[ForeignRun]]]] = MappingProxyType(
    {
        "trainer_state": trainer_state.read,
        "trackio": trackio.read,
        "mlflow": mlflow.read,
        "wandb": wandb.read,
        "tensorboard": tensorboard.read,
    }
)
"""Readers by format, in the order in which a path is tried: output folders of a Trainer and the artifacts of MLflow
runs often hold event files too, and so do runs of W&B."""

_MATCHES: Final[Mapping[str, Callable[[Path], bool]]] = MappingProxyType(
    {
        "trainer_state": trainer_state.matches,
        "trackio": trackio.matches,
        "mlflow": mlflow.matches,
        "wandb": wandb.matches,
        "tensorboard": tensorboard.matches,
    }
)


def read(path: Path, format: str | None) -> list[ForeignRun]:
    """Read the runs that another tracker left at a path.

    Args:
        path: A file or a folder, as the format's reader describes it.
        format: A key of FORMATS; None takes the first one that the path looks like.

    Returns:
        The runs; an empty list for a store without runs. Their rows are read while they are iterated, and that raises
        the same errors.

    Raises:
        NotFound: Nothing is at the path.
        InvalidSpec: The format is unknown, the path looks like none or not like the given one, or a place is broken.
        Unavailable: Another program keeps a database locked, or there is no room to sort what was read.
    """
    if format is not None and format not in FORMATS:
        raise InvalidSpec(f"There is no format `{format}` to import from; expected one of {', '.join(FORMATS)}.")
    if not path.exists():
        raise NotFound(f"Nothing is at {path}; name the file or folder that the other tracker wrote.")
    return FORMATS[format or _detect(path)](path)


def _detect(path: Path) -> str:
    found = next((name for name, matches in _MATCHES.items() if matches(path)), None)
    if found is None:
        raise InvalidSpec(
            f"{path} is nothing that can be imported; expected a trainer_state.json or a folder with one, an event "
            "folder of TensorBoard, a <project>.db of Trackio, the mlflow.db or mlruns folder of MLflow, or the wandb "
            "folder of W&B, so name one of these."
        )
    return found
