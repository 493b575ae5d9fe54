"""The object store: files by the hash of their content, in a local folder.

    <root>/ab/ab12...            the bytes whose sha256 is ab12..., read-only, never changed
    <root>/incoming/             what is being written; locked by its writer, removed when the writer is gone

A folder is kept as a tree: one object that lists relative path -> sha256 of the files, each an object of its own.
An object exists completely or not at all: it is written aside, fsynced and renamed.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import orjson

from finery.core.errors import InvalidSpec, NotFound, TooLarge, Unavailable
from finery.core.paths import resolve_inside

TREE_VERSION = 1
MAX_TREE_FILES = 20_000

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_MAX_TREE_BYTES = 16 << 20
_ABANDONED_SECONDS = 60.0
"""A writer locks its file right after making it; younger files may not be locked yet."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class StoredObject:
    """Bytes that the store holds."""

    sha256: str
    num_bytes: int


class ObjectStore:
    """Content-addressed files under one folder. Safe for several threads and processes."""

    def __init__(self, root: Path):
        self.root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def put_stream(self, chunks: Iterable[bytes], *, max_bytes: int) -> StoredObject:
        """Store what `chunks` yields. An error in between, also one of `chunks`, leaves nothing behind.

        Raises:
            TooLarge: more than `max_bytes`.
            Unavailable: the disk is full.
        """
        digest = hashlib.sha256()
        num_bytes = 0
        with _disk_errors(self.root), self._aside() as (file, temporary):
            for chunk in chunks:
                num_bytes += len(chunk)
                if num_bytes > max_bytes:
                    raise TooLarge(f"the file is larger than {max_bytes:,} bytes; raise the limit or split it")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            stored = StoredObject(digest.hexdigest(), num_bytes)
            self._keep(temporary, stored)
        return stored

    def put_bytes(self, content: bytes) -> StoredObject:
        """Store bytes that are at hand."""
        return self.put_stream((content,), max_bytes=len(content))

    def put_file(self, path: Path, *, max_bytes: int | None = None) -> StoredObject:
        """Store a copy of a file. Raises as `put_stream`."""
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return self.put_stream(iter(lambda: file.read(_CHUNK_BYTES), b""), max_bytes=max_bytes or max(size, 1))

    def put_tree(self, folder: Path) -> StoredObject:
        """Store every file of a folder, links to files by their content; returns the tree.

        Raises:
            InvalidSpec: there are no files, or too many.
        """
        files: dict[str, str] = {}
        for path in _files(folder):
            files[path.relative_to(folder).as_posix()] = self.put_file(path).sha256
            if len(files) > MAX_TREE_FILES:
                raise InvalidSpec(f"{folder} holds more than {MAX_TREE_FILES:,} files; name the folder of one model")
        return self.put_manifest(files)

    def put_manifest(self, files: Mapping[str, str]) -> StoredObject:
        """Make a tree of objects that are already here.

        Args:
            files: Relative path -> sha256.

        Raises:
            InvalidSpec: a path leads out of the tree or runs through another file, or there are none or too many.
            NotFound: an object is missing.
        """
        _check_tree(files)
        sizes = {path: self.path(sha256).stat().st_size for path, sha256 in files.items()}
        listed = [{"path": path, "sha256": files[path], "num_bytes": sizes[path]} for path in sorted(files)]
        return self.put_bytes(orjson.dumps({"version": TREE_VERSION, "files": listed}))

    def has(self, sha256: str) -> bool:
        """Whether the store holds these bytes."""
        return _SHA256.fullmatch(sha256) is not None and self._place(sha256).is_file()

    def path(self, sha256: str) -> Path:
        """Where the bytes lie. The file must not be changed.

        Raises:
            NotFound: the store does not hold them.
        """
        if not self.has(sha256):
            raise NotFound(f"there is no object {sha256[:64]!r}; upload the file again")
        return self._place(sha256)

    def tree(self, sha256: str) -> dict[str, str]:
        """Relative path -> sha256 of the files of a tree.

        Raises:
            NotFound: there is no such object.
            InvalidSpec: the object is no tree.
        """
        path = self.path(sha256)
        if path.stat().st_size > _MAX_TREE_BYTES:
            raise InvalidSpec(f"the object {sha256} is a file, not a folder")
        try:
            found = orjson.loads(path.read_bytes())
            if found["version"] != TREE_VERSION:
                raise InvalidSpec(f"the folder {sha256} was stored by another version of Finery; upload it again")
            files = {str(file["path"]): str(file["sha256"]) for file in found["files"]}
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InvalidSpec(f"the object {sha256} is a file, not a folder") from error
        _check_tree(files)
        return files

    def materialize_tree(self, sha256: str, into: Path) -> Path:
        """Lay a tree out as the folder `into/<sha256>`, complete or not at all; returns that folder.

        Files are hard links to the objects where the file system allows it, so they must not be changed.

        Raises:
            NotFound: the tree or one of its files is not here.
            Unavailable: the disk is full.
        """
        folder = into / sha256
        if folder.is_dir():
            return folder
        files = self.tree(sha256)
        with _disk_errors(into):
            into.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{sha256[:16]}.", dir=into))
            try:
                for name, content in files.items():
                    _link(self.path(content), resolve_inside(aside, name))
                aside.chmod(0o755)
                _rename_folder(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return folder

    def _place(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    @contextmanager
    def _aside(self) -> Iterator[tuple[IO[bytes], Path]]:
        """A locked temporary file that is removed at the end unless it was renamed."""
        handle, name = tempfile.mkstemp(dir=self._incoming)
        temporary = Path(name)
        try:
            with open(handle, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file, temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _keep(self, temporary: Path, stored: StoredObject) -> None:
        place = self._place(stored.sha256)
        if place.is_file() and place.stat().st_size == stored.num_bytes:
            return
        place.parent.mkdir(exist_ok=True)
        temporary.chmod(0o444)
        os.replace(temporary, place)
        _sync_folder(place.parent)

    def _sweep(self) -> None:
        """Remove what writers left that were killed: old files that nobody has locked."""
        for path in self._incoming.iterdir():
            try:
                if time.time() - path.stat().st_mtime < _ABANDONED_SECONDS:
                    continue
                with open(path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            except (BlockingIOError, FileNotFoundError):
                continue


@contextmanager
def _disk_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Unavailable(f"the disk of {where} is full; free some space and try again") from error


def _check_tree(files: Mapping[str, str]) -> None:
    if not 0 < len(files) <= MAX_TREE_FILES:
        raise InvalidSpec(f"a folder has between 1 and {MAX_TREE_FILES:,} files, this one has {len(files):,}")
    nowhere = Path("/nonexistent").resolve()
    for name in files:
        if str(resolve_inside(nowhere, name)) != f"{nowhere}/{name}":
            raise InvalidSpec(f"{name!r} is not the plain form of a path")
        for parent in PurePosixPath(name).parents:
            if parent.as_posix() in files:
                raise InvalidSpec(f"{name!r} runs through {parent.as_posix()!r}, which is a file")


def _files(folder: Path) -> Iterator[Path]:
    """Files under `folder` in a fixed order; folders behind links are left out."""
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(here, name)
            if path.is_file():
                yield path


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in (*_FULL, errno.EEXIST):  # copying over a link would change the object behind it
            raise
        shutil.copy(source, target)  # another file system, or one without links


def _rename_folder(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was faster, with the same content
            raise


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
