"""What the command line shows: tables and lines for people, one JSON document for programs.

Bars and colour appear on a terminal only; NO_COLOR is honoured. The single place that writes to stdout.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)
_screen = Console(highlight=False)

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
"""What moves the cursor, colours text or names a window."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

Size = tuple[int, int]
"""Columns and lines."""


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


def printable(text: str) -> str:
    """One line of foreign text without anything that a terminal would obey."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text)).expandtabs(4)


def emit_line(value: Any) -> None:
    """Print one JSON document on one line."""
    write(orjson.dumps(value).decode() + "\n")


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


def can_redraw() -> bool:
    """Whether a person watches stdout on a terminal that can show a picture in place of the last."""
    return _screen.is_terminal and not _screen.is_dumb_terminal


@contextmanager
def screen() -> Iterator[Callable[[Callable[[Size], RenderableType]], None]]:
    """Show pictures that fill the terminal, each in place of the last; the last one stays when the block ends."""
    draw: Callable[[Size], RenderableType] | None = None
    try:
        with Live(console=_screen, screen=True, auto_refresh=False) as live:

            def show(drawing: Callable[[Size], RenderableType]) -> None:
                nonlocal draw
                draw = drawing
                live.update(drawing((_screen.width, _screen.height)), refresh=True)

            yield show
    finally:
        if draw is not None:
            _screen.print(draw((_screen.width, _screen.height)))


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
