"""Fixtures of all tests: a real database (SQLite and PostgreSQL), a home, and what is skipped and why."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from finery import migrations
from finery.core.db import Database
from finery.core.settings import Settings

REQUIRE_ALL = bool(os.environ.get("FINERY_REQUIRE_ALL"))
"""On a machine that is meant to have everything, a missing program is a failure."""

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Tests run side by side; more threads would only fight."""

ABSENT = " is absent"
"""Ends the reason of a skip that is listed by name at the end."""


def need(what: str, is_there: bool) -> None:
    """Skip the test, and list it at the end, when a program that it needs is absent."""
    if is_there:
        return
    if REQUIRE_ALL:
        pytest.fail(f"{what} is required here (FINERY_REQUIRE_ALL) and absent")
    pytest.skip(f"{what}{ABSENT}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped by name: reports travel from the processes that ran the tests, variables do not."""
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if reason.endswith(ABSENT):
            terminalreporter.write_line(f"not run, {reason.removeprefix('Skipped: ')}: {report.nodeid}")


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of this test run, the same one in all of its processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The longest first: one that comes last keeps a single core busy while the others have nothing left.
    items.sort(key=lambda item: not any(name in item.nodeid for name in ("test_kills", "verl/test_platform")))
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


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind of database -> a migrated one to copy, made when it is first needed: migrating takes longer than a test."""
    return {"folder": str(tmp_path_factory.mktemp("templates"))}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server = request.getfixturevalue("postgres_url")
    need("PostgreSQL", server is not None)
    with _postgres_database(server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, templates: dict[str, str], tmp_path: Path) -> Iterator[Database]:
    """A migrated database of each kind."""
    if request.param == "sqlite":
        template = Path(templates["folder"]) / "template.db"
        if not template.exists():
            _migrate(f"sqlite:///{template}", tmp_path)
        made = Database(f"sqlite:///{shutil.copyfile(template, tmp_path / 'test.db')}")
        yield made
        made.close()
        return
    server = request.getfixturevalue("postgres_url")
    need("PostgreSQL", server is not None)
    if "postgresql" not in templates:
        templates["postgresql"] = f"template_{os.urandom(6).hex()}"
        _run_sql(server, f"create database {templates['postgresql']}")
        _migrate(_beside(server, templates["postgresql"]), tmp_path)
    with _postgres_database(server, f"template {templates['postgresql']}") as url:
        made = Database(url)
        yield made
        made.close()


@contextmanager
def _postgres_database(server: str, options: str = "") -> Iterator[str]:
    """A database of its own, until the end of the block."""
    name = f"test_{os.urandom(6).hex()}"
    _run_sql(server, f"create database {name} {options}")
    try:
        yield _beside(server, name)
    finally:
        _run_sql(server, f"drop database {name} with (force)")


def _beside(server: str, name: str) -> str:
    return f"{server.rsplit('/', 1)[0]}/{name}"


def _run_sql(server: str, statement: str) -> None:
    admin = Database(server)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    admin.close()


def _migrate(url: str, folder: Path) -> None:
    made = Database(url)
    migrations.upgrade(made, lock=folder / "migrate.lock")
    made.close()
