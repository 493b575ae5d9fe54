"""`finery channels ...`: how people are told, over REST. Secrets come from the terminal or a pipe."""

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from finery.core import console, documents
from finery.core.client import connect
from finery.core.console import JsonOption
from finery.core.errors import FineryError, InvalidSpec

app = typer.Typer(no_args_is_help=True, help="Set up how people are told of alerts and of runs that end.")

NameArgument = Annotated[str, typer.Argument(help="Name of the channel.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Set a parameter: host=smtp.example.org. Of a secret, its name. Repeatable."),
]
EventsOption = Annotated[
    str | None, typer.Option("--events", help="What it tells: alerts,failed,lost,completed,paused.", metavar="LIST")
]
LanguageOption = Annotated[str | None, typer.Option("--language", help="Of its messages: en or zh.")]


@app.command("list")
def list_channels(as_json: JsonOption = False) -> None:
    """List the channels, and what came of the last delivery of each."""
    with connect() as client:
        page = client.get("/channels")
    if as_json:
        console.emit(page)
        return
    if not page["channels"]:
        console.say("There are no channels. `finery channels add team slack` sets one up.")
        return
    rows = [
        (row["name"], row["kind"], ",".join(row["events"]), "on" if row["is_enabled"] else "off", *_last(row))
        for row in page["channels"]
    ]
    console.table(("name", "kind", "tells", "", "last (UTC)", "came of it", "waiting"), rows)


@app.command()
def kinds(as_json: JsonOption = False) -> None:
    """List the kinds of channels and their parameters."""
    with connect() as client:
        page = client.get("/channels/kinds")
    if as_json:
        console.emit(page)
        return
    for kind in page["kinds"]:
        console.say(f"{kind['name']}: {kind['summary']}")
        console.table(("  parameter", "default", "meaning"), [_parameter(*item) for item in _fields(kind).items()])


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Small letters, digits, dot, underscore and hyphen.")],
    kind: Annotated[str, typer.Argument(help="webhook, slack, dingtalk, feishu, email; `finery channels kinds`.")],
    set_: SetOption = None,
    events: EventsOption = None,
    language: LanguageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set up a channel.

    Its secrets (addresses with a token, passwords) are asked for, or piped in, one on a line in the order of `kinds`;
    never arguments, which others can see. With `--set url=NAME` a stored secret is taken.
    """
    params = documents.override(documents.Document({}, {}), set_ or []).value
    with connect() as client:
        known = {entry["name"]: _fields(entry) for entry in client.get("/channels/kinds")["kinds"]}
        if kind not in known:
            raise InvalidSpec(f"unknown channel kind {kind!r}; known: {', '.join(known)}")
        body = {"name": name, "kind": kind, "params": params, "secrets": _asked(known[kind], params)}
        made = client.post("/channels", body | _given(events, language))
    if as_json:
        console.emit(made)
        return
    console.say(f"{name} tells {', '.join(made['events'])}; `finery channels test {name}` sends a test message")


@app.command()
def edit(
    name: NameArgument,
    set_: SetOption = None,
    events: EventsOption = None,
    language: LanguageOption = None,
    on: Annotated[bool | None, typer.Option("--on/--off", help="Whether it is told anything.")] = None,
    secret: Annotated[str | None, typer.Option("--secret", help="Replace this secret; its value is asked for.")] = None,
) -> None:
    """Change a channel."""
    body = _given(events, language) | ({} if on is None else {"is_enabled": on})
    with connect() as client:
        if set_:
            rows = {row["name"]: row for row in client.get("/channels")["channels"]}
            before = rows.get(name, {}).get("params", {})
            body["params"] = documents.override(documents.Document(before, {}), set_).value
        if secret is not None:
            body["secrets"] = {secret: _line(secret, is_required=True)}
        client.patch(f"/channels/{quote(name, safe='')}", body)
    console.say(f"{name} is changed")


@app.command()
def remove(name: NameArgument) -> None:
    """Forget a channel and its secrets."""
    with connect() as client:
        client.delete(f"/channels/{quote(name, safe='')}")
    console.say(f"{name} is removed")


@app.command("test")
def trial(name: NameArgument, as_json: JsonOption = False) -> None:
    """Send a test message now, and say what came of it."""
    with connect() as client:
        found = client.post(f"/channels/{quote(name, safe='')}/test")
    if as_json:
        console.emit(found)
    elif found["is_sent"]:
        console.say(f"sent, and taken after {found['seconds']:.1f} s")
    if not found["is_sent"]:
        raise FineryError(f"{name} did not take the message: {console.printable(found['answer'])}")


@app.command()
def deliveries(
    channel: Annotated[str | None, typer.Option("--channel", help="Only of this channel.")] = None,
    job: Annotated[int | None, typer.Option("--job", min=1, help="Only of this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most to show.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show what was told, newest first, and what came of it."""
    with connect() as client:
        page = client.get("/deliveries", channel=channel, job_id=job, limit=limit)
    if as_json:
        console.emit(page)
        return
    rows = [
        (
            row["created_at"][:19],
            row["channel"],
            console.printable(f"{row['notice']['name']} #{row['notice']['run']}"),
            console.printable(row["notice"]["rule"] or row["notice"]["kind"]),
            row["state"],
            row["attempts"],
            console.printable(row["error"]),
        )
        for row in page["deliveries"]
    ]
    console.table(("time (UTC)", "channel", "run", "what", "state", "tries", "error"), rows)


def _given(events: str | None, language: str | None) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if events is not None:
        chosen["events"] = [word for word in events.replace(" ", "").split(",") if word]
    if language is not None:
        chosen["language"] = language
    return chosen


def _fields(kind: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Parameters of a kind as JSON Schema, each with whether it is required."""
    schema = kind["params_schema"]
    required = schema.get("required", ())
    return {name: {**field, "required": name in required} for name, field in schema["properties"].items()}


def _asked(fields: dict[str, dict[str, Any]], params: dict[str, Any]) -> dict[str, str]:
    """The secrets of a kind that no parameter names; those that nobody gave are left out."""
    wanted = [(name, field) for name, field in fields.items() if "secret" in field and name not in params]
    given = {name: _line(name, is_required=field["required"]) for name, field in wanted}
    return {name: value for name, value in given.items() if value}


def _line(name: str, *, is_required: bool) -> str:
    """A secret from the terminal, unseen, or the next line of a pipe."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    if is_required:
        return str(typer.prompt(name, hide_input=True)).strip()
    return str(typer.prompt(f"{name} (Enter for none)", hide_input=True, default="", show_default=False)).strip()


def _parameter(name: str, field: dict[str, Any]) -> tuple[str, str, str]:
    default = "(required)" if field["required"] else str(field.get("default", ""))
    return f"  {name}", default, field.get("description", "") + (" A secret." if "secret" in field else "")


def _last(row: dict[str, Any]) -> tuple[str, str, int]:
    last = row["last"]
    if last is None:
        return "-", "-", row["num_pending"]
    came = last["state"] if last["state"] == "sent" else console.printable(f"{last['state']}: {last['error']}")
    return last["ended_at"][:19], came, row["num_pending"]
