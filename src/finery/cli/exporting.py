"""`finery jobs export`: what jobs have logged for another tracker, or a job as files for another program."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from finery.cli.run import local_resolver
from finery.core import console, documents, folders, refs
from finery.core.client import connect
from finery.core.console import JsonOption
from finery.core.errors import Conflict, InvalidSpec, Unavailable
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.exporting.commands import export_runs
from finery.jobs import checking, references
from finery.jobs.resolving import data_formats
from finery.jobs.specs import TrainJob
from finery.training import exporters


def export(
    jobs: Annotated[list[str], typer.Argument(help="Job ids; with --out one id or job file.", metavar="JOB...")],
    to: Annotated[str, typer.Option("--to", help="Folder for what was logged; with --out the program: verl, ...")],
    out: Annotated[Path | None, typer.Option("--out", help="New folder for the job's files.")] = None,
    format_: Annotated[str, typer.Option("--format", help="tensorboard or wandb (an offline run).")] = "tensorboard",
    params: Annotated[
        list[str] | None, typer.Option("--param", help="Of the format, such as project=sums. Repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what jobs have logged for another tracker (--to FOLDER), or a job for another program (--to verl --out
    FOLDER)."""
    if out is None:
        export_runs(_ids(jobs), Path(to), format_, params, as_json)
        return
    if len(jobs) != 1:
        raise InvalidSpec("--out takes one job; name one id or file")
    target = exporters.registry.get(to).target
    job, rows = _job(jobs[0])
    with _new_folder(out):
        files = [str(path) for path in target(job, out, data_rows=rows)]
    if as_json:
        console.emit({"files": files})
        return
    for path in files:
        console.say(path)
    if rows is None:
        console.warn(f"the data of {job.task.data.train} are not on this machine; put them where the files say")


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """`out` as an empty folder, of which nothing is left when what fills it fails.

    Raises:
        Conflict: something is in it already.
        Unavailable: it cannot be made or written, or the disk is full.
    """
    missing = [folder for folder in (out, *out.parents) if not os.path.exists(folder)]  # Path.exists may raise
    folders.writable(out, way_out="name another folder with --out")
    if any(out.iterdir()):
        raise Conflict(f"{out} is not empty; name a new folder with --out")
    try:
        yield
    except BaseException as error:
        for entry in missing[-1:] or list(out.iterdir()):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if isinstance(error, OSError):
            raise Unavailable(f"the export to {out} failed: {error}") from error
        raise


def _ids(jobs: list[str]) -> list[int]:
    for job in jobs:
        if not job.isdecimal():
            raise InvalidSpec(f"{job!r} is no job id; to export a job file for another program add --out FOLDER")
    return [int(job) for job in jobs]


def _job(named: str) -> tuple[TrainJob, Iterator[dict[str, Any]] | None]:
    """A job of the server or of a file, and the rows that it trains on where they are here."""
    if named.isdecimal():
        with connect() as client:
            found = client.get(f"/jobs/{named}")
        job: TrainJob = parse(TrainJob, found["spec"], what=f"job {named}")
        place = found["inputs"].get(job.task.data.train)
        path = Path(place["path"]) if place else None
        return job, _rows(path) if path is not None and path.is_file() else None
    file = Path(named)
    read = checking.read(documents.load(file), name=file.name, is_run_here=False)
    if not isinstance(read, TrainJob):
        raise InvalidSpec(f"{file.name} is no training job, which alone other programs can do")
    data = next(found for found in references.find(read.model_dump(mode="json")) if found.dotted == "task.data.train")
    if refs.is_local_path(data.text):
        path = (file.resolve().parent / Path(data.text).expanduser()).resolve()
        data = data._replace(text=str(path))
    resolved = local_resolver(Settings()).input(data, data_formats(read, data), allow_paths=True)
    return read, _rows(Path(resolved.path))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        yield from (orjson.loads(line) for line in file if line.strip())
