"""Checkpoints exist when their manifest does, and are good when each hash matches."""

from pathlib import Path

import pytest

from finery.core import checkpoints


def make(root: Path, step: int, content: bytes = b"weights") -> Path:
    path = checkpoints.directory(root, step)
    (path / "inner").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(content)
    (path / "inner" / "state.pt").write_bytes(b"state")
    checkpoints.seal(path, engine="trl", format="hf-trainer", step=step, attempt=1, world_size=1, now=0.0)
    return path


def test_a_directory_without_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    make(tmp_path, 10)
    (tmp_path / "step-20").mkdir()
    (tmp_path / "step-20" / "model.safetensors").write_bytes(b"half")

    assert [step for step, _ in checkpoints.existing(tmp_path)] == [10]
    assert checkpoints.remove_debris(tmp_path) == [tmp_path / "step-20"]
    assert not (tmp_path / "step-20").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    good = make(tmp_path, 10)
    bad = make(tmp_path, 20) / "model.safetensors"
    if damage == "flip":
        bad.write_bytes(b"Weights")
    elif damage == "cut":
        bad.write_bytes(b"wei")
    else:
        bad.unlink()

    found, complaints = checkpoints.latest_good(tmp_path)

    assert found == good
    assert len(complaints) == 1
    assert "step 20" in complaints[0]


def test_an_unreadable_manifest_is_no_manifest(tmp_path: Path) -> None:
    path = make(tmp_path, 1)
    (path / checkpoints.MANIFEST).write_text("{")

    assert checkpoints.read_manifest(path) is None
    assert checkpoints.latest_good(tmp_path) == (None, [])
