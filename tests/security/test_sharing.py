"""A link to one run opens that run for reading, and nothing else. Tried on every route of the table."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from finery.api import sharing
from finery.api.auth import RECHECK_SECONDS
from finery.core.clock import FakeClock
from tests.security.conftest import Live, Offline, begin, finish, knock, operations, sockets

READABLE = {
    f"/api/jobs/1{rest}"
    for rest in (
        *("", "/events", "/metrics", "/checkpoints", "/series", "/series.csv", "/resources", "/logs", "/recipe"),
        *("/cluster", "/gradients", "/gradients/series", "/gradients/histogram", "/story", "/rules"),
        *("/rollouts", "/rollouts/steps", "/rollouts/one", "/rollouts/prompt", "/rollouts/detectors"),
    )
} | {"/api/evaluations/1/samples", "/api/evaluations/1/policies"}
OPEN = {("POST", "/api/login"), ("POST", "/api/guests")}


class Guest:
    """A browser that has nothing but the cookies of a link."""

    def __init__(self, server: Live, key: str, job_id: int = 1):
        self.server = server
        self.entry = self.ask("POST", "/api/guests", json={"job_id": job_id, "key": key})
        self.cookie = {"Cookie": f"{sharing.COOKIE}={key}"}

    def ask(self, verb: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(verb, f"{self.server.url}{path}", trust_env=False, **options)

    def status(self, verb: str, path: str) -> int:
        return self.ask(verb, path, headers=self.cookie).status_code


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, offline: Offline, clock: FakeClock) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("shared"), clock=clock)
    for name in ("shown", "hidden"):
        _, run = begin(made, name)
        run.log({"loss": 0.5}, 1)
        finish(made, run)
    yield made
    made.stop()


def shared(server: Live, **changes: Any) -> Mapping[str, Any]:
    made: Mapping[str, Any] = server.client.post("/shares", {"job_id": 1} | changes)
    return made


def key_of(share: Mapping[str, Any]) -> str:
    return str(share["link"]).partition("#key=")[2]


def until_closed(socket: ClientConnection) -> str:
    """All that is still said on a connection."""
    heard = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            heard.append(str(socket.recv(timeout=10)))
    return "".join(heard)


def test_a_guest_reads_one_run_and_is_a_stranger_everywhere_else(server: Live) -> None:
    guest = Guest(server, key_of(shared(server)))

    answers = {(verb, path): guest.status(verb, path) for verb, path in operations(server)}

    assert guest.entry.status_code == 204
    let_in = {(verb, path) for (verb, path), status in answers.items() if status != 401} - OPEN
    assert let_in <= {("GET", path) for path in READABLE}
    assert answers["GET", "/api/jobs/1"] == answers["GET", "/api/jobs/1/logs"] == 200
    assert guest.ask("GET", "/api/jobs/1", headers=guest.cookie).json()["name"] == "shown"
    assert answers["GET", "/api/evaluations/1/policies"] == 409  # let in, and told that this run is no comparison
    assert guest.status("GET", "/api/evaluations/2/policies") == 401
    assert guest.status("GET", "/api/jobs/2") == guest.status("GET", "/api/jobs/2/samples") == 401


def test_no_spelling_of_a_path_leads_a_guest_elsewhere(server: Live) -> None:
    guest = Guest(server, key_of(shared(server)))

    for path in (
        "/api/jobs/1/../2",
        "/api/jobs/1%2f..%2f2",
        "/api/jobs/1/%2e%2e/2",
        "/api/jobs/01/logs/",
        "/api//jobs/2",
        "/api/jobs/1/logs/../../2",
        "/api/jobs/2?x=/api/jobs/1",
        "/api/jobs/%31%32",
    ):
        answer = guest.ask("GET", path, headers=guest.cookie)
        assert answer.status_code in (401, 404, 307), path
        assert "hidden" not in answer.text, path


def test_a_guest_follows_the_websocket_of_that_run_alone(server: Live) -> None:
    guest = Guest(server, key_of(shared(server)))

    answers = {path: knock(server, path, guest.cookie) for path in [*sockets(), "/api/jobs/2/live"]}

    assert answers.pop("/api/jobs/1/live") == 101
    assert len(answers) == 2
    assert set(answers.values()) == {403}


def test_an_open_websocket_is_told_nothing_more_once_the_link_is_withdrawn(server: Live) -> None:
    share = shared(server)
    address = f"ws://127.0.0.1:{server.port}/api/jobs/1/live"
    cookie = {"Cookie": f"{sharing.COOKIE}={key_of(share)}"}
    with connect(address, additional_headers=cookie, proxy=None) as socket:
        assert '"kind":"event"' in socket.recv(timeout=10)
        server.client.delete(f"/shares/{share['id']}")
        time.sleep(RECHECK_SECONDS + 0.1)
        server.client.patch("/jobs/1", {"notes": "written after the end"})

        rest = until_closed(socket)

    assert socket.close_code == 4403
    assert "written after the end" not in rest


def test_a_link_ends_with_time_and_when_it_is_withdrawn(server: Live, clock: FakeClock) -> None:
    brief, other = shared(server, days=1), shared(server, days=30)
    guest, second = Guest(server, key_of(brief)), Guest(server, key_of(other))
    assert guest.status("GET", "/api/jobs/1") == 200

    clock.sleep(25 * 3600)
    assert guest.status("GET", "/api/jobs/1") == 401
    assert Guest(server, key_of(brief)).entry.status_code == 401
    assert second.status("GET", "/api/jobs/1") == 200

    server.client.delete(f"/shares/{other['id']}")
    assert second.status("GET", "/api/jobs/1") == 401
    assert Guest(server, key_of(other)).entry.status_code == 401


def test_a_link_of_one_run_does_not_open_another_and_a_guessed_key_none(server: Live) -> None:
    key = key_of(shared(server))

    assert Guest(server, key, job_id=2).entry.status_code == 401
    assert Guest(server, key[:-1] + ("a" if key[-1] != "a" else "b")).entry.status_code == 401


def test_the_cookies_go_to_the_run_alone_and_scripts_cannot_read_them(server: Live) -> None:
    cookies = Guest(server, key_of(shared(server))).entry.headers.get_list("set-cookie")

    assert sorted(part for cookie in cookies for part in cookie.split("; ") if part.startswith("Path=")) == [
        "Path=/api/evaluations/1",
        "Path=/api/jobs/1",
    ]
    assert all("HttpOnly" in cookie and "SameSite=strict" in cookie for cookie in cookies)


def test_the_key_of_a_link_is_shown_once_and_kept_nowhere(server: Live) -> None:
    share = shared(server)

    listed = server.client.get("/shares", job_id=1)["shares"]

    assert share["id"] in [item["id"] for item in listed]
    assert all("link" not in item for item in listed)
    home: Path = server.settings.home
    stored = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert key_of(share).encode() not in stored
