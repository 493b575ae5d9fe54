"""The index of recorded rollouts, whole, cut, damaged and missing."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from finery.core import rollouts


def record(step: int, prompt: str = "1+1=", completion: str = "2", **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "group": 0,
        "prompt": prompt,
        "completion": completion,
        "reward": 1.0,
        "length": 2,
        "is_truncated": False,
    } | more


def write(folder: Path, steps: list[list[dict[str, Any]]], *, with_index: bool = True) -> Path:
    path = folder / rollouts.LINES
    for records in steps:
        with open(path, "ab") as file:
            offset = file.tell()
            file.write(b"".join(orjson.dumps(one) + b"\n" for one in records))
        if with_index:
            rollouts.append(path, records, offset)
    return path


TWO = [
    [record(1), record(1, completion="3 4 5 6 7", reward=0.0, length=6), record(1, "2+2=", "4", group=1, reward=None)],
    [record(5, is_truncated=True, reward=0.5)],
]


@pytest.mark.parametrize("with_index", [True, False])
def test_groups_say_where_they_lie_and_what_they_are_like(tmp_path: Path, with_index: bool) -> None:
    path = write(tmp_path, TWO, with_index=with_index)

    groups = rollouts.open_groups(path)

    assert groups["step"].tolist() == [1, 1, 5]
    assert groups["num"].tolist() == [2, 1, 1]
    assert groups["prompt"].tolist() == [rollouts.prompt_key(text) for text in ("1+1=", "2+2=", "1+1=")]
    assert groups["reward"].tolist()[::2] == [0.5, 0.5]
    assert math.isnan(groups["reward"][1])
    assert groups["tokens"].tolist() == [4, 2, 2]
    assert groups["truncated"].tolist() == [0, 0, 1]
    assert groups["diversity"].tolist() == [1, 1, 1]
    read = [rollouts.read_group(path, group) for group in groups]
    assert read == [(TWO[0][:2], 0), (TWO[0][2:], 0), (TWO[1], 0)]


def test_an_index_is_looked_at_where_it_is_asked_for_only(tmp_path: Path) -> None:
    """A file whose lines cannot be read at all opens all the same: none of them is looked at."""
    path = write(tmp_path, TWO)
    path.write_bytes(b"x" * path.stat().st_size)

    groups = rollouts.open_groups(path)

    assert isinstance(groups, np.memmap)
    assert groups["step"].tolist() == [1, 1, 5]
    assert [rollouts.read_group(path, group) for group in groups] == [([], 2), ([], 1), ([], 1)]


def test_lines_behind_the_end_of_the_index_are_found(tmp_path: Path) -> None:
    path = write(tmp_path, TWO)
    write(tmp_path, [[record(6)]], with_index=False)
    with open(path, "ab") as file:
        file.write(b'{"step": 7, "pro')  # is still being written

    assert rollouts.open_groups(path)["step"].tolist() == [1, 1, 5, 6]


def test_half_a_record_of_the_index_is_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path, TWO)
    index = path.with_name(rollouts.INDEX)
    os.truncate(index, index.stat().st_size - 7)
    assert rollouts.open_groups(path)["step"].tolist() == [1, 1, 5]  # the last from its line

    write(tmp_path, [[record(6)]])

    assert (index.stat().st_size - 8) % rollouts.GROUP.itemsize == 0
    assert rollouts.open_groups(path)["step"].tolist() == [1, 1, 6]


def test_what_is_no_index_is_not_read_as_one(tmp_path: Path) -> None:
    path = write(tmp_path, TWO, with_index=False)
    path.with_name(rollouts.INDEX).write_bytes(
        b"something else, and longer than a record of the index would have to be"
    )

    assert rollouts.open_groups(path)["step"].tolist() == [1, 1, 5]


def test_a_cut_file_shows_what_is_left_of_it(tmp_path: Path) -> None:
    path = write(tmp_path, TWO)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20])

    groups = rollouts.open_groups(path)

    assert groups["step"].tolist() == [1]
    assert rollouts.read_group(path, groups[0]) == (TWO[0][:1], 1)


@pytest.mark.parametrize("line", [b"{broken\n", b"[1]\n", b"\xff\xfe\n", b"\n"])
def test_a_damaged_line_is_counted_and_skipped(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path, [[record(1), record(1)]], with_index=False)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + second)

    [group] = rollouts.open_groups(path)

    assert rollouts.read_group(path, group) == ([record(1), record(1)], 1)


def test_fields_that_are_something_else_break_nothing(tmp_path: Path) -> None:
    odd = {"step": "x", "prompt": 3, "completion": None, "reward": "1", "length": True, "group": [], "is_truncated": 1}
    path = write(tmp_path, [[odd, {"step": 2**63}]], with_index=False)

    groups = rollouts.open_groups(path)

    assert groups["step"].tolist() == [0, 0]
    assert np.isnan(groups["reward"]).all()


def test_a_large_file_without_an_index_is_looked_through_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, [[record(step)] for step in range(1, 101)], with_index=False)
    monkeypatch.setattr(rollouts, "MAX_SCANNED", path.stat().st_size // 10)

    groups = rollouts.open_groups(path)

    assert groups["step"].tolist() == list(range(int(groups["step"][0]), 101))
    assert 5 < len(groups) <= 10
    assert rollouts.read_group(path, groups[0])[0] == [record(int(groups["step"][0]))]


def test_no_file_has_no_groups(tmp_path: Path) -> None:
    assert len(rollouts.open_groups(tmp_path / rollouts.LINES)) == 0


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a b c d e"], 1.0),  # abcd, bcde
        (["a b c d", "a b c d"], 0.5),
        (["yes", "yes", "yes", "no"], 0.5),
        (["aaaaaaaa"] * 4, 0.25),  # a word is a word
        (["7" * 40], 1 / 37),  # and this is none
        (["\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u4eca\u5929\u5929\u6c14\u4e0d\u597d"], 5 / 6),
        ([""], 1.0),
    ],
)
def test_diversity_by_words(texts: list[str], expected: float) -> None:
    assert rollouts.diversity(texts) == expected


def test_numbers_are_found_without_reading_all() -> None:
    asked: list[int] = []

    def is_so(at: int) -> bool:
        asked.append(at)
        return at >= 700_000

    assert rollouts.first_where(is_so, 1_000_000) == 700_000
    assert len(asked) <= 20
    assert rollouts.first_where(lambda at: False, 3) == 3
    assert rollouts.first_where(lambda at: True, 0) == 0
