"""Secrets are searched for where they could leak: logs, run directories, command lines, database, answers, messages."""

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from finery.api.auth import COOKIE
from tests.platform import FINERY, Server, end_strays, sft_job
from tests.security.conftest import fetch

STORED = "stored-secret-Zq83kd02mfnAy"
HUB = "hf_from-the-environment-Pw71kc"
PASSWORD = "database-password-Xm29sb"


class Guarded(NamedTuple):
    """A server that a whole story was played on, and all that must not be found."""

    server: Server
    secrets: dict[str, str]
    answers: list[str]
    """Everything that it said on the way."""
    command_lines: set[str]
    """Of every process, while the job ran."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Log in, store a secret, train, fail, ask for what is not there, log out."""
    home = tmp_path_factory.mktemp("leaks") / "home"
    home.mkdir()
    server = Server(home, HF_TOKEN=HUB, HF_HUB_OFFLINE="1")
    try:
        yield play(server)
    finally:
        server.stop()
        end_strays(home)


def play(server: Server) -> Guarded:
    url = server.client.url
    token = (server.home / "token").read_text()
    code = server.client.post("/login-codes")["code"]
    unused = server.client.post("/login-codes")["code"]
    login = fetch("POST", f"{url}/api/login", json={"code": code})
    session = login.cookies[COOKIE]
    cookie = {"Cookie": f"{COOKIE}={session}"}
    server.client.put("/secrets/MINE", {"value": STORED})
    key = (server.home / "secret.key").read_text()
    secrets = {"token": token, "session": session, "code": code, "unused code": unused}
    secrets |= {"stored": STORED, "hub": HUB, "key": key}

    server.generate("sums", num_rows=50, format="sft")
    job = server.submit(sft_job(steps=40))
    server.await_step(job, 1)
    lines = command_lines()
    server.await_state(job, "completed")
    answers = [login.text]
    for verb, path, body in refused(secrets):
        for who in (cookie, {"Authorization": f"Bearer {token}"}):
            answers.append(fetch(verb, f"{url}/api{path}", json=body, headers=who).text)
    for path in ("", "/logs", "/events", "/series", "/metrics", "/recipe", "/rollouts"):
        answers.append(fetch("GET", f"{url}/api/jobs/{job}{path}", headers=cookie).text)
    for path in ("/server", "/devices", "/jobs", "/jobs/fields", "/secrets", "/datasets", "/recipes", "/openapi.json"):
        answers.append(fetch("GET", f"{url}/api{path}", headers=cookie).text)
    for wrong in ({"Authorization": f"Bearer {token}x"}, {"Cookie": f"{COOKIE}={session}x"}):
        answers.append(fetch("GET", f"{url}/api/server", headers=wrong).text)
    assert fetch("POST", f"{url}/api/logout", headers=cookie).status_code == 204
    return Guarded(server, secrets, answers, lines)


def refused(secrets: dict[str, str]) -> Iterator[tuple[str, str, object]]:
    """Requests that are wrong, with a secret in what is quoted back carelessly."""
    stored = secrets["stored"]
    yield "PUT", "/secrets/MINE", {"value": stored, "extra": 1}
    yield "PUT", "/secrets/MINE", {"value": [stored]}
    yield "PUT", "/secrets/MINE", {"valeu": stored}
    yield "PUT", "/secrets/MINE", {"value": stored * 4000}
    yield "PUT", "/secrets/MINE", stored
    yield "PUT", "/secrets/lower", {"value": stored}
    yield "PUT", "/secrets/MINE", {"value": f"{stored}\0"}
    yield "POST", "/login", {"code": secrets["code"]}
    yield "POST", "/login", {"code": [secrets["unused code"]]}
    yield "POST", "/login", {"cod": secrets["unused code"]}
    yield "GET", "/secrets/MINE", None
    yield "POST", "/secrets/MINE", None


def command_lines() -> set[str]:
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.add(" ".join(process.cmdline()))
    return found


def assert_absent(text: bytes, secrets: dict[str, str], where: object, *, but: tuple[str, ...] = ()) -> None:
    found = [name for name, secret in secrets.items() if name not in but and secret.encode() in text]
    assert found == [], where


def test_no_answer_and_no_message_says_a_secret(story: Guarded) -> None:
    assert len(story.answers) > 30
    for answer in story.answers:
        assert_absent(answer.encode(), story.secrets, answer[:200])


def test_no_command_line_has_one(story: Guarded) -> None:
    assert any("finery" in line and "attempt-1" in line for line in story.command_lines)
    for line in story.command_lines:
        assert_absent(line.encode(), story.secrets, line)


def test_no_file_has_one_but_those_that_are_for_it(story: Guarded) -> None:
    """Logs, specs, run directories, objects, the database with its journal: all of the home."""
    own = {"token": ("token",), "secret.key": ("key",)}
    files = [path for path in story.server.home.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"spec.json", "stdout.log", "rank0.jsonl", "api.log", "worker.log", "finery.db"} <= names
    for path in files:
        assert_absent(path.read_bytes(), story.secrets, path, but=own.get(path.name, ()))


def test_no_log_beside_the_home_has_one_but_the_link_for_the_person(story: Guarded) -> None:
    """`finery up` prints a login link: a code of its own, and never the token."""
    assert_absent((story.server.home.parent / "up.log").read_bytes(), story.secrets, "up.log")


def test_the_database_holds_hashes_only(story: Guarded) -> None:
    with sqlite3.connect(f"file:{story.server.home / 'finery.db'}?mode=ro", uri=True) as database:
        dump = "\n".join(database.iterdump())
    assert "browser_session" in dump
    assert_absent(dump.encode(), story.secrets, "dump")


def test_files_with_secrets_are_their_owner_s_alone(story: Guarded) -> None:
    home = story.server.home
    for path in (home / "token", home / "secret.key"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (home / "secrets").stat().st_mode & 0o077 == 0


def test_a_home_that_finery_makes_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Data, prompts, models and logs are nobody else's business on a shared machine."""
    home = tmp_path / "parent" / "home"
    tmp_path.joinpath("parent").mkdir()
    server = Server(home)
    try:
        assert home.stat().st_mode & 0o077 == 0
    finally:
        server.stop()
        end_strays(home)


def test_a_database_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://finery:{PASSWORD}@127.0.0.1:1/none"
    environment = {**os.environ, "FINERY_HOME": str(tmp_path), "FINERY_DATABASE_URL": url}
    done = subprocess.run(
        [*FINERY, "up", "--port", "0"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "127.0.0.1" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
