"""Checkpoints on disk. A checkpoint exists when its MANIFEST.json does, and is good when each hash matches.

Layout: `<attempt>/checkpoints/step-<n>/...engine's own files... MANIFEST.json`, and `ema/` with a manifest of its own
where averages of the weights are kept. The manifest is written last, after an fsync of every file, by rename. A
directory without one is debris of a crash and may be deleted. Which are kept: `core.retention`.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict

MANIFEST = "MANIFEST.json"
MANIFEST_VERSION = 1
_PREFIX = "step-"

Kind = Literal["policy", "reward"]


class ManifestFile(BaseModel):
    """One file of a checkpoint."""

    model_config = ConfigDict(frozen=True)
    path: str
    num_bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a checkpoint consists of."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    version: Literal[1] = 1
    engine: str
    format: str
    """Layout of the files, such as `hf-trainer`: what transformers.Trainer saves."""
    kind: Kind = "policy"
    """A policy writes text; a reward model scores it."""
    step: int
    attempt: int
    world_size: int
    created_at: float
    """Seconds since the Unix epoch."""
    files: tuple[ManifestFile, ...]

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)


def directory(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return checkpoints / f"{_PREFIX}{step}"


def averaged(path: Path) -> Path:
    """Where, in the checkpoint at `path`, the averages of its weights lie, if it has them: a checkpoint, too."""
    return path / "ema"


def whole(path: Path) -> Path:
    """The checkpoint that what lies at `path` is a part of, or is."""
    return path.parent if path.name == averaged(path).name else path


def seal(
    path: Path,
    *,
    engine: str,
    format: str,
    step: int,
    attempt: int,
    world_size: int,
    now: float,
    kind: Kind = "policy",
) -> Manifest:
    """Make the files under `path` a checkpoint: fsync and hash each, then write the manifest by rename.

    Raises:
        OSError: the disk is full or fails; `path` is then no checkpoint.
    """
    files = tuple(
        ManifestFile(path=str(file.relative_to(path)), num_bytes=file.stat().st_size, sha256=_sync_and_hash(file))
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    )
    manifest = Manifest(
        engine=engine,
        format=format,
        kind=kind,
        step=step,
        attempt=attempt,
        world_size=world_size,
        created_at=now,
        files=files,
    )
    write_atomically(path / MANIFEST, orjson.dumps(manifest.model_dump(), option=orjson.OPT_INDENT_2))
    return manifest


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of the checkpoint at `path`, or None where there is none or it cannot be read as one."""
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def verify(path: Path) -> list[str]:
    """What is wrong with the checkpoint at `path`, in words; empty when each file has its size and hash."""
    manifest = read_manifest(path)
    if manifest is None:
        return [f"{path} has no readable {MANIFEST}"]
    problems = []
    for file in manifest.files:
        target = path / file.path
        if not target.is_file():
            problems.append(f"{file.path} is missing")
        elif target.stat().st_size != file.num_bytes:
            problems.append(f"{file.path} has {target.stat().st_size} bytes, the manifest says {file.num_bytes}")
        elif file_sha256(target) != file.sha256:
            problems.append(f"{file.path} does not have the hash of the manifest")
    return problems


def existing(checkpoints: Path) -> list[tuple[int, Path]]:
    """(step, path) of each directory under `checkpoints` that has a manifest, by step."""
    found = []
    for path in checkpoints.glob(f"{_PREFIX}*") if checkpoints.is_dir() else ():
        number = path.name.removeprefix(_PREFIX)
        if number.isdigit() and read_manifest(path) is not None:
            found.append((int(number), path))
    return sorted(found)


def latest_good(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files match its manifest, and what was wrong with those that were passed over."""
    complaints: list[str] = []
    for step, path in reversed(existing(checkpoints)):
        problems = verify(path)
        if not problems:
            return path, complaints
        complaints.append(f"checkpoint of step {step} is not used: {'; '.join(problems)}")
    return None, complaints


def is_sealed(path: Path) -> bool:
    """Whether a complete checkpoint lies there. Its files are not read."""
    return (path / MANIFEST).is_file()


def remove(path: Path) -> None:
    """Delete a checkpoint or debris. The manifest goes first, so that a crash half-way leaves debris."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def remove_debris(checkpoints: Path) -> list[Path]:
    """Delete directories without a manifest. Only the attempt's own child may call this."""
    debris = [path for path in _directories(checkpoints) if not is_sealed(path)]
    for path in debris:
        remove(path)
    return debris


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` so that a reader sees the old file or the new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_and_hash(path: Path) -> str:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _directories(checkpoints: Path) -> Iterator[Path]:
    if checkpoints.is_dir():
        yield from (path for path in sorted(checkpoints.glob(f"{_PREFIX}*")) if path.is_dir())
