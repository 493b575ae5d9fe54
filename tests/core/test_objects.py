"""The object store keeps bytes by their hash, completely or not at all."""

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finery.core import objects as module
from finery.core.errors import InvalidSpec, NotFound, TooLarge, Unavailable
from finery.core.objects import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def _everything(store: ObjectStore) -> list[str]:
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def _make(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_stored_bytes_are_found_under_their_hash(store: ObjectStore) -> None:
    stored = store.put_stream([b"hello ", b"world"], max_bytes=100)

    assert stored.sha256 == hashlib.sha256(b"hello world").hexdigest()
    assert stored.num_bytes == 11
    assert store.path(stored.sha256).read_bytes() == b"hello world"
    assert store.has(stored.sha256)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(chunks=st.lists(st.binary(max_size=50), max_size=8))
def test_what_goes_in_comes_out(store: ObjectStore, chunks: list[bytes]) -> None:
    stored = store.put_stream(iter(chunks), max_bytes=1000)

    assert store.path(stored.sha256).read_bytes() == b"".join(chunks)


def test_the_same_bytes_are_stored_once(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"same")
    first = store.put_bytes(b"same")
    inode = store.path(first.sha256).stat().st_ino

    assert store.put_file(tmp_path / "file") == first
    assert store.path(first.sha256).stat().st_ino == inode
    assert len(_everything(store)) == 1


def test_an_object_is_read_only(store: ObjectStore) -> None:
    assert store.path(store.put_bytes(b"x").sha256).stat().st_mode & 0o222 == 0


def test_an_object_that_lost_bytes_is_replaced_by_the_next_upload(store: ObjectStore) -> None:
    stored = store.put_bytes(b"whole")
    path = store.path(stored.sha256)
    path.chmod(0o644)
    path.write_bytes(b"wh")

    store.put_bytes(b"whole")

    assert store.path(stored.sha256).read_bytes() == b"whole"


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(store: ObjectStore) -> None:
    with pytest.raises(TooLarge, match="10"):
        store.put_stream([b"123456", b"789012"], max_bytes=10)

    assert _everything(store) == []


def test_an_aborted_upload_leaves_nothing(store: ObjectStore) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        store.put_stream(chunks(), max_bytes=100)

    assert _everything(store) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_unavailable_and_leaves_nothing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(_handle: int) -> None:
        raise OSError(code, "full")

    monkeypatch.setattr(module.os, "fsync", full)

    with pytest.raises(Unavailable, match="full"):
        store.put_bytes(b"x")
    assert _everything(store) == []


def test_another_error_of_the_disk_is_not_hidden(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_handle: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(module.os, "fsync", broken)

    with pytest.raises(OSError, match="broken"):
        store.put_bytes(b"x")


def test_debris_of_a_killed_writer_is_removed_but_a_living_upload_is_not(store: ObjectStore) -> None:
    debris = store.root / "incoming" / "debris"
    debris.write_bytes(b"half")
    long_ago = time.time() - 3600
    os.utime(debris, (long_ago, long_ago))
    started, go_on = threading.Event(), threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"a"
        for path in (store.root / "incoming").iterdir():
            os.utime(path, (long_ago, long_ago))
        started.set()
        go_on.wait(10)
        yield b"b"

    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(store.put_stream(chunks(), max_bytes=9).sha256))
    thread.start()
    started.wait(10)
    ObjectStore(store.root)
    go_on.set()
    thread.join(10)

    assert not debris.exists()
    assert store.path(results[0]).read_bytes() == b"ab"


@pytest.mark.parametrize(
    "sha256", ["", "..", "0" * 63, "0" * 64, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n", "incoming"]
)
def test_what_is_not_here_or_no_hash_is_not_found(store: ObjectStore, sha256: str) -> None:
    assert not store.has(sha256)
    with pytest.raises(NotFound, match="upload"):
        store.path(sha256)


def test_a_folder_comes_back_as_it_was(store: ObjectStore, tmp_path: Path) -> None:
    files = {"config.json": "{}", "weights/a.safetensors": "aaa", "weights/b.safetensors": "aaa", "empty": ""}
    stored = store.put_tree(_make(tmp_path / "model", files))

    folder = store.materialize_tree(stored.sha256, tmp_path / "models")

    assert {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()} == files
    assert set(store.tree(stored.sha256)) == set(files)


def test_the_same_folder_is_the_same_tree(store: ObjectStore, tmp_path: Path) -> None:
    one = store.put_tree(_make(tmp_path / "one", {"b": "2", "a": "1"}))
    two = store.put_tree(_make(tmp_path / "two", {"a": "1", "b": "2"}))

    assert one == two


def test_a_tree_is_laid_out_once(store: ObjectStore, tmp_path: Path) -> None:
    stored = store.put_tree(_make(tmp_path / "model", {"a": "1"}))

    first = store.materialize_tree(stored.sha256, tmp_path / "models")
    second = store.materialize_tree(stored.sha256, tmp_path / "models")

    assert first == second
    assert [path.name for path in (tmp_path / "models").iterdir()] == [stored.sha256]


def test_a_tree_is_copied_where_links_are_impossible(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = store.put_tree(_make(tmp_path / "model", {"a": "1"}))

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(module.os, "link", no_links)

    assert (store.materialize_tree(stored.sha256, tmp_path / "models") / "a").read_text() == "1"


def test_files_behind_links_are_stored_by_their_content(store: ObjectStore, tmp_path: Path) -> None:
    _make(tmp_path / "blobs", {"blob": "weights"})
    _make(tmp_path / "model", {"config.json": "{}"})
    (tmp_path / "model" / "model.safetensors").symlink_to(tmp_path / "blobs" / "blob")

    files = store.tree(store.put_tree(tmp_path / "model").sha256)

    assert store.path(files["model.safetensors"]).read_text() == "weights"


def test_a_tree_with_a_missing_file_is_not_laid_out_in_part(store: ObjectStore, tmp_path: Path) -> None:
    stored = store.put_tree(_make(tmp_path / "model", {"a": "1", "b": "2"}))
    store.path(store.tree(stored.sha256)["b"]).unlink()

    with pytest.raises(NotFound):
        store.materialize_tree(stored.sha256, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_an_empty_folder_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()

    with pytest.raises(InvalidSpec, match="between 1 and"):
        store.put_tree(tmp_path / "model")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", "./a", "a/", "a\\b", "%2e%2e/x"])
def test_a_tree_never_reaches_outside_of_its_folder(store: ObjectStore, name: str) -> None:
    stored = store.put_bytes(b"x")
    forged = store.put_bytes(
        orjson.dumps({"version": 1, "files": [{"path": name, "sha256": stored.sha256, "num_bytes": 1}]})
    )

    with pytest.raises(InvalidSpec):
        store.put_manifest({name: stored.sha256})
    with pytest.raises(InvalidSpec):
        store.tree(forged.sha256)


def test_a_path_that_runs_through_a_file_is_refused(store: ObjectStore) -> None:
    sha256 = store.put_bytes(b"x").sha256

    with pytest.raises(InvalidSpec, match="runs through 'a'"):
        store.put_manifest({"a": sha256, "a/b": sha256})


@pytest.mark.parametrize(
    "content", [b"", b"plain text", b"[]", b"{}", b'{"version": 1}', b'{"version": 1, "files": [1]}']
)
def test_a_file_is_no_tree(store: ObjectStore, content: bytes) -> None:
    stored = store.put_bytes(content)

    with pytest.raises(InvalidSpec, match="not a folder"):
        store.tree(stored.sha256)
