"""Pages of other sites, and names that other sites give this machine: refused on every verb and on the websocket."""

import socket

import httpx
import pytest

from finery.api.auth import COOKIE
from tests.security.conftest import Live, fetch, knock, log_in, operations, sockets

FOREIGN = [
    "null",
    "",
    "http://evil.example",
    "https://evil.example:8321",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://evil.example/127.0.0.1",
    "http://evil.example#@localhost",
    "http://evil.example?localhost",
    "http://localhost@evil.example",
    "http://evil.example@localhost",
    "http://localhost:80@evil.example",
    "http://evil.example\\@localhost",
    "http://localhost/",
    "http://localhost:99999999",
    "http://localhost:-1",
    "http://localhost:80:80",
    "http://localhost:eighty",
    "http://localhost.",
    "http://localhost%00.evil.example",
    "http://xn--localhst-b9a.example",
    "http://127.1",
    "http://2130706433",
    "http://0x7f000001",
    "http://0.0.0.0",
    "http://[::]",
    "http://[::ffff:127.0.0.1]",
    "http://[fe80::1]",
    "http://[::1",
    "http://::1",
    "http://[::1]evil.example",
    "http://192.168.0.1",
    "file://",
    "file://localhost",
    "chrome-extension://localhost",
    "localhost",
    "//localhost",
    "javascript://localhost",
    "http://localhost http://evil.example",
    "http://evil.example, http://localhost",
]
FRIENDLY = [
    "http://127.0.0.1:1",
    "http://localhost:65535",
    "https://localhost",
    "http://[::1]:8321",
    "http://LOCALHOST",
]
REBOUND = [
    "evil.example",
    "evil.example:8321",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example@127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1#.evil.example",
    "127.0.0.1/.evil.example",
    "127.0.0.1?evil.example",
    "127.0.0.1\\evil.example",
    "localhost.",
    "127.1",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "[::]",
    "[::1",
    "127.0.0.1:80:80",
    "127.0.0.1:x",
    "",
]


def test_every_verb_refuses_a_foreign_origin_also_with_a_session(live: Live) -> None:
    cookie = {"Cookie": f"{COOKIE}={log_in(live)}"}
    with httpx.Client(base_url=live.url, trust_env=False) as http:
        for origin in ("http://evil.example", "null"):
            for verb, path in operations(live):
                for who in (cookie, live.authorization):
                    answer = http.request(verb, path, headers={**who, "Origin": origin})
                    assert answer.status_code == 403, (verb, path, origin)
                    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", FOREIGN)
def test_an_origin_that_only_looks_like_this_machine_is_foreign(live: Live, origin: str) -> None:
    headers = {**live.authorization, "Origin": origin}
    assert fetch("GET", f"{live.url}/api/server", headers=headers).status_code == 403
    assert {knock(live, path, headers) for path in sockets()} == {403}


@pytest.mark.parametrize("origin", FRIENDLY)
def test_any_port_of_this_machine_is_friendly(live: Live, origin: str) -> None:
    headers = {**live.authorization, "Origin": origin}
    answer = fetch("GET", f"{live.url}/api/server", headers=headers)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    assert knock(live, "/api/live", headers) == 101


def test_a_websocket_needs_no_origin_but_a_caller(live: Live) -> None:
    assert knock(live, "/api/live", live.authorization) == 101
    assert knock(live, "/api/live", {"Cookie": f"{COOKIE}={log_in(live)}"}) == 101
    assert knock(live, "/api/live", {"Origin": "http://localhost"}) == 403


@pytest.mark.parametrize("host", REBOUND)
def test_a_name_that_was_rebound_to_this_machine_is_refused(live: Live, host: str) -> None:
    """Pages too, or a page of a rebound name would be the UI with a session to steal."""
    headers = {**live.authorization, "Host": host}
    for path in ("/api/server", "/", "/runs"):
        assert fetch("GET", live.url + path, headers=headers).status_code == 400, path
    assert {knock(live, path, headers) for path in sockets()} <= {400, 403}


def test_every_verb_refuses_a_foreign_host(live: Live) -> None:
    with httpx.Client(base_url=live.url, headers=live.authorization, trust_env=False) as http:
        for verb, path in operations(live):
            assert http.request(verb, path, headers={"Host": "evil.example"}).status_code == 400, (verb, path)


def test_a_second_origin_or_host_does_not_hide_the_first(live: Live) -> None:
    """In either order; said on the wire, since no client would."""
    host, origin = f"Host: 127.0.0.1:{live.port}", f"Origin: {live.url}"
    for lines in (
        (host, "Host: evil.example"),
        ("Host: evil.example", host),
        (host, origin, "Origin: http://evil.example"),
        (host, "Origin: http://evil.example", origin),
    ):
        request = ["GET /api/server HTTP/1.1", *lines, f"Authorization: Bearer {live.token}", "", ""]
        with socket.create_connection(("127.0.0.1", live.port), timeout=10) as wire:
            wire.sendall("\r\n".join(request).encode())
            assert int(wire.recv(4096).split()[1]) in (400, 403), lines


def test_forwarding_headers_change_nothing(live: Live) -> None:
    """The link of a login names the server, not what a header claims."""
    headers = {**live.authorization, "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    link = fetch("POST", f"{live.url}/api/login-codes", headers=headers).json()["link"]
    assert link.startswith(f"{live.url}/login#code=")


def test_a_preflight_is_granted_nothing(live: Live) -> None:
    headers = {"Origin": "http://localhost:9", "Access-Control-Request-Method": "POST"}
    answer = fetch("OPTIONS", f"{live.url}/api/jobs", headers=headers)
    assert answer.status_code in (401, 405)
    assert not [name for name in answer.headers if name.startswith("access-control")]
