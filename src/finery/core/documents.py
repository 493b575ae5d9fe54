"""Reads hand-written YAML and JSON: plain data only, with the line of every key.

Refused: tags (`!!python/...`), anchors and aliases (with them ten lines expand to gigabytes), a key given twice,
several documents, more than MAX_BYTES or MAX_DEPTH. YAML 1.1 reads `1e-5` as text and `no` as false; here numbers
follow JSON and only true/false are booleans, since a learning rate that is silently text costs a night.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from finery.core.errors import InvalidSpec, Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
_INDEX = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Document:
    """Plain data and where each part of it was written."""

    value: Any
    lines: dict[str, int]
    """Dotted path -> 1-based line."""
    overridden: frozenset[str] = frozenset()
    """Dotted paths that were set from outside."""
    notes: tuple[str, ...] = ()
    """What in it has no effect, and why."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with JSON's idea of scalars."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tfTF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|nan|NaN)$"),
    list("-+.0123456789"),
)


def load(path: Path) -> Document:
    """Read a job file.

    Raises:
        InvalidSpec: there is none, or it is not plain YAML or JSON; the message names the line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InvalidSpec(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidSpec(f"{path} cannot be read: {error.strerror}") from error
    try:
        return parse(content.decode("utf-8-sig"), name=path.name)
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def parse(text: str, *, name: str = "job file") -> Document:
    """Read text as plain YAML (JSON is YAML). Raises `InvalidSpec`, see `load`."""
    if len(text) > MAX_BYTES:
        raise InvalidSpec(f"{name} has {len(text):,} characters; a job file may have {MAX_BYTES:,}")
    try:
        _refuse_events(text, name)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            lines: dict[str, int] = {}
            if node is not None:
                _walk(node, "", lines, name)
            value = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _syntax(error, name) from error
    except ValueError as error:
        raise InvalidSpec(f"{name} cannot be read: {error}") from error
    return Document(value, lines)


def override(document: Document, assignments: list[str]) -> Document:
    """Apply `a.b=1` to a document; values are read as YAML scalars, lists or mappings.

    Raises:
        InvalidSpec: an assignment has no `=`, or its path runs through something that is not a mapping or a list.
    """
    value = _copy(document.value)
    lines = dict(document.lines)
    overridden = set(document.overridden)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise InvalidSpec(f"{assignment!r} is no override; write field.name=value")
        _assign(value, path.split("."), parse(text, name=f"the value of {path}").value, path)
        lines.pop(path, None)
        overridden.add(path)
    return replace(document, value=value, lines=lines, overridden=frozenset(overridden))


def _assign(value: Any, keys: list[str], new: Any, path: str) -> None:
    here = value
    for index, key in enumerate(keys):
        is_last = index == len(keys) - 1
        slot: Any = key
        if isinstance(here, list):
            if not _INDEX.fullmatch(key) or int(key) >= len(here):
                raise InvalidSpec(f"{path}: {'.'.join(keys[:index])} is a list of {len(here)}, {key!r} is none of them")
            slot = int(key)
        elif not isinstance(here, dict):
            raise InvalidSpec(f"{path}: {'.'.join(keys[:index]) or 'the job file'} is not a mapping")
        if is_last:
            here[slot] = new
            return
        if isinstance(here, dict) and here.get(slot) is None:
            here[slot] = {}
        here = here[slot]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _refuse_events(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _problem(name, line, "anchors and aliases are not allowed; write the value out")
        if getattr(event, "tag", None):
            raise _problem(name, line, f"the tag {event.tag} is not allowed; a job file is plain data")  # type: ignore[attr-defined]
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _problem(name, line, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _walk(node: yaml.Node, path: str, lines: dict[str, int], name: str) -> None:
    lines[path] = min(node.start_mark.line + 1, lines.get(path, 1 << 30))
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            here = f"{path}.{key.value}" if path else str(key.value)
            if here in lines:
                raise _problem(name, key.start_mark.line + 1, f"the key {key.value!r} is given twice", here)
            lines[here] = key.start_mark.line + 1
            _walk(item, here, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, f"{path}.{index}" if path else str(index), lines, name)


def _problem(name: str, line: int, message: str, path: str = "") -> InvalidSpec:
    return InvalidSpec(f"{name}, line {line}: {message}", (Problem(path, message, line),))


def _syntax(error: yaml.YAMLError, name: str) -> InvalidSpec:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if mark is None:
        return InvalidSpec(f"{name} is not valid YAML: {what}", (Problem("", str(what)),))
    return _problem(name, mark.line + 1, f"not valid YAML: {what}")
