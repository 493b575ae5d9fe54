"""`finery jobs ...`: the queue, over REST."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from finery.core import console, documents
from finery.core.client import Client, connect
from finery.core.console import JsonOption
from finery.core.errors import InvalidSpec
from finery.core.settings import Settings
from finery.jobs import checking, uploading, watching, words
from finery.jobs.recipes import RecipeBook

app = typer.Typer(no_args_is_help=True, help="Submit jobs, watch them, and ask things of them.")
recipes = typer.Typer(no_args_is_help=True, help="Job files to start from.")

JobArgument = Annotated[int, typer.Argument(help="Job id.", min=1)]
WaitOption = Annotated[bool, typer.Option(help="Wait until the job has stopped.")]

app.command("watch")(watching.watch)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Job file (YAML or JSON).")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields to override: optim.learning_rate=1e-5", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override a field; the same as an argument. Repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; the exit code is the job's.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Queue a job or a pipeline. Local files that it names are uploaded by content."""
    document = checking.override(documents.load(file), [*(overrides or []), *(set_ or [])], name=file.name)
    checking.read(document, name=file.name)
    with connect() as client:
        made = uploading.submit(client, document.value, base=file.resolve().parent)
        warned = [(job["name"], text) for job in made for text in job["warnings"]]
        if wait:
            made = [_wait(client, job["id"], quiet=as_json) for job in made]
    if as_json:
        console.emit(made)
    else:
        for job in made:
            console.say(f"job {job['id']} ({job['name']}) is {job['state']}{words.cause(job)}")
        for name, text in warned:
            console.warn(f"{name}: {text}")
    if wait:
        raise typer.Exit(max(words.exit_code(job) for job in made))


@app.command("list")
def list_jobs(
    query: Annotated[str, typer.Argument(help="Such as: state:failed tag:baseline reward_mean>0.5 created>3d")] = "",
    sort: Annotated[str, typer.Option(help="Fields separated by commas, - for the largest first: -reward_mean")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most jobs to show.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs that match a query, newest first unless sorted."""
    with connect() as client:
        page = client.get("/jobs", query=query, sort=sort, limit=limit)
    if as_json:
        console.emit(page)
        return
    if not page["jobs"]:
        console.say("There are no jobs. `finery jobs submit recipes/tiny_grpo.yaml` makes one.")
        return
    rows = [
        (
            j["id"],
            j["name"],
            words.kind(j),
            words.state(j),
            words.progress(j),
            j["model"] or "",
            _minute(j["created_at"]),
        )
        for j in page["jobs"]
    ]
    console.table(("id", "name", "kind", "state", "progress", "model", "created (UTC)"), rows)


@app.command()
def edit(
    job_ids: Annotated[list[int], typer.Argument(help="Jobs to change, all or none.")],
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    notes: Annotated[str | None, typer.Option(help="In place of the notes that are there.")] = None,
    add_tag: Annotated[list[str] | None, typer.Option(help="Add a tag. Repeatable.")] = None,
    remove_tag: Annotated[list[str] | None, typer.Option(help="Remove a tag. Repeatable.")] = None,
    pin: Annotated[bool | None, typer.Option("--pin/--unpin", help="Whether it stands first in lists.")] = None,
    archive: Annotated[bool | None, typer.Option("--archive/--unarchive", help="Whether lists leave it out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Rename, tag, annotate, pin or archive jobs."""
    changes = {"name": name, "notes": notes, "is_pinned": pin, "is_archived": archive}
    body: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    body |= {"add_tags": add_tag, "remove_tags": remove_tag}
    body = {key: value for key, value in body.items() if value is not None}
    if not body:
        raise InvalidSpec("say what to change: --name, --notes, --add-tag, --remove-tag, --pin or --archive")
    with connect() as client:
        page = client.patch("/jobs", {"ids": job_ids, **body})
    if as_json:
        console.emit(page)
        return
    for job in page["jobs"]:
        marks = [*job["tags"], *(["pinned"] if job["is_pinned"] else []), *(["archived"] if job["is_archived"] else [])]
        console.say(f"job {job['id']} ({job['name']}){': ' if marks else ''}{', '.join(marks)}")


@app.command()
def show(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job: its true state, attempts, checkpoints and newest values."""
    with connect() as client:
        job = client.get(f"/jobs/{job_id}")
    if as_json:
        console.emit(job)
        return
    console.say(f"job {job['id']}  {job['name']}  {words.kind(job)}")
    console.say(f"state: {job['state']}{words.cause(job)}   {words.progress(job)}")
    console.say(f"model: {job['model']}   data: {job['data'] or '-'}   seed: {job['seed']}")
    for wish in job["requests"]:
        console.say(f"asked for: {wish['verb']} {wish['values'] or ''} ({wish['outcome']})")
    for attempt in job["attempts"]:
        resumed = f", from {attempt['resumed_from']}" if attempt["resumed_from"] else ""
        console.say(f"attempt {attempt['number']}: {attempt['started_at'][:19]}{resumed} {attempt['cause']}".rstrip())
    if job["checkpoints"]:
        found = job["checkpoints"]
        console.table(
            ("checkpoint", "attempt", "MB", "saved (UTC)"),
            [(c["ref"], c["attempt"], f"{c['num_bytes'] / 1e6:.1f}", c["created_at"][:19]) for c in found],
        )
    if job["last_values"]:
        console.table(("metric", "last"), sorted((k, words.number(v)) for k, v in job["last_values"].items()))
    if job["estimate"] is not None:
        console.say(words.estimate(job["estimate"]))
    verbs = ", ".join(job["verbs"])
    console.say(f"possible now: {verbs or 'nothing'}")


@recipes.command("list")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with Finery and your own. Needs no server."""
    found = [recipe.model_dump() for recipe in RecipeBook(Settings()).all()]
    if as_json:
        console.emit({"recipes": found})
        return
    rows = [
        (r["name"], r["algorithm"] or r["kind"] or "-", "own" if r["is_own"] else "", r["problem"] or r["description"])
        for r in found
    ]
    console.table(("name", "kind", "", "description"), rows)


@recipes.command("show")
def show_recipe(
    name: Annotated[str, typer.Argument(help="Recipe; `finery recipes list` lists them.")], as_json: JsonOption = False
) -> None:
    """Print the job file of a recipe: finery recipes show tiny_grpo > job.yaml. Needs no server."""
    recipe = RecipeBook(Settings()).get(name)
    if as_json:
        console.emit(recipe.model_dump())
    else:
        console.write(recipe.text)


@app.command()
def logs(
    job_id: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Attempt; the newest by default.")] = None,
    tail: Annotated[int, typer.Option(min=1, help="Bytes from the end to begin with.")] = 65_536,
) -> None:
    """Print the output of a job's child."""
    with connect() as client:
        for text in _log_pieces(client, job_id, attempt, tail, follow):
            console.write(text)


@app.command()
def pause(job_id: JobArgument, wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """Save a checkpoint, stop, and free the machine. `resume` goes on later."""
    _ask(job_id, "pause", as_json=as_json, until=words.STOPPED if wait else ())


@app.command()
def resume(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Go on with a paused job from its last checkpoint, as a new attempt."""
    _ask(job_id, "resume", as_json=as_json)


@app.command()
def cancel(job_id: JobArgument, wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """End a job. Its checkpoints stay."""
    _ask(job_id, "cancel", as_json=as_json, until=words.STOPPED if wait else ())


@app.command()
def retry(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Try a failed or cancelled job again, from its last good checkpoint."""
    _ask(job_id, "retry", as_json=as_json)


@app.command()
def checkpoint(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Save a checkpoint after the present step."""
    _ask(job_id, "checkpoint", as_json=as_json)


@app.command("set")
def set_values(
    job_id: JobArgument,
    values: Annotated[list[str], typer.Argument(help="learning_rate=5e-6 ...")],
    as_json: JsonOption = False,
) -> None:
    """Change live settings of a running job."""
    _ask(job_id, "set", values=_numbers(values), as_json=as_json)


@app.command()
def rewind(
    job_id: JobArgument,
    step: Annotated[int, typer.Argument(help="Step of a checkpoint; `finery jobs show` lists them.", min=0)],
    attempt: Annotated[int | None, typer.Option(min=1, help="Where several attempts saved one of this step.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Go on from an earlier checkpoint, as a new attempt. A running job saves one of its present step first."""
    values = {"step": float(step)} | ({"attempt": float(attempt)} if attempt else {})
    _ask(job_id, "rewind", values=values, as_json=as_json)


def _ask(
    job_id: int,
    verb: str,
    *,
    as_json: bool,
    values: dict[str, float] | None = None,
    until: tuple[str, ...] = (),
) -> None:
    with connect() as client:
        job = client.post(f"/jobs/{job_id}/{verb}", {"values": values or {}})
        if until:
            job = _wait(client, job_id, quiet=True)
    if as_json:
        console.emit(job)
    elif until:
        console.say(f"job {job_id} is {job['state']}{words.cause(job)}")
    else:
        console.say(f"{verb} of job {job_id} was asked for")


def _wait(client: Client, job_id: int, *, quiet: bool) -> dict[str, Any]:
    shown = ""
    while True:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}")
        line = f"job {job_id} {job['state']} {words.progress(job)}"
        if not quiet and line != shown:
            console.say(line)
            shown = line
        if words.has_stopped(job):
            return job
        time.sleep(0.5)


def _log_pieces(client: Client, job_id: int, attempt: int | None, tail: int, follow: bool) -> Iterator[str]:
    offset = -tail
    while True:
        job = client.get(f"/jobs/{job_id}")
        if job["attempt"] == 0:
            if not follow:
                console.warn(f"job {job_id} is {job['state']} and has no output yet")
                return
            time.sleep(0.5)
            continue
        page = client.get(f"/jobs/{job_id}/logs", attempt=attempt, offset=offset)
        yield page["text"]
        offset = page["next_offset"]
        if offset >= page["num_bytes"]:
            if not follow or job["state"] in words.STOPPED:
                return
            time.sleep(0.5)


def _numbers(values: list[str]) -> dict[str, float]:
    found = {}
    for item in values:
        name, _, text = item.partition("=")
        try:
            found[name] = float(text)
        except ValueError:
            raise InvalidSpec(f"{item!r} is no setting; write learning_rate=5e-6") from None
    return found


def _minute(moment: str) -> str:
    """A moment as a table shows it."""
    return moment[:16].replace("T", " ")
