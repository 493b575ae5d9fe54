"""What happens in a job, read once for all who follow it.

Each of them asks for what comes after its own cursor: as a rule that lies in memory, and one that came late or is slow
reads the database by itself. So many followers cost little more than one, and none can delay or burden the others.
"""

import asyncio
import time
from collections import deque
from itertools import takewhile
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool

from finery.api.specs import LiveEvent, LiveJob
from finery.core.db import Database
from finery.jobs import service as jobs
from finery.jobs import views
from finery.jobs.specs import StreamedEvent
from finery.monitoring import service as monitoring

POLL_SECONDS = 0.25
_BATCH = 2000
_MAX_BYTES = 4_000_000
"""Of the messages of one job that are kept in memory."""

_Message = tuple[int, str]
"""Cursor and text of an event."""


class Feed:
    """The newest messages of one job, and its row. Only the event loop touches what it holds; threads read for it."""

    def __init__(self, db: Database, job_id: int):
        self._db = db
        self._job_id = job_id
        self._lock = asyncio.Lock()
        self._window: deque[_Message] = deque()
        """Without a gap, after `_begin`."""
        self._begin: int | None = None
        self._num_bytes = 0
        self._next_at = 0.0
        self.cursor = 0
        """Of the newest event that is known."""
        self.row = ""
        """The job's row, as a message."""

    async def after(self, cursor: int) -> tuple[list[str], int]:
        """Messages after a cursor, oldest first, and the cursor after them; the first to ask looks for new ones.

        Raises:
            NotFound: there is no such job.
        """
        async with self._lock:
            if time.monotonic() >= self._next_at:
                self._take(*await run_in_threadpool(self._look, None if self._begin is None else self.cursor))
                self._next_at = time.monotonic() + POLL_SECONDS
        begin = self._begin
        assert begin is not None
        if cursor >= begin:
            newest_first = takewhile(lambda message: message[0] > cursor, reversed(self._window))
            return [text for _, text in newest_first][::-1], max(cursor, self.cursor)
        found = await run_in_threadpool(self._read, cursor)
        last = found[-1][0] if found else cursor
        return [text for _, text in found], last if len(found) == _BATCH else max(last, begin)

    def seconds_to_next(self, cursor: int) -> float:
        """Until it is worth asking for what comes after a cursor."""
        return 0.0 if cursor < self.cursor else max(0.0, self._next_at - time.monotonic())

    def _take(self, job_cursor: int, found: list[_Message], row: str) -> None:
        self.row = row
        if self._begin is None:  # what was before this moment is history
            self._begin = self.cursor = job_cursor
        for at, text in found:
            self._window.append((at, text))
            self._num_bytes += len(text)
            self.cursor = at
        while len(self._window) > _BATCH or self._num_bytes > _MAX_BYTES:
            self._begin, text = self._window.popleft()
            self._num_bytes -= len(text)

    def _look(self, after: int | None) -> tuple[int, list[_Message], str]:
        with self._db.read() as session:
            job = jobs.get(session, self._job_id)
            is_news = after is not None and job.cursor > after
            found = monitoring.events_after(session, self._job_id, after or 0, _BATCH) if is_news else []
            wishes = jobs.open_requests(session, [self._job_id]).get(self._job_id, [])
        row = LiveJob(kind="job", job=views.job_view(job, wishes)).model_dump_json()
        return job.cursor, _messages(found), row

    def _read(self, after: int) -> list[_Message]:
        with self._db.read() as session:
            found = monitoring.events_after(session, self._job_id, after, _BATCH)
        return _messages(found)


def _messages(found: list[StreamedEvent]) -> list[_Message]:
    return [(item.cursor, LiveEvent(kind="event", event=item).model_dump_json()) for item in found]


class Feeds:
    """One feed for each job that is followed, as long as it is."""

    def __init__(self, db: Database):
        self._db = db
        self._by_job: WeakValueDictionary[int, Feed] = WeakValueDictionary()

    def of(self, job_id: int) -> Feed:
        """The feed of a job; it lives as long as somebody holds it."""
        feed = self._by_job.get(job_id)
        if feed is None:
            feed = self._by_job[job_id] = Feed(self._db, job_id)
        return feed
