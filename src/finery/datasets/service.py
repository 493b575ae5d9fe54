"""The verbs of datasets: immutable versions `name@n` over canonical rows in the object store.

The same content under a name is the same version, however often it comes; other content is the next number.
"""

from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from finery.core import refs
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.core.objects import ObjectStore
from finery.core.rundir import ResolvedInput
from finery.datasets import generators, staging
from finery.datasets.specs import DatasetVersionView, GenerateSpec, GeneratorPage, GeneratorView, ImportSpec, RowPage
from finery.datasets.staging import Staged
from finery.datasets.staging import canonical_file as canonical_file
from finery.datasets.tables import DatasetVersion

MAX_PAGE_BYTES = 8 << 20
_ATTEMPTS = 10


def import_file(session: Session, spec: ImportSpec, *, objects: ObjectStore, now: datetime) -> DatasetVersion:
    """Make a version from an uploaded file, in one go.

    The session stays open while the file is read; where others write at the same time (the API), stage first and `add`.

    Raises:
        NotFound, InvalidSpec, Unavailable: see `staging.from_upload`.
    """
    return add(session, staging.from_upload(spec, objects=objects), now=now)


def generate(session: Session, spec: GenerateSpec, *, objects: ObjectStore, now: datetime) -> DatasetVersion:
    """Make a version with a generator, in one go; see `import_file`.

    Raises:
        NotFound, InvalidSpec, Unavailable: see `excluded` and `staging.from_generator`.
    """
    files = excluded(session, spec, objects=objects)
    return add(session, staging.from_generator(spec, excluded=files, objects=objects), now=now)


def excluded(session: Session, spec: GenerateSpec, *, objects: ObjectStore) -> dict[str, Path]:
    """Pinned reference -> file of the versions whose prompts the generator must leave out.

    Raises:
        InvalidSpec: the parameters do not fit the generator.
        NotFound: a version does not exist.
    """
    found = [get(session, ref) for ref in staging.params_of(spec).exclude]
    return {version.ref: objects.path(version.sha256) for version in found}


def add(session: Session, staged: Staged, *, now: datetime) -> DatasetVersion:
    """Give stored rows a version; rows that the name has already keep the one they have.

    Raises:
        Conflict: others add versions of this name faster than this one gets a number.
    """
    for _ in range(_ATTEMPTS):
        existing = _same(session, staged)
        if existing is not None:
            return existing
        newest = session.scalar(select(func.max(DatasetVersion.version)).where(DatasetVersion.name == staged.name))
        version = DatasetVersion(
            name=staged.name,
            version=(newest or 0) + 1,
            format=staged.format,
            num_rows=staged.num_rows,
            num_bytes=staged.num_bytes,
            sha256=staged.sha256,
            source=staged.source,
            problems=staged.problems,
            num_problems=staged.num_problems,
            created_at=now,
        )
        try:
            with session.begin_nested():
                session.add(version)
        except IntegrityError:  # another session took the number
            continue
        return version
    raise Conflict(f"dataset {staged.name!r} is being added to by others; try again")


def list_versions(session: Session, *, name: str | None, limit: int, offset: int) -> tuple[list[DatasetVersion], int]:
    """Versions, newest first, and how many there are in all."""
    chosen = select(DatasetVersion) if name is None else select(DatasetVersion).where(DatasetVersion.name == name)
    total = session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    page = chosen.order_by(DatasetVersion.id.desc()).limit(limit).offset(offset)
    return list(session.scalars(page)), total


def get(session: Session, ref: str) -> DatasetVersion:
    """The version that `name@n` means, or the newest of `name`.

    Raises:
        InvalidSpec: the text is no such reference.
        NotFound: there is none.
    """
    parsed = refs.dataset(ref)
    if parsed is None:
        raise InvalidSpec(f"{ref!r} is no dataset reference; write name@version, such as arithmetic@1, or the name")
    query = select(DatasetVersion).where(DatasetVersion.name == parsed.name)
    if parsed.version is not None:
        query = query.where(DatasetVersion.version == min(parsed.version, 2**31 - 1))
    found = session.scalar(query.order_by(DatasetVersion.version.desc()).limit(1))
    if found is None:
        raise NotFound(_absence(session, parsed))
    return found


def resolve(session: Session, ref: str, *, formats: tuple[str, ...] = (), objects: ObjectStore) -> ResolvedInput:
    """What a reference of a job file stands for: the file with the version's canonical rows.

    Args:
        session: Of the database.
        ref: `name@n`, or `name` for the newest.
        formats: What the job can use; empty takes any.
        objects: Where the rows are.

    Raises:
        InvalidSpec, NotFound: see `get`; or it has another format, or the rows are gone from the object store.
    """
    version = get(session, ref)
    staging.check_format(version.format, formats, shown=version.ref)
    return ResolvedInput(kind="file", path=str(objects.path(version.sha256)), sha256=version.sha256)


def head(session: Session, ref: str, *, objects: ObjectStore, offset: int, limit: int) -> RowPage:
    """Some rows of a version, fewer than `limit` where they are very large."""
    version = get(session, ref)
    rows: list[dict[str, Any]] = []
    num_bytes = 0
    for row in islice(staging.read_canonical(objects.path(version.sha256)), offset, offset + limit):
        num_bytes += len(str(row))
        if rows and num_bytes > MAX_PAGE_BYTES:
            break
        rows.append(row)
    return RowPage(ref=version.ref, num_rows=version.num_rows, offset=offset, rows=rows)


def view(version: DatasetVersion) -> DatasetVersionView:
    """A version as the API shows it."""
    return DatasetVersionView.model_validate(version)


def generator_page() -> GeneratorPage:
    """The generators with the parameters of each."""
    return GeneratorPage(
        generators=[
            GeneratorView(name=entry.name, summary=entry.summary, params_schema=entry.params.model_json_schema())
            for entry in generators.registry.all()
        ]
    )


def _same(session: Session, staged: Staged) -> DatasetVersion | None:
    return session.scalar(
        select(DatasetVersion)
        .where(
            DatasetVersion.name == staged.name,
            DatasetVersion.sha256 == staged.sha256,
            DatasetVersion.format == staged.format,
        )
        .order_by(DatasetVersion.version.desc())
        .limit(1)
    )


def _absence(session: Session, parsed: refs.DatasetRef) -> str:
    newest = session.scalar(select(func.max(DatasetVersion.version)).where(DatasetVersion.name == parsed.name))
    if newest is not None:
        return f"dataset {parsed.name!r} has no version {parsed.version}; its newest is {parsed.name}@{newest}"
    known = session.scalars(select(DatasetVersion.name).distinct().order_by(DatasetVersion.name).limit(10)).all()
    listed = f"there are {', '.join(known)}" if known else "there are none yet; `finery data generate` makes one"
    return f"there is no dataset {parsed.name!r}; {listed}"
