"""`finery rewards`: the rewards that job files can name, with their parameters. Needs no server."""

from typing import Annotated, Any

import orjson
import typer

from finery.core import console
from finery.core.console import JsonOption
from finery.training import rewards

app = typer.Typer(no_args_is_help=True, help="Rewards that job files can name.")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Every reward in a line."""
    found = [{"name": entry.name, "summary": entry.summary} for entry in rewards.registry.all()]
    if as_json:
        console.emit({"rewards": found})
        return
    console.table(("reward", "what it gives"), [(one["name"], one["summary"]) for one in found])


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Reward; `finery rewards list` lists them.")], as_json: JsonOption = False
) -> None:
    """What a reward gives, and its parameters."""
    entry = rewards.registry.get(name)
    schema = entry.params.model_json_schema()
    if as_json:
        console.emit({"name": entry.name, "summary": entry.summary, "params_schema": schema})
        return
    console.say(f"{entry.name}: {entry.summary}")
    properties: dict[str, Any] = schema.get("properties", {})
    if properties:
        console.table(("parameter", "default", "meaning"), [_parameter(key, one) for key, one in properties.items()])


def _parameter(name: str, schema: dict[str, Any]) -> tuple[str, str, str]:
    default = orjson.dumps(schema["default"]).decode() if "default" in schema else "(required)"
    return name, default if len(default) <= 40 else f"{default[:40]}...", schema.get("description", "")
