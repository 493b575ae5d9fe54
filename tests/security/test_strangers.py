"""Every route and verb, from the route table: without a token, with a wrong, an ended or another home's one."""

import re
from collections.abc import Iterator

import httpx
import pytest

from finery.api.auth import COOKIE
from finery.core.clock import FakeClock
from tests.security.conftest import Live, Offline, fetch, knock, log_in, operations, sockets
from tests.security.test_authorisation import OPEN

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW")


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory, offline: Offline) -> Iterator[tuple[Live, str]]:
    """A server on which a month has gone by since the login."""
    clock = FakeClock()
    made = Live(tmp_path_factory.mktemp("aged"), clock=clock)
    secret = log_in(made)
    clock.sleep(30 * 24 * 3600 + 1)
    yield made, secret
    made.stop()


def statuses(server: Live, headers: dict[str, str]) -> dict[tuple[str, str], int]:
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as http:
        found = {(verb, path): http.request(verb, path).status_code for verb, path in operations(server)}
    return {key: status for key, status in found.items() if key not in OPEN}


def assert_shut(server: Live, headers: dict[str, str]) -> None:
    found = statuses(server, headers)
    assert len(found) > 40
    assert {key: status for key, status in found.items() if status != 401} == {}
    assert len(sockets()) >= 2
    assert {path: knock(server, path, headers) for path in sockets()} == dict.fromkeys(sockets(), 403)


def test_credentials_that_were_never_valid_open_nothing(live: Live) -> None:
    token = live.token
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {token[:-1]}"},
        {"Authorization": f"Bearer {token}x"},
        {"Authorization": f"Bearer {token.swapcase()}"},
        {"Authorization": f"Basic {token}"},
        {"Authorization": token},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": f"{COOKIE}={token}"},
        {"Cookie": "; ".join(f"{COOKIE}{n}=x" for n in range(300))},
        {"X-Forwarded-For": "127.0.0.1", "X-Original-URL": "/api/login", "X-HTTP-Method-Override": "POST"},
    ):
        assert_shut(live, headers)


def test_the_token_is_no_parameter(live: Live) -> None:
    for name in ("token", "access_token", "authorization", "code"):
        assert fetch("GET", f"{live.url}/api/server", params={name: live.token}).status_code == 401


def test_token_and_session_of_another_home_open_nothing(live: Live, foreign: Live) -> None:
    assert_shut(live, foreign.authorization)
    session = log_in(foreign)
    assert fetch("GET", f"{foreign.url}/api/server", headers={"Cookie": f"{COOKIE}={session}"}).status_code == 200
    assert_shut(live, {"Cookie": f"{COOKIE}={session}"})


def test_a_session_that_has_expired_opens_nothing(aged: tuple[Live, str]) -> None:
    server, secret = aged

    assert_shut(server, {"Cookie": f"{COOKIE}={secret}"})


def test_a_session_that_was_logged_out_opens_nothing(live: Live) -> None:
    cookie = {"Cookie": f"{COOKIE}={log_in(live)}"}
    other = {"Cookie": f"{COOKIE}={log_in(live)}"}
    assert fetch("POST", f"{live.url}/api/logout", headers=cookie).status_code == 204

    assert_shut(live, cookie)
    assert fetch("GET", f"{live.url}/api/server", headers=other).status_code == 200


def test_a_path_in_disguise_does_not_pass_the_door(live: Live) -> None:
    """What the guard takes for a page must not reach a route."""
    for path in ("//api/server", "/./api/server", "/x/../api/server", "/API/server", "/%61pi/server", "/api%2fserver"):
        raw = httpx.URL(live.url).copy_with(raw_path=path.encode())
        answer = fetch("GET", raw, follow_redirects=True)
        assert answer.status_code == 401 or "home" not in answer.text, (path, answer.status_code)
        assert str(live.settings.home) not in answer.text


def test_a_verb_that_a_path_does_not_have_is_405(live: Live) -> None:
    with httpx.Client(base_url=live.url, headers=live.authorization, trust_env=False) as http:
        for path in sorted({path for _, path in operations(live)}):
            for verb in VERBS:
                if not has(live, verb, path):
                    assert http.request(verb, path).status_code == 405, (verb, path)
        for verb in VERBS[2:]:
            assert http.request(verb, "/").status_code == 405
            assert http.request(verb, "/api/none").status_code == 405
        assert http.get("/api/none").status_code == 404


def has(server: Live, verb: str, path: str) -> bool:
    """Whether a template takes it: `/jobs/check` is also a job called `check`."""
    return any(
        verb.lower() in verbs and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        for template, verbs in server.app.openapi()["paths"].items()
    )
