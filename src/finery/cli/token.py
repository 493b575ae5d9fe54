"""`finery token ...`: tokens of this home that are handed to other programs. Needs no server."""

from typing import Annotated

import typer

from finery.api.auth import ensure_token
from finery.core import console
from finery.core.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Print tokens for other programs.")


@app.callback()
def _group() -> None:
    pass


@app.command()
def metrics(
    as_file: Annotated[bool, typer.Option("--file", help="Print the path of the file that holds it instead.")] = False,
) -> None:
    """Print the token with which Prometheus reads /metrics; it opens nothing else. Made at the first call."""
    settings = Settings()
    settings.make_home()
    token = ensure_token(settings.metrics_token_file)
    console.say(str(settings.metrics_token_file) if as_file else token)
