"""`python -m finery.migrations revision "what it does"`: writes a revision from the difference to the tables."""

import sys
import tempfile
from pathlib import Path

from alembic import command

from finery import migrations
from finery.core.db import Database


def main(arguments: list[str]) -> int:
    """Entry point."""
    if len(arguments) != 2 or arguments[0] != "revision":
        sys.stderr.write('usage: python -m finery.migrations revision "what it does"\n')
        return 2
    with tempfile.TemporaryDirectory() as folder:
        db = Database(f"sqlite:///{Path(folder) / 'schema.db'}")
        settings = migrations.config()
        settings.attributes["database"] = db
        command.upgrade(settings, "head")
        command.revision(settings, message=arguments[1], autogenerate=True)
        db.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
