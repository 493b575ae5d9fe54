"""Conversations and the files that they are kept in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from finery.chat.specs import ChatSampling, ChatTurn
from finery.core.errors import InvalidSpec, NotFound, Unavailable
from finery.core.spec import Spec, parse


@dataclass
class Conversation:
    """What was said with one model."""

    model: str
    sampling: ChatSampling
    messages: list[ChatTurn] = field(default_factory=list)

    def tell(self, system: str) -> None:
        """Set what the model is told first; empty is nothing.

        Raises:
            InvalidSpec: it cannot be told this.
        """
        rest = [said for said in self.messages if said.role != "system"]
        self.messages = [turn("system", system, what="the system prompt"), *rest] if system else rest

    def reset(self) -> None:
        """Forget what was said. What the model is told first stays."""
        self.messages = [said for said in self.messages if said.role == "system"]


def turn(role: str, content: str, *, what: str) -> ChatTurn:
    """One message of a conversation.

    Raises:
        InvalidSpec: it cannot be kept or is too long; the message begins with `what`.
    """
    made: ChatTurn = parse(ChatTurn, {"role": role, "content": content}, what=what)
    return made


class _Kept(Spec):
    """A conversation in a file; its `messages` are a row of SFT data as they stand."""

    model: str = ""
    sampling: ChatSampling = ChatSampling()
    messages: tuple[ChatTurn, ...]


def write(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write conversations: `.json` is a list of them, anything else one a line.

    Raises:
        Unavailable: the file cannot be written.
    """
    kept = [
        _Kept(model=one.model, sampling=one.sampling, messages=tuple(one.messages)).model_dump()
        for one in conversations
    ]
    if path.suffix == ".json":
        content = orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    else:
        content = b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in kept)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}; name another file") from error


def read(path: Path) -> list[Conversation]:
    """Read what `write` has written, or rows of SFT data with messages.

    Raises:
        NotFound: there is no such file. InvalidSpec: it holds no conversation.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from error
    found = [parse(_Kept, raw, what=str(path)) for raw in _documents(path, content)]
    if not found:
        raise InvalidSpec(f"{path} is empty; it should hold a conversation as /save writes it")
    return [Conversation(one.model, one.sampling, list(one.messages)) for one in found]


def _documents(path: Path, content: bytes) -> list[Any]:
    try:
        if path.suffix == ".json":
            found = orjson.loads(content)
            return found if isinstance(found, list) else [found]
        return [orjson.loads(line) for line in content.splitlines() if line.strip()]
    except orjson.JSONDecodeError as error:
        raise InvalidSpec(f"{path} is no JSON: {error}; it should hold a conversation as /save writes it") from error
