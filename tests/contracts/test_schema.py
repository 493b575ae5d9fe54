"""The migrations and the tables say the same, on both databases."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import finery.api.tables
import finery.datasets.tables
import finery.jobs.tables
import finery.monitoring.tables  # noqa: F401 - the tables register themselves
from finery import migrations
from finery.core.db import Database, Table


def test_the_migrated_schema_is_the_one_of_the_tables(db: Database) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_upgrading_twice_changes_nothing(db: Database, tmp_path: Path) -> None:
    migrations.upgrade(db, lock=tmp_path / "migrate.lock")
