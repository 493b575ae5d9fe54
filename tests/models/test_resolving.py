"""What a model name stands for, and which names and folders are refused with which way out."""

import os
import shutil
from pathlib import Path

import pytest

from finery.core.errors import Conflict, FineryError, InvalidSpec, NotFound
from finery.models import loading, resolving


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model of the user."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_a_built_in_name_is_pinned_without_being_built(home: Path) -> None:
    found = resolving.resolve("tiny-char", home=home)

    assert (found.kind, found.path) == ("builtin", str(home / "models" / "tiny-char"))
    assert not (home / "models").exists()


def test_built_in_names_are_pinned_to_the_recipe_not_to_the_place(home: Path, tmp_path: Path) -> None:
    assert (
        resolving.resolve("tiny-char", home=home).sha256 == resolving.resolve("tiny-char", home=tmp_path / "b").sha256
    )


@pytest.mark.parametrize(("name", "meant"), [("tiny-chat", "tiny-char"), ("smollm2-135m", "smollm2-135m-instruct")])
def test_an_unknown_name_is_answered_with_a_near_one(home: Path, name: str, meant: str) -> None:
    with pytest.raises(NotFound, match=f"did you mean {meant}\\?"):
        resolving.resolve(name, home=home)


def test_an_unknown_name_that_is_near_to_nothing_is_answered_with_what_there_is(home: Path) -> None:
    with pytest.raises(NotFound, match="'zzz'. Built-in are tiny-char, smollm2") as caught:
        resolving.resolve("zzz", home=home)

    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "a/b/c", "org/", "/", "org/name@", "org/na me", "file:///etc", "a\nb/c"])
def test_what_cannot_be_a_name_is_refused(home: Path, name: str) -> None:
    with pytest.raises(FineryError):
        resolving.resolve(name, home=home)


@pytest.mark.parametrize("name", ["../", "../../etc", "./..", "~/../no-such-user", "/etc"])
def test_a_path_to_no_folder_is_refused(home: Path, name: str) -> None:
    with pytest.raises((InvalidSpec, NotFound)):
        resolving.resolve(f"{name}/no-such-folder", home=home)


def test_a_name_cannot_climb_out_of_the_hub(home: Path) -> None:
    with pytest.raises(InvalidSpec, match="org/name"):
        resolving.resolve("org/..", home=home)


def test_a_folder_is_pinned_by_its_content(folder: Path, home: Path, tmp_path: Path) -> None:
    found = resolving.resolve(str(folder), home=home)
    copy = shutil.copytree(folder, tmp_path / "copy")

    assert (found.kind, found.path) == ("folder", str(folder))
    assert resolving.resolve(str(copy), home=home).sha256 == found.sha256
    assert loading.materialize(found, str(folder)) == folder


def test_a_relative_folder_is_pinned_by_its_absolute_path(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)

    assert resolving.resolve("./model", home=home).path == str(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "consolidated.00.pth"])
def test_a_folder_that_holds_only_a_pickle_is_refused_with_the_way_out(folder: Path, home: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)

    with pytest.raises(InvalidSpec, match="safe_serialization=True") as caught:
        resolving.resolve(str(folder), home=home)

    assert name in str(caught.value)


def test_a_pickle_beside_safetensors_is_not_loaded(folder: Path, home: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04not a pickle")

    found = resolving.resolve(str(folder), home=home)

    assert loading.load_model(loading.materialize(found, str(folder))).num_parameters() > 0


@pytest.mark.parametrize(("missing", "message"), [("config.json", "config.json"), ("model.safetensors", "safetensors")])
def test_a_folder_that_lacks_a_file_is_refused_by_the_name_of_the_file(
    folder: Path, home: Path, missing: str, message: str
) -> None:
    (folder / missing).unlink()

    with pytest.raises(InvalidSpec, match=message):
        resolving.resolve(str(folder), home=home)


def test_a_link_that_leads_outside_the_folder_is_refused(folder: Path, home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder / "vocab.txt").symlink_to(secret)

    with pytest.raises(InvalidSpec, match=r"vocab\.txt is a link that leads outside"):
        resolving.resolve(str(folder), home=home)


def test_a_linked_folder_that_leads_outside_is_refused(folder: Path, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (folder / "model.safetensors").rename(other / "model.safetensors")
    (folder / "model.safetensors").symlink_to(other / "model.safetensors")

    with pytest.raises(InvalidSpec, match="leads outside"):
        resolving.resolve(str(folder), home=home)


def test_a_link_inside_the_folder_is_fine(folder: Path, home: Path) -> None:
    (folder / "blob").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("blob")

    assert resolving.resolve(str(folder), home=home).kind == "folder"


def test_a_pipe_in_the_folder_does_not_hang(folder: Path, home: Path) -> None:
    os.mkfifo(folder / "pipe")

    assert resolving.resolve(str(folder), home=home).kind == "folder"


def test_a_large_folder_that_is_no_model_is_refused_without_reading_all_of_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "model.safetensors").write_text("")
    monkeypatch.delattr(Path, "rglob")

    with pytest.raises(InvalidSpec, match="name the folder"):
        resolving.resolve(str(tmp_path), home=home)


@pytest.mark.parametrize("change", ["content", "added", "removed", "renamed"])
def test_a_folder_that_changed_after_submission_is_a_conflict(folder: Path, home: Path, change: str) -> None:
    found = resolving.resolve(str(folder), home=home)
    config = folder / "generation_config.json"
    if change == "content":
        config.write_text(config.read_text().replace("0", "1"))
    elif change == "added":
        (folder / "added.txt").write_text("")
    elif change == "removed":
        config.unlink()
    else:
        config.rename(folder / "renamed.json")

    with pytest.raises(Conflict, match="has changed since the job was submitted"):
        loading.materialize(found, str(folder))


@pytest.mark.parametrize("name", ["modelscope:", "modelscope:qwen", "modelscope:a/b/c", "modelscope:../b/c"])
def test_a_modelscope_id_that_is_malformed_is_refused_with_the_right_form(home: Path, name: str) -> None:
    with pytest.raises(InvalidSpec, match="modelscope:org/name"):
        resolving.resolve(name, home=home)
