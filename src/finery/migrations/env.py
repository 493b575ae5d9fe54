"""Runs revisions in the connection of `finery.core.db`. Called by alembic."""

from alembic import context

import finery.api.tables
import finery.datasets.tables
import finery.experiments.tables
import finery.jobs.tables
import finery.monitoring.tables
import finery.notifying.tables  # noqa: F401 - the tables register themselves
from finery.core.db import Database, Table

database: Database = context.config.attributes["database"]

with database.session() as session:
    context.configure(
        connection=session.connection(), target_metadata=Table.metadata, render_as_batch=database.is_sqlite
    )
    context.run_migrations()
