"""Event files of TensorBoard, parsed here: TFRecord frames that each hold one `Event` protocol buffer.

    Event     1 wall_time: double   2 step: varint   5 summary
    Summary   1 value: repeated
    Value     1 tag   2 simple_value: float   8 tensor
    Tensor    1 dtype   2 shape   4 tensor_content   5 float_val   6 double_val

Scalars are read, whichever of the two ways they were written in; images, histograms, text and graphs are passed over.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from finery.core.errors import InvalidSpec
from finery.core.protobuf import BYTES, FIXED32, FIXED64, VARINT, fields
from finery.core.tfrecords import CRC, HEADER, length_crc, masked_crc32c
from finery.importing.records import ForeignRun, MetricRow
from finery.importing.rows import LazyRows, Point, rows_of

_MARK: Final = "tfevents"
_FLOAT: Final = struct.Struct("<f")
_DOUBLE: Final = struct.Struct("<d")
_ITEM_BY_DTYPE: Final = {1: _FLOAT, 2: _DOUBLE}
_CHECKED_BYTES: Final = 4096
"""Longer records hold an image, a graph or a histogram as a rule; the checksum in Python takes 0.1 to 0.2 s per MiB."""


def matches(path: Path) -> bool:
    """Whether the path is an event file or a folder with one in it, at any depth."""
    return next(_folders(path), None) is not None


def read(path: Path) -> list[ForeignRun]:
    """Read every run below a log folder.

    Args:
        path: A folder; it and each folder below it with `events.out.tfevents.*` files is a run. Or one such file.

    Returns:
        One run per folder, in order of the names, named by the path from the log folder, or by the log folder itself.
        Where two files of a folder have the same metric at the same step, the later file wins, as after a resume.
        There is no config.

    Raises:
        InvalidSpec: There are no event files, or one is broken before its end; the message names the byte. Files are
            read while the rows are iterated. A record that is cut off at the end of a file is the end of the file.
    """
    runs = [
        ForeignRun(
            name=_name(path, folder),
            source=f"tensorboard:{(path if path.is_file() else folder).resolve()}",
            config={},
            tags=(),
            rows=LazyRows(partial(_rows, files)),
        )
        for folder, files in sorted(_folders(path))
    ]
    if not runs:
        raise InvalidSpec(f"{path} holds no events.out.tfevents.* files; name the log folder of TensorBoard.")
    return runs


def _folders(path: Path) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Each folder with event files, and these in the order in which they were begun."""
    if path.is_file():
        if _MARK in path.name:
            yield path.parent, (path,)
        return
    for folder, _, names in os.walk(path):
        files = tuple(Path(folder, name) for name in sorted(names) if _MARK in name)
        if files:
            yield Path(folder), files


def _name(path: Path, folder: Path) -> str:
    if path.is_file() or folder == path:
        return folder.resolve().name
    return folder.relative_to(path).as_posix()


def _rows(files: Iterable[Path]) -> Iterator[MetricRow]:
    return rows_of(point for file in files for point in _points(file))


def _points(file: Path) -> Iterator[Point]:
    with file.open("rb") as stream:
        for offset, record in _records(file, stream):
            try:
                yield from _scalars(record)
            except (IndexError, ValueError, struct.error) as error:
                raise _broken(file, offset, "the record is not an Event") from error


def _records(file: Path, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Offset and data of each whole record. What a running writer adds after the start is left for the next read."""
    size = os.fstat(stream.fileno()).st_size
    offset = 0
    while offset + HEADER.size <= size:
        header = stream.read(HEADER.size)
        length, stated_crc = HEADER.unpack(header)
        if length_crc(header[:8]) != stated_crc:
            if _is_zero_to_the_end(header, stream):
                return
            raise _broken(file, offset, "the checksum of the record's length does not fit")
        end = offset + HEADER.size + length + CRC.size
        if end > size:
            return
        record = stream.read(length)
        (record_crc,) = CRC.unpack(stream.read(CRC.size))
        if length <= _CHECKED_BYTES and masked_crc32c(record) != record_crc:
            if end == size:
                return
            raise _broken(file, offset, "the checksum of the record does not fit")
        yield offset, record
        offset = end


def _is_zero_to_the_end(header: bytes, stream: BinaryIO) -> bool:
    """A machine that lost power can leave a file longer than what was written, filled up with zeros."""
    block = header
    while block:
        if block.count(0) != len(block):
            return False
        block = stream.read(1 << 20)
    return True


def _broken(file: Path, offset: int, what: str) -> InvalidSpec:
    return InvalidSpec(
        f"{file} is broken at byte {offset}: {what}; expected an event file of TensorBoard, so copy it again or take "
        "it out of the folder."
    )


def _scalars(record: bytes) -> list[Point]:
    time: float | None = None
    step = 0
    values: list[tuple[str, float]] = []
    for number, wire_type, varint, content in fields(record):
        if number == 1 and wire_type == FIXED64:
            (time,) = _DOUBLE.unpack(content)
        elif number == 2 and wire_type == VARINT:
            step = varint - (1 << 64) if varint >= 1 << 63 else varint
        elif number == 5 and wire_type == BYTES:
            values += _scalars_of_summary(content)
    return [Point(step, time, tag, value) for tag, value in values]


def _scalars_of_summary(summary: bytes) -> Iterator[tuple[str, float]]:
    for number, wire_type, _, content in fields(summary):
        if number == 1 and wire_type == BYTES:
            scalar = _scalar(content)
            if scalar is not None:
                yield scalar


def _scalar(value: bytes) -> tuple[str, float] | None:
    """Tag and number of a Summary.Value; None when it holds something else."""
    tag = ""
    scalar: float | None = None
    for number, wire_type, _, content in fields(value):
        if number == 1 and wire_type == BYTES:
            tag = content.decode()
        elif number == 2 and wire_type == FIXED32:
            (scalar,) = _FLOAT.unpack(content)
        elif number == 8 and wire_type == BYTES:
            scalar = _element(content)
    return None if scalar is None else (tag, scalar)


def _element(tensor: bytes) -> float | None:
    """The one element of a float or double tensor; None for any other tensor."""
    item: struct.Struct | None = None
    packed = {4: b"", 5: b"", 6: b""}
    has_shape = has_dimensions = False
    for number, wire_type, varint, content in fields(tensor):
        if number == 1 and wire_type == VARINT:
            item = _ITEM_BY_DTYPE.get(varint)
        elif number == 2 and wire_type == BYTES:
            has_shape, has_dimensions = True, bool(content)
        elif number in packed and wire_type != VARINT:
            packed[number] += content
    if item is None:
        return None
    elements = packed[4] or packed[5 if item is _FLOAT else 6]
    if not elements and has_shape and not has_dimensions:
        return 0.0
    return float(item.unpack(elements)[0]) if len(elements) == item.size else None
