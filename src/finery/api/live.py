"""The live stream: events of a job, and job rows that changed, over a websocket that goes on from a cursor.

A slow client delays only itself, because each connection asks for what comes after the last message it has taken.
"""

import asyncio
from datetime import datetime, timedelta

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool

from finery.api.feeds import POLL_SECONDS, Feed
from finery.api.specs import LiveJob
from finery.core.clock import Clock
from finery.core.db import Database
from finery.core.errors import NotFound
from finery.jobs import service as jobs
from finery.jobs import views

router = APIRouter()
_OVERLAP = timedelta(seconds=2)
"""Two writers may commit out of the order of their clocks; a row is looked at again for this long."""


@router.websocket("/jobs/{job_id}/live")
async def follow_job(socket: WebSocket, job_id: int, after: int = 0) -> None:
    """Events of one job after a cursor, as they come, and its row whenever it changes."""
    await socket.accept()
    feed: Feed = socket.app.state.feeds.of(job_id)
    shown = ""
    cursor = max(after, 0)
    try:
        while True:
            try:
                messages, cursor = await feed.after(cursor)
            except NotFound as error:
                await socket.close(4404, str(error))
                return
            for message in messages:
                await socket.send_text(message)
            if feed.row != shown:
                shown = feed.row
                await socket.send_text(shown)
            await _wait(socket, feed.seconds_to_next(cursor))
    except (WebSocketDisconnect, RuntimeError):
        return


@router.websocket("/live")
async def follow_all(socket: WebSocket) -> None:
    """Rows of all jobs whenever they change."""
    db: Database = socket.app.state.db
    clock: Clock = socket.app.state.clock
    await socket.accept()
    since = clock.now()
    shown: dict[int, str] = {}
    try:
        while True:
            rows, newest = await run_in_threadpool(_poll_rows, db, since - _OVERLAP)
            for job_id, row in rows.items():
                if shown.get(job_id) != row:
                    await socket.send_text(row)
            shown = rows
            since = max(since, newest)
            await _wait(socket, POLL_SECONDS)
    except (WebSocketDisconnect, RuntimeError):
        return


async def _wait(socket: WebSocket, seconds: float) -> None:
    """Sleep until the next poll, or end at once when the client has gone."""
    try:
        await asyncio.wait_for(socket.receive_text(), timeout=seconds)
    except TimeoutError:
        return


def _poll_rows(db: Database, since: datetime) -> tuple[dict[int, str], datetime]:
    with db.read() as session:
        changed = jobs.changed_since(session, since)
        wishes = jobs.open_requests(session, [job.id for job in changed])
    rows = {
        job.id: LiveJob(kind="job", job=views.job_view(job, wishes.get(job.id, []))).model_dump_json()
        for job in changed
    }
    return rows, max((job.changed_at for job in changed), default=since)
