"""Formats: what a row may look like when it comes in, and the one way it is written down. An open set, one file each.

A format takes rows in the shapes that are common for its purpose and turns them into canonical ones, so that engines
and benchmarks know a single shape each.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from finery.core.errors import InvalidSpec
from finery.core.registry import Registry
from finery.core.spec import Spec

Row = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")


class NoParams(Spec):
    """A format has nothing to choose."""


class Format(Protocol):
    """One member of the set."""

    def recognises(self, row: Row) -> bool:
        """Whether the keys of a row mean this format. Narrower than what `normalise` accepts."""
        ...

    def normalise(self, row: Row) -> Row:
        """The canonical form of a row.

        Raises:
            ValueError: the row cannot be one of this format; in words.
        """
        ...


registry: Registry[Format] = Registry("finery.datasets.formats", "format")


def detect(rows: Sequence[Row]) -> str:
    """The name of the format that most of some rows have.

    Raises:
        InvalidSpec: none fits, or two fit equally well.
    """
    votes = {entry.name: sum(entry.target.recognises(row) for row in rows) for entry in registry.all()}
    best = max(votes.values(), default=0)
    names = [name for name, count in votes.items() if count == best]
    columns = ", ".join(repr(key[:40]) for key in list(rows[0])[:12]) if rows else "none"
    if best == 0:
        raise InvalidSpec(
            f"no format has rows with the columns {columns}; known are sft (messages, conversations, prompt+response, "
            "instruction+output), verifiable (prompt+answer), preference (prompt+chosen+rejected) and unpaired "
            "(prompt+completion+label); rename the columns"
        )
    if len(names) > 1:
        raise InvalidSpec(f"the columns {columns} fit the formats {' and '.join(names)}; name the one that is meant")
    return names[0]


def text_of(row: Row, *keys: str, what: str) -> str:
    """The text under the first of `keys` that the row has.

    Raises:
        ValueError: there is none, or it is not text, or empty.
    """
    key = next((key for key in keys if row.get(key) is not None), None)
    if key is None:
        raise ValueError(f"has no {what}; expected a column {' or '.join(repr(key) for key in keys)}")
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be text, this is {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{key!r} is empty")
    return value


def messages_of(value: object, *, what: str, last: str) -> list[Row]:
    """Check chat messages and reduce them to role and content.

    Args:
        value: A list of {"role", "content"}; content is text or a list of text parts.
        what: The column, for messages of errors.
        last: Role that the last message must have.

    Raises:
        ValueError: in words.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"{what!r} must be a list of messages that is not empty")
    messages = [_message(item, f"{what}[{index}]", is_first=index == 0) for index, item in enumerate(value)]
    if messages[-1]["role"] != last:
        raise ValueError(f"the last of {what!r} must be of role {last}, it is {messages[-1]['role']}")
    if not messages[-1]["content"].strip():
        raise ValueError(f"the last of {what!r} is empty")
    return messages


def _message(value: object, place: str, *, is_first: bool) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is no message; expected {{'role': ..., 'content': ...}}")
    role = value.get("role")
    if role not in ROLES:
        raise ValueError(f"{place} has the role {role!r}; known are {', '.join(ROLES)}")
    if role == "system" and not is_first:
        raise ValueError(f"{place} is a system message; only the first can be one")
    content = value.get("content")
    if isinstance(content, list):
        content = _joined(content, place)
    if not isinstance(content, str):
        raise ValueError(f"{place} has no text in 'content'")
    return {"role": role, "content": content}


def _joined(parts: list[Any], place: str) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"{place} has a part that is not text; images and audio cannot be trained on yet")
        texts.append(part["text"])
    return "".join(texts)
