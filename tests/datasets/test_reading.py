"""Rows come out of files one by one, and each broken one says where it stands."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finery.core.errors import InvalidSpec
from finery.datasets import reading
from finery.datasets.reading import MAX_ROW_BYTES, BrokenRow, RawRow, read_rows

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
rows_ = st.lists(
    st.dictionaries(texts, st.none() | st.integers(-99, 99) | texts | st.lists(texts, max_size=3), max_size=4),
    max_size=8,
)


def _read(tmp_path: Path, content: bytes, name: str = "rows.jsonl", *, sniff: bool = False) -> list[RawRow | BrokenRow]:
    path = tmp_path / "stored"
    path.write_bytes(content)
    return list(read_rows(path, file_name=None if sniff else name))


def _good(items: list[RawRow | BrokenRow]) -> list[dict[str, Any]]:
    assert all(isinstance(item, RawRow) for item in items), items
    return [item.row for item in items if isinstance(item, RawRow)]


ROWS = [{"prompt": "1+1", "answer": "2"}, {"prompt": '\u4f60\u597d, "x"\n[{', "answer": "\\"}]
JSONL = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
CSV = 'prompt,answer\r\n1+1,2\r\n"\u4f60\u597d, ""x""\n[{",\\\r\n'.encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL),
        ("a.jsonl", JSONL + b"\n"),
        ("a.JSONL", JSONL.replace(b"\n", b"\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + JSONL),
        ("a.ndjson", b"\n\n" + JSONL + b"\n\n"),
        ("a.json", JSONL),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS, indent=2).encode() + b"\n"),
        ("a.jsonl", json.dumps(ROWS).encode()),
        ("a.csv", CSV),
        ("a.csv", b"\xef\xbb\xbf" + CSV),
        ("a.tsv", b'prompt\tanswer\n1+1\t2\n"\xe4\xbd\xa0\xe5\xa5\xbd, ""x""\n[{"\t\\\n'),
    ],
)
def test_the_same_rows_come_out_of_every_kind_of_text_file(tmp_path: Path, name: str, content: bytes) -> None:
    assert _good(_read(tmp_path, content, name)) == ROWS
    if not name.endswith("tsv"):
        assert _good(_read(tmp_path, content, sniff=True)) == ROWS


def test_rows_come_out_of_parquet_without_their_empty_columns(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([*ROWS, {"prompt": [None][0], "answer": "3"}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")

    for name in ("a.parquet", None):
        items = list(read_rows(tmp_path / "a.parquet", file_name=name))
        assert _good(items) == [*ROWS, {"answer": "3"}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=rows_.filter(len), indent=st.none() | st.integers(0, 2), chunk=st.integers(1, 40))
def test_an_array_is_cut_into_its_rows_wherever_the_chunks_end(
    tmp_path: Path, rows: list[dict[str, Any]], indent: int | None, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_CHUNK_BYTES", chunk)
        items = _read(tmp_path, json.dumps(rows, indent=indent).encode(), "a.json")

    assert _good(items) == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.binary(max_size=80) | st.text('[]{}",:\\ \nab1', max_size=60).map(str.encode),
    name=st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.parquet", ""]),
)
def test_no_content_makes_reading_fail_in_another_way_than_it_says(tmp_path: Path, content: bytes, name: str) -> None:
    try:
        items = _read(tmp_path, content, name, sniff=not name)
    except InvalidSpec:
        return

    assert all(isinstance(item, RawRow | BrokenRow) for item in items)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "a", "prompt": "b"}', "given twice"),
        (b'{"prompt": NaN}', "NaN"),
        (b'{"prompt": "\xff"}', "UTF-8"),
        (b"not json", "not valid JSON"),
        (b"[1, 2]", "a row is an object"),
        (b'"text"', "this is text"),
        (b"null", "this is null"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested deeper"),
        (b'{"a": "' + b"x" * (10 << 20) + b'"}', "longer than 4 MiB"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_broken_line_is_reported_by_number_and_the_others_are_read(tmp_path: Path, line: bytes, reason: str) -> None:
    good = b'{"prompt": "a"}'

    items = _read(tmp_path, b"\n".join([good, b"", line, good]))

    assert [item.line for item in items] == [1, 3, 4]
    assert isinstance(items[1], BrokenRow)
    assert reason in items[1].message
    assert isinstance(items[2], RawRow)


def test_a_broken_element_of_an_array_is_reported_by_its_line(tmp_path: Path) -> None:
    content = (
        b'\n[\n  {"a": 1},\n  {"a": 1, "a": 2},\n  7, {"a": "' + b"x\\\\n" * 2_000_000 + b'"},\n\n  {"a": \n 3},\n]\n'
    )

    items = _read(tmp_path, content, "a.json")

    assert [item.line for item in items] == [3, 4, 5, 5, 7]
    assert [isinstance(item, RawRow) for item in items] == [True, False, False, False, True]
    assert "given twice" in items[1].message
    assert "this is a number" in items[2].message
    assert "longer than" in items[3].message


def test_a_broken_first_line_of_a_jsonl_file_is_one_broken_row(tmp_path: Path) -> None:
    items = _read(tmp_path, b'# a comment\n{"a": 1}\n')

    assert isinstance(items[0], BrokenRow)
    assert items[1] == RawRow(2, {"a": 1})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"a": 1}, {"a": 2', "does not end"),
        (b'[{"a": 1}, {"a": "2}]', "does not end"),
        (b'[{"a": 1}] trailing', "text after the end"),
        (b'[{"a": 1},, {"a": 2}]', "nothing between"),
    ],
)
def test_a_damaged_array_still_gives_its_good_rows(tmp_path: Path, content: bytes, reason: str) -> None:
    items = _read(tmp_path, content, "a.json")

    assert items[0] == RawRow(1, {"a": 1})
    assert any(isinstance(item, BrokenRow) and reason in item.message for item in items)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.csv", b" \n\n", "is empty"),
        ("a.csv", b"\xef\xbb\xbf", "is empty"),
        ("a.parquet", b"", "is empty"),
        ("a.txt", b"x", "ending '.txt'"),
        ("rows", b"x", "(none)"),
        ("a.jsonl.gz", b"\x1f\x8b", "ending '.gz'"),
        ("a.jsonl", b"\x1f\x8b\x08abc", "gzip"),
        ("a.csv", b"PK\x03\x04abc", "zip"),
        ("a.jsonl", b"PAR1abc", ".parquet"),
        ("a.parquet", b'{"a": 1}', "no readable Parquet"),
        ("a.parquet", b"PAR1" + b"x" * 100 + b"PAR1", "no readable Parquet"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16-le"), "UTF-16"),
        ("a.json", b"plain text", "neither objects"),
        ("a.json", b'{\n  "a": 1\n}', "does not end on its line"),
        ("a.csv", b"a,a\n1,2\n", "'a' is given twice"),
        ("a.csv", b"a,\n1,2\n", "has no name"),
        ("a.csv", "\u4f60\u597d,b\n1,2\n".encode("gbk"), "UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(InvalidSpec, match=r".") as refused:
        _read(tmp_path, content, name)

    assert reason in str(refused.value)
    assert len(str(refused.value)) < 400


def test_rows_of_a_csv_are_checked_against_its_header(tmp_path: Path) -> None:
    content = b'a,b\n1,2\n1\n1,2,3\n"x\ny",2\n\n\xff,2\nlast,1\n'

    items = _read(tmp_path, content, "a.csv")

    assert [item.line for item in items] == [2, 3, 4, 5, 8, 9]
    assert [isinstance(item, RawRow) for item in items] == [True, False, False, True, False, True]
    assert "has 1 fields, the header has 2" in items[1].message
    assert "UTF-8" in items[4].message


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b'"open\n1,2\n', "not valid CSV"),
        (b'"' + b"x\n" * (MAX_ROW_BYTES // 2 + 9) + b'",2\n', "field limit"),
        (b"x" * (MAX_ROW_BYTES + 1), "longer than"),
    ],
    ids=["quote", "field", "line"],
)
def test_a_csv_that_runs_away_is_stopped_and_says_where(tmp_path: Path, rest: bytes, reason: str) -> None:
    items = _read(tmp_path, b"a,b\n1,2\n" + rest, "a.csv")

    assert items[0] == RawRow(2, {"a": "1", "b": "2"})
    assert isinstance(items[1], BrokenRow)
    assert items[1].line == 3
    assert reason in items[1].message
    assert len(items) == 2


def test_memory_stays_small_whatever_the_file(tmp_path: Path) -> None:
    import tracemalloc

    row = json.dumps({"prompt": "x" * 20_000}).encode()
    (tmp_path / "a.json").write_bytes(b"[" + b",\n".join([row] * 1000) + b"]")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(tmp_path / "a.json", file_name="a.json")) == 1000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 6 << 20
