"""SQLite files of other programs, opened so that nothing beside or inside them changes."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from finery.core.errors import InvalidSpec, Unavailable

_MAGIC = b"SQLite format 3\x00"
_READ_VERSION_OFFSET = 19
_WAL = 2


def is_database(path: Path) -> bool:
    """Whether the path is a file that starts as SQLite files do."""
    return path.is_file() and _head(path).startswith(_MAGIC)


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file for reading; a program that writes to it at the same time is not disturbed.

    Raises:
        InvalidSpec: The file is no SQLite database, is damaged, or lacks a column that is asked for.
        Unavailable: Another program keeps it locked.
    """
    if not is_database(path):
        raise InvalidSpec(f"{path} is not an SQLite database; name the database file that the tracker wrote.")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{_mode(path)}", uri=True)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise Unavailable(f"{path} is locked by another program; try again when it has finished.") from error
        raise InvalidSpec(
            f"{path} could not be read as a database of the tracker ({error}); expected a whole SQLite file that a "
            "current version of it wrote, so copy it again, together with its -wal file, or upgrade it there first."
        ) from error


def columns(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """Names of a table's columns; empty when there is no such table."""
    return frozenset(name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _mode(path: Path) -> str:
    """A reader of a write-ahead database leaves -wal and -shm files behind, unless it is told that nobody writes."""
    is_wal = _head(path)[_READ_VERSION_OFFSET : _READ_VERSION_OFFSET + 1] == bytes([_WAL])
    has_log = path.with_name(f"{path.name}-wal").exists()
    return "immutable=1" if is_wal and not has_log else "mode=ro"
