"""Runs of Weights & Biases as they lie on disk, offline or not: `wandb/*run-<time>-<id>/run-<id>.wandb`.

The file is a log of records in the framing of LevelDB, each a protocol buffer; both are parsed here, since wandb's own
reader of them is private and moves from version to version.

    file      ":W&B", uint16 0xBEE1, uint8 0, then blocks that end at multiples of 32 KiB   (little-endian)
    block     pieces of records; what is left at its end is too short for a header
    piece     uint32 crc32 of type and data | uint16 length | uint8 type: 1 whole, 2 first, 3 middle, 4 last | data
    Record    2 history   5 config   17 run
    Run       1 id   3 project   4 config   6 group   8 name   10 tag: repeated
    Config    1 update: repeated   2 remove: repeated
    History   1 item: repeated   2 step { 1 number: varint }
    item      1 key   2 nested key: repeated   4 boolean   5 integer: zigzag   6 number: double   8, 16 JSON
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from finery.core.errors import InvalidSpec
from finery.core.protobuf import BYTES, FIXED64, VARINT, fields
from finery.importing.records import ForeignRun, MetricRow
from finery.importing.rows import INT64_MAX, INT64_MIN, LazyRows, Point, rows_of

_SUFFIX: Final = ".wandb"
_PLACES: Final = (f"*{_SUFFIX}", f"*run-*/*{_SUFFIX}", f"wandb/*run-*/*{_SUFFIX}")
"""In the folder of a run, in `wandb/`, and in the folder that has `wandb/`."""
_MAGIC: Final = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_BLOCK: Final = 32 * 1024
_PIECE: Final = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _CONFIG, _RUN = 2, 5, 17
_DOUBLE: Final = struct.Struct("<d")


def matches(path: Path) -> bool:
    """Whether the path is a run file of W&B, or a folder of such runs."""
    return next(_files(path), None) is not None


def read(path: Path) -> list[ForeignRun]:
    """Read every run below a folder of W&B.

    Args:
        path: A `.wandb` file, the folder of one run, the `wandb` folder, or the one in which that lies.

    Returns:
        One run per file, oldest first by the folder's name. Nested names are joined by dots. Metrics are the numbers
        of the history, booleans as 0 and 1; images, histograms, texts and what wandb adds itself (names that begin
        with `_`, system metrics) are left out. The group of a run is a tag beside its own.

    Raises:
        InvalidSpec: There is no such file, or one is broken before its end; the message names the byte. Metrics are
            read while the rows are iterated. A record that is cut off at the end of a file is the end of the file.
    """
    files = sorted(_files(path))
    if not files:
        raise InvalidSpec(f"{path} holds no run-*{_SUFFIX} files; name the `wandb` folder, or a run's folder in it.")
    return [_run(file) for file in files]


def _files(path: Path) -> Iterator[Path]:
    """Files of runs, each once: `latest-run` is a link to one of the others."""
    if path.is_file():
        candidates = [path] if path.suffix == _SUFFIX else []
    else:
        candidates = [file for place in _PLACES for file in path.glob(place) if not file.parent.is_symlink()]
    for file in candidates:
        with file.open("rb") as stream:
            if stream.read(4) == _MAGIC[:4]:
                yield file


@dataclass
class _Facts:
    """What a file says of its run, all records taken together."""

    run_id: str = ""
    name: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)


def _run(file: Path) -> ForeignRun:
    facts = _Facts()
    for _ in _parsed(file, partial(_take_facts, facts)):
        pass
    return ForeignRun(
        name=facts.name or facts.run_id or file.stem,
        source=f"wandb:{file.resolve()}",
        config={key: value for key, value in facts.config.items() if not key.startswith("_")},
        tags=(*facts.tags, *([facts.group] if facts.group else [])),
        rows=LazyRows(partial(_rows, file)),
    )


def _take_facts(facts: _Facts, record: bytes) -> tuple[()]:
    for config in _contents(record, _CONFIG):
        _take_config(facts.config, config)
    for run in _contents(record, _RUN):
        facts.tags.clear()
        for number, wire_type, _, content in fields(run):
            if wire_type == BYTES:
                _take_fact(facts, number, content)
    return ()


def _take_fact(facts: _Facts, number: int, content: bytes) -> None:
    if number == 1:
        facts.run_id = content.decode()
    elif number == 4:
        _take_config(facts.config, content)
    elif number == 6:
        facts.group = content.decode()
    elif number == 8:
        facts.name = content.decode()
    elif number == 10:
        facts.tags.append(content.decode())


def _take_config(config: dict[str, Any], record: bytes) -> None:
    for number, _, _, content in fields(record):
        if number not in (1, 2):
            continue
        *outer, last = _item(content)[0]
        place = config
        for name in outer:
            inner = place.get(name)
            place = inner if isinstance(inner, dict) else place.setdefault(name, {})
        if number == 1:
            place[last] = _item(content)[1]
        else:
            place.pop(last, None)


def _rows(file: Path) -> Iterator[MetricRow]:
    return rows_of(_parsed(file, _points))


def _points(record: bytes) -> list[Point]:
    return [point for history in _contents(record, _HISTORY) for point in _points_of(history)]


def _points_of(history: bytes) -> Iterator[Point]:
    step, time = 0, None
    values: list[tuple[str, float]] = []
    for number, _, _, content in fields(history):
        if number == 2:
            step = next((varint for inner, _, varint, _ in fields(content) if inner == 1), step)
        elif number == 1:
            names, value = _item(content)
            if names == ["_step"]:
                step = int(value)
            elif names == ["_timestamp"]:
                time = float(value)
            elif not names[0].startswith("_"):
                values += _numbers(".".join(names), value)
    if not INT64_MIN <= step <= INT64_MAX:
        raise ValueError("the step does not fit in 64 bits")
    for name, value in values:
        yield Point(step, time, name, value)


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The numbers in a value; an object with a `_type` is an image, a table or the like."""
    if isinstance(value, int | float):
        yield name, float(value)
    elif isinstance(value, dict) and "_type" not in value:
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}", inner)


def _item(message: bytes) -> tuple[list[str], Any]:
    """Name, in its parts, and value of an item of the config or the history; None for a value of another kind."""
    key, nested, value = "", list[str](), None
    for number, wire_type, varint, content in fields(message):
        if number == 1 and wire_type == BYTES:
            key = content.decode()
        elif number == 2 and wire_type == BYTES:
            nested.append(content.decode())
        elif number in (8, 16) and wire_type == BYTES:
            value = json.loads(content)  # with the bare words NaN and Infinity
        elif number == 4 and wire_type == VARINT:
            value = varint
        elif number == 5 and wire_type == VARINT:
            value = (varint >> 1) ^ -(varint & 1)
        elif number == 6 and wire_type == FIXED64:
            (value,) = _DOUBLE.unpack(content)
    return nested or [key], value


def _contents(record: bytes, kind: int) -> Iterator[bytes]:
    return (content for number, wire_type, _, content in fields(record) if (number, wire_type) == (kind, BYTES))


def _parsed(file: Path, parse: Callable[[bytes], Sequence[Point]]) -> Iterator[Point]:
    with file.open("rb") as stream:
        for offset, record in _records(file, stream):
            try:
                yield from parse(record)
            except (IndexError, TypeError, ValueError, struct.error) as error:
                raise _broken(file, offset, "the record is not one of W&B") from error


def _records(file: Path, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Offset and data of each whole record."""
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise _broken(file, 0, "it does not begin as such a file does")
    begin, parts = 0, list[bytes]()
    for offset, kind, data in _pieces(file, stream):
        if kind in (_WHOLE, _FIRST):
            begin, parts = offset, []
        parts.append(data)
        if kind in (_WHOLE, _LAST):
            yield begin, b"".join(parts)


def _pieces(file: Path, stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Offset, type and data of each piece. What is cut off, or filled up with zeros, is the end."""
    while True:
        offset = stream.tell()
        left = _BLOCK - offset % _BLOCK
        if left < _PIECE.size:
            stream.seek(left, 1)
            continue
        header = stream.read(_PIECE.size)
        if len(header) < _PIECE.size or not any(header):
            return
        crc, length, kind = _PIECE.unpack(header)
        data = stream.read(length)
        if len(data) < length:
            return
        if zlib.crc32(data, zlib.crc32(header[-1:])) != crc or not _WHOLE <= kind <= _LAST:
            if not stream.read(1):
                return
            raise _broken(file, offset, "the checksum does not fit")
        yield offset, kind, data


def _broken(file: Path, offset: int, what: str) -> InvalidSpec:
    return InvalidSpec(
        f"{file} is broken at byte {offset}: {what}; expected the file of a W&B run, so copy it again or take it out "
        "of the folder."
    )
