"""What `finery jobs watch` draws, at every size of a terminal."""

import io
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from finery.jobs import screens, words
from finery.jobs.screens import Seen

NOW = datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)


def job(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": "sums",
        "kind": "train",
        "algorithm": "grpo",
        "state": "running",
        "cause": "",
        "step": 30,
        "total_steps": 120,
        "seconds_per_step": 2.0,
        "requests": [],
        "last_values": {f"metric_{i}": float(i) for i in range(50)} | {"loss": 0.5, "reward_mean": "NaN"},
        **changes,
    }


def drawn(picture: Any, width: int, height: int) -> list[str]:
    written = io.StringIO()
    Console(width=width, height=height, file=written, highlight=False).print(picture)
    return [line.rstrip() for line in written.getvalue().rstrip("\n").split("\n")]


def test_a_curve_spans_its_range_and_marks_what_is_no_number() -> None:
    assert screens.spark([0.0, 1.0, 2.0, 7.0], 8) == "▁▂▃█"
    assert screens.spark([0.0, math.nan, math.inf, 1.0], 8) == "▁!!█"
    assert screens.spark([3.0] * 3, 8) == "▁▁▁"
    assert screens.spark([math.nan], 8) == "!"
    assert screens.spark([], 8) == ""
    assert screens.spark([1e308, -1e308], 8) == "█▁"
    assert len(screens.spark([float(i) for i in range(1000)], 16)) == 16


@pytest.mark.parametrize(("width", "height"), [(30, 12), (80, 24), (200, 60)])
def test_a_picture_never_outgrows_the_terminal(width: int, height: int) -> None:
    wish = {"verb": "pause", "values": {}, "outcome": "requested"}
    jobs = [job(i, name="n" * 80, cause="because " * 20, requests=[wish]) for i in range(1, 100)]
    curves = {i: {"loss": [float(j) for j in range(80)]} for i in range(1, 100)}
    log = ["output " * 50 for _ in range(100)]

    table = drawn(screens.table(Seen(NOW, jobs, num_more=7, curves=curves), (width, height)), width, height)
    detail = drawn(screens.detail(Seen(NOW, jobs[:1], curves=curves, log=log), (width, height)), width, height)

    for lines in (table, detail):
        assert len(lines) <= height, lines
        assert max(map(len, lines)) <= width


def test_a_table_says_how_many_jobs_it_leaves_out() -> None:
    seen = Seen(NOW, [job(i) for i in range(1, 11)], num_more=5)

    lines = drawn(screens.table(seen, (100, 10)), 100, 10)

    assert "and 9 more" in lines
    assert "No job is running or waiting." in drawn(screens.table(Seen(NOW, []), (100, 10)), 100, 10)


def test_a_lost_connection_is_said_with_its_beginning() -> None:
    seen = Seen(NOW, [job()], lost_since=NOW)

    assert drawn(screens.detail(seen, (80, 24)), 80, 24)[-1] == "connection lost since 12:00:05 UTC, trying again"


def test_what_a_run_wrote_is_text() -> None:
    values = {"[red]odd\x1b]0;title\x07\x1b[2J\u202e": 1.0}
    seen = Seen(NOW, [job(name="[bold]n", last_values=values)], log=["\x1b[31mred\x1b[0m\x9b5m [link=x]t[/link]"])

    shown = "\n".join(drawn(screens.detail(seen, (80, 24)), 80, 24))

    assert "[red]odd " in shown
    assert "job 1  [bold]n  grpo\nrunning\n" in shown
    assert "red5m [link=x]t[/link]" in shown
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown)


def test_a_line_tells_state_pace_the_time_that_is_left_and_main_metrics() -> None:
    wish = {"verb": "checkpoint", "values": {}, "outcome": "delivered"}

    assert screens.line(job(requests=[wish])) == (
        "job 1 (sums) running step 30 of 120, 2 s/step, 3 min 00 s left, reward_mean NaN, loss 0.5, "
        "asked for: checkpoint"
    )
    failed = job(state="failed", cause="out of\nmemory", step=None, last_values={})
    assert screens.line(failed) == "job 1 (sums) failed (out ofmemory)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 00 s"), (3661, "1 h 01 min"), (90_000, "1 d 01 h")]
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text
