"""Rows as the Parquet files that verl reads. Needs pyarrow and orjson alone, so that every engine can call it.

Owns the layout of two kinds of files. Reinforcement learning: `data_source`, `prompt` (messages), `ability`,
`reward_model` {style, ground_truth} and `extra_info` {index, split, row}. Supervised: `messages`. A Parquet file has
one schema, rows have what they like; so the whole row goes along as the JSON text `extra_info.row`.

A file is written row group by row group and renamed when it is whole. The same rows give the same bytes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow
import pyarrow.parquet

from finery.core.errors import InvalidSpec

ABILITY: Final = "verifiable"
"""What verl calls the kind of task; nothing reads it."""
_MOST_ROWS: Final = 1000
_MOST_BYTES: Final = 8 << 20
"""A row group ends at either; what is held in memory at once."""

_KEYS: Final = ("role", "content")
_MESSAGES: Final = pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))
_RL: Final = pyarrow.schema(
    [
        ("data_source", pyarrow.string()),
        ("prompt", _MESSAGES),
        ("ability", pyarrow.string()),
        ("reward_model", pyarrow.struct([("style", pyarrow.string()), ("ground_truth", pyarrow.string())])),
        (
            "extra_info",
            pyarrow.struct([("index", pyarrow.int64()), ("split", pyarrow.string()), ("row", pyarrow.string())]),
        ),
    ]
)
_SFT: Final = pyarrow.schema([("messages", _MESSAGES)])


def write_rl(rows: Iterable[Mapping[str, Any]], path: Path, *, data_source: str, split: str = "train") -> int:
    """Write verifiable rows for verl's reinforcement learning.

    Args:
        rows: Each has `prompt`, text or messages, and mostly `answer`; other fields are kept in `extra_info.row`.
        path: File to write; verl wants the ending `.parquet`.
        data_source: What verl groups its validation metrics by, such as `sums@1`.
        split: Put into `extra_info.split`.

    Returns:
        How many rows were written.

    Raises:
        InvalidSpec: there are no rows, or one has no prompt.
        OSError: the disk is full; `path` is then as it was.
    """

    def encode(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "data_source": data_source,
            "prompt": _messages(row.get("prompt"), index, "prompt"),
            "ability": ABILITY,
            "reward_model": {"style": "rule", "ground_truth": _as_text(row.get("answer"))},
            "extra_info": {"index": index, "split": split, "row": _json(row, index)},
        }

    return _write(rows, path, _RL, encode)


def write_sft(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write supervised rows for verl's fine-tuning.

    Args:
        rows: Each has `messages`, or `prompt` (text or messages) and `response`.
        path: File to write; verl wants the ending `.parquet`.

    Returns:
        How many rows were written.

    Raises:
        InvalidSpec: there are no rows, or one is no conversation.
        OSError: the disk is full; `path` is then as it was.
    """

    def encode(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
        if row.get("messages") is not None:
            return {"messages": _messages(row["messages"], index, "messages")}
        if not isinstance(row.get("response"), str):
            raise InvalidSpec(
                f"row {index + 1} has no text under 'response'; expected prompt and response, or messages"
            )
        answer = {"role": "assistant", "content": row["response"]}
        return {"messages": [*_messages(row.get("prompt"), index, "prompt"), answer]}

    return _write(rows, path, _SFT, encode)


WRITERS: Final[Mapping[str, Callable[[Iterable[Mapping[str, Any]], Path, str], int]]] = {
    "verifiable": lambda rows, path, name: write_rl(rows, path, data_source=name),
    "sft": lambda rows, path, name: write_sft(rows, path),
}
"""Format of a dataset -> who writes it for verl; verl trains on no other."""


def whole_row(extra_info: Mapping[str, Any]) -> dict[str, Any]:
    """The row as it was before it was written, from the `extra_info` that verl hands to a reward function."""
    found: dict[str, Any] = orjson.loads(extra_info["row"])
    return found


def _write(
    rows: Iterable[Mapping[str, Any]],
    path: Path,
    schema: Any,
    encode: Callable[[int, Mapping[str, Any]], dict[str, Any]],
) -> int:
    encoded = (encode(index, row) for index, row in enumerate(rows))
    first = next(encoded, None)
    if first is None:
        raise InvalidSpec(f"there are no rows to write to {path.name}; name data that has some")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    num_rows = 0
    try:
        with pyarrow.parquet.ParquetWriter(aside, schema, compression="zstd") as writer:
            for group in _groups(chain([first], encoded)):
                writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
                num_rows += len(group)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return num_rows


def _groups(encoded: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    num_bytes = 0
    for row in encoded:
        group.append(row)
        num_bytes += _size(row)
        if len(group) >= _MOST_ROWS or num_bytes >= _MOST_BYTES:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


def _size(row: dict[str, Any]) -> int:
    """About how many bytes a row takes."""
    said = sum(len(message["content"]) for message in row.get("prompt", row.get("messages", ())))
    return said + len(row.get("extra_info", {}).get("row", ""))


def _messages(value: Any, index: int, what: str) -> list[dict[str, str]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise InvalidSpec(f"row {index + 1} has no {what!r}; expected text, or messages with role and content")
    for message in value:
        is_message = isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in _KEYS)
        if not is_message:
            raise InvalidSpec(f"row {index + 1}: {what!r} has a message without the texts 'role' and 'content'")
    return [{key: message[key] for key in _KEYS} for message in value]


def _as_text(answer: Any) -> str:
    """What the answer is compared with, as text; empty where a row has none."""
    if answer is None or isinstance(answer, str):
        return answer or ""
    return orjson.dumps(answer).decode()


def _json(row: Mapping[str, Any], index: int) -> str:
    try:
        return orjson.dumps(dict(row)).decode()
    except (TypeError, ValueError) as error:
        raise InvalidSpec(
            f"row {index + 1} cannot be written as JSON ({error}); keep text, numbers and lists"
        ) from error
