"""Hand-written files: plain data, with lines, and nothing that expands or executes."""

from pathlib import Path

import pytest

from finery.core import documents
from finery.core.errors import InvalidSpec


def test_numbers_are_numbers_and_words_are_words() -> None:
    value = documents.parse("a: 1e-5\nb: 1_000\nc: no\nd: 0x10\ne: true\nf: 2026-01-01\ng: .5\nh: '1'").value

    assert value == {"a": 1e-5, "b": 1000, "c": "no", "d": "0x10", "e": True, "f": "2026-01-01", "g": 0.5, "h": "1"}


def test_every_key_knows_its_line() -> None:
    lines = documents.parse("a: 1\nb:\n  - x: 1\n  - x: 2").lines

    assert lines["b.1.x"] == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", "anchors"),
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("a: 1\na: 2", "twice"),
        ("a: [1", "line 1"),
        ("a: 1\n---\nb: 1", "document"),
        ("[" * 100 + "]" * 100, "nested"),
        ("? [a]\n: 1", "unhashable"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        documents.parse(text)


def test_a_bomb_of_aliases_is_refused_before_it_expands() -> None:
    bomb = "a0: &a0 [x,x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1},*a{i - 1}]\n" for i in range(1, 60))

    with pytest.raises(InvalidSpec, match="anchors"):
        documents.parse(bomb)


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="characters"):
        documents.parse("a: " + "x" * 1_100_000)


def test_overrides_reach_into_mappings_and_lists() -> None:
    document = documents.parse("task: {rewards: [{name: exact}]}")

    changed = documents.override(document, ["task.optim.learning_rate=1e-6", "task.rewards.0.name=format"])

    assert changed.value == {"task": {"rewards": [{"name": "format"}], "optim": {"learning_rate": 1e-6}}}
    assert document.value == {"task": {"rewards": [{"name": "exact"}]}}


@pytest.mark.parametrize("text", ["no-equals", "=1", "task.rewards.7.name=x", "task.rewards.\u00b2.name=x", "a.b=1"])
def test_an_override_that_fits_nowhere_is_refused(text: str) -> None:
    document = documents.parse("a: 1\ntask: {rewards: []}")

    with pytest.raises(InvalidSpec):
        documents.override(document, [text])


def test_a_missing_file_and_a_binary_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="no file"):
        documents.load(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSpec, match="UTF-8"):
        documents.load(tmp_path / "b.yaml")
