"""From a checkpoint in an engine's own layout to the Hugging Face form, in which all that leaves an engine is read.

Done on demand and once: the result lies in the folder `hf` of the checkpoint, a checkpoint of its own with a manifest,
and goes when the checkpoint goes. The files that the checkpoint was sealed with stay as they are. The work is done by
`finery.models.merging` in a process of the engine's own interpreter; this module imports no torch.
"""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from finery.core import checkpoints, environment
from finery.core.checkpoints import Manifest
from finery.core.environment import VERL_PYTHON
from finery.core.errors import Conflict, Unavailable

FORMATS: Final = ("verl-fsdp", "verl-megatron")
"""Layouts of checkpoints that are converted here."""
_FOLDER: Final = "hf"
_STAMP: Final = "finery.json"
_MAX_CAUSE: Final = 1000


def needs_export(checkpoint: Path) -> bool:
    """Whether what lies at the path is a checkpoint in a layout that only its engine reads."""
    manifest = checkpoints.read_manifest(checkpoint)
    return manifest is not None and manifest.format in FORMATS


def interpreter(base: Mapping[str, str] = os.environ) -> Path:
    """The Python that has verl: the one that `FINERY_VERL_PYTHON` names, this one, or `.venv-verl` beside this one.

    Raises:
        Unavailable: there is none.
    """
    if VERL_PYTHON not in base and importlib.util.find_spec("verl") is not None:
        return Path(sys.executable)
    path = environment.interpreter(VERL_PYTHON, base)
    if not path.is_file():
        raise Unavailable(
            f"a checkpoint of the engine verl is read with verl's own code, and there is no interpreter at {path}; "
            f"`make verl` builds one, or set {VERL_PYTHON} to the python of an environment that has verl"
        )
    return path


def exported(checkpoint: Path, *, verl_python: Path | None = None) -> Path:
    """The folder with the checkpoint in Hugging Face form: safetensors in the dtype of training, and the tokenizer.

    The update of LoRA is folded into the weights. Two that ask at once wait for one conversion.

    Args:
        checkpoint: A sealed checkpoint whose format is one of `FORMATS`.
        verl_python: An interpreter that has verl; looked for when it is needed where it is None.

    Raises:
        Conflict: the checkpoint's files do not match its manifest, or cannot be converted; says why.
        Unavailable: there is no interpreter with verl, or the folder cannot be written.
    """
    folder = checkpoint / _FOLDER
    try:
        with _locked(checkpoint):
            source = checkpoints.file_sha256(checkpoint / checkpoints.MANIFEST)
            if _is_current(folder, source):
                return folder
            _convert(checkpoint, folder, source, verl_python or interpreter())
    except FileNotFoundError as error:
        raise Conflict(f"the checkpoint {checkpoint} has been deleted") from error
    except OSError as error:
        raise Unavailable(
            f"{folder} cannot be written: {error.strerror or error}; free the disk, or its rights"
        ) from error
    return folder


def _is_current(folder: Path, source: str) -> bool:
    """Whether an export lies there, whole, of the checkpoint with this manifest."""
    if not checkpoints.is_sealed(folder) or checkpoints.verify(folder):
        return False
    return bool(orjson.loads((folder / _STAMP).read_bytes())["manifest"] == source)


def _convert(checkpoint: Path, folder: Path, source: str, python: Path) -> None:
    problems = checkpoints.verify(checkpoint)  # first: torch files are loaded, which could be anything
    manifest = checkpoints.read_manifest(checkpoint)
    if problems or manifest is None:
        raise Conflict(f"the checkpoint {checkpoint} cannot be converted: {'; '.join(problems)}")
    aside = checkpoint / f".{_FOLDER}.unfinished"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        _merge(checkpoint, aside, manifest, python)
        (aside / _STAMP).write_bytes(orjson.dumps({"manifest": source}))
        checkpoints.seal(
            aside,
            engine=manifest.engine,
            format="hf",
            step=manifest.step,
            attempt=manifest.attempt,
            world_size=1,
            now=time.time(),
            kind=manifest.kind,
        )
        if folder.exists():
            checkpoints.remove(folder)
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _merge(checkpoint: Path, into: Path, manifest: Manifest, python: Path) -> None:
    own = checkpoint / "actor"
    shards = own if own.is_dir() else checkpoint
    backend = manifest.format.removeprefix("verl-")
    done = subprocess.run(
        [str(python), "-m", "finery.models.merging", backend, str(shards), str(into)],
        env=environment.foreign_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = next((line.strip() for line in reversed(done.stdout.splitlines()) if line.strip()), "it said nothing")
        how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else said
        raise Conflict(f"the checkpoint {checkpoint} cannot be converted by {python}: {how[:_MAX_CAUSE]}")


@contextmanager
def _locked(checkpoint: Path) -> Iterator[None]:
    with open(checkpoint / f".{_FOLDER}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
