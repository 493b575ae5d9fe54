"""Parquet files for verl, read back with pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from finery.core import parquet
from finery.core.errors import InvalidSpec


def read(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return found


def test_rows_of_different_shapes_share_one_file_and_come_back_whole(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "answer": "1", "level": 3},
        {"prompt": "b", "answer": "2", "level": "hard", "tests": {"x": [1, None]}},
        {"prompt": [{"role": "user", "content": "ü😀"}], "answer": "", "nothing": None},
    ]

    assert parquet.write_rl(rows, tmp_path / "a.parquet", data_source="d@1", split="test") == 3

    found = read(tmp_path / "a.parquet")
    assert [parquet.whole_row(row["extra_info"]) for row in found] == rows
    assert [row["prompt"] for row in found] == [
        [{"role": "user", "content": "a"}],
        [{"role": "user", "content": "b"}],
        [{"role": "user", "content": "ü😀"}],
    ]
    assert [(row["extra_info"]["index"], row["extra_info"]["split"]) for row in found] == [
        (0, "test"),
        (1, "test"),
        (2, "test"),
    ]
    assert {row["data_source"] for row in found} == {"d@1"}


@pytest.mark.parametrize(
    ("answer", "text"), [(3, "3"), (0.5, "0.5"), ("x", "x"), (True, "true"), ([1, 2], "[1,2]"), (None, "")]
)
def test_an_answer_becomes_text(tmp_path: Path, answer: Any, text: str) -> None:
    parquet.write_rl([{"prompt": "a", "answer": answer}], tmp_path / "a.parquet", data_source="d")

    assert read(tmp_path / "a.parquet")[0]["reward_model"] == {"style": "rule", "ground_truth": text}


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"prompt": f"{number}+1=", "answer": str(number + 1)} for number in range(3000)]

    for name in ("a", "b"):
        parquet.write_rl(iter(rows), tmp_path / f"{name}.parquet", data_source="d")

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_rows_are_written_as_they_come_and_not_held(tmp_path: Path) -> None:
    drawn = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal drawn
        for _ in range(24):
            drawn += 1
            yield {"prompt": "p" * (1 << 20), "answer": "1"}

    parquet.write_rl(rows(), tmp_path / "a.parquet", data_source="d")

    file = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet")
    assert drawn == 24
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [4] * 6


def test_supervised_rows_become_messages(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [{"prompt": "hi", "response": "hello"}, {"messages": messages, "source": "x"}]

    assert parquet.write_sft(rows, tmp_path / "a.parquet") == 2

    assert read(tmp_path / "a.parquet") == [{"messages": messages}, {"messages": messages}]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "no rows"),
        ([{"prompt": "a", "answer": "1"}, {"answer": "1"}], "row 2 has no 'prompt'"),
        ([{"prompt": [{"role": "user"}]}], "row 1: 'prompt' has a message without"),
    ],
)
def test_what_cannot_be_written_is_named_and_leaves_no_file(
    tmp_path: Path, rows: list[dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(InvalidSpec, match=complaint):
        parquet.write_rl(rows, tmp_path / "a.parquet", data_source="d")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_sft([{"prompt": "a", "response": "b"}], path)
    before = path.read_bytes()

    with pytest.raises(InvalidSpec, match="row 2"):
        parquet.write_sft([{"prompt": "a", "response": "b"}, {"prompt": "a"}], path)

    assert path.read_bytes() == before
