"""The file of gradient statistics: what is written is read, and what a crash or a full disk leaves is cut off."""

import os
from pathlib import Path

import numpy as np
import pytest

from finery.core import gradients
from finery.core.gradients import (
    FIELDS,
    NUM_OCTAVES,
    GradientFile,
    GradientWriter,
    Layout,
    TensorEntry,
    UnreadableGradients,
)

LAYOUT = Layout(
    tensors=(
        TensorEntry(name="embed.weight", layer="embedding", group="embedding", num_values=6),
        TensorEntry(name="layers.0.mlp.weight", layer="0", group="ffn", num_values=4),
        TensorEntry(name="layers.0.attn.weight", layer="0", group="attention", num_values=5),
        TensorEntry(name="layers.1.mlp.weight", layer="1", group="ffn", num_values=4),
    )
)


def _values(seed: int) -> gradients.Floats32:
    return np.random.default_rng(seed).normal(size=(len(FIELDS), LAYOUT.num_columns)).astype(np.float32)


def _histograms(seed: int) -> gradients.Counts:
    return np.random.default_rng(seed).integers(0, 9, (4, 2, NUM_OCTAVES)).astype(np.uint32)


def _append(folder: Path, step: int) -> int:
    return GradientWriter(folder, LAYOUT).append(step, 0.5 * step, _values(step), _histograms(step))


def _open(folder: Path) -> GradientFile:
    found = GradientFile.open(folder)
    assert found is not None
    return found


def _assert_holds(folder: Path, steps: list[int]) -> None:
    found = _open(folder)
    assert found.layout == LAYOUT
    assert found.records["step"].tolist() == steps
    assert found.records["time"].tolist() == [0.5 * step for step in steps]
    for number, step in enumerate(steps):
        assert np.array_equal(found.records["values"][number], _values(step))
        whole = found.histogram(number, [0, 3])
        assert whole is not None
        assert np.array_equal(whole, _histograms(step)[[0, 3]].sum(0))


def test_columns_are_tensors_then_layers_then_groups() -> None:
    assert LAYOUT.names("layer") == ["embedding", "0", "1"]
    assert LAYOUT.names("group") == ["attention", "ffn", "embedding", "all"]
    assert [LAYOUT.columns(by) for by in ("tensor", "layer", "group")] == [slice(4), slice(4, 7), slice(7, 11)]
    assert LAYOUT.members("layer", "0") == [1, 2]
    assert LAYOUT.members("group", "ffn") == [1, 3]
    assert LAYOUT.members("group", "all") == [0, 1, 2, 3]
    assert LAYOUT.members("tensor", "all") == []


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "gradients"
    offsets = [_append(folder, step) for step in (1, 100, 200)]

    _assert_holds(folder, [1, 100, 200])
    found = _open(folder)
    assert np.array_equal(found.values("std", "layer"), [_values(step)[2, 4:7] for step in (1, 100, 200)])
    raw = (folder / "statistics.bin").read_bytes()
    assert [np.frombuffer(raw[offset : offset + 8], "<i8")[0] for offset in offsets] == [1, 100, 200]
    with pytest.raises(KeyError):
        found.values("median", "layer")


def test_nothing_was_probed(tmp_path: Path) -> None:
    assert GradientFile.open(tmp_path / "gradients") is None


@pytest.mark.parametrize("num_lost", [1, 40, 10_000])
def test_the_torn_end_of_a_crash_is_not_read_and_cut_off_by_who_writes_next(tmp_path: Path, num_lost: int) -> None:
    folder = tmp_path / "gradients"
    _append(folder, 1)
    size = (folder / "statistics.bin").stat().st_size
    _append(folder, 2)
    os.truncate(folder / "statistics.bin", max(size, (folder / "statistics.bin").stat().st_size - num_lost))

    _assert_holds(folder, [1])

    _append(folder, 3)
    _assert_holds(folder, [1, 3])


@pytest.mark.parametrize("num_bytes", [0, 5, 100, 600])
def test_a_torn_head_is_begun_anew(tmp_path: Path, num_bytes: int) -> None:
    folder = tmp_path / "gradients"
    _append(folder, 1)
    os.truncate(folder / "statistics.bin", num_bytes)
    assert GradientFile.open(folder) is None

    _append(folder, 2)

    _assert_holds(folder, [2])


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_disk_without_room_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    folder = tmp_path / "gradients"
    if failing > 2:
        _append(folder, 1)
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.bin")}
    num, write = 0, os.pwrite

    def full(handle: int, data: bytes, at: int) -> int:
        nonlocal num
        num += 1
        if num == 2 - failing % 2:
            write(handle, data[: len(data) // 2], at)
            raise OSError(28, "No space left on device")
        return write(handle, data, at)

    with monkeypatch.context() as patched:
        patched.setattr(gradients.os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            _append(folder, 2)

    assert {path.name: path.stat().st_size for path in folder.glob("*.bin") if path.stat().st_size} == sizes
    _append(folder, 3)
    _assert_holds(folder, [1, 3] if failing > 2 else [3])


def test_a_lost_histogram_is_none_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "gradients"
    _append(folder, 1)
    _append(folder, 2)
    os.truncate(folder / "histograms.bin", (folder / "histograms.bin").stat().st_size - 3)

    found = _open(folder)

    assert found.histogram(0, [0]) is not None
    assert found.histogram(1, [0]) is None
    (folder / "histograms.bin").unlink()
    assert found.histogram(0, [0]) is None


@pytest.mark.parametrize("change", ["magic", "version", "json"])
def test_a_file_that_cannot_be_read_says_so(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "gradients"
    _append(folder, 1)
    path = folder / "statistics.bin"
    raw = path.read_bytes()
    changed = {
        "magic": b"FINGRAD\x02" + raw[8:],
        "version": raw.replace(b'"version":1', b'"version":2', 1),
        "json": raw[:12] + b"[" + raw[13:],
    }
    path.write_bytes(changed[change])

    with pytest.raises(UnreadableGradients, match=r"statistics\.bin"):
        GradientFile.open(folder)
