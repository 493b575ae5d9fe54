"""`finery jobs import`: runs of other trackers become runs here."""

import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from finery.core import console, processes
from finery.core.client import Client, connect
from finery.core.console import JsonOption
from finery.core.errors import FineryError
from finery.core.events import encode_value
from finery.core.rundir import EventWriter, ExitRecord, RunDir
from finery.importing import service
from finery.importing.records import ForeignRun

_NO_NAME = re.compile(r"[^A-Za-z0-9._ -]")
_NO_TAG = re.compile(r"[\s,\"]+")


def import_runs(
    path: Annotated[Path, typer.Argument(help="File or folder that the other tracker wrote.")],
    format_: Annotated[
        str | None, typer.Option("--format", help=f"One of {', '.join(service.FORMATS)}; detected by default.")
    ] = None,
    project: Annotated[str, typer.Option(help="What the runs belong to.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Import runs of TRL's trainer_state.json, TensorBoard, Trackio, MLflow or W&B, with their settings and times."""
    runs = service.read(path, format_)
    if not runs:
        console.warn(f"there are no runs at {path}")
    with connect() as client:
        made = [_import(client, run, project) for run in runs]
    if as_json:
        console.emit({"jobs": made})
        return
    for job in made:
        console.say(f"job {job['id']} ({job['name']}): {job['num_steps']:,} steps from {job['source']}")


def _import(client: Client, run: ForeignRun, project: str) -> dict[str, Any]:
    """One run. What is broken in it ends it as failed, with the rows before."""
    spec = {
        "name": (_NO_NAME.sub("_", run.name).lstrip("._ -") or "imported")[:80],
        "kind": "external",
        "task": {"project": project, "config": {**run.config, "source": run.source}},
        "tags": ["imported", *(_NO_TAG.sub("_", tag)[:40] for tag in run.tags if tag)][:20],
    }
    body = {"spec": spec, "process": processes.identify().model_dump()}
    begun = client.post("/jobs/external", body)
    run_dir = RunDir(Path(begun["run_dir"]))
    events = EventWriter(run_dir.events / "rank0.jsonl")
    num_steps, error = _write(events, run)
    events.emit("status", status="failed" if error else "completed", message=error, step=None, total_steps=None)
    events.close()
    now = time.time()
    end = ExitRecord(
        code=1 if error else 0,
        signal=None,
        oom_kills=0,
        last_heartbeat=now,
        ended_at=now,
        cause=error,
        recorded_by="script",
    )
    run_dir.write_exit(end)
    if error:
        console.warn(error)
    return {"id": begun["job"]["id"], "name": begun["job"]["name"], "source": run.source, "num_steps": num_steps}


def _write(events: EventWriter, run: ForeignRun) -> tuple[int, str]:
    """Rows as metrics with their own times; how many, and what was broken."""
    number, moment = 0, time.time()
    try:
        for row in run.rows:
            moment = moment if row.time is None else row.time
            values = {name: encode_value(value) for name, value in row.values.items()}
            events.emit("metrics", step=row.step, values=values, time=moment)
            number += 1
    except FineryError as error:
        return number, str(error)
    return number, ""
