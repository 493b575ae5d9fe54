"""The root of the command line: registers commands, renders errors, sets exit codes."""

import sys
from importlib import metadata
from typing import Annotated

import typer

from finery.cli import chat, check, demo, doctor, exits, rewards, run, secrets, up
from finery.core import console
from finery.core.errors import FineryError, InvalidSpec, NotFound, Unavailable
from finery.datasets import commands as data
from finery.experiments import commands as evaluations
from finery.importing import commands as importing
from finery.jobs import commands as jobs

app = typer.Typer(
    name="finery",
    help="LLM post-training: raw data in, a chosen, evaluated model out; every step visible, resumable, reproducible.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("login-link")(up.login_link)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("check")(check.check)
app.command("chat")(chat.chat)
app.command("doctor")(doctor.doctor)
app.command("api", hidden=True)(up.api)
app.command("worker", hidden=True)(up.worker)
jobs.app.command("import")(importing.import_runs)
app.add_typer(jobs.app, name="jobs")
app.add_typer(jobs.recipes, name="recipes")
app.add_typer(data.app, name="data")
app.add_typer(evaluations.app, name="eval")
app.add_typer(rewards.app, name="rewards")
app.add_typer(secrets.app, name="secrets")


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
