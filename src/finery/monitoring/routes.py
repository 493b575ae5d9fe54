"""REST of the monitoring slice: events, series, samples of a job."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from finery.core.web import DatabaseDep, Db
from finery.jobs import service as jobs
from finery.jobs.routes import JobId
from finery.jobs.specs import EventPage
from finery.monitoring import export, service
from finery.monitoring import samples as sample_files
from finery.monitoring.specs import AlertPage, MetricPage, SampleRecordPage, SeriesPage

router = APIRouter(prefix="/jobs/{job_id}", tags=["monitoring"])
alerts = APIRouter(prefix="/alerts", tags=["monitoring"])
Step = Annotated[int | None, Query(ge=-(2**62), lt=2**62)]


class CsvResponse(StreamingResponse):
    """A table that may be longer than memory."""

    media_type = "text/csv"


@alerts.get("")
def newest_alerts(db: Db, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> AlertPage:
    """Alerts of all jobs that are not archived, newest first."""
    return AlertPage(alerts=service.newest_alerts(db, limit=limit))


@router.get("/events")
def events(
    job_id: JobId,
    db: Db,
    after: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> EventPage:
    """Events and metrics in the order in which they were stored, after a cursor."""
    newest = jobs.get(db, job_id).cursor
    found = service.events_after(db, job_id, after, limit)
    last = found[-1].cursor if found else max(after, 0)
    return EventPage(events=found, next_after=last, is_complete=last >= newest)


@router.get("/metrics")
def summaries(job_id: JobId, db: Db) -> MetricPage:
    """Every metric with its range and newest value, per attempt."""
    cursor = jobs.get(db, job_id).cursor
    return MetricPage(metrics=service.summaries(db, [job_id]).get(job_id, []), cursor=cursor)


@router.get("/series")
def series(
    job_id: JobId,
    db: Db,
    names: Annotated[list[str] | None, Query(max_length=200)] = None,
    max_points: Annotated[int, Query(ge=4, le=100_000)] = 2000,
    from_step: Step = None,
    to_step: Step = None,
) -> SeriesPage:
    """Series of the named metrics, or of all, between two steps, both included.

    Long ones are thinned within these steps; extremes and non-finite points stay.
    """
    cursor = jobs.get(db, job_id).cursor
    window = service.Window(from_step, to_step)
    found = service.series(db, job_id, names or [], max_points=max_points, window=window)
    return SeriesPage(series=found, cursor=cursor)


@router.get("/series.csv", response_class=CsvResponse)
def series_csv(
    job_id: JobId,
    database: DatabaseDep,
    names: Annotated[list[str] | None, Query(max_length=200)] = None,
) -> CsvResponse:
    """Every point of the named metrics, or of all, as stored: step, time and one column for each line."""
    with database.read() as db:
        title, lines = export.plan(db, job_id, names or [])
    return CsvResponse(export.rows(database, job_id, lines), headers=export.headers(title))


@router.get("/resources")
def resources(job_id: JobId, db: Db, max_points: Annotated[int, Query(ge=4, le=100_000)] = 1000) -> SeriesPage:
    """What the run used over time: its processes, the machine around them, its GPUs. Long series are thinned."""
    cursor = jobs.get(db, job_id).cursor
    return SeriesPage(series=service.resources(db, job_id, max_points=max_points), cursor=cursor)


@router.get("/samples")
def samples(
    job_id: JobId,
    db: Db,
    step: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
    attempt: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
) -> SampleRecordPage:
    """Rollouts of one step, the newest by default, and the steps that have some."""
    jobs.get(db, job_id)
    found = service.events_of_type(db, job_id, "sample", attempt=attempt)
    folders = {row.number: jobs.run_dir(row) for row in jobs.attempts(db, job_id)}
    return sample_files.page(found, folders, step)
