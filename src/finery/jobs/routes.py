"""REST of the jobs slice."""

import dataclasses
import socket
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlalchemy.orm import Session

from finery.core import checkpoints
from finery.core.errors import Conflict
from finery.core.rundir import RunDir, RunSpec, SupervisorRecord
from finery.core.web import Caller, ClockDep, DatabaseDep, Db, Objects, SettingsDep
from finery.jobs import checking, expecting, forms, listing, rehearsing, service, submitting, views
from finery.jobs.files import read_log, read_provenance, read_sets
from finery.jobs.recipes import RecipeBook
from finery.jobs.resolving import Resolver
from finery.jobs.specs import (
    BeginSpec,
    BegunView,
    CheckSpec,
    CheckView,
    CorrectionView,
    DryRunView,
    FieldPage,
    GroupPage,
    GroupView,
    JobDetail,
    JobEdit,
    JobList,
    JobPage,
    JobsEdit,
    JobView,
    LogPage,
    PipelineView,
    RecipeDifferences,
    RecipePage,
    RecipeSpec,
    RecipeText,
    RequestSpec,
    SchemaView,
    SubmitPipelineSpec,
    SubmitSpec,
    Verb,
)
from finery.jobs.tables import Job
from finery.planner import accelerators, catalog, exports, planning
from finery.planner.specs import ExportRequest, ExportView, PlannerChoices, PlanRequest, PlanView
from finery.training.specs import EngineName

router = APIRouter(prefix="/jobs", tags=["jobs"])
pipelines = APIRouter(prefix="/pipelines", tags=["jobs"])
recipes = APIRouter(prefix="/recipes", tags=["recipes"])
plans = APIRouter(prefix="/plan", tags=["planner"])

_NEWEST = 100
"""Jobs whose settings and metrics are offered."""
JobId = Annotated[int, Path(ge=1, lt=2**31)]


@router.post("", status_code=201)
def submit(
    body: SubmitSpec, database: DatabaseDep, objects: Objects, settings: SettingsDep, clock: ClockDep
) -> JobView:
    """Queue one job. References are resolved and pinned first."""
    checking.check_members(body.spec, "", {})
    inputs = Resolver(database, objects, settings).inputs(body.spec, allow_paths=False)
    with database.session() as session:
        job = submitting.submit(session, body.spec, inputs=inputs, code=body.code, now=clock.now())
    with database.read() as session:
        warnings = expecting.warnings_of(session, job)
    return views.job_view(job, []).model_copy(update={"warnings": warnings})


@router.post("/external", status_code=201)
def begin_external(body: BeginSpec, db: Db, settings: SettingsDep, clock: ClockDep) -> BegunView:
    """Begin a run of a script that reports by itself, into a run directory on this machine."""
    host = socket.gethostname()
    if body.process.host != host:
        raise Conflict(
            f"the script runs on {body.process.host} and this server on {host}; a script reports to the server of its "
            "own machine. Report there, or import the run later: `finery jobs import`"
        )
    job, attempt = submitting.begin_external(
        db,
        body.spec,
        code=body.code,
        runs=settings.runs,
        host=host,
        worker=f"{host}:{settings.home}",
        now=clock.now(),
    )
    run_dir = RunDir.create(FilePath(attempt.run_dir), RunSpec.model_validate(attempt.run_spec))
    record = SupervisorRecord(supervisor=body.process, child=body.process)
    checkpoints.write_atomically(run_dir.supervisor, record.model_dump_json().encode())
    return BegunView(job=_shown(db, [job])[0], run_dir=attempt.run_dir)


@pipelines.post("", status_code=201)
def submit_pipeline(
    body: SubmitPipelineSpec, database: DatabaseDep, objects: Objects, settings: SettingsDep, clock: ClockDep
) -> PipelineView:
    """Queue jobs that may wait for each other: all of them or none."""
    for index, spec in enumerate(body.spec.jobs):
        checking.check_members(spec, f"jobs.{index}.", {})
    resolver = Resolver(database, objects, settings)
    inputs = [resolver.inputs(spec, allow_paths=False) for spec in body.spec.jobs]
    with database.session() as session:
        made = submitting.submit_pipeline(session, body.spec, inputs=inputs, code=body.code, now=clock.now())
    with database.read() as session:
        told = [expecting.warnings_of(session, job) for job in made]
    shown = [
        views.job_view(job, []).model_copy(update={"warnings": warnings})
        for job, warnings in zip(made, told, strict=True)
    ]
    return PipelineView(name=made[0].pipeline or "", jobs=shown)


@router.post("/check")
def check(body: CheckSpec) -> CheckView:
    """Say what is wrong with a job file, line by line, without queueing anything."""
    return checking.check(body.text)


@router.post("/dry-run")
def dry_run(body: CheckSpec, database: DatabaseDep, objects: Objects, settings: SettingsDep) -> DryRunView:
    """Say what submitting a job file would do: what its references stand for and how much work it is."""
    return rehearsing.dry_run(body.text, db=database, resolver=Resolver(database, objects, settings))


@router.get("/schema")
def get_schema() -> SchemaView:
    """What forms for job files are drawn from."""
    return SchemaView(json_schema=forms.job_schema())


@router.get("")
def list_jobs(
    db: Db,
    clock: ClockDep,
    query: Annotated[str, Query(max_length=1000)] = "",
    sort: Annotated[str, Query(max_length=300)] = "",
    settings: Annotated[list[str] | None, Query(max_length=50)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> JobPage:
    """Jobs that match, newest first unless sorted otherwise.

    `query` such as `state:failed tag:baseline task.optim.learning_rate>1e-4 reward_mean>=0.5 created>3d`, `sort` such
    as `-reward_mean`, `settings` keys of the job files to show. Archived jobs are left out unless the query has
    `archived:yes`.
    """
    rows, total = listing.find(db, query=query, sort=sort, now=clock.now(), limit=limit, offset=offset)
    return JobPage(jobs=_shown(db, rows, settings or ()), total=total)


@router.get("/fields")
def list_fields(db: Db, clock: ClockDep) -> FieldPage:
    """What jobs can be found, sorted and grouped by."""
    rows, _ = listing.find(db, query="", sort="", now=clock.now(), limit=_NEWEST, offset=0)
    keys = {key for row in rows for key in views.flat(row.spec) if key.split(".")[0] in listing.SPEC_ROOTS}
    metrics = {name for row in rows for name in row.last_values}
    return FieldPage(fields=[*listing.FIELDS, "tag"], settings=sorted(keys), metrics=sorted(metrics))


@router.get("/groups")
def list_groups(
    db: Db,
    clock: ClockDep,
    by: Annotated[str, Query(max_length=200)],
    metric: Annotated[str, Query(max_length=200)],
    query: Annotated[str, Query(max_length=1000)] = "",
) -> GroupPage:
    """Matching jobs by the value of a field such as `task.optim.learning_rate`, with mean and range of a metric."""
    groups = listing.group(db, query=query, by=by, metric=metric, now=clock.now())
    return GroupPage(groups=[GroupView(**dataclasses.asdict(group)) for group in groups])


@router.patch("")
def edit_jobs(body: JobsEdit, db: Db, clock: ClockDep) -> JobList:
    """Rename, tag, annotate, pin or archive several jobs: all or none."""
    return JobList(jobs=_shown(db, service.edit(db, body.ids, body, now=clock.now())))


@router.patch("/{job_id}")
def edit_job(job_id: JobId, body: JobEdit, db: Db, clock: ClockDep) -> JobView:
    """Rename, tag, annotate, pin or archive a job."""
    return _shown(db, service.edit(db, [job_id], body, now=clock.now()))[0]


def _shown(db: Session, rows: Sequence[Job], settings: Sequence[str] = ()) -> list[JobView]:
    wishes = service.open_requests(db, [row.id for row in rows])
    return [views.job_view(row, wishes.get(row.id, []), settings=settings) for row in rows]


@router.get("/{job_id}")
def get(job_id: JobId, db: Db) -> JobDetail:
    """One job with its attempts, checkpoints and surroundings."""
    job = service.get(db, job_id)
    tries = service.attempts(db, job_id)
    saved = service.checkpoints(db, job_id)
    kept = [row for row in saved if checkpoints.is_sealed(FilePath(row.path))]
    return views.job_detail(
        job,
        service.open_requests(db, [job_id]).get(job_id, []),
        attempts=tries,
        checkpoints=kept,
        num_deleted_checkpoints=len(saved) - len(kept),
        provenance=read_provenance(service.run_dir(tries[-1])) if tries else None,
        answered=service.answered_requests(db, job_id),
        sets=read_sets(tries[-1]) if tries else (),
        estimate=expecting.of_job(db, job_id),
    )


@router.get("/{job_id}/recipe")
def get_differences(job_id: JobId, db: Db, settings: SettingsDep) -> RecipeDifferences:
    """What a job has otherwise than the recipe that it started from."""
    return RecipeBook(settings).differences(service.get(db, job_id).spec)


@router.post("/{job_id}/{verb}")
def request(job_id: JobId, verb: Verb, body: RequestSpec, db: Db, clock: ClockDep, caller: Caller) -> JobView:
    """Ask something of a job. The worker acts on it within a second; `requests` shows what is still open."""
    job = service.request(db, job_id, verb, values=body.values, by=caller, now=clock.now())
    return views.job_view(job, service.open_requests(db, [job_id]).get(job_id, []))


@router.get("/{job_id}/logs")
def logs(
    job_id: JobId,
    db: Db,
    attempt: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    offset: Annotated[int, Query(gt=-(2**62), lt=2**62)] = 0,
    max_bytes: Annotated[int, Query(ge=1, le=1 << 20)] = 1 << 16,
) -> LogPage:
    """A piece of the output of an attempt, the newest by default. A negative offset counts from the end."""
    number = attempt or service.get(db, job_id).attempt
    return read_log(service.run_dir(service.attempt(db, job_id, number)), number, offset=offset, max_bytes=max_bytes)


@recipes.get("")
def list_recipes(settings: SettingsDep) -> RecipePage:
    """Job files to start from: those that come with Finery, and the user's own."""
    return RecipePage(recipes=RecipeBook(settings).all())


@recipes.get("/{name}")
def get_recipe(name: str, settings: SettingsDep) -> RecipeText:
    """One recipe with its job file."""
    return RecipeBook(settings).get(name)


@recipes.put("/{name}")
def save_recipe(name: str, body: RecipeSpec, settings: SettingsDep) -> RecipeText:
    """Keep a job file as a recipe of one's own; one of this name is replaced."""
    return RecipeBook(settings).save(name, body.text)


@recipes.delete("/{name}", status_code=204)
def delete_recipe(name: str, settings: SettingsDep) -> None:
    """Remove a recipe of one's own."""
    RecipeBook(settings).delete(name)


@plans.post("")
def plan(body: PlanRequest, db: Db) -> PlanView:
    """How a job runs fastest on given devices, what it takes there, and why other ways lost."""
    return planning.plan(body, band=expecting.band(db, body) if body.calibrated else None)


@plans.get("/choices")
def plan_choices() -> PlannerChoices:
    """Models and accelerators that are known by name."""
    return PlannerChoices(models=catalog.names(), accelerators=accelerators.names())


@plans.post("/export")
def plan_export(body: ExportRequest) -> ExportView:
    """The plan in the words of what runs it: the fastest way that fits and can be said in them."""
    return exports.export(planning.find(body.plan), body.format)


@plans.get("/calibration")
def get_calibration(
    db: Db,
    device: Annotated[str, Query(min_length=1, max_length=100)],
    engine: Annotated[EngineName, Query()] = "trl",
    algorithm: Annotated[str, Query(max_length=40)] = "sft",
) -> CorrectionView:
    """How far estimates of memory were off for ended jobs like one of this device, engine and algorithm."""
    found = expecting.correction(db, device=device, engine=engine, algorithm=algorithm)
    return views.correction_view(found, device=device, engine=engine, algorithm=algorithm)
