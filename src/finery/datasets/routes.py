"""REST of the datasets slice."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from finery.core.web import ClockDep, DatabaseDep, Db, Objects
from finery.datasets import service, staging
from finery.datasets.specs import DatasetPage, DatasetVersionView, GenerateSpec, GeneratorPage, ImportSpec, RowPage

router = APIRouter(prefix="/datasets", tags=["datasets"])


class LinesResponse(StreamingResponse):
    """Rows, one JSON object a line, that may be more than fit into memory."""

    media_type = "application/x-ndjson"


@router.get("")
def list_versions(
    db: Db,
    name: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> DatasetPage:
    """Dataset versions, newest first."""
    versions, total = service.list_versions(db, name=name, limit=limit, offset=offset)
    return DatasetPage(versions=[service.view(version) for version in versions], total=total)


@router.get("/generators")
def list_generators() -> GeneratorPage:
    """The generators with the parameters of each."""
    return service.generator_page()


@router.post("/generate", status_code=201)
def generate(body: GenerateSpec, database: DatabaseDep, objects: Objects, clock: ClockDep) -> DatasetVersionView:
    """Make a version with a generator. The same parameters give the version that exists already."""
    with database.read() as session:
        excluded = service.excluded(session, body, objects=objects)
    staged = staging.from_generator(body, excluded=excluded, objects=objects)
    with database.session() as session:
        return service.view(service.add(session, staged, now=clock.now()))


@router.post("/import", status_code=201)
def import_file(body: ImportSpec, database: DatabaseDep, objects: Objects, clock: ClockDep) -> DatasetVersionView:
    """Make a version from an uploaded file. The same rows give the version that exists already."""
    staged = staging.from_upload(body, objects=objects)
    with database.session() as session:
        return service.view(service.add(session, staged, now=clock.now()))


@router.get("/{ref}")
def get(ref: str, db: Db) -> DatasetVersionView:
    """One version: `name@n`, or the newest of `name`."""
    return service.view(service.get(db, ref))


@router.get("/{ref}/rows")
def head(
    ref: str,
    db: Db,
    objects: Objects,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> RowPage:
    """Some rows of a version."""
    return service.head(db, ref, objects=objects, offset=offset, limit=limit)


@router.get("/{ref}/lines", response_class=LinesResponse)
def lines(ref: str, db: Db, objects: Objects) -> LinesResponse:
    """All rows of a version, one JSON object a line."""
    return LinesResponse(staging.pieces(objects.path(service.get(db, ref).sha256)))
