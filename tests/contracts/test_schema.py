"""The migrations and the tables say the same, on both databases."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

import finery.api.tables
import finery.datasets.tables
import finery.experiments.tables
import finery.jobs.tables
import finery.monitoring.tables
import finery.notifying.tables  # noqa: F401 - the tables register themselves
from finery import migrations
from finery.core.db import Database, Table


def test_the_migrated_schema_is_the_one_of_the_tables(db: Database) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_upgrading_twice_changes_nothing(db: Database, tmp_path: Path) -> None:
    before = described(db)

    migrations.upgrade(db, lock=tmp_path / "migrate.lock")

    assert described(db) == before


def described(db: Database) -> dict[str, list[str]]:
    """Table -> columns with their types, and the version of the schema."""
    looked_at = inspect(db.engine)
    found = {
        name: [f"{column['name']} {column['type']}" for column in looked_at.get_columns(name)]
        for name in looked_at.get_table_names()
    }
    with db.engine.connect() as connection:
        found["version"] = list(MigrationContext.configure(connection).get_current_heads())
    assert len(found) > 5
    return found
