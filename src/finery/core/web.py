"""What routes get handed: a session per request, the object store, the clock, the settings, the caller.

The session is committed before the response is sent (`scope="function"`), so that who got an answer can rely on it.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from finery.core.clock import Clock
from finery.core.db import Database
from finery.core.objects import ObjectStore
from finery.core.settings import Settings

_READING = ("GET", "HEAD")


def _database(request: Request) -> Database:
    db: Database = request.app.state.db
    return db


def _session(request: Request) -> Iterator[Session]:
    db = _database(request)
    with db.read() if request.method in _READING else db.session() as session:
        yield session


def _objects(request: Request) -> ObjectStore:
    objects: ObjectStore = request.app.state.objects
    return objects


def _clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _caller(request: Request) -> str:
    caller: str = request.state.caller
    return caller


DatabaseDep = Annotated[Database, Depends(_database)]
Db = Annotated[Session, Depends(_session, scope="function")]
Objects = Annotated[ObjectStore, Depends(_objects)]
ClockDep = Annotated[Clock, Depends(_clock)]
SettingsDep = Annotated[Settings, Depends(_settings)]
Caller = Annotated[str, Depends(_caller)]
"""Who asks: `token` for the CLI's token, `browser` for a logged-in browser, `guest` for a link to one run."""
