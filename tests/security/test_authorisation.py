"""Who may come in. Generated from the route table, so that a new route cannot be forgotten."""

import re
from collections.abc import Iterator

import pytest
from fastapi.routing import APIWebSocketRoute
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from finery import migrations
from finery.api import live
from finery.api.app import create_app
from finery.api.auth import COOKIE
from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.settings import Settings

OPEN = {("POST", "/api/login"), ("POST", "/api/guests")}
HOST = "http://127.0.0.1:8321"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(settings: Settings, clock: FakeClock) -> Iterator[TestClient]:
    db = Database(settings.url)
    migrations.upgrade(db, lock=settings.home / "migrate.lock")
    with TestClient(create_app(settings, db=db, clock=clock), base_url=HOST) as made:
        yield made


@pytest.fixture
def token(client: TestClient, settings: Settings) -> dict[str, str]:
    return {"Authorization": f"Bearer {settings.token_file.read_text()}"}


def api_routes(client: TestClient) -> list[tuple[str, str]]:
    found = []
    for path, verbs in client.app.openapi()["paths"].items():  # type: ignore[attr-defined]
        found += [(verb.upper(), re.sub(r"\{\w+\}", "1", path)) for verb in verbs]
    return found


def test_there_are_routes_to_check(client: TestClient) -> None:
    assert len(api_routes(client)) > 20


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}, {"Cookie": f"{COOKIE}=x"}]
)
def test_no_route_answers_a_stranger(client: TestClient, headers: dict[str, str]) -> None:
    let_in = [
        (verb, path)
        for verb, path in api_routes(client)
        if (verb, path) not in OPEN and client.request(verb, path, headers=headers).status_code != 401
    ]

    assert let_in == []


def test_every_route_refuses_a_foreign_origin_and_a_foreign_host(client: TestClient, token: dict[str, str]) -> None:
    for verb, path in api_routes(client):
        foreign = client.request(verb, path, headers={**token, "Origin": "http://evil.example"})
        assert foreign.status_code == 403, (verb, path)
        assert client.request(verb, path, headers={**token, "Host": "evil.example"}).status_code == 400, (verb, path)


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:9", "http://[::1]:8321"])
def test_any_port_of_this_machine_is_a_friendly_origin(client: TestClient, token: dict[str, str], origin: str) -> None:
    assert client.get("/api/server", headers={**token, "Origin": origin}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["null", "http://127.0.0.1.evil.example", "http://localhost@evil.example", "http://[bad"]
)
def test_lookalike_origins_are_foreign(client: TestClient, token: dict[str, str], origin: str) -> None:
    assert client.get("/api/server", headers={**token, "Origin": origin}).status_code == 403


def test_websockets_refuse_strangers_and_foreign_origins(client: TestClient, token: dict[str, str]) -> None:
    paths = [f"/api{route.path}" for route in live.router.routes if isinstance(route, APIWebSocketRoute)]
    assert len(paths) == 2
    for path in paths:
        for headers in ({}, {**token, "Origin": "http://evil.example"}):
            with (
                pytest.raises(WebSocketDisconnect),
                client.websocket_connect(path.replace("{job_id}", "1"), headers=headers),
            ):
                pass


def test_a_login_link_works_once_and_only_for_a_quarter_of_an_hour(
    client: TestClient, token: dict[str, str], clock: FakeClock
) -> None:
    first = client.post("/api/login-codes", headers=token).json()["code"]
    late = client.post("/api/login-codes", headers=token).json()["code"]

    answer = client.post("/api/login", json={"code": first})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.get("/api/server").status_code == 200
    assert client.post("/api/login", json={"code": first}).status_code == 401
    clock.sleep(16 * 60)
    assert client.post("/api/login", json={"code": late}).status_code == 401


def test_a_session_ends_with_logout_and_with_time(client: TestClient, token: dict[str, str], clock: FakeClock) -> None:
    code = client.post("/api/login-codes", headers=token).json()["code"]
    client.post("/api/login", json={"code": code})
    secret = client.cookies[COOKIE]
    clock.sleep(31 * 24 * 3600)
    assert client.get("/api/server").status_code == 401
    clock.sleep(-31 * 24 * 3600)
    assert client.get("/api/server").status_code == 200
    client.post("/api/logout")
    assert client.get("/api/server", headers={"Cookie": f"{COOKIE}={secret}"}).status_code == 401


def test_outside_the_api_only_files_are_served_and_none_of_the_machine(client: TestClient) -> None:
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/..%2f..%2f..%2fetc/passwd", "//etc/passwd"):
        answer = client.get(path)
        assert "root:" not in answer.text
    assert client.post("/anything").status_code == 405


def test_the_token_file_is_its_owners_alone(client: TestClient, settings: Settings) -> None:
    assert settings.token_file.stat().st_mode & 0o077 == 0
