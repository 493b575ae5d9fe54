"""Engine, units of work and the declarative base; right on SQLite and on PostgreSQL without branches elsewhere.

SQLite has several writing processes (API, worker, CLI). A writing unit of work begins with BEGIN IMMEDIATE, so that it
waits for its turn at its first statement and never fails half-way with "database is locked". SQLite's own waiting is
polling with sleeps of up to 100 ms, in which a busy writer starves the others for seconds; so writers queue at a file
lock beside the database, from which the kernel wakes them at once. Reading units take a snapshot and wait for nobody.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, MetaData, TypeDecorator, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Session

_WRITES = "finery_writes"
_GATE = "finery_gate"
_BUSY_TIMEOUT_MS = 30_000


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware in Python, UTC in the database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of all tables. Names of constraints are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime}


class Database:
    """One database, shared by the threads of a process."""

    def __init__(self, url: str):
        self.engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        self._writing = self.engine.execution_options(**{_WRITES: True})
        if self.is_sqlite:
            path = self.engine.url.database
            self._gate = f"{path}.writer" if path and path != ":memory:" else None
            event.listen(self.engine, "connect", _sqlite_connect)
            event.listen(self.engine, "begin", self._begin)
            event.listen(self.engine, "checkin", _leave_gate)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A unit of work that may write: commit on success, roll back on error. Services never commit."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A unit of work that only reads one snapshot."""
        with Session(self.engine, expire_on_commit=False, autoflush=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def _begin(self, connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        if writes and self._gate:
            handle = os.open(self._gate, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            connection.info[_GATE] = handle
            fcntl.flock(handle, fcntl.LOCK_EX)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin on its own, and too late
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={_BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _leave_gate(_connection: Any, record: Any) -> None:
    """Let the next writer in: called when a connection comes back to the pool, after its commit or rollback."""
    handle = record.info.pop(_GATE, None)
    if handle is not None:
        os.close(handle)
