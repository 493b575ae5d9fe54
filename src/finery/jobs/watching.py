"""`finery jobs watch`: what jobs do, as it happens, over REST; a server that goes away is waited for."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer

from finery.core import console
from finery.core.client import Client, locate
from finery.core.errors import Unavailable
from finery.core.settings import Settings
from finery.jobs import screens, words
from finery.jobs.screens import Seen
from finery.jobs.words import Job

_ALIVE = ("running", "pausing", "cancelling", "allocated", "lost", "queued", "created")
"""States of jobs that are watched unasked, in the order in which they are shown."""
_MOST = 100
"""Jobs in the table."""
_CURVES = 20
"""Jobs of the table that get curves: each costs a request when the job has moved."""
_POINTS = 80
_TIMEOUT_SECONDS = 10.0
_LOG_BYTES = 16_384
_INTERRUPTED = 130


def watch(
    job_ids: Annotated[
        list[int] | None, typer.Argument(metavar="[JOB]...", help="Jobs; all that run or wait by default.", min=1)
    ] = None,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Without jobs: end when none runs or waits any more.")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, whenever something changed.")
    ] = False,
) -> None:
    """Watch jobs until they have stopped; the exit code is that of the worst. Ctrl-C leaves the jobs alone.

    One job is shown with its progress, curves, open requests and newest output, several as a table. Without a terminal
    a line is printed whenever a job has changed.
    """
    is_picture = console.can_redraw() and not as_json
    watched = _Watched(tuple(job_ids or ()), has_curves=is_picture)
    try:
        if is_picture:
            with console.screen() as show:
                _follow(watched, until_done, interval, partial(_draw, show, watched.ids))
        else:
            _follow(watched, until_done, interval, _Objects() if as_json else _Lines())
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED if job_ids else 0) from None
    finally:
        watched.close()
    raise typer.Exit(max((words.exit_code(job) for job in watched.jobs if words.has_stopped(job)), default=0))


def _follow(watched: "_Watched", until_done: bool, interval: float, tell: Callable[[Seen], None]) -> None:
    while True:
        seen = watched.look()
        tell(seen)
        has_end = bool(watched.ids) or until_done
        if has_end and seen.lost_since is None and all(words.has_stopped(job) for job in seen.jobs):
            return
        time.sleep(interval)


def _draw(show: Callable[..., None], ids: Sequence[int], seen: Seen) -> None:
    show(partial(screens.detail if len(ids) == 1 else screens.table, seen))


class _Lines:
    """Prints a line for each job that has changed, and when the server goes and comes."""

    def __init__(self) -> None:
        self._told: dict[int, str] = {}
        self._was_lost = False

    def __call__(self, seen: Seen) -> None:
        if (seen.lost_since is not None) != self._was_lost:
            self._was_lost = not self._was_lost
            console.warn(screens.connection(seen) or "the server is back")
        for job in seen.jobs:
            line = screens.line(job)
            if self._told.get(job["id"]) != line:
                console.say(line)
                self._told[job["id"]] = line


class _Objects:
    """Prints a JSON object whenever a job has changed or the server has gone or come."""

    def __init__(self) -> None:
        self._told: Any = None

    def __call__(self, seen: Seen) -> None:
        lost_since = seen.lost_since.isoformat() if seen.lost_since else None
        shown = {"lost_since": lost_since, "jobs": seen.jobs}
        if shown != self._told:
            console.emit_line({"time": seen.at.isoformat(), **shown})
            self._told = shown


class _Watched:
    """The jobs that are looked at, as the server showed them last."""

    def __init__(self, ids: tuple[int, ...], *, has_curves: bool):
        self.ids = tuple(dict.fromkeys(ids))
        self.jobs: list[Job] = []
        self._has_curves = has_curves
        self._num_more = 0
        self._client: Client | None = None
        self._lost_since: datetime | None = None
        self._was_reached = False
        self._curves: dict[int, dict[str, list[float]]] = {}
        self._drawn: dict[int, tuple[int, int | None]] = {}
        self._log: list[str] = []

    def close(self) -> None:
        """Give the connection back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def look(self) -> Seen:
        """What there is now; what there was last while the server does not answer.

        Raises:
            Unavailable: it has not answered once.
        """
        try:
            # Where the server listens is asked again: one that was restarted may have another port.
            self._client = self._client or Client(*locate(Settings()), timeout_seconds=_TIMEOUT_SECONDS)
            self._ask(self._client)
            self._was_reached, self._lost_since = True, None
        except Unavailable:
            self.close()
            if not self._was_reached:
                raise
            self._lost_since = self._lost_since or datetime.now(UTC)
        return Seen(
            at=datetime.now(UTC),
            jobs=self.jobs,
            num_more=self._num_more,
            lost_since=self._lost_since,
            curves=self._curves,
            log=self._log,
        )

    def _ask(self, client: Client) -> None:
        self.jobs = [_get(client, job_id) for job_id in self.ids] if self.ids else self._alive(client)
        if not self._has_curves:
            return
        for job in self.jobs[:_CURVES]:
            self._ask_curves(client, job)
        if len(self.ids) == 1 and self.jobs[0]["attempt"]:
            page = client.get(f"/jobs/{self.ids[0]}/logs", offset=-_LOG_BYTES, max_bytes=_LOG_BYTES)
            self._log = _lines(page["text"])

    def _alive(self, client: Client) -> list[Job]:
        """Jobs that run or wait, then those that did and have stopped since."""
        page = client.get("/jobs", query=f"state:{','.join(_ALIVE)}", limit=_MOST)
        found: list[Job] = sorted(page["jobs"], key=lambda job: (_ALIVE.index(job["state"]), job["id"]))
        self._num_more = page["total"] - len(found)
        here = {job["id"] for job in found}
        gone = [job for job in self.jobs if job["id"] not in here][:_MOST]
        return found + [job if words.has_stopped(job) else _get(client, job["id"]) for job in gone]

    def _ask_curves(self, client: Client, job: Job) -> None:
        names = screens.main_metrics(job)[: 40 if len(self.ids) == 1 else 2]
        now = (job["attempt"], job["step"])
        if not names or self._drawn.get(job["id"]) == now:
            return
        page = client.get(f"/jobs/{job['id']}/series", names=names, max_points=_POINTS)
        curves: dict[str, list[float]] = {}
        for series in page["series"]:
            curves.setdefault(series["name"], []).extend(map(float, series["values"]))
        self._curves[job["id"]] = curves
        self._drawn[job["id"]] = now


def _get(client: Client, job_id: int) -> Job:
    """A job as lists show it."""
    job: Job = client.get(f"/jobs/{job_id}")
    return {name: value for name, value in job.items() if name not in _LONG}


_LONG = ("spec", "inputs", "attempts", "checkpoints", "code", "provenance")
"""What only the page of one job shows."""


def _lines(text: str) -> list[str]:
    """Lines of output; of one that was written over, as progress bars do, what was written last."""
    found = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return [line for line in found if line.strip()]
