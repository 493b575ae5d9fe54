"""`finery jobs export`: what a job has logged, in another tracker's format."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from finery.core import console
from finery.core.client import Client, connect
from finery.core.console import JsonOption
from finery.core.errors import Conflict, InvalidSpec
from finery.core.events import decode_value
from finery.exporting import exporters
from finery.exporting.exporters import Exporter, RunFacts

_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_PAGE = 10_000


class _Step(NamedTuple):
    """Metrics of one step of one attempt."""

    attempt: int
    step: int
    time: float
    values: dict[str, float]


def export_runs(
    job_ids: Annotated[list[int], typer.Argument(help="Jobs.", min=1)],
    folder: Annotated[Path, typer.Option("--to", help="Where a folder for each attempt is made.")],
    format_: Annotated[str, typer.Option("--format", help="tensorboard or wandb (an offline run).")] = "tensorboard",
    params: Annotated[
        list[str] | None, typer.Option("--param", help="Of the format, such as project=sums. Repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write every point that jobs have logged: `tensorboard --logdir FOLDER` or `wandb sync` take it from there."""
    given = exporters.registry.params(format_, _read(params or []))
    with connect() as client:
        made = [attempt for job_id in job_ids for attempt in _export(client, job_id, folder, format_, given)]
    if as_json:
        console.emit({"attempts": made})
        return
    for one in made:
        console.say(f"job {one['job_id']}, attempt {one['attempt']}: {one['num_steps']:,} steps in {one['folder']}")
    if not made:
        console.warn("these jobs have logged nothing")


def _read(params: list[str]) -> dict[str, str]:
    found = {}
    for item in params:
        name, equals, text = item.partition("=")
        if not equals:
            raise InvalidSpec(f"{item!r} is no parameter; write project=sums")
        found[name] = text
    return found


def _export(client: Client, job_id: int, folder: Path, format_: str, params: Any) -> list[dict[str, Any]]:
    """One job; what was written of each of its attempts."""
    job = client.get(f"/jobs/{job_id}")
    place = folder / f"{_NO_NAME.sub('-', job['name'])}-{job_id}"
    if place.exists():
        raise Conflict(f"{place} is there already; remove it, or name another folder with --to")
    opened: dict[int, tuple[Exporter, dict[str, Any]]] = {}
    try:
        for step in _steps(client, job_id):
            if step.attempt not in opened:
                own = place / f"attempt-{step.attempt}"
                own.mkdir(parents=True)
                facts = RunFacts(job["name"], str(job_id), step.attempt, job["spec"], tuple(job["tags"]))
                exporter = exporters.registry.get(format_).target(own, facts, params)
                told: dict[str, Any] = {"job_id": job_id, "attempt": step.attempt, "folder": str(own), "num_steps": 0}
                opened[step.attempt] = exporter, told
            exporter, told = opened[step.attempt]
            exporter.write(step.step, step.values, time=step.time)
            told["num_steps"] += 1
    finally:
        for exporter, _ in opened.values():
            exporter.close(is_ok=job["state"] not in ("failed", "lost"))
    return [told for _, told in opened.values()]


def _steps(client: Client, job_id: int) -> Iterator[_Step]:
    after, is_complete = 0, False
    while not is_complete:
        page = client.get(f"/jobs/{job_id}/events", after=after, limit=_PAGE)
        for found in page["events"]:
            event = found["event"]
            if event["type"] == "metrics":
                values = {name: decode_value(value) for name, value in event["values"].items()}
                yield _Step(found["attempt"], event["step"], event["time"], values)
        # A running job goes on: what it says meanwhile is taken along, and the export ends where nothing is new.
        is_complete = page["is_complete"] or not page["events"]
        after = page["next_after"]
