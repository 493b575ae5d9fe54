"""Folders that somebody named for us to write into: made, and tried before anything is begun."""

import tempfile
from pathlib import Path

from finery.core.errors import Unavailable


def writable(folder: Path, *, way_out: str, mode: int = 0o777) -> Path:
    """`folder`, made with its parents where it is not there, and sure to take a file.

    Args:
        folder: What to make.
        way_out: What the user can do when it cannot be written; ends the message.
        mode: Permissions of a folder that is made.

    Raises:
        Unavailable: it cannot be made or written.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        try_out(folder)
    except OSError as error:
        raise Unavailable(f"cannot write {folder}: {error.strerror}; {way_out}") from error
    return folder


def try_out(folder: Path) -> None:
    """Write a file without a name into a folder that exists. Raises `OSError` when it takes none.

    Permissions alone do not tell: root may write everywhere, and yet there are read-only file systems.
    """
    with tempfile.TemporaryFile(dir=folder):
        pass
