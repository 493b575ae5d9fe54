"""Fetches the files of a repository of a model hub. Runs in the child.

A transfer that is cut goes on where it was cut, also in another process after a crash: what has come lies in
`<name>.part`. A file gets its name when its bytes match the hash that the hub gives, so a file with its name is whole.
(The hub libraries throw away what has come when their process ends; a shard of 5 GB would start again.)
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from finery.core.errors import Forbidden, NotFound, Unavailable

_CHUNK_BYTES: Final = 1 << 20
_TRIES = 5
"""Tries in a row that bring nothing before it is given up; a try that brings bytes starts the count again."""
_SAY_EVERY_SECONDS = 10.0
_TIMEOUT = httpx.Timeout(30.0)
_SPARE_BYTES = 1 << 26
"""Left free on the disk beside the files."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository at its pinned revision."""

    path: str
    """Name; files of subfolders are not fetched."""
    num_bytes: int
    repo: str
    url: str
    sha256: str | None = None
    """Of the content, where the hub tells it."""
    git_sha1: str | None = None
    """Of the content as a git blob, where the hub tells only that."""
    copy: Path | None = None
    """The same file where another program has downloaded it already, unchecked."""


class _Cut(Exception):
    """A transfer ended before its end, for a reason that may pass."""


def download(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    headers: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Bring files into a folder, small ones first. What is there already is not fetched again.

    Args:
        files: What to fetch.
        folder: Where to; made if it is absent.
        headers: Sent with each request; not to another host that a request is redirected to, as far as it is a secret.
        say: Told of the progress from time to time, in a line.

    Raises:
        Unavailable: the hub cannot be reached, breaks off again and again, sends other bytes than it announced, or the
            disk has no room. Forbidden, NotFound: the hub does not give a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not (folder / file.path).is_file()]
    missing.sort(key=lambda file: file.num_bytes)
    _check_room(missing, folder)
    with httpx.Client(headers=headers, timeout=_TIMEOUT, follow_redirects=True) as http:
        for number, file in enumerate(missing, start=1):
            progress = _Progress(f"{file.path} ({number} of {len(missing)})", file.num_bytes, say)
            _fetch(http, file, folder / file.path, progress)


class _Progress:
    """Says how far a file is, at most every few seconds."""

    def __init__(self, name: str, num_bytes: int, say: Callable[[str], None]):
        self._name, self._total, self._say = name, num_bytes, say
        self._last, self._last_bytes = time.monotonic(), 0

    def at(self, num_bytes: int) -> None:
        now = time.monotonic()
        if now - self._last < _SAY_EVERY_SECONDS:
            return
        rate = (num_bytes - self._last_bytes) / (now - self._last)
        self._say(
            f"downloading {self._name}: {num_bytes / 1e6:,.0f} of {self._total / 1e6:,.0f} MB, {rate / 1e6:.1f} MB/s"
        )
        self._last, self._last_bytes = now, num_bytes


def _check_room(files: Sequence[RemoteFile], folder: Path) -> None:
    needed = sum(file.num_bytes - _size(_part(folder / file.path)) for file in files)
    free = shutil.disk_usage(folder).free
    if files and needed + _SPARE_BYTES > free:
        raise Unavailable(
            f"the download needs {needed / 1e9:.1f} GB and the disk of {folder} has {free / 1e9:.1f} GB left; "
            "free some space, or set FINERY_HOME to another disk"
        )


def _fetch(http: httpx.Client, file: RemoteFile, target: Path, progress: _Progress) -> None:
    """One file, over as many transfers as it takes."""
    part = _part(target)
    if file.copy is not None and not part.exists() and _size(file.copy) == file.num_bytes:
        shutil.copyfile(file.copy, part)
    tries = 0
    while _size(part) != file.num_bytes or not part.exists():
        before = _size(part)
        try:
            _transfer(http, file, part, progress)
        except _Cut as cut:
            tries = 1 if _size(part) > before else tries + 1
            if tries >= _TRIES:
                raise Unavailable(
                    f"{file.path} of {file.repo} could not be downloaded ({cut}); a retry goes on where it was cut"
                ) from cut
            time.sleep(2 ** (tries - 1))
    if not _matches(part, file):
        part.unlink()
        raise Unavailable(
            f"{file.path} of {file.repo} came with other bytes than the hub announced; a retry fetches it again"
        )
    os.replace(part, target)


def _transfer(http: httpx.Client, file: RemoteFile, part: Path, progress: _Progress) -> None:
    """Append what is missing.

    Raises:
        _Cut: it ended early. Forbidden, NotFound: the hub refuses.
    """
    start = _size(part)
    if start > file.num_bytes:
        part.unlink()
        start = 0
    # Bytes as they are: a compressed answer could not be continued.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with http.stream("GET", file.url, headers=headers) as response:
            _check_status(response, file)
            is_continued = response.status_code == httpx.codes.PARTIAL_CONTENT
            with open(part, "ab" if is_continued else "wb") as out:
                for chunk in response.iter_raw():
                    out.write(chunk)
                    progress.at(out.tell())
    except httpx.TransportError as error:
        raise _Cut(f"{type(error).__name__}: {error}") from error
    except OSError as error:
        raise Unavailable(f"{part} cannot be written: {error.strerror}") from error
    if _size(part) < file.num_bytes:
        raise _Cut(f"the hub sent {_size(part)} of {file.num_bytes} bytes")


def _check_status(response: httpx.Response, file: RemoteFile) -> None:
    status = response.status_code
    if status < 300:
        return
    if status in (401, 403):
        raise Forbidden(f"the hub does not let us read {file.path} of {file.repo} ({status}); set a token that may")
    if status == 404:
        raise NotFound(f"the hub no longer has {file.path} of this revision of {file.repo}")
    raise _Cut(f"the hub answered {status}")


def _matches(part: Path, file: RemoteFile) -> bool:
    """Whether the bytes are those that the hub tells of; by their number alone where it tells no hash."""
    if part.stat().st_size != file.num_bytes:
        return False
    if file.sha256:
        return _digest(part, hashlib.sha256()) == file.sha256
    if file.git_sha1:
        return _digest(part, hashlib.sha1(f"blob {file.num_bytes}\0".encode(), usedforsecurity=False)) == file.git_sha1
    return True


def _digest(path: Path, digest: "hashlib._Hash") -> str:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
