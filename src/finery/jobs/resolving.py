"""From the references of a job file to paths and hashes, before a job is queued and again when it starts.

Models and files may need the network or a long read, so none of this happens while a session is open; what a session
knows (dataset versions, checkpoints) is asked for in short ones of its own.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from finery.core import checkpoints, refs
from finery.core.db import Database
from finery.core.environment import secret_variable
from finery.core.errors import Conflict, Forbidden, InvalidSpec, NotFound
from finery.core.objects import ObjectStore
from finery.core.rundir import ResolvedInput
from finery.core.secrets import SecretStore
from finery.core.settings import Settings
from finery.datasets import service as datasets
from finery.jobs import references
from finery.jobs import service as jobs
from finery.jobs.references import Reference
from finery.jobs.specs import JobSpec, TrainJob
from finery.models import resolving as models
from finery.training import rewards
from finery.training.rewards.code_tests import CodeTestsParams

MAX_CODE_BYTES: Final = 1 << 20
_BASE: Final = ("task", "model", "base")
_NO_CODE: Final = "{ref} is code, which this installation does not run: FINERY_ALLOW_CODE is off"
_CHECKED: Final = ("verifiable",)
_TRAINED_ON: Final = {
    "sft": ("sft",),
    "reward": ("preference",),
    "dpo": ("preference",),
    "orpo": ("preference",),
    "kto": ("unpaired", "preference"),
}
"""Algorithm -> formats of its data; algorithms that are not here draw answers and check them."""


def hub_tokens(settings: Settings) -> dict[str, str]:
    """Tokens for the hubs: of the environment, else from the stored secrets.

    Raises:
        Unavailable: a secret cannot be decrypted.
    """
    secrets = SecretStore(settings)
    found = {name: os.environ.get(name) or secrets.find(name) for name in models.TOKENS}
    return {name: token for name, token in found.items() if token}


def job_secrets(settings: Settings, job: Mapping[str, Any], *, allow_environment: bool) -> dict[str, str]:
    """The secrets that a job names, by the environment variables in which it is handed them.

    Args:
        settings: Of this installation.
        job: The job file as plain data.
        allow_environment: One that is not stored may lie in this process's environment under its own name.

    Raises:
        NotFound: there is none of that name. Unavailable: it cannot be decrypted.
    """
    stored = SecretStore(settings)
    found = {}
    for name in {reference.text for reference in references.find(job) if reference.kind == "secret"}:
        given = os.environ.get(name) if allow_environment else None
        found[secret_variable(name)] = given or stored.read(name)
    return found


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
        job = spec.model_dump(mode="json")
        self.check_code(spec)
        job_secrets(self._settings, job, allow_environment=allow_paths)
        resolved: dict[str, ResolvedInput] = {}
        for found in references.find(job):
            if found.kind == "secret" or references.is_checkpoint(found):
                continue
            made = self.input(found, data_formats(spec, found), allow_paths=allow_paths)
            if resolved.setdefault(found.text, made) != made:
                raise InvalidSpec(
                    f"{found.dotted}: {found.text} is read as data of two formats; give each a file of its own"
                )
        return resolved

    def input(self, found: Reference, formats: tuple[str, ...], *, allow_paths: bool) -> ResolvedInput:
        """What one reference stands for, where that is no checkpoint and no secret.

        Args:
            found: The reference.
            formats: Formats of data that the job can use.
            allow_paths: As of `inputs`, and so are the errors.
        """
        if found.kind == "model":
            return self._model(found.text, allow_paths)
        if found.kind == "code":
            return self._code(found.text, allow_paths)
        return self._data(found.text, formats, allow_paths)

    def check_code(self, spec: JobSpec) -> None:
        """Refuse code of the user's, and code of a model without full walls, where this installation runs none.

        Raises:
            Forbidden: the job brings such code; the message names it.
        """
        if self._settings.allow_code:
            return
        for found in references.find(spec.model_dump(mode="json")):
            if found.kind == "code":
                raise Forbidden(_NO_CODE.format(ref=found.text))
        for index, part in enumerate(getattr(spec.task, "rewards", ())):
            params = rewards.registry.params(part.name, part.params)
            if isinstance(params, CodeTestsParams) and params.sandbox == "any":
                raise Forbidden(
                    f"task.rewards.{index}: code_tests with `sandbox: any` may run code of the model without full "
                    "walls, which this installation does not do: FINERY_ALLOW_CODE is off. Leave `sandbox` at `full`"
                )

    def check_secret(self, name: str) -> None:
        """Raise `NotFound` when no secret of this name is stored."""
        SecretStore(self._settings).read(name)

    def reference(self, ref: str, *, allow_paths: bool) -> ResolvedInput:
        """Any model or checkpoint by its reference alone. Files of a checkpoint are checked where they are loaded.

        Raises:
            InvalidSpec, NotFound, Forbidden, Unavailable: it cannot be resolved; the message says why.
        """
        found = refs.checkpoint(ref)
        if found is None:
            return self._model(ref, allow_paths)
        if found.job_id is None:
            raise InvalidSpec(f"{ref}: a job is named by its number here, as in job:41/last")
        with self._db.read() as session:
            jobs.get(session, found.job_id)
            paths = [_part(Path(row.path), found) for row in jobs.find_checkpoints(session, found)]
        path = next((path for path in paths if checkpoints.is_sealed(path)), None)
        if path is None:
            raise NotFound(f"{ref} has been deleted; `finery jobs show {found.job}` lists those that are there")
        sha256 = checkpoints.file_sha256(path / checkpoints.MANIFEST)
        return ResolvedInput(kind="checkpoint", path=str(path), sha256=sha256)

    def checkpoint(self, spec: JobSpec, *, base: Path | None = None) -> dict[str, ResolvedInput]:
        """The checkpoints of other jobs that this one needs, verified; empty when it needs none.

        Args:
            spec: The job file.
            base: Where the checkpoint lies that `task.model.base` means, when that is known.

        Raises:
            NotFound, Conflict: there is none, or none whose files match its manifest.
            InvalidSpec: it is a reward model where a policy is needed, or the other way round.
        """
        job = spec.model_dump(mode="json")
        resolved = {}
        for found, ref in references.checkpoints(job):
            resolved[found.text] = self._checkpoint(found.text, ref, base if found.path == _BASE else None)
            _check_kind(found, Path(resolved[found.text].path), algorithm=job["task"].get("algorithm"))
        return resolved

    def _checkpoint(self, text: str, ref: refs.CheckpointRef, place: Path | None) -> ResolvedInput:
        with self._db.read() as session:
            paths = [place] if place else [Path(row.path) for row in jobs.find_checkpoints(session, ref)]
        candidates = [_part(path, ref) for path in paths]
        complaints: list[str] = []
        for path in candidates:
            problems = checkpoints.verify(path)
            if not problems:
                sha256 = checkpoints.file_sha256(path / checkpoints.MANIFEST)
                return ResolvedInput(kind="checkpoint", path=str(path), sha256=sha256)
            complaints.extend(problems)
        raise Conflict(f"{text} cannot be used: {'; '.join(complaints)}")

    def _model(self, base: str, allow_paths: bool) -> ResolvedInput:
        stored = refs.stored_object(base)
        if stored is not None:
            if not stored.is_tree:
                raise InvalidSpec(f"{base} is a file; a model is a folder (tree:<sha256>)")
            folder = self._objects.materialize_tree(stored.sha256, self._settings.home / "models" / "uploads")
            return models.resolve(str(folder), home=self._settings.home)
        if refs.is_local_path(base):
            _refuse_path(base, allow_paths)
            base = str(Path(base).expanduser().resolve())
        return models.resolve(base, home=self._settings.home, tokens=hub_tokens(self._settings))

    def _code(self, ref: str, allow_paths: bool) -> ResolvedInput:
        """A file of the user's own code, kept by its content."""
        if not self._settings.allow_code:
            raise Forbidden(_NO_CODE.format(ref=ref))
        stored = refs.stored_object(ref)
        if stored is None:
            _refuse_path(ref, allow_paths)
            path = Path(ref).expanduser().resolve()
            if not path.is_file():
                raise NotFound(f"there is no file {ref}")
            sha256 = self._objects.put_file(path, max_bytes=MAX_CODE_BYTES).sha256
        elif stored.is_tree:
            raise InvalidSpec(f"{ref} is a folder; name the one Python file")
        else:
            sha256 = stored.sha256
        return ResolvedInput(kind="file", path=str(self._objects.path(sha256)), sha256=sha256)

    def _data(self, ref: str, formats: tuple[str, ...], allow_paths: bool) -> ResolvedInput:
        stored = refs.stored_object(ref)
        if stored is not None:
            return datasets.canonical_file(self._objects.path(stored.sha256), formats=formats, objects=self._objects)
        if refs.is_local_path(ref):
            _refuse_path(ref, allow_paths)
            path = Path(ref).expanduser().resolve()
            if not path.is_file():
                raise NotFound(f"there is no file {ref}")
            return datasets.canonical_file(path, formats=formats, objects=self._objects)
        with self._db.read() as session:
            return datasets.resolve(session, ref, formats=formats, objects=self._objects)


def _part(path: Path, ref: refs.CheckpointRef) -> Path:
    """Where what a reference means lies in a checkpoint.

    Raises:
        NotFound: the checkpoint is there and has no averages.
    """
    if not ref.is_average:
        return path
    if checkpoints.is_sealed(path) and not checkpoints.is_sealed(checkpoints.averaged(path)):
        raise NotFound(
            f"{ref}: that checkpoint holds no averages of its weights; a job keeps them with optim.ema_decay"
        )
    return checkpoints.averaged(path)


def data_formats(spec: JobSpec, found: Reference) -> tuple[str, ...]:
    """Formats of data that a job can use where it names some, the one that is meant for it first."""
    if found.path[: len(references.EVALUATED)] == references.EVALUATED:
        return _CHECKED
    return _TRAINED_ON.get(spec.task.algorithm, _CHECKED) if isinstance(spec, TrainJob) else _CHECKED


def _check_kind(found: Reference, path: Path, *, algorithm: str | None) -> None:
    """Refuse a reward model as what writes answers, and a policy as what scores them."""
    manifest = checkpoints.read_manifest(path)
    kind = manifest.kind if manifest is not None else "policy"
    is_policy = found.path == _BASE or found.path[:-1] == references.CANDIDATES
    if is_policy and kind == "reward" and algorithm != "reward":
        raise InvalidSpec(f"{found.dotted}: {found.text} is a reward model, which writes no answers; name a policy")
    if not is_policy and kind == "policy":
        raise InvalidSpec(
            f"{found.dotted}: {found.text} is a policy, which scores nothing; name a job with algorithm: reward"
        )


def _refuse_path(ref: str, allow_paths: bool) -> None:
    if not allow_paths:
        raise InvalidSpec(
            f"{ref} is a path of the machine where the job file was written; `finery jobs submit` uploads it, "
            "or import it with `finery data import` and name the version"
        )
