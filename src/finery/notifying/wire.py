"""How a channel reaches the world: secrets, requests and connections, and what is said when that fails.

Whatever a failure says is without the secrets that were read: a server may repeat an address or a password.
"""

import time
from collections.abc import Mapping
from http import HTTPStatus
from socket import socket
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import httpx

from finery.core import outgoing
from finery.core.clock import Clock
from finery.core.errors import FineryError, Forbidden, NotFound, Unavailable
from finery.core.secrets import SecretStore
from finery.core.settings import Settings

_TIMEOUT_SECONDS = 10.0
"""For each step of an exchange: to connect, to send, to hear something."""
_WHOLE_SECONDS = 20.0
"""For an answer, however slowly it comes."""
_LARGEST_ANSWER = 1 << 16
_LONGEST_SHOWN = 200
_LONGEST_WAIT_SECONDS = 600.0
_TOKEN_LENGTH = 8
"""Shorter pieces of an address are words, not tokens."""
_BUSY: Final = frozenset({408, 425, 429})
"""Statuses below 500 after which another try may help."""


class NotSent(Exception):
    """A message was not taken, and why, in words that hold no secret."""

    def __init__(self, words: str, *, is_final: bool, wait_seconds: float = 0.0):
        """Describe it.

        Args:
            words: What was answered, or what stood in the way.
            is_final: Another try of the same would end the same way.
            wait_seconds: What the other side asks to wait before another.
        """
        super().__init__(words)
        self.is_final = is_final
        self.wait_seconds = min(wait_seconds, _LONGEST_WAIT_SECONDS)


class Wire:
    """For one message."""

    def __init__(self, settings: Settings, clock: Clock):
        self._secrets = SecretStore(settings)
        self._allow_private = settings.allow_private_addresses
        self._clock = clock
        self._hidden: set[str] = set()

    def now(self) -> float:
        """Seconds since the Unix epoch, as signatures need them."""
        return self._clock.now().timestamp()

    def secret(self, name: str) -> str:
        """A stored secret, which no failure will show; empty for an empty name."""
        if not name:
            return ""
        try:
            value = self._secrets.read(name)
        except (NotFound, Unavailable) as error:
            raise NotSent(str(error), is_final=True) from error
        self._hidden |= _pieces(value)
        return value

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> str:
        """POST a JSON document.

        Returns:
            The answer's text.

        Raises:
            NotSent: no answer, or one that is no success. A redirect is none: what was signed for one address is not
                handed to another.
        """
        asked = {"Content-Type": "application/json; charset=utf-8", "Accept-Encoding": "identity", **(headers or {})}
        try:
            with (
                outgoing.client(allow_private=self._allow_private, timeout_seconds=_TIMEOUT_SECONDS) as http,
                http.stream("POST", url, content=body, headers=asked) as response,
            ):
                text = _read(response)
                wait = _asked_to_wait(response)
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, FineryError) as error:
            raise self._no_answer(error) from error
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            what = " (a redirect, which is not followed)" if 300 <= status < 400 else ""
            is_final = status < 500 and status not in _BUSY
            raise self.failure(f"status {status}{what}: {text}", is_final=is_final, wait_seconds=wait)
        return text

    def connect(self, host: str, port: int, timeout_seconds: float) -> socket:
        """A TCP connection; errors as of `outgoing.connect`."""
        return outgoing.connect(host, port, allow_private=self._allow_private, timeout_seconds=timeout_seconds)

    def failure(self, words: str, *, is_final: bool, wait_seconds: float = 0.0) -> NotSent:
        """That a message was not taken. What was read of secrets is taken out of the words before they are cut."""
        for secret in sorted(self._hidden, key=len, reverse=True):
            words = words.replace(secret, "***")
        line = "".join(sign for sign in " ".join(words.split()) if sign.isprintable())
        shown = line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."
        return NotSent(shown, is_final=is_final, wait_seconds=wait_seconds)

    def _no_answer(self, error: Exception) -> NotSent:
        if isinstance(error, Forbidden | httpx.UnsupportedProtocol | httpx.InvalidURL):
            return self.failure(str(error), is_final=True)
        words = str(error) or type(error).__name__
        return self.failure(f"no answer: {words}", is_final=False)


def _read(response: httpx.Response) -> str:
    """What is answered, up to a size and a time."""
    body, deadline = bytearray(), time.monotonic() + _WHOLE_SECONDS
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > _LARGEST_ANSWER or time.monotonic() > deadline:
            break
    return body[:_LARGEST_ANSWER].decode("utf-8", "replace")


def _asked_to_wait(response: httpx.Response) -> float:
    """Seconds, where the answer names a number of them."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _pieces(secret: str) -> set[str]:
    """A secret, and what of an address is one."""
    if not secret.startswith(("http://", "https://")):
        return {secret}
    parts = urlsplit(secret)
    values = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query)), parts.password or ""]
    whole = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return {secret, *(piece for piece in (*values, whole) if len(piece) >= _TOKEN_LENGTH)}
