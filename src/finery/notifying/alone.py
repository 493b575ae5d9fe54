"""Tells people of a run without a server: the same channels, of the database of this home.

What is still to be told when the run is over and a few seconds have gone stays there, for the next worker or run.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from finery.core.clock import Clock
from finery.core.db import Database
from finery.core.errors import FineryError
from finery.core.events import ActionEvent, AlertEvent, validate_event
from finery.core.rundir import RunSpec
from finery.core.settings import Settings
from finery.notifying import hearing
from finery.notifying.delivering import Deliverer
from finery.notifying.specs import Notice

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0
_TOLD_OF = ("alert", "action")


class Teller:
    """Hears the events of a run and tells them. Nothing that goes wrong with that reaches the run."""

    def __init__(self, open_: Callable[[], Database], settings: Settings, clock: Clock, *, warn: Callable[[str], None]):
        """Opens nothing yet.

        Args:
            open_: Opens the home's database, migrated.
            settings: Of this installation.
            clock: What time it is.
            warn: Says one line to the person at the terminal.
        """
        self._open = open_
        self._settings = settings
        self._clock = clock
        self._warn = warn
        self._db: Database | None = None
        self._deliverer: Deliverer | None = None
        self._alerts: dict[str, AlertEvent] = {}

    def hear(self, spec: RunSpec, writer: str, raw: Mapping[str, Any]) -> None:
        """Take in an event of a stream of the run, as plain data."""
        if raw["type"] not in _TOLD_OF:
            return
        try:
            event = validate_event(dict(raw))
        except ValidationError:
            return
        if isinstance(event, AlertEvent):
            self._alerts[event.rule] = event
        if hearing.is_to_be_told(event, spec.job):
            alert = self._alert_of(event) if isinstance(event, ActionEvent) else None
            notice = hearing.of_event(event, alert, **_who(spec))
            key = hearing.key_of(event, alert, attempt=spec.attempt, writer=writer)
            self._tell(notice, key, hearing.channels_of(event))

    def end(self, spec: RunSpec, state: str, cause: str, *, step: int | None, was_asked: bool) -> None:
        """Take in how the run ended, and wait a moment until what there is to tell was told."""
        kind = hearing.kind_of_state(state, was_asked=was_asked)
        if kind is not None:
            moment = self._clock.now().timestamp()
            notice = hearing.of_state(kind, **_who(spec), cause=cause, step=step, time=moment)
            self._tell(notice, f"{spec.attempt}/{state}/0", ())
        if self._deliverer is None:
            return
        left = self._deliverer.wait(spec.job_id, _PATIENCE_SECONDS)
        if left:
            self._warn(f"not told yet: {left}; the next worker or run on {self._settings.home} tries again")
        self._deliverer.close()

    def _alert_of(self, action: ActionEvent) -> AlertEvent | None:
        alert = self._alerts.get(action.rule)
        return alert if alert is not None and alert.step == action.step else None

    def _tell(self, notice: Notice, key: str, named: tuple[str, ...]) -> None:
        try:
            if self._db is None:
                self._db = self._open()
            with self._db.session() as session:
                hearing.tell(session, notice, key=key, named=named, now=self._clock.now())
        except (FineryError, SQLAlchemyError, OSError) as error:
            self._warn(f"nobody could be told of {notice.name} ({notice.kind}): {error}")
            return
        if self._deliverer is None:
            self._deliverer = Deliverer(self._db, self._settings, self._clock)
            self._deliverer.start()


def _who(spec: RunSpec) -> dict[str, Any]:
    return {"run": spec.job_id, "job_id": None, "name": spec.job["name"], "attempt": spec.attempt}
