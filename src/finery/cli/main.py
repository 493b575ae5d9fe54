"""The root of the command line: registers commands, renders errors, sets exit codes."""

import sys
from importlib import metadata
from typing import Annotated, ClassVar

import typer

from finery.cli import exits
from finery.cli.lazy import LazyGroup
from finery.core import console
from finery.core.errors import FineryError, InvalidSpec, NotFound, Unavailable


class Commands(LazyGroup):
    """Everything that follows `finery`."""

    table: ClassVar = {
        "up": ("finery.cli.up:up", False),
        "login-link": ("finery.cli.up:login_link", False),
        "demo": ("finery.cli.demo:demo", False),
        "run": ("finery.cli.run:run", False),
        "check": ("finery.cli.check:check", False),
        "chat": ("finery.cli.chat:chat", False),
        "doctor": ("finery.cli.doctor:doctor", False),
        "api": ("finery.cli.api:api", True),
        "worker": ("finery.cli.worker:worker", True),
        "jobs": ("finery.cli.jobs:app", False),
        "recipes": ("finery.jobs.commands:recipes", False),
        "plan": ("finery.cli.plan:plan", False),
        "data": ("finery.datasets.commands:app", False),
        "checkpoints": ("finery.experiments.commands:checkpoints", False),
        "eval": ("finery.experiments.commands:app", False),
        "rewards": ("finery.cli.rewards:app", False),
        "rules": ("finery.monitoring.commands:app", False),
        "secrets": ("finery.cli.secrets:app", False),
        "channels": ("finery.notifying.commands:app", False),
        "token": ("finery.cli.token:app", False),
    }


app = typer.Typer(
    name="finery",
    cls=Commands,
    help="LLM post-training: raw data in, a chosen, evaluated model out; every step visible, resumable, reproducible.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.say(f"finery {metadata.version('finery')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `finery` program."""
    try:
        app()
    except FineryError as error:
        console.fail(str(error))
        problems = error.problems if isinstance(error, InvalidSpec) else ()
        for problem in problems if len(problems) > 1 else ():
            place = f"line {problem.line}: " if problem.line else ""
            console.fail(f"  {place}{problem.path or '(file)'}: {problem.message}")
        sys.exit(_exit_code(error))


def _exit_code(error: FineryError) -> int:
    if isinstance(error, InvalidSpec | NotFound):
        return exits.USAGE
    return exits.UNAVAILABLE if isinstance(error, Unavailable) else exits.FAILED


if __name__ == "__main__":
    main()
