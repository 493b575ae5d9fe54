"""`finery rules ...`: what watches runs, what it has done, and what it would have done."""

from pathlib import Path
from typing import Annotated

import typer

from finery.core import console
from finery.core.client import connect
from finery.core.console import JsonOption
from finery.core.errors import InvalidSpec
from finery.rules import actions, defaults, reading

app = typer.Typer(no_args_is_help=True, help="Rules that watch runs and act: try them, see and undo what they did.")

JobArgument = Annotated[int, typer.Argument(help="Job id.", min=1)]


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Print the default rules, to begin a file of one's own with: finery rules show > rules.yaml. Needs no server."""
    found = [(entry.name, entry.summary) for entry in actions.registry.all()]
    if as_json:
        rules = [rule.model_dump(mode="json") for rule in defaults.rules()]
        console.emit({"rules": rules, "actions": dict(found)})
        return
    console.write(defaults.text())
    console.write("".join(f"# action {name}: {summary}\n" for name, summary in found))


@app.command("dry-run")
def dry_run(
    job_id: JobArgument,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Rules, or a job file; those of the job by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say at which steps rules would have fired in a run, had nothing been changed by them."""
    text = "" if file is None else _read(file)
    with connect() as client:
        found = client.post(f"/jobs/{job_id}/rules/dry-run", {"text": text})
    if as_json:
        console.emit(found)
        return
    for name in found["unknown_metrics"]:
        console.warn(f"job {job_id} has no metric {name}: a rule that asks for it never fires")
    if found["left_out"]:
        console.warn(f"not judged, since only time tells: {', '.join(found['left_out'])}")
    if found["num_cut"]:
        console.warn(f"the first {found['num_cut']:,} steps were left out")
    if found["firings"]:
        rows = [(f["attempt"], f["step"], f["rule"], ", ".join(f["actions"]), f["message"]) for f in found["firings"]]
        console.table(("attempt", "step", "rule", "would do", "seen"), rows)
    console.say(f"{len(found['rules'])} rules over {found['num_steps']:,} steps: {len(found['firings'])} firings")


@app.command()
def log(
    job_id: JobArgument,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Newest entries to show.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the alerts of a job and what rules did about them, oldest first."""
    with connect() as client:
        page = client.get(f"/jobs/{job_id}/story", limit=limit)
    if as_json:
        console.emit(page)
        return
    if not page["entries"]:
        console.say(f"job {job_id} has no alerts")
        return
    rows = []
    for entry in reversed(page["entries"]):
        event = entry["event"]
        is_action = event["type"] == "action"
        what = f"{event['action']} {event['outcome']}" if is_action else event["severity"]
        if entry["undone"]:
            what += f", undo {entry['undone']['outcome']}"
        undo = f"finery rules undo {job_id} {entry['cursor']}" if entry["undo"] else ""
        rows.append((entry["attempt"], event["step"] or "", event["rule"], what, event["message"], undo))
    console.table(("attempt", "step", "rule", "", "story", "undo with"), rows)


@app.command()
def undo(
    job_id: JobArgument,
    action: Annotated[int, typer.Argument(help="Number of the action; `finery rules log` shows it.", min=0)],
    as_json: JsonOption = False,
) -> None:
    """Undo what a rule did: set the value back, resume, or go on from the state before a rollback."""
    with connect() as client:
        job = client.post(f"/jobs/{job_id}/actions/{action}/undo", {})
    if as_json:
        console.emit(job)
        return
    asked = ", ".join(f"{wish['verb']} {wish['values'] or ''}".strip() for wish in job["requests"])
    console.say(f"job {job_id}: {asked or 'done'} was asked for")


def _read(file: Path) -> str:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"{file} cannot be read: {error}") from error
    reading.read(text, name=file.name)
    return text
