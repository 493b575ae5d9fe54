"""Which checkpoints are kept: those of a policy, and those that somebody holds.

A hold is a file `<checkpoints>/holds/step-<n>/<name>`; its name says who needs the checkpoint. Who holds and who
deletes take the same lock, so a checkpoint with a hold is never deleted, whichever of them comes first. A hold outlives
the process that placed it; the worker takes away those whose reason has ended. Needs no database: the process that
trains deletes its own old checkpoints.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from finery.core import checkpoints

EVALUATION: Final = "evaluation"
"""It waits for its evaluation, or is being evaluated."""
BEST: Final = "best"
"""It is one of the best."""
PINNED: Final = "pinned"
"""A person wants it kept."""
CHAT: Final = "chat-"
"""Start of the name of a hold by a process that talks with it."""
_JOB: Final = "job-"
_FOLDER: Final = "holds"
_LOCK: Final = "lock"


@dataclass(frozen=True)
class Retention:
    """What is kept of the checkpoints that nobody holds."""

    last: int
    """The newest so many."""
    every: int | None = None
    """And each whose step is a multiple of this."""

    def surplus(self, steps: list[int]) -> list[int]:
        """The steps, of those given in rising order, whose checkpoints may go."""
        return [step for step in steps[: -self.last] if not self.every or step % self.every]


def job_hold(job_id: int) -> str:
    """Name of the hold of a job that goes on from a checkpoint or reads it."""
    return f"{_JOB}{job_id}"


def holding_job(name: str) -> int | None:
    """The job whose hold has this name; None where it is no job's."""
    number = name.removeprefix(_JOB)
    return int(number) if name.startswith(_JOB) and number.isdigit() else None


def hold(path: Path, name: str, *, content: bytes = b"") -> bool:
    """Keep the checkpoint at `path` from being deleted until `release`. Doing it twice changes nothing.

    Args:
        path: Of the checkpoint, or of its averages, which are kept as long as it is.
        name: Who needs it.
        content: Kept in the file, for who looks whether the reason still holds.

    Returns:
        False when there is no such checkpoint (any more).

    Raises:
        OSError: the disk is full.
    """
    path = checkpoints.whole(path)
    if not path.parent.is_dir():
        return False
    with _locked(path.parent, wait=True):
        if not checkpoints.is_sealed(path):
            return False
        file = _folder(path) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return True


def release(path: Path, name: str) -> None:
    """Take a hold away; one that is not there is fine."""
    (_folder(checkpoints.whole(path)) / name).unlink(missing_ok=True)


def holds(path: Path) -> dict[str, bytes]:
    """Holds of the checkpoint at `path`: name -> content."""
    try:
        return {file.name: file.read_bytes() for file in sorted(_folder(path).iterdir())}
    except FileNotFoundError:
        return {}


def take_away(path: Path, *, wait: bool) -> bool:
    """Make the checkpoint at `path` exist no more, unless somebody holds it. Its files go with `checkpoints.remove`.

    Args:
        path: Of the checkpoint.
        wait: For who places a hold at this moment. Without it nothing is done then, so that training never waits.

    Returns:
        Whether it is gone.
    """
    with _locked(path.parent, wait=wait) as is_locked:
        if not is_locked or holds(path):
            return False
        (path / checkpoints.MANIFEST).unlink(missing_ok=True)
        with suppress(OSError):  # most never had any
            _folder(path).rmdir()
        return True


def prune(folder: Path, keep: Retention) -> list[Path]:
    """Delete the checkpoints under `folder` that neither the policy nor anybody keeps; returns what was deleted."""
    steps = [step for step, _ in checkpoints.existing(folder)]
    gone = [path for step in keep.surplus(steps) if take_away(path := checkpoints.directory(folder, step), wait=False)]
    for path in gone:
        checkpoints.remove(path)
    return gone


def _folder(path: Path) -> Path:
    return path.parent / _FOLDER / path.name


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Between all processes, as long as the block lasts; gives False where another has it and nobody waits."""
    (folder / _FOLDER).mkdir(exist_ok=True)
    handle = os.open(folder / _FOLDER / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)
