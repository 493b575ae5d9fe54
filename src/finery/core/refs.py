"""References: how one thing names another across slices, as text in job files.

arithmetic@3            dataset version         job:41/step:200   checkpoint of a job
arithmetic              its newest version      job:41/last       its newest checkpoint
object:<sha256>         an uploaded file        job:warm-up/last  the same, by name within one pipeline
tree:<sha256>           an uploaded folder      job:41/last/ema   the averages of its weights
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from finery.core.errors import InvalidSpec

_ID = re.compile(r"[0-9]{1,9}")
"""Longer ones would be beyond what a database counts to."""
_CHECKPOINT = re.compile(r"job:(?P<job>[^/]+)/(?:step:(?P<step>[0-9]{1,9})|(?P<last>last))(?P<ema>/ema)?")
_OBJECT = re.compile(r"(?P<kind>object|tree):(?P<sha256>[0-9a-f]{64})")
_DATASET = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]{0,63})(?:@(?P<version>[1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class Names:
    """Marks a text field of a spec that names something, so that it is found and resolved wherever specs are nested."""

    kind: Literal["model", "code", "secret"]


ModelRef = Annotated[str, Names("model")]
"""A model or checkpoint, as in `model.base`."""
CodeRef = Annotated[str, Names("code")]
"""A Python file of the user: a path, or `object:<sha256>` once it is uploaded."""
SecretRef = Annotated[str, Names("secret")]
"""A stored secret by its name."""


@dataclass(frozen=True)
class CheckpointRef:
    """A checkpoint of a job."""

    job: str
    """Id, or a name within one pipeline."""
    step: int | None
    """None is the newest one."""
    is_average: bool = False
    """Not the weights, but their moving averages."""

    @property
    def job_id(self) -> int | None:
        """None where the job is named."""
        return job_id(self.job)

    def __str__(self) -> str:
        step = "last" if self.step is None else f"step:{self.step}"
        return f"job:{self.job}/{step}{'/ema' if self.is_average else ''}"


@dataclass(frozen=True)
class ObjectRef:
    """Uploaded bytes."""

    is_tree: bool
    sha256: str


@dataclass(frozen=True)
class DatasetRef:
    """A dataset version; None is the newest one."""

    name: str
    version: int | None


def job_id(text: str) -> int | None:
    """The id that a text is; None when it is a name."""
    return int(text) if _ID.fullmatch(text) else None


def checkpoint(text: str) -> CheckpointRef | None:
    """Parse `job:...`; None when the text is no such reference.

    Raises:
        InvalidSpec: it begins with `job:` and is malformed.
    """
    found = _CHECKPOINT.fullmatch(text)
    if found:
        step = int(found["step"]) if found["step"] else None
        return CheckpointRef(found["job"], step, is_average=found["ema"] is not None)
    if text.startswith("job:"):
        raise InvalidSpec(f"{text!r} is no checkpoint reference; write job:41/step:200, job:41/last or job:41/last/ema")
    return None


def stored_object(text: str) -> ObjectRef | None:
    """Parse `object:...` or `tree:...`; None when the text is neither."""
    found = _OBJECT.fullmatch(text)
    return ObjectRef(found["kind"] == "tree", found["sha256"]) if found else None


def dataset(text: str) -> DatasetRef | None:
    """Parse `name@3` or `name`; None when the text cannot be one."""
    found = _DATASET.fullmatch(text)
    if found is None:
        return None
    return DatasetRef(found["name"], int(found["version"]) if found["version"] else None)


def is_local_path(text: str) -> bool:
    """Whether a reference names a file or folder of the machine on which the job file was written."""
    return text.startswith(("./", "../", "/", "~"))
