"""REST of the monitoring slice: events, series, samples, gradients of a job."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from finery.core.spec import View, parse
from finery.core.web import Caller, ClockDep, DatabaseDep, Db
from finery.jobs import service as jobs
from finery.jobs import views
from finery.jobs.routes import JobId
from finery.jobs.specs import EventPage, JobView
from finery.monitoring import export, gradients, rehearsing, service
from finery.monitoring import samples as sample_files
from finery.monitoring.specs import (
    ActionView,
    AlertPage,
    GradientBy,
    GradientHistogram,
    GradientMetric,
    GradientSeries,
    GradientWindow,
    JobRulesView,
    MetricPage,
    RehearsalView,
    RulesText,
    RulesView,
    SampleRecordPage,
    SeriesPage,
    StoryPage,
)
from finery.rules import actions, defaults, reading
from finery.rules.specs import RuleSpec

router = APIRouter(prefix="/jobs/{job_id}", tags=["monitoring"])
alerts = APIRouter(prefix="/alerts", tags=["monitoring"])
rules = APIRouter(prefix="/rules", tags=["monitoring"])
Cursor = Annotated[int, Path(ge=0, lt=2**62)]
Step = Annotated[int | None, Query(ge=-(2**62), lt=2**62)]
Pixels = Annotated[int, Query(ge=1, le=4000)]
Name = Annotated[str, Query(min_length=1, max_length=1000)]


class CsvResponse(StreamingResponse):
    """A table that may be longer than memory."""

    media_type = "text/csv"


@alerts.get("")
def newest_alerts(db: Db, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> AlertPage:
    """Alerts of all jobs that are not archived, newest first."""
    return AlertPage(alerts=service.newest_alerts(db, limit=limit))


@rules.get("")
def describe_rules() -> RulesView:
    """The default rules, and the actions that a rule may take."""
    found = [
        ActionView(name=entry.name, summary=entry.summary, json_schema=entry.params.model_json_schema())
        for entry in actions.registry.all()
    ]
    return RulesView(text=defaults.text(), actions=found)


@router.get("/story")
def story(job_id: JobId, db: Db, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> StoryPage:
    """Alerts of a job and what rules did about them, newest first."""
    return service.story(db, job_id, limit=limit)


@router.get("/rules")
def job_rules(job_id: JobId, db: Db) -> JobRulesView:
    """The rules that watch a job, and how often each has fired."""
    return service.rules(db, job_id)


@router.post("/actions/{cursor}/undo")
def undo_action(job_id: JobId, cursor: Cursor, db: Db, clock: ClockDep, caller: Caller) -> JobView:
    """Undo what a rule did: set the value back, resume, or go on from the state before a rollback."""
    job = service.undo(db, job_id, cursor, by=caller, now=clock.now())
    return views.job_view(job, jobs.open_requests(db, [job_id]).get(job_id, []))


@router.post("/rules/dry-run")
def rehearse_rules(job_id: JobId, body: RulesText, db: Db) -> RehearsalView:
    """At which steps rules would have fired in a run, had nothing been changed by them."""
    job = jobs.get(db, job_id)
    if body.text.strip():
        wanted = reading.read(body.text)
    else:
        raw = job.spec["monitoring"].get("rules")
        wanted = defaults.rules() if raw is None else parse(tuple[RuleSpec, ...], raw, what=f"job {job_id}")
    return rehearsing.rehearse(db, job_id, wanted)


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


@router.get("/gradients", response_model=GradientWindow)
def gradient_window(
    job_id: JobId,
    db: Db,
    metric: GradientMetric = "norm",
    by: GradientBy = "layer",
    from_step: Step = None,
    to_step: Step = None,
    max_columns: Pixels = 600,
    max_rows: Pixels = 400,
) -> Response:
    """Statistics of gradients, layers by probed steps, between two steps, both included, at the size of a screen."""
    jobs.get(db, job_id)
    window = gradients.Window(from_step, to_step, max_columns, max_rows)
    return _numbers(gradients.heatmap(gradients.history(jobs.attempts(db, job_id)), metric, by, window))


@router.get("/gradients/series", response_model=GradientSeries)
def gradient_series(
    job_id: JobId,
    db: Db,
    name: Name,
    by: GradientBy = "layer",
    from_step: Step = None,
    to_step: Step = None,
    max_columns: Pixels = 600,
) -> Response:
    """All statistics of a tensor, layer or group over the probed steps."""
    jobs.get(db, job_id)
    window = gradients.Window(from_step, to_step, max_columns, 1)
    return _numbers(gradients.series(gradients.history(jobs.attempts(db, job_id)), by, name, window))


@router.get("/gradients/histogram")
def gradient_histogram(
    job_id: JobId,
    db: Db,
    name: Name,
    step: Annotated[int, Query(ge=0, lt=2**62)],
    by: GradientBy = "layer",
) -> GradientHistogram:
    """The gradient of a tensor, layer or group at a probed step, counted by powers of two."""
    jobs.get(db, job_id)
    return gradients.histogram(gradients.history(jobs.attempts(db, job_id)), by, name, step)


def _numbers(view: View) -> Response:
    """Many numbers, which need no check: they come from a file of numbers."""
    return Response(gradients.encoded(view), media_type="application/json")
