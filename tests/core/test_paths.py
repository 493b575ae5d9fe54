"""One resolver for every name that becomes a path."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.core.errors import InvalidSpec, NotFound
from finery.core.paths import MAX_NAME_BYTES, resolve_inside

ATTACKS = [
    "",
    " ",
    ".",
    "./",
    "a/..",
    "..",
    "../x",
    "a/../../x",
    "/etc/passwd",
    "//server/share",
    "~/x",
    "~root/x",
    "C:/windows",
    "c:x",
    "a\\b",
    "..\\x",
    "a\0b",
    "a\nb",
    "%2e%2e/x",
    "%2E%2E%2Fx",
    "..%2fx",
    "%252e%252e%252fx",
    "%25252e%25252e/x",
    "a%00b",
    "%5c..%5cx",
    "%2fetc/passwd",
    "\u2025/x",  # folds to two dots
    "\uff0e\uff0e/x",
    "\uff0e\uff0e\uff0fx",
    "a\uff3cb",
    "\ud800",
    "x" * 256,
    "a/" * (MAX_NAME_BYTES // 2) + "a",
]

pieces = st.one_of(
    st.sampled_from(["..", ".", "/", "\\", "%2e", "%2f", "%252e", "%00", "~", "link", "loop", "out", "a", "C:"]),
    st.text(max_size=4),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "a" / "file").write_text("inside")
    (root / "link").symlink_to(root / "a")
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    return root


@pytest.mark.parametrize("name", ATTACKS)
def test_a_name_that_is_not_plainly_inside_is_refused(root: Path, name: str) -> None:
    with pytest.raises(InvalidSpec):
        resolve_inside(root, name)


@pytest.mark.parametrize(
    "name", ["a/file", "new", "a/new/deep.json", "a b.txt", "100%.txt", "..hidden", "a..b", "\u6570\u636e.jsonl"]
)
def test_a_plain_relative_name_is_joined(root: Path, name: str) -> None:
    assert resolve_inside(root, name) == root.resolve() / name


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    assert resolve_inside(root, "link/file") == root.resolve() / "a" / "file"


@pytest.mark.parametrize("name", ["out", "out/secret", "loop", "loop/x"])
def test_a_link_that_leads_out_or_nowhere_is_refused(root: Path, name: str) -> None:
    with pytest.raises(InvalidSpec):
        resolve_inside(root, name)


def test_a_missing_file_is_not_found_only_when_it_must_exist(root: Path) -> None:
    assert resolve_inside(root, "new").name == "new"

    with pytest.raises(NotFound):
        resolve_inside(root, "new", must_exist=True)


def test_the_message_never_prints_control_characters_and_stays_short(root: Path) -> None:
    with pytest.raises(InvalidSpec) as refused:
        resolve_inside(root, "\x1b[31m" + "x" * 10_000)

    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 300


@given(name=st.lists(pieces, max_size=12).map("".join))
def test_whatever_the_name_the_result_lies_inside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = _shared_root(tmp_path_factory)

    for spelling in (name, quote(name, safe="", errors="replace")):
        try:
            path = resolve_inside(root, spelling)
        except InvalidSpec:
            continue

        assert os.path.commonpath([os.path.realpath(path), os.path.realpath(root)]) == os.path.realpath(root)
        assert os.path.realpath(path) != os.path.realpath(root)


def _shared_root(factory: pytest.TempPathFactory) -> Path:
    root = factory.getbasetemp() / "fuzzed"
    if not root.exists():
        (root / "a").mkdir(parents=True)
        (root / "link").symlink_to(root / "a")
        (root / "out").symlink_to(factory.getbasetemp())
        (root / "loop").symlink_to(root / "loop")
    return root
