"""Fixtures of all tests: a real database (SQLite and PostgreSQL), a home, and what is skipped and why."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from finery import migrations
from finery.core.db import Database
from finery.core.settings import Settings

REQUIRE_ALL = bool(os.environ.get("FINERY_REQUIRE_ALL"))
"""On a machine that is meant to have everything, a missing program is a failure."""

_missing: dict[str, list[str]] = {}


def need(what: str, is_there: bool, request: pytest.FixtureRequest | None = None) -> None:
    """Skip the test, and list it at the end, when a program that it needs is absent."""
    if is_there:
        return
    if REQUIRE_ALL:
        pytest.fail(f"{what} is required here (FINERY_REQUIRE_ALL) and absent")
    name = request.node.nodeid if request else os.environ.get("PYTEST_CURRENT_TEST", "?").split(" ")[0]
    _missing.setdefault(what, []).append(name)
    pytest.skip(f"{what} is absent")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, tests in _missing.items():
        terminalreporter.write_line(f"not run, because {what} is absent: {len(tests)} tests")
        for name in tests:
            terminalreporter.write_line(f"  {name}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "learning" in config.getoption("-m"):
        return
    for item in items:
        if item.get_closest_marker("learning"):
            item.add_marker(pytest.mark.skip(reason="run by `make test-learning`"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data that the project does not contain."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("FINERY_TEST_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder} (FINERY_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str | None]:
    """A PostgreSQL server of this test run; None where its programs are absent."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = programs[-1] if programs else Path(shutil.which("initdb") or "/none").parent
    if not (found / "initdb").exists():
        yield None
        return
    # Not under pytest's folder: that is closed to the user whom PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="finery-postgres-"))
    user = _owner(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = {"check": True, "capture_output": True, "user": user}
    subprocess.run([found / "initdb", "-D", folder / "data", "-U", "finery", "-A", "trust", "-N"], **run)
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
    start = [found / "pg_ctl", "-D", folder / "data", "-w", "-o", options, "-l", folder / "log", "start"]
    subprocess.run(start, **run)
    try:
        yield f"postgresql+psycopg://finery@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([found / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"], **run)
        shutil.rmtree(folder)


def _owner(folder: Path) -> int | None:
    """The user to run PostgreSQL as; it refuses to run as root."""
    if os.getuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(folder, nobody, -1)
    return nobody


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server = request.getfixturevalue("postgres_url")
    need("PostgreSQL", server is not None, request)
    name = f"test_{os.urandom(6).hex()}"
    admin = Database(server)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name}"))
    yield server.rsplit("/", 1)[0] + f"/{name}"
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    admin.close()


@pytest.fixture
def db(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """A migrated database of each kind."""
    made = Database(database_url)
    migrations.upgrade(made, lock=tmp_path / "migrate.lock")
    yield made
    made.close()
