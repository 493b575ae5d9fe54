"""What the command line shows: tables and lines for people, one JSON document for programs.

Bars and colour appear on a terminal only; NO_COLOR is honoured. The single place that writes to stdout.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print one line of text, taken literally."""
    _out.print(escape(text))


def warn(text: str) -> None:
    """Print one line to stderr."""
    _err.print(f"[yellow]{escape(text)}[/yellow]")


def fail(text: str) -> None:
    """Print one red line to stderr."""
    _err.print(f"[bold red]{escape(text)}[/bold red]")


def write(text: str) -> None:
    """Print text as it is, without adding a line end."""
    sys.stdout.write(text)
    sys.stdout.flush()


def emit(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; every cell is text."""
    shown = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*(escape(str(cell)) for cell in row))
    _out.print(shown)


def is_terminal() -> bool:
    """Whether a person watches stdout."""
    return _out.is_terminal


def progress() -> Progress:
    """A bar with a line of text; only to be used when `is_terminal`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=_out,
    )
