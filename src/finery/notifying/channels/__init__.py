"""The open set of channels: one file each. A channel puts a message into its own form and hands it over.

A parameter that is a secret is a `SecretRef` with `SECRET` (or `SECRET_URL`) as `json_schema_extra`: what is stored is
its name, and the value is read when a message is sent.
"""

from typing import Any, Final, Protocol

from pydantic import JsonValue

from finery.core.registry import Registry
from finery.notifying.wire import Wire
from finery.notifying.words import Message

SECRET: Final[dict[str, JsonValue]] = {"secret": "text"}
SECRET_URL: Final[dict[str, JsonValue]] = {"secret": "url"}
"""An address that holds a token."""
SECRET_NAME: Final = r"^[A-Z][A-Z0-9_]{0,63}$"
OPTIONAL_SECRET_NAME: Final = r"^([A-Z][A-Z0-9_]{0,63})?$"


class Channel(Protocol):
    """Tells people one message.

    Args:
        message: What to say. Texts of runs in it are text, never markup.
        params: The channel's own parameters.
        wire: How it reaches the world, and its secrets.

    Raises:
        NotSent: it was not taken; whether another try may help is part of it.
    """

    def __call__(self, message: Message, params: Any, wire: Wire) -> None: ...


registry: Final[Registry[Channel]] = Registry("finery.notifying.channels", "channel kind")
