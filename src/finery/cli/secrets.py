"""`finery secrets ...`: what is needed and must not be seen, over REST. Values come from the terminal or a pipe."""

import sys
from typing import Annotated
from urllib.parse import quote

import typer

from finery.core import console
from finery.core.client import connect
from finery.core.console import JsonOption
from finery.core.errors import InvalidSpec

app = typer.Typer(no_args_is_help=True, help="Store tokens and keys by name, encrypted.")

NameArgument = Annotated[str, typer.Argument(help="Such as HF_TOKEN.")]


@app.command("set")
def set_(name: NameArgument) -> None:
    """Store or replace a secret. Its value is asked for, or piped in; never an argument, which others can see."""
    value = typer.prompt(name, hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
    value = value.strip()
    if not value:
        raise InvalidSpec(f"no value came for {name}; type it at the prompt, or pipe it in")
    with connect() as client:
        client.put(f"/secrets/{quote(name, safe='')}", {"value": value})
    console.say(f"{name} is stored; jobs that need it are given it when they start")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Names of the stored secrets."""
    with connect() as client:
        page = client.get("/secrets")
    if as_json:
        console.emit(page)
        return
    console.table(("name", "stored (UTC)"), [(row["name"], row["updated_at"][:19]) for row in page["secrets"]])


@app.command()
def remove(name: NameArgument) -> None:
    """Forget a secret."""
    with connect() as client:
        client.delete(f"/secrets/{quote(name, safe='')}")
    console.say(f"{name} is removed")
