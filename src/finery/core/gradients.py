"""Statistics of gradients on disk: what an engine appends at probed steps, and how it is read back.

    gradients/statistics.bin   head, then records of one width
    gradients/histograms.bin   for each record the histograms of its tensors, compressed; the record says where

A head is MAGIC, the number of bytes that follow (u32), and a `Layout` as JSON, padded with spaces to whole 8 bytes. A
record is step (i64), time (f64), offset and length of the histograms (i64 each), then one row for each field: float32,
one column for each tensor, layer and group. What was not measured is NaN. All numbers are little-endian.

Owns the format. Does not own what the numbers mean to people (`monitoring`) nor how they come about (`training`).
"""

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from finery.core.errors import Conflict

Floats32 = NDArray[np.float32]
Counts = NDArray[np.uint32]
By = Literal["tensor", "layer", "group"]

PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)
FIELDS: Final = (
    *("norm", "mean", "std", "min", "max"),
    *(f"p{share}" for share in PERCENTILES),
    *("share_non_finite", "weight_norm", "weight_update_ratio", "activation_rms"),
)
GROUPS: Final = ("attention", "ffn", "embedding", "norm", "head", "other")
"""Kinds of tensors, by what they are for."""
WHOLE: Final = "all"
"""The group of all tensors."""
LOWEST_EXPONENT: Final = -127
NUM_OCTAVES: Final = 255
"""Bins of a histogram on either side of zero: the one of exponent e counts magnitudes from 2^e to below 2^(e+1), and
the lowest all that is smaller, zero among it."""

_MAGIC: Final = b"FINGRAD\x01"
_LENGTH: Final = struct.Struct("<I")
_STATISTICS: Final = "statistics.bin"
_HISTOGRAMS: Final = "histograms.bin"
_LONGEST_HEAD: Final = 1 << 26
_ATTRIBUTES: Final[dict[By, str]] = {"tensor": "name", "layer": "layer", "group": "group"}


class UnreadableGradients(Conflict):
    """A file of gradient statistics that this version cannot read."""

    code = "unreadable_gradients"


class TensorEntry(BaseModel):
    """A trained tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    name: str
    """As the model names the parameter."""
    layer: str
    group: str
    """One of `GROUPS`."""
    num_values: int


class Layout(BaseModel):
    """What the columns and rows of each record are."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    version: Literal[1] = 1
    fields: tuple[str, ...] = FIELDS
    tensors: tuple[TensorEntry, ...]

    def names(self, by: By) -> list[str]:
        """Columns of one kind, in the order of the model; the groups in that of `GROUPS`, and behind them `WHOLE`."""
        if by == "tensor":
            return [tensor.name for tensor in self.tensors]
        if by == "layer":
            return list(dict.fromkeys(tensor.layer for tensor in self.tensors))
        there = {tensor.group for tensor in self.tensors}
        return [*(group for group in GROUPS if group in there), WHOLE]

    def members(self, by: By, name: str) -> list[int]:
        """Numbers of the tensors that a tensor, layer or group consists of; none where there is no such one."""
        if by == "group" and name == WHOLE:
            return list(range(len(self.tensors)))
        return [number for number, tensor in enumerate(self.tensors) if getattr(tensor, _ATTRIBUTES[by]) == name]

    def columns(self, by: By) -> slice:
        """Where the columns of one kind stand."""
        first_layer = len(self.tensors)
        first_group = first_layer + len(self.names("layer"))
        return {
            "tensor": slice(first_layer),
            "layer": slice(first_layer, first_group),
            "group": slice(first_group, self.num_columns),
        }[by]

    @cached_property
    def num_columns(self) -> int:
        """Tensors, layers and groups together."""
        return len(self.tensors) + len(self.names("layer")) + len(self.names("group"))

    @cached_property
    def record(self) -> np.dtype[Any]:
        """A record as numpy sees it."""
        head = [("step", "<i8"), ("time", "<f8"), ("offset", "<i8"), ("length", "<i8")]
        return np.dtype([*head, ("values", "<f4", (len(self.fields), self.num_columns))])

    def encoded(self) -> bytes:
        """The head of a file."""
        text = self.model_dump_json().encode()
        text += b" " * (-(len(_MAGIC) + _LENGTH.size + len(text)) % 8)
        return _MAGIC + _LENGTH.pack(len(text)) + text


class GradientWriter:
    """Appends the records of one attempt. A file that a crash left with half a record is cut to whole ones first."""

    def __init__(self, folder: Path, layout: Layout):
        """Write nothing yet.

        Args:
            folder: Made when the first record comes.
            layout: Of all records. A file of another one that lies there is begun anew.
        """
        self._folder = folder
        self._layout = layout
        self._head = layout.encoded()

    @property
    def path(self) -> Path:
        """The file of the records."""
        return self._folder / _STATISTICS

    def append(self, step: int, time: float, values: Floats32, histograms: Counts) -> int:
        """Append one record; all of it or nothing.

        Args:
            step: Optimizer steps done, this one included.
            time: Seconds since the epoch.
            values: (fields, columns).
            histograms: (tensors, 2, NUM_OCTAVES) counts of negative and of positive values.

        Returns:
            Byte offset of the record.

        Raises:
            OSError: the disk did not take it.
        """
        self._folder.mkdir(exist_ok=True)
        size = self._whole_size()
        if not size:
            for name in (_STATISTICS, _HISTOGRAMS):
                (self._folder / name).unlink(missing_ok=True)
        packed = zlib.compress(histograms.astype("<u4").tobytes(), level=1)
        offset = _append(self._folder / _HISTOGRAMS, packed)
        record = np.zeros((), dtype=self._layout.record)
        record["step"], record["time"], record["offset"], record["length"] = step, time, offset, len(packed)
        record["values"] = values
        head = b"" if size else self._head
        try:
            return len(head) + _append(self.path, head + record.tobytes(), behind=size)
        except OSError:
            os.truncate(self._folder / _HISTOGRAMS, offset)
            raise

    def _whole_size(self) -> int:
        """Bytes of the head and the whole records that are there; 0 where a file has to be begun."""
        try:
            with open(self.path, "rb") as file:
                is_ours = file.read(len(self._head)) == self._head
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return 0
        if not is_ours:
            return 0
        return size - (size - len(self._head)) % self._layout.record.itemsize


@dataclass(frozen=True)
class GradientFile:
    """The whole records of one attempt, mapped into memory: only what is looked at is read."""

    layout: Layout
    records: NDArray[Any]
    """(N,) of `layout.record`, in the order in which they were written."""
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "GradientFile | None":
        """The records in a folder; None where no step has been probed.

        Raises:
            UnreadableGradients: another version wrote them, or they are damaged.
        """
        path = folder / _STATISTICS
        try:
            with open(path, "rb") as file:
                head = file.read(len(_MAGIC) + _LENGTH.size)
                length = _head_length(head, path)
                text = file.read(length)
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return None
        if len(text) < length or not length:
            return None
        layout = _parsed(text, path)
        start = len(head) + length
        num = (size - start) // layout.record.itemsize
        if num == 0:
            return None
        return cls(layout, np.memmap(path, layout.record, mode="r", offset=start, shape=(num,)), folder)

    def values(self, field: str, by: By) -> Floats32:
        """One field of all tensors, layers or groups at all steps, (N, columns), as it lies in the file.

        Raises:
            KeyError: the file has no such field.
        """
        if field not in self.layout.fields:
            raise KeyError(field)
        found: Floats32 = self.records["values"][:, self.layout.fields.index(field), self.layout.columns(by)]
        return found

    def histogram(self, number: int, tensors: Sequence[int]) -> Counts | None:
        """Of some tensors together at record `number`: (2, NUM_OCTAVES) counts of negative and of positive values.

        None where the histograms are lost or damaged.
        """
        offset, length = int(self.records["offset"][number]), int(self.records["length"][number])
        try:
            with open(self.folder / _HISTOGRAMS, "rb") as file:
                file.seek(offset)
                unpacked = zlib.decompress(file.read(length))
        except (FileNotFoundError, zlib.error):
            return None
        counts = np.frombuffer(unpacked, "<u4").reshape(len(self.layout.tensors), 2, NUM_OCTAVES)
        total: Counts = counts[list(tensors)].sum(axis=0, dtype=np.uint64)
        return total


def _head_length(head: bytes, path: Path) -> int:
    """Bytes of the layout; 0 where the head is torn."""
    if len(head) < len(_MAGIC) + _LENGTH.size:
        return 0
    magic, length = head[: len(_MAGIC)], _LENGTH.unpack(head[len(_MAGIC) :])[0]
    if magic != _MAGIC or length > _LONGEST_HEAD:
        raise UnreadableGradients(
            f"{path} does not begin like version 1 of a file of gradient statistics; it is damaged, or a newer Finery "
            "wrote it: read it with that one"
        )
    return int(length)


def _parsed(text: bytes, path: Path) -> Layout:
    try:
        return Layout.model_validate_json(text)
    except ValidationError as error:
        raise UnreadableGradients(f"{path} has a head that cannot be read: {error.errors()[0]['msg']}") from error


def _append(path: Path, data: bytes, *, behind: int | None = None) -> int:
    """Write behind the first bytes of a file, or behind all; what failed half-way is cut off.

    Returns:
        Where the data begin.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        start = os.fstat(handle).st_size if behind is None else behind
        os.ftruncate(handle, start)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(handle, data[done:], start + done)
        except OSError:
            os.ftruncate(handle, start)
            raise
        return start
    finally:
        os.close(handle)
