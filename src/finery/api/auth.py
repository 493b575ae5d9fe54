"""Who may come in: the token of this home, or a browser that exchanged a one-time code for a cookie.

Default deny, as middleware: a route cannot forget it. Everything under /api needs a caller but the login itself and the
entry of guests, who may read the one run that a link was made for (sharing.py). Outside /api there are only the files
of the web UI, and /metrics, which a token of its own may read as well. Host and Origin are checked on every request and
on the websocket.
"""

import hmac
import os
import re
import secrets
import time
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finery.api import cookies, sharing
from finery.api.failures import refuse
from finery.api.tables import BrowserSession, LoginCode
from finery.core.clock import Clock
from finery.core.db import Database
from finery.core.errors import Unauthorized
from finery.core.settings import Settings

COOKIE = "finery_session"
METRICS_PATH = "/metrics"
CODE_LIFETIME = timedelta(minutes=15)
SESSION_LIFETIME = timedelta(days=30)
RECHECK_SECONDS = 2.0
"""A websocket is asked again whether it may be told things at most so often."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_OPEN = frozenset({("POST", "/api/login"), ("POST", "/api/guests")})
_AUTHORITY = re.compile(r"(?:(?P<name>[a-z0-9._-]+)|\[(?P<address>[0-9a-f:.]+)\])(?::\d{1,5})?")


def ensure_token(path: Path) -> str:
    """The token of this home; made at the first call, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(handle, "w") as file:
        token = secrets.token_urlsafe(32)
        file.write(token)
    return token


def new_code(session: Session, *, now: datetime) -> str:
    """Make a one-time code for a login link."""
    session.execute(delete(LoginCode).where(LoginCode.expires_at < now))
    code = secrets.token_urlsafe(24)
    session.add(LoginCode(sha256=cookies.digest(code), expires_at=now + CODE_LIFETIME))
    return code


def exchange(session: Session, code: str, *, now: datetime) -> str:
    """Take a one-time code and return the secret of a new browser session.

    Raises:
        Unauthorized: the code is unknown, was used or has expired.
    """
    used = session.execute(
        delete(LoginCode).where(LoginCode.sha256 == cookies.digest(code), LoginCode.expires_at >= now)
    )
    if used.rowcount != 1:  # type: ignore[attr-defined]
        raise Unauthorized("this login link was used or has expired; `finery login-link` prints a new one")
    secret = secrets.token_urlsafe(32)
    session.add(BrowserSession(sha256=cookies.digest(secret), created_at=now, expires_at=now + SESSION_LIFETIME))
    return secret


def end(session: Session, secret: str) -> None:
    """Log a browser out."""
    session.execute(delete(BrowserSession).where(BrowserSession.sha256 == cookies.digest(secret)))


class Guard:
    """Middleware that lets in who may."""

    def __init__(self, app: ASGIApp, *, db: Database, settings: Settings, clock: Clock, token: str, metrics_token: str):
        self._app = app
        self._db = db
        self._clock = clock
        self._token = token.encode()
        self._metrics_token = metrics_token.encode()
        extra = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
        self._hosts = _LOOPBACK | extra | ({settings.host.lower()} - {"0.0.0.0", "::"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, self._watched(scope, headers, send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403, "reason": refusal[2][:100]})
        else:
            await refuse(send, *refusal)

    def _watched(self, scope: Scope, headers: dict[str, str], send: Send) -> Send:
        """A websocket outlives the request that opened it: who has been logged out since then is told no more."""
        if scope["type"] != "websocket":
            return send
        checked_at = time.monotonic()
        is_closed = False

        async def send_while_allowed(message: Message) -> None:
            nonlocal checked_at, is_closed
            if message["type"] == "websocket.send" and time.monotonic() - checked_at > RECHECK_SECONDS:
                checked_at = time.monotonic()
                refusal = self._refusal(scope, headers)
                if refusal is not None and not is_closed:
                    is_closed = True
                    await send({"type": "websocket.close", "code": 4403, "reason": refusal[2][:100]})
            if not is_closed:
                await send(message)

        return send_while_allowed

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, str] | None:
        names = [name.lower() for name, _ in scope["headers"]]
        if names.count(b"host") > 1 or names.count(b"origin") > 1:
            return 400, "bad_request", "the request names its host or origin twice"
        if _host(headers.get("host", "")) not in self._hosts:
            return 400, "bad_host", "this host name is not allowed; set FINERY_ALLOWED_HOSTS to add it"
        origin = headers.get("origin")
        if origin is not None and _origin_host(origin) not in self._hosts:
            return (
                403,
                "foreign_origin",
                "requests from this origin are not allowed; set FINERY_ALLOWED_HOSTS to add it",
            )
        verb = scope.get("method", "GET")
        path: str = scope["path"]
        if not (path == "/api" or path.startswith("/api/")):
            if verb not in ("GET", "HEAD"):
                return 405, "method_not_allowed", "only files are served here"
            is_open = path != METRICS_PATH or self._may_scrape(headers)
            return None if is_open else (401, "unauthorized", "send the token of `finery token metrics`")
        if (verb, path) in _OPEN:
            return None
        caller = self._caller(headers) or self._guest(verb, path, headers)
        if caller is None:
            return 401, "unauthorized", "log in first: `finery login-link` prints a link; programs send the token"
        scope.setdefault("state", {})["caller"] = caller
        return None

    def _may_scrape(self, headers: dict[str, str]) -> bool:
        is_own = hmac.compare_digest(_bearer(headers).encode(), self._metrics_token)
        return is_own or self._caller(headers) is not None

    def _caller(self, headers: dict[str, str]) -> str | None:
        given = _bearer(headers)
        if given:
            return "token" if hmac.compare_digest(given.encode(), self._token) else None
        secret = cookies.value(headers.get("cookie", ""), COOKIE)
        if not secret:
            return None
        with self._db.read() as session:
            row = session.get(BrowserSession, cookies.digest(secret))
            return "browser" if row is not None and row.expires_at >= self._clock.now() else None

    def _guest(self, verb: str, path: str, headers: dict[str, str]) -> str | None:
        if verb != "GET":
            return None
        with self._db.read() as session:
            return "guest" if sharing.may_read(session, path, headers, now=self._clock.now()) else None


def _bearer(headers: dict[str, str]) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _host(authority: str) -> str:
    """The host of `host`, `host:port` or `[::1]:port`; empty for anything more, such as a user name or a path."""
    found = _AUTHORITY.fullmatch(authority.lower())
    return found["name"] or found["address"] if found else ""


def _origin_host(origin: str) -> str:
    scheme, _, authority = origin.partition("://")
    return _host(authority) if scheme in ("http", "https") else ""
