"""A real server of an own home, in this process, that can reach nothing but itself."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.routing import APIWebSocketRoute

from finery import migrations
from finery.api import live as live_routes
from finery.api.app import create_app
from finery.api.auth import COOKIE
from finery.core import processes
from finery.core.client import Client
from finery.core.clock import Clock, SystemClock
from finery.core.db import Database
from finery.core.rundir import ExitRecord, Run
from finery.core.settings import Settings
from finery.worker.loop import Worker

_TLS = ssl.create_default_context()
"""Made once: it takes longer than a request."""


class Offline:
    """Lets this process connect to itself only. What else was tried is kept."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.tried: list[str] = []
        self._connect = socket.socket.connect
        self._look_up = socket.getaddrinfo
        patch.setattr(socket.socket, "connect", lambda own, address: self._guarded(own, address))
        patch.setattr(socket, "getaddrinfo", self._resolved)

    def _guarded(self, own: socket.socket, address: Any) -> Any:
        if own.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
            self.tried.append(str(address))
            raise ConnectionRefusedError(f"this test reaches nothing outside: {address}")
        return self._connect(own, address)

    def _resolved(self, host: Any, *rest: Any, **options: Any) -> Any:
        if host not in (None, "127.0.0.1", "::1", "localhost"):
            self.tried.append(str(host))
            raise socket.gaierror(socket.EAI_NONAME, f"this test looks nothing up: {host}")
        return self._look_up(host, *rest, **options)


class Live:
    """A server that listens, its home and a client with the token."""

    def __init__(self, home: Path, *, clock: Clock | None = None, **options: Any):
        self.settings = Settings(home=home, **options)
        self.db = Database(self.settings.url)
        migrations.upgrade(self.db, lock=home / "migrate.lock")
        self.app = create_app(self.settings, db=self.db, clock=clock)
        config = uvicorn.Config(self.app, port=0, log_level="warning", server_header=False, proxy_headers=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = self.settings.token_file.read_text()
        self.authorization = {"Authorization": f"Bearer {self.token}"}
        self.client = Client(self.url, self.token)

    def stop(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self.db.close()

    def files(self) -> set[Path]:
        """What lies in the home, but for the database."""
        home = self.settings.home
        return {path for path in home.rglob("*") if path.is_file() and not path.name.startswith("finery.db")}


@pytest.fixture(scope="module")
def offline() -> Iterator[Offline]:
    patch = pytest.MonkeyPatch()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        patch.delenv(name, raising=False)
    yield Offline(patch)
    patch.undo()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, offline: Offline) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("live"), max_upload_bytes=1 << 20)
    yield made
    made.stop()


def begin(live: Live, name: str = "seeded", **spec: Any) -> tuple[int, Run]:
    """A run that this process reports into, and its id."""
    body = {
        "spec": {"name": name, "kind": "external", "task": {}, **spec},
        "process": processes.identify().model_dump(),
    }
    begun = live.client.post("/jobs/external", body)
    return int(begun["job"]["id"]), Run.open(Path(begun["run_dir"]))


def finish(live: Live, run: Run, *, code: int = 0, cause: str = "") -> None:
    """End a run, and store what it wrote as the worker does."""
    run.status("failed" if code else "completed", cause)
    run.events.close()
    now = time.time()
    end = ExitRecord(
        code=code, signal=None, oom_kills=0, last_heartbeat=now, ended_at=now, cause=cause, recorded_by="script"
    )
    run.dir.write_exit(end)
    worker = Worker(live.db, live.settings, SystemClock())
    worker.tick()
    worker.tick()
    worker.close()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory, offline: Offline) -> Iterator[Live]:
    """The server of another home: its tokens and sessions mean nothing elsewhere."""
    made = Live(tmp_path_factory.mktemp("foreign"))
    yield made
    made.stop()


def log_in(server: Live) -> str:
    """The secret of a fresh browser session."""
    code = server.client.post("/login-codes")["code"]
    answer = fetch("POST", f"{server.url}/api/login", json={"code": code})
    return answer.cookies[COOKIE]


def operations(server: Live) -> list[tuple[str, str]]:
    """Verb and path of every route under /api, with parameters filled in."""
    found = []
    for path, verbs in server.app.openapi()["paths"].items():
        filled = re.sub(r"\{\w+\}", "1", path.replace("{sha256}", "0" * 64).replace("{verb}", "set"))
        found += [(verb.upper(), filled) for verb in verbs]
    return found


def sockets() -> list[str]:
    """Paths of the websockets."""
    routes = [route for route in live_routes.router.routes if isinstance(route, APIWebSocketRoute)]
    return [f"/api{route.path.replace('{job_id}', '1')}" for route in routes]


def knock(server: Live, path: str, headers: Mapping[str, str]) -> int:
    """What a websocket handshake is answered: 101, or the status of the refusal."""
    lines = {"Host": f"127.0.0.1:{server.port}", **headers}
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(
            f"GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n".encode()
            + b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
            + b"\r\n"
        )
        return int(wire.recv(4096).split()[1])


def fetch(verb: str, url: str | httpx.URL, **options: Any) -> httpx.Response:
    """One request with a client of its own: no cookie and no connection is left from another."""
    options.setdefault("timeout", 30)
    return httpx.request(verb, url, trust_env=False, verify=_TLS, **options)
