"""`finery worker`: what claims jobs and starts them, as a process of its own."""

from finery.cli.parent import ParentOption, end_with
from finery.core import log
from finery.core.clock import SystemClock
from finery.core.db import Database
from finery.core.settings import Settings
from finery.notifying.delivering import Deliverer
from finery.worker.loop import Worker


def worker(parent: ParentOption = None) -> None:
    """Run the worker alone."""
    log.configure()
    end_with(parent)
    settings, clock = Settings(), SystemClock()
    db = Database(settings.url)
    made = Worker(db, settings, clock)
    Deliverer(db, settings, clock).start()
    made.run()
