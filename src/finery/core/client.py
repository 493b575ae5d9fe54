"""The REST client of the command line and of Python users.

Errors of the server come back as the same exceptions that it raised; a server that cannot be reached is `Unavailable`
with the command that starts one.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson

from finery.core import errors
from finery.core.errors import FineryError, InvalidSpec, Problem, Unavailable
from finery.core.settings import DEFAULT_PORT, Settings

_BY_STATUS: dict[int, type[FineryError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    503: errors.Unavailable,
}


class Client:
    """Talks to one server. Paths are relative to /api."""

    def __init__(self, url: str, token: str, *, timeout_seconds: float = 60.0):
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.url}/api",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout_seconds,
            trust_env=False,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """GET; None parameters are left out."""
        return self._call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def post(self, path: str, json: Any = None) -> Any:
        """POST a JSON body."""
        return self._call("POST", path, json=json)

    def put(self, path: str, json: Any = None) -> Any:
        """PUT a JSON body."""
        return self._call("PUT", path, json=json)

    def patch(self, path: str, json: Any = None) -> Any:
        """PATCH with a JSON body."""
        return self._call("PATCH", path, json=json)

    def delete(self, path: str) -> Any:
        """DELETE."""
        return self._call("DELETE", path)

    def upload(self, path: Path) -> str:
        """Store a file on the server by content, unless it is there; returns its sha256."""
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            try:
                self._call("GET", f"/objects/{sha256}")
                return sha256
            except errors.NotFound:
                file.seek(0)
            stored = self._call("POST", "/objects", files={"file": (path.name, file)}, timeout=None)
        return str(stored["sha256"])

    def download(self, path: str, target: Path) -> None:
        """GET a file, however long, into `target`, which is complete or not there.

        Raises:
            OSError: the disk is full. Others as the server says.
        """
        aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with self._http.stream("GET", path, timeout=None) as response, open(aside, "wb") as file:
                if not response.is_success:
                    response.read()
                    raise _error(response)
                for piece in response.iter_bytes():
                    file.write(piece)
            os.replace(aside, target)
        except httpx.TransportError as error:
            raise _silent(self.url, error) from error
        finally:
            aside.unlink(missing_ok=True)

    def _call(self, verb: str, path: str, **kwargs: Any) -> Any:
        try:
            response = self._http.request(verb, path, **kwargs)
        except httpx.TransportError as error:
            raise _silent(self.url, error) from error
        if response.is_success:
            return orjson.loads(response.content) if response.content else None
        raise _error(response)


def locate(settings: Settings) -> tuple[str, str]:
    """URL and token of the server that the settings mean."""
    url = settings.server
    if not url:
        try:
            url = str(orjson.loads(settings.server_file.read_bytes())["url"])
        except (FileNotFoundError, orjson.JSONDecodeError, KeyError):
            url = f"http://127.0.0.1:{settings.port or DEFAULT_PORT}"
    token = settings.token
    if not token and settings.token_file.is_file():
        token = settings.token_file.read_text().strip()
    return url, token


@contextmanager
def connect(settings: Settings | None = None) -> Iterator[Client]:
    """A client for the server that the environment means."""
    client = Client(*locate(settings or Settings()))
    try:
        yield client
    finally:
        client.close()


def _silent(url: str, error: httpx.TransportError) -> Unavailable:
    return Unavailable(f"no Finery server answers at {url} ({error}); start one with `finery up`, or set FINERY_SERVER")


def _error(response: httpx.Response) -> FineryError:
    try:
        body = orjson.loads(response.content)
        message = str(body["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return FineryError(f"the server answered {response.status_code}: {response.text[:300]}")
    if response.status_code == 422:
        found = tuple(Problem(p["path"], p["message"], p.get("line")) for p in body.get("problems", ()))
        return InvalidSpec(message, found)
    return _BY_STATUS.get(response.status_code, FineryError)(message)
