"""Secrets by name: encrypted where they lie, read where they are used, shown nowhere.

A secret is written once and from then on named: specs, logs, command lines, run directories and answers of the API
hold the name alone. Each lies in a file of its own under `secrets/`, encrypted with Fernet (AES-128-CBC, HMAC-SHA256).
The key is FINERY_SECRET_KEY, or else the file `secret.key` in the home, readable by its owner only: that protects
copies and backups that leave the key out, and nothing from who can read the whole home.
"""

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.fernet import Fernet, InvalidToken

from finery.core import checkpoints
from finery.core.errors import InvalidSpec, NotFound, Unavailable
from finery.core.settings import Settings

NAME_PATTERN: Final = r"[A-Z][A-Z0-9_]{0,63}"
"""Like the environment variable that programs would read it from: HF_TOKEN."""


class StoredSecret(NamedTuple):
    """That there is a secret; not what it is."""

    name: str
    updated_at: datetime


class SecretStore:
    """The secrets of one home."""

    def __init__(self, settings: Settings):
        self._folder = settings.home / "secrets"
        self._key_file = settings.home / "secret.key"
        self._key = settings.secret_key.get_secret_value()

    def names(self) -> list[StoredSecret]:
        """Every secret by name."""
        if not self._folder.is_dir():
            return []
        files = sorted(path for path in self._folder.iterdir() if re.fullmatch(NAME_PATTERN, path.name))
        return [StoredSecret(path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)) for path in files]

    def read(self, name: str) -> str:
        """The secret itself.

        Raises:
            NotFound: there is none. Unavailable: it was encrypted with another key.
        """
        found = self.find(name)
        if found is None:
            raise NotFound(f"there is no secret {name}; `finery secrets set {name}` stores it")
        return found

    def find(self, name: str) -> str | None:
        """The secret, or None where there is none.

        Raises:
            Unavailable: it was encrypted with another key.
        """
        try:
            encrypted = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return self._cipher().decrypt(encrypted).decode()
        except InvalidToken:
            raise Unavailable(
                f"the secret {name} was stored with another key; set FINERY_SECRET_KEY to that key, "
                f"or store it again: `finery secrets set {name}`"
            ) from None

    def write(self, name: str, value: str) -> None:
        """Store or replace a secret.

        Raises:
            InvalidSpec: no secret can have this name, or the value is empty.
        """
        path = self._path(name)
        if not value:
            raise InvalidSpec(f"the value of {name} is empty; `finery secrets remove {name}` removes a secret")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        checkpoints.write_atomically(path, self._cipher().encrypt(value.encode()))

    def delete(self, name: str) -> None:
        """Forget a secret.

        Raises:
            NotFound: there is none.
        """
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise NotFound(f"there is no secret {name}") from None

    def _path(self, name: str) -> Path:
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidSpec(f"{name!r} cannot name a secret; write it like HF_TOKEN: capitals, digits, underscores")
        return self._folder / name

    def _cipher(self) -> Fernet:
        try:
            return Fernet(self._key or self._own_key())
        except ValueError as error:
            raise Unavailable(
                "FINERY_SECRET_KEY is no Fernet key (32 bytes, URL-safe base64); "
                "openssl rand -base64 32 | tr '+/' '-_' makes one"
            ) from error

    def _own_key(self) -> bytes:
        """The key in the home; made at the first call, by whichever process is first."""
        aside = self._key_file.with_name(f".{self._key_file.name}.{os.getpid()}")
        if not self._key_file.exists():
            self._key_file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(Fernet.generate_key())
            try:
                os.link(aside, self._key_file)  # fails where another process was first
            except FileExistsError:
                pass
            finally:
                aside.unlink()
        return self._key_file.read_bytes()
