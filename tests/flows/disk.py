"""A small disk of its own: a tmpfs that is mounted for one test."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import need


@contextmanager
def small_disk(path: Path, *, megabytes: int) -> Iterator[Path]:
    """Mount a tmpfs at `path` and give a home on it."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True) if os.getuid() == 0 else None
    need("the right to mount a tmpfs", done is not None and done.returncode == 0)
    try:
        home = path / "home"
        home.mkdir()
        yield home
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Write to a new file until the disk has no room left."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, b"x" * 4096)
    os.close(file)
