"""What `finery jobs watch` draws: a table of jobs, or one job with its bar, curves, wishes and newest output. Pure.

Everything that came from a run is put in as text: no markup, no control characters.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from finery.core.console import Size, printable
from finery.jobs import words
from finery.jobs.words import Job

MAIN: Final = (
    *("reward_mean", "accuracy", "preference_accuracy", "reward_margin", "loss", "policy_loss", "kl_divergence"),
    *("entropy", "grad_norm"),
)
"""Metrics that people look at first, in this order; the others follow by name."""

_BARS: Final = "▁▂▃▄▅▆▇█"
_STYLES: Final = {
    "running": "green",
    "completed": "green",
    "failed": "bold red",
    "lost": "yellow",
    "queued": "dim",
    "created": "dim",
}
_WIDE: Final = 110
"""Columns from which on a table has room for two metrics."""

Curves = Mapping[str, Sequence[float]]
"""Metric -> its values, oldest first."""


@dataclass(frozen=True)
class Seen:
    """What the server said last, and whether it still answers."""

    at: datetime
    jobs: Sequence[Job]
    num_more: int = 0
    """Jobs that match but are not in `jobs`."""
    lost_since: datetime | None = None
    curves: Mapping[int, Curves] = field(default_factory=dict)
    """By job."""
    log: Sequence[str] = ()
    """Newest lines of the one job that is watched."""


def main_metrics(job: Job) -> list[str]:
    """Its metrics, those first that people look at first."""
    names = job["last_values"]
    return [name for name in MAIN if name in names] + sorted(name for name in names if name not in MAIN)


def connection(seen: Seen) -> str:
    """That the server does not answer, since when, and what is done about it; empty while it does."""
    if seen.lost_since is None:
        return ""
    return f"connection lost since {seen.lost_since:%H:%M:%S} UTC, trying again"


def line(job: Job) -> str:
    """A job on one line."""
    parts = [f"{words.state(job)} {words.progress(job)}".rstrip()]
    remaining = words.remaining_seconds(job)
    if remaining is not None:
        parts.append(f"{words.duration(remaining)} left")
    parts += [f"{name} {words.number(job['last_values'][name])}" for name in main_metrics(job)[:2]]
    parts += [f"asked for: {wish['verb']}" for wish in job["requests"]]
    return printable(f"job {job['id']} ({job['name']}) {', '.join(parts)}")


def spark(values: Sequence[float], width: int) -> str:
    """The course of a metric in at most `width` characters; what is no number is an exclamation mark."""
    size = max(1, math.ceil(len(values) / width))
    means = [_mean(values[start : start + size]) for start in range(0, len(values), size)]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return "!" * len(means)
    low, high = min(finite), max(finite)
    half_range = high / 2 - low / 2  # of halves: the whole of two large numbers may be infinite
    top = (len(_BARS) - 1) if half_range > 0 else 0
    return "".join(
        _BARS[round((mean / 2 - low / 2) / (half_range or 1.0) * top)] if math.isfinite(mean) else "!" for mean in means
    )


def _mean(values: Sequence[float]) -> float:
    return sum(value / len(values) for value in values)


def table(seen: Seen, size: Size) -> RenderableType:
    """All watched jobs, as many as fit."""
    width, height = size
    num_metrics = 2 if width >= _WIDE else 1
    num_rows = max(1, height - 4)
    shown = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for name, options in _COLUMNS:
        shown.add_column(name, no_wrap=True, **options)
    for _ in range(num_metrics):
        shown.add_column("newest value", no_wrap=True, overflow="ellipsis", ratio=5)
    for job in seen.jobs[:num_rows]:
        metrics = [_metric(job, name, seen) for name in main_metrics(job)[:num_metrics]]
        shown.add_row(*_cells(job), *metrics)
    if not seen.jobs:
        return Group(Text("No job is running or waiting."), _footer(seen))
    hidden = seen.num_more + max(0, len(seen.jobs) - num_rows)
    return Group(shown, *([Text(f"and {hidden} more", style="dim")] if hidden else []), _footer(seen))


_COLUMNS: Final = (
    ("id", {"justify": "right"}),
    ("name", {"overflow": "ellipsis", "ratio": 3}),
    ("state", {"overflow": "ellipsis", "ratio": 3}),
    ("step", {"justify": "right"}),
    ("s/step", {"justify": "right"}),
    ("left", {"justify": "right"}),
)


def _cells(job: Job) -> list[Text]:
    step = "" if job["step"] is None else str(job["step"])
    pace = job["seconds_per_step"]
    remaining = words.remaining_seconds(job)
    return [
        Text(str(job["id"])),
        _text(job["name"]),
        _text(words.state(job), _STYLES.get(job["state"], "")),
        Text(f"{step}/{job['total_steps']}" if step and job["total_steps"] else step),
        Text(f"{pace:.3g}" if pace else ""),
        Text("" if remaining is None else words.duration(remaining)),
    ]


def _metric(job: Job, name: str, seen: Seen) -> Text:
    curve = spark(seen.curves.get(job["id"], {}).get(name, ()), 12)
    return _text(f"{name} {words.number(job['last_values'][name])} ").append(curve, "cyan")


def detail(seen: Seen, size: Size) -> RenderableType:
    """One job: how far it is, its newest metrics, what it was asked for, its newest output."""
    width, height = size
    job = seen.jobs[0]
    head = [_title(job), *_state(job, width), _bar(job, width), *[_wish(wish) for wish in job["requests"]]]
    room = max(2, height - len(head) - 4)
    metrics = main_metrics(job)[: room if not seen.log else max(2, room * 2 // 3)]
    num_lines = max(0, room - len(metrics) - 1)
    parts: list[RenderableType] = [*head]
    if metrics:
        parts.append(_metrics(job, metrics, seen, width))
    lines = [_text(text) for text in seen.log[-num_lines:]] if num_lines else []
    if lines:
        parts += [Rule("output", align="left", style="dim"), *lines]
    return Group(*parts, _footer(seen))


def _title(job: Job) -> Text:
    title = _text(f"job {job['id']}  ")
    return title.append_text(_text(job["name"], "bold")).append(f"  {words.kind(job)}")


def _state(job: Job, width: int) -> list[Text]:
    style = _STYLES.get(job["state"], "")
    lines = textwrap.wrap(printable(words.state(job)), width, max_lines=3, placeholder=" ...")
    return [_text(line, style) for line in lines]


def _bar(job: Job, width: int) -> RenderableType:
    remaining = words.remaining_seconds(job)
    told = words.progress(job) + ("" if remaining is None else f", {words.duration(remaining)} left")
    if not job["total_steps"]:
        return _text(told)
    bar = ProgressBar(
        total=job["total_steps"], completed=job["step"] or 0, width=min(40, max(10, width - len(told) - 2))
    )
    grid = Table.grid(padding=(0, 1))
    grid.add_row(bar, _text(told))
    return grid


def _wish(wish: Mapping[str, object]) -> Text:
    values = f" {wish['values']}" if wish["values"] else ""
    return _text(f"asked for: {wish['verb']}{values} ({wish['outcome']})", "yellow")


def _metrics(job: Job, names: Sequence[str], seen: Seen, width: int) -> Table:
    curves = seen.curves.get(job["id"], {})
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (("metric", "left"), ("last", "right"), ("lowest", "right"), ("highest", "right")):
        shown.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    shown.add_column("", no_wrap=True, style="cyan")
    for name in names:
        values = curves.get(name, ())
        finite = [value for value in values if math.isfinite(value)]
        ends = (words.number(min(finite)), words.number(max(finite))) if finite else ("", "")
        shown.add_row(
            _text(name), words.number(job["last_values"][name]), *ends, spark(values, 40 if width >= _WIDE else 16)
        )
    return shown


def _footer(seen: Seen) -> Text:
    lost = connection(seen)
    if lost:
        return _text(lost, "bold yellow")
    is_over = seen.jobs and all(map(words.has_stopped, seen.jobs))
    hint = "" if is_over else "; Ctrl-C ends the watching, not the jobs"
    return _text(f"{seen.at:%H:%M:%S} UTC{hint}", "dim")


def _text(text: str, style: str = "") -> Text:
    return Text(style="", no_wrap=True, overflow="ellipsis").append(printable(text), style)
