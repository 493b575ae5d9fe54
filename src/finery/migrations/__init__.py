"""The database schema, as one linear history of alembic revisions. `upgrade` brings a database to the newest."""

import fcntl
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from finery.core.db import Database
from finery.core.errors import Conflict, Unavailable


def config() -> Config:
    """Alembic's configuration; there is no ini file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    return made


def upgrade(db: Database, *, lock: Path) -> None:
    """Create or upgrade the tables. Processes that start at the same time wait for each other at `lock`.

    Raises:
        Conflict: the database was written by a newer Finery.
        Unavailable: the database does not answer.
    """
    scripts = ScriptDirectory.from_config(config())
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            with db.engine.connect() as connection:
                present = MigrationContext.configure(connection).get_current_revision()
        except OperationalError as error:
            where = db.engine.url.render_as_string(hide_password=True)
            raise Unavailable(f"the database {where} does not answer: {str(error.orig).strip()}") from error
        if present == scripts.get_current_head():
            return
        if present is not None and present not in {script.revision for script in scripts.walk_revisions()}:
            raise Conflict(f"the database has revision {present}, which this version does not know; upgrade Finery")
        settings = config()
        settings.attributes["database"] = db
        command.upgrade(settings, "head")
