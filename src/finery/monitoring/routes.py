"""REST of the monitoring slice: events, series, rollouts, gradients of a job."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from finery.core.spec import View, parse
from finery.core.web import Caller, ClockDep, DatabaseDep, Db
from finery.jobs import service as jobs
from finery.jobs import views
from finery.jobs.routes import JobId
from finery.jobs.specs import EventPage, JobView
from finery.monitoring import export, gradients, rehearsing, rollouts, service
from finery.monitoring.specs import (
    ActionView,
    AlertPage,
    ClusterView,
    DetectorPage,
    GradientBy,
    GradientHistogram,
    GradientMetric,
    GradientSeries,
    GradientWindow,
    JobRulesView,
    MetricPage,
    PromptHistory,
    RehearsalView,
    RolloutHistory,
    RolloutPage,
    RolloutSort,
    RolloutView,
    RulesText,
    RulesView,
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
RolloutStep = Annotated[int | None, Query(ge=0, lt=2**62)]
Bound = Annotated[float | None, Query(allow_inf_nan=False)]
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


@router.get("/cluster")
def cluster(job_id: JobId, db: Db) -> ClusterView:
    """The Ray cluster under a run: its machines, what is free on them, and where the run's processes are."""
    return service.cluster(db, job_id)


@router.get("/rollouts")
def rollout_page(
    job_id: JobId,
    db: Db,
    step: RolloutStep = None,
    text: Annotated[str | None, Query(max_length=1000)] = None,
    part: Annotated[str | None, Query(max_length=200)] = None,
    min_reward: Bound = None,
    max_reward: Bound = None,
    is_truncated: bool | None = None,
    min_length: RolloutStep = None,
    max_length: RolloutStep = None,
    sort: RolloutSort = "index",
    is_descending: bool = False,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> RolloutPage:
    """Recorded completions of one step, the newest by default. The bounds are of a part of the reward if one is named,
    else of the weighted sum."""
    jobs.get(db, job_id)
    wanted = rollouts.Filter(text, part, min_reward, max_reward, is_truncated, min_length, max_length)
    return rollouts.page(
        rollouts.history(jobs.attempts(db, job_id)),
        step,
        wanted,
        sort=sort,
        is_descending=is_descending,
        offset=offset,
        limit=limit,
    )


@router.get("/rollouts/steps")
def rollout_steps(
    job_id: JobId, db: Db, from_step: Step = None, to_step: Step = None, max_columns: Pixels = 600
) -> RolloutHistory:
    """What recorded completions were like, step by step, between two steps, both included."""
    jobs.get(db, job_id)
    return rollouts.over_steps(rollouts.history(jobs.attempts(db, job_id)), from_step, to_step, max_columns)


@router.get("/rollouts/one")
def rollout(
    job_id: JobId,
    db: Db,
    step: Annotated[int, Query(ge=0, lt=2**62)],
    index: Annotated[int, Query(ge=0, lt=2**31)],
) -> RolloutView:
    """A completion with each of its tokens."""
    jobs.get(db, job_id)
    return rollouts.one(rollouts.history(jobs.attempts(db, job_id)), step, index)


@router.get("/rollouts/prompt")
def rollouts_of_prompt(
    job_id: JobId,
    db: Db,
    key: Annotated[str, Query(pattern="^[0-9a-f]{16}$")],
    max_steps: Annotated[int, Query(ge=1, le=200)] = 40,
) -> PromptHistory:
    """The completions of one prompt over the steps."""
    jobs.get(db, job_id)
    return rollouts.of_prompt(rollouts.history(jobs.attempts(db, job_id)), key, max_steps)


@router.get("/rollouts/detectors")
def rollout_detectors(job_id: JobId, db: Db) -> DetectorPage:
    """Signs of reward hacking in a run, each with the completions that show it."""
    jobs.get(db, job_id)
    return rollouts.detectors(rollouts.history(jobs.attempts(db, job_id)))


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
