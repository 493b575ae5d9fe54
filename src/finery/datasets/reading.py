"""Reads rows out of JSONL, JSON arrays, CSV, TSV and Parquet, one at a time, and says where each broken one stands.

Owns file types and their traps: encodings, byte order marks, line ends, giant lines, nesting. Does not own what a row
must hold (formats). Memory stays within some rows whatever the size of the file.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from finery.core.errors import InvalidSpec
from finery.datasets import strictjson

MAX_ROW_BYTES = 4 << 20

_CHUNK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"
_PACKED = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "compressed by gzip", b"BZh": "compressed by bzip2"}
_TOO_LONG = f"longer than {MAX_ROW_BYTES >> 20} MiB; is a line end missing?"


@dataclass(frozen=True)
class RawRow:
    """A row as the file has it."""

    line: int
    """1-based line where it begins; for Parquet the 1-based row."""
    row: dict[str, Any]


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be read."""

    line: int
    message: str


Item = RawRow | BrokenRow


def read_rows(path: Path, *, file_name: str | None) -> Iterator[Item]:
    """The rows of a file, in order.

    Args:
        path: Where the bytes lie.
        file_name: What the user calls the file; its ending tells the type. None looks at the content.

    Raises:
        InvalidSpec: the file as a whole is not readable: unknown or misleading type, empty, packed, not UTF-8.
    """
    name = file_name or "the file"
    with open(path, "rb") as file:
        start = file.read(4096)
        is_all = not file.read(1)
    if is_all and not start.removeprefix(_BOM).strip():
        raise InvalidSpec(f"{name} is empty")
    kind = _kind(file_name, start)
    if kind == "parquet":
        return _read_parquet(path, name)
    _refuse_binary(start, name)
    if kind == "json":
        return _read_json(path, name)
    return _read_csv(path, name, "\t" if kind == "tsv" else ",")


_ENDINGS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def _kind(file_name: str | None, start: bytes) -> str:
    if file_name is not None:
        ending = Path(file_name).suffix.lower()
        if ending not in _ENDINGS:
            known = ", ".join(_ENDINGS)
            raise InvalidSpec(f"{file_name} has the ending {ending or '(none)'!r}; known are {known}")
        return _ENDINGS[ending]
    if start.startswith(b"PAR1"):
        return "parquet"
    return "json" if start.removeprefix(_BOM).lstrip()[:1] in (b"[", b"{") else "csv"


def _refuse_binary(start: bytes, name: str) -> None:
    for magic, what in _PACKED.items():
        if start.startswith(magic):
            raise InvalidSpec(f"{name} is {what}; unpack it first")
    if start.startswith(b"PAR1"):
        raise InvalidSpec(f"{name} is a Parquet file; give it the ending .parquet")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:64]:
        raise InvalidSpec(f"{name} is not UTF-8 text (it looks like UTF-16 or binary); save it as UTF-8")


def _read_json(path: Path, name: str) -> Iterator[Item]:
    with open(path, "rb") as file:
        start = file.read(4096).removeprefix(_BOM).lstrip()[:1]
        file.seek(0)
        if start == b"[":
            yield from (_object(line, raw) for line, raw in _array_elements(file))
        elif start != b"{" and Path(name).suffix.lower() == ".json":
            raise InvalidSpec(f"{name} holds neither objects line by line nor an array of objects")
        else:
            yield from _read_lines(file, name)


def _object(line: int, raw: bytes | str) -> Item:
    """Parse the bytes of one row; text is a complaint."""
    if isinstance(raw, str):
        return BrokenRow(line, raw)
    try:
        value = strictjson.parse(raw)
    except ValueError as error:
        return BrokenRow(line, str(error))
    if not isinstance(value, dict):
        return BrokenRow(line, f"a row is an object {{...}}, this is {_type_name(value)}")
    return RawRow(line, value)


def _read_lines(file: IO[bytes], name: str) -> Iterator[Item]:
    number = 0
    while raw := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(raw) > MAX_ROW_BYTES:
            _skip_line(file, raw)
            yield BrokenRow(number, _TOO_LONG)
            continue
        raw = (raw.removeprefix(_BOM) if number == 1 else raw).strip(_WHITE)
        if not raw:
            continue
        item = _object(number, raw)
        if isinstance(item, BrokenRow) and number == 1 and Path(name).suffix.lower() == ".json":
            raise InvalidSpec(
                f"{name} begins with an object that does not end on its line; a .json file holds an array [...] of "
                f"rows, or one row per line ({item.message})"
            )
        yield item


def _skip_line(file: IO[bytes], raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(_CHUNK_BYTES)


_STRUCTURE = re.compile(rb'["\[\]{},]')
_IN_TEXT = re.compile(rb'"|\\')


class _Splitter:
    """Cuts a JSON array into the bytes of its elements without parsing them."""

    def __init__(self) -> None:
        self.depth = 0
        self.is_in_text = False
        self.is_escaped = False
        self.is_done = False
        self.line = 1
        self._element = bytearray()
        self._lines = 0
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes | str]]:
        """The elements that end within the next piece of the file."""
        begin = here = 0
        while not self.is_done and here < len(chunk):
            if self.is_escaped:
                self.is_escaped = False
                here += 1
                continue
            match = (_IN_TEXT if self.is_in_text else _STRUCTURE).search(chunk, here)
            if match is None:
                break
            token, here = match[0], match.end()
            ends_element, begins = self._step(token)
            if ends_element:
                self._add(chunk[begin : here - 1])
                yield from self._take(is_last=token == b"]")
            if begins:
                self.line += chunk[:here].count(b"\n")
            begin = here if begins or ends_element else begin
        rest = chunk[here if self.is_done else begin :]
        if self.is_done and rest.strip(_WHITE):
            yield self.line, "there is text after the end of the array"
        elif not self.is_done:
            self._add(rest)

    def _step(self, token: bytes) -> tuple[bool, bool]:
        """Follow one token; returns whether it ends an element and whether it begins the first one."""
        if token == b"\\":
            self.is_escaped = True
        elif token == b'"':
            self.is_in_text = not self.is_in_text
        elif token in b"[{":
            self.depth += 1
            return False, self.depth == 1
        elif token in b"]}":
            self.depth -= 1
            self.is_done = self.depth <= 0
            return self.is_done, False
        return token == b"," and self.depth == 1, False

    def _add(self, piece: bytes) -> None:
        self._lines += piece.count(b"\n")
        self._size += len(piece)
        if self._size <= MAX_ROW_BYTES:
            self._element += piece

    def _take(self, *, is_last: bool) -> Iterator[tuple[int, bytes | str]]:
        raw = bytes(self._element).strip(_WHITE)
        line = self.line + self._element[: len(self._element) - len(self._element.lstrip(_WHITE))].count(b"\n")
        if self._size > MAX_ROW_BYTES:
            yield line, _TOO_LONG
        elif raw:
            yield line, raw
        elif not is_last:
            yield line, "there is nothing between two commas"
        self.line += self._lines
        self._element.clear()
        self._lines = self._size = 0


def _array_elements(file: IO[bytes]) -> Iterator[tuple[int, bytes | str]]:
    splitter = _Splitter()
    first = True
    while chunk := file.read(_CHUNK_BYTES):
        yield from splitter.feed(chunk.removeprefix(_BOM) if first else chunk)
        first = False
    if not splitter.is_done:
        yield (
            splitter.line,
            "the array does not end; the file was cut off, or a quote or bracket is missing in this row",
        )


def _read_csv(path: Path, name: str, delimiter: str) -> Iterator[Item]:
    csv.field_size_limit(MAX_ROW_BYTES)  # of the process; the default of 128 KiB is too small for documents
    with open(path, "rb") as file:
        reader = csv.reader(_text_lines(file), delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise InvalidSpec(f"{name}, line 1: {error}") from error
        _check_header(header, name)
        yield from _csv_rows(reader, header)


def _csv_rows(reader: Any, header: list[str]) -> Iterator[Item]:
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BrokenRow(line, f"not valid CSV: {error}; what follows is not read")
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield BrokenRow(line, f"has {len(cells)} fields, the header has {len(header)}")
        elif not all(_is_unicode(cell) for cell in cells):
            yield BrokenRow(line, "not UTF-8 text; save the file as UTF-8")
        else:
            yield RawRow(line, dict(zip(header, cells, strict=True)))


def _check_header(header: list[str], name: str) -> None:
    if not all(_is_unicode(cell) for cell in header):
        raise InvalidSpec(f"{name}, line 1: not UTF-8 text; save the file as UTF-8")
    if not header or any(not cell.strip() for cell in header):
        raise InvalidSpec(f"{name}, line 1: a column has no name; the first line names the columns")
    if len(set(header)) != len(header):
        twice = next(cell for cell in header if header.count(cell) > 1)
        raise InvalidSpec(f"{name}, line 1: the column {twice[:80]!r} is given twice")


def _text_lines(file: IO[bytes]) -> Iterator[str]:
    """Lines with their ends, as the csv module wants them; bytes that are not UTF-8 become lone surrogates."""
    is_first = True
    while raw := file.readline(MAX_ROW_BYTES + 1):
        if len(raw) > MAX_ROW_BYTES:
            raise csv.Error(_TOO_LONG)
        yield (raw.removeprefix(_BOM) if is_first else raw).decode(errors="surrogateescape")
        is_first = False


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _read_parquet(path: Path, name: str) -> Iterator[Item]:
    import pyarrow.parquet  # noqa: PLC0415 - every start of the platform would wait for it, and few files are Parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_header(file.schema_arrow.names, name)
            for batch in file.iter_batches(batch_size=64, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield RawRow(number, {key: value for key, value in row.items() if value is not None})
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InvalidSpec(f"{name} is no readable Parquet file (after row {number}): {error}") from error


def _type_name(value: object) -> str:
    names: dict[type, str] = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
