"""From the references of a job file to paths and hashes, before a job is queued and again when it starts.

Models and files may need the network or a long read, so none of this happens while a session is open; what a session
knows (dataset versions, checkpoints) is asked for in short ones of its own.
"""

import os
from pathlib import Path

from finery.core import checkpoints, refs
from finery.core.db import Database
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.core.objects import ObjectStore
from finery.core.rundir import ResolvedInput
from finery.core.secrets import SecretStore
from finery.core.settings import Settings
from finery.datasets import service as datasets
from finery.jobs import service as jobs
from finery.jobs.specs import JobSpec, TrainJob
from finery.models import resolving as models


def hub_tokens(settings: Settings) -> dict[str, str]:
    """Tokens for the hubs: of the environment, else from the stored secrets.

    Raises:
        Unavailable: a secret cannot be decrypted.
    """
    secrets = SecretStore(settings)
    found = {name: os.environ.get(name) or secrets.find(name) for name in models.TOKENS}
    return {name: token for name, token in found.items() if token}


class Resolver:
    """Resolves the references of job files on this installation."""

    def __init__(self, db: Database, objects: ObjectStore, settings: Settings):
        self._db = db
        self._objects = objects
        self._settings = settings

    def inputs(self, spec: JobSpec, *, allow_paths: bool) -> dict[str, ResolvedInput]:
        """Everything that can be resolved before the job starts: all but checkpoints of jobs.

        Args:
            spec: The job file.
            allow_paths: References to files of this machine are read (`finery run`); the server refuses them, since a
                path of a client means nothing here and one of the server is none of a client's business.

        Raises:
            InvalidSpec, NotFound, Forbidden, Unavailable: a reference cannot be resolved; the message says why.
        """
        return self.model(spec, allow_paths=allow_paths) | self.data(spec, allow_paths=allow_paths)

    def model(self, spec: JobSpec, *, allow_paths: bool) -> dict[str, ResolvedInput]:
        """The model that a job starts from; empty where that is a checkpoint. See `inputs`."""
        base = spec.task.model.base
        return {} if refs.checkpoint(base) is not None else {base: self._model(base, allow_paths)}

    def data(self, spec: JobSpec, *, allow_paths: bool) -> dict[str, ResolvedInput]:
        """The data that a job names. See `inputs`."""
        data = spec.task.data.train if isinstance(spec, TrainJob) else spec.task.data
        return {} if data is None else {data: self._data(data, _format(spec), allow_paths)}

    def checkpoint(self, spec: JobSpec) -> dict[str, ResolvedInput]:
        """The checkpoint of another job that this one starts from, verified; empty when it starts from none.

        Raises:
            NotFound, Conflict: there is none, or none whose files match its manifest.
        """
        ref = refs.checkpoint(spec.task.model.base)
        if ref is None:
            return {}
        with self._db.read() as session:
            candidates = [Path(row.path) for row in jobs.find_checkpoints(session, ref)]
        complaints: list[str] = []
        for path in candidates:
            problems = checkpoints.verify(path)
            if not problems:
                sha256 = checkpoints.file_sha256(path / checkpoints.MANIFEST)
                return {str(spec.task.model.base): ResolvedInput(kind="checkpoint", path=str(path), sha256=sha256)}
            complaints.extend(problems)
        raise Conflict(f"{spec.task.model.base} cannot be used: {'; '.join(complaints)}")

    def _model(self, base: str, allow_paths: bool) -> ResolvedInput:
        stored = refs.stored_object(base)
        if stored is not None:
            if not stored.is_tree:
                raise InvalidSpec(f"model.base {base} is a file; a model is a folder (tree:<sha256>)")
            folder = self._objects.materialize_tree(stored.sha256, self._settings.home / "models" / "uploads")
            return models.resolve(str(folder), home=self._settings.home)
        if refs.is_local_path(base):
            _refuse_path(base, allow_paths)
            base = str(Path(base).expanduser().resolve())
        return models.resolve(base, home=self._settings.home, tokens=hub_tokens(self._settings))

    def _data(self, ref: str, format: str | None, allow_paths: bool) -> ResolvedInput:
        stored = refs.stored_object(ref)
        if stored is not None:
            return datasets.canonical_file(self._objects.path(stored.sha256), format=format, objects=self._objects)
        if refs.is_local_path(ref):
            _refuse_path(ref, allow_paths)
            path = Path(ref).expanduser().resolve()
            if not path.is_file():
                raise NotFound(f"there is no file {ref}")
            return datasets.canonical_file(path, format=format, objects=self._objects)
        with self._db.read() as session:
            return datasets.resolve(session, ref, objects=self._objects)


def _format(spec: JobSpec) -> str | None:
    if isinstance(spec, TrainJob):
        return "sft" if spec.task.algorithm == "sft" else "verifiable"
    return "verifiable"


def _refuse_path(ref: str, allow_paths: bool) -> None:
    if not allow_paths:
        raise InvalidSpec(
            f"{ref} is a path of the machine where the job file was written; `finery jobs submit` uploads it, "
            "or import it with `finery data import` and name the version"
        )
