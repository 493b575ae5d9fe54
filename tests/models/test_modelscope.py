"""Models of ModelScope, against a server on this machine that speaks its protocol."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from finery.core.errors import Conflict, Forbidden, InvalidSpec, NotFound, Unavailable
from finery.models import loading, resolving
from tests.models.hub import Hub, serving

REPO = "someone/tiny"
NAME = f"modelscope:{REPO}"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A ModelScope that holds the tiny model, with a pickle beside its safetensors."""
    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir() if path.name != "finery.json"}
    made = Hub(REPO)
    made.commit(files | {"pytorch_model.bin": b"\x80\x04"})
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    with serving(made):
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", made.url)
        yield made


def test_a_downloaded_model_has_the_bytes_of_modelscope_and_loads(hub: Hub, home: Path) -> None:
    found = resolving.resolve(NAME, home=home)

    folder = loading.materialize(found, NAME)

    assert found.kind == "modelscope"
    assert (folder / WEIGHTS).read_bytes() == hub.commits[hub.main][WEIGHTS]
    assert not list(folder.glob("*.bin"))
    assert loading.load_model(folder).num_parameters() < 1_000_000


def test_a_transfer_that_is_cut_goes_on_where_it_was_cut(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    hub.cuts[WEIGHTS] = 1

    folder = loading.materialize(resolving.resolve(NAME, home=home), NAME)

    assert (folder / WEIGHTS).read_bytes() == hub.commits[hub.main][WEIGHTS]
    assert [seen.range is None for seen in hub.requests if seen.path.endswith("/repo")].count(False) == 1


def test_a_branch_that_moved_on_is_not_taken_for_what_was_pinned(hub: Hub, home: Path) -> None:
    found = resolving.resolve(NAME, home=home)
    hub.commit(hub.commits[hub.main] | {"README.md": b"newer"})

    assert resolving.resolve(NAME, home=home).sha256 != found.sha256
    with pytest.raises(Conflict, match="has changed since the job was submitted"):
        loading.materialize(found, NAME)


def test_a_model_that_is_there_needs_no_hub(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolving.resolve(NAME, home=home)
    folder = loading.materialize(found, NAME)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")

    assert loading.materialize(found, NAME) == folder


def test_the_token_is_sent(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolving.resolve(NAME, home=home, tokens={"MODELSCOPE_API_TOKEN": "ms-secret"})
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    loading.materialize(found, NAME)

    assert {seen.token for seen in hub.requests} == {"Bearer ms-secret"}


@pytest.mark.parametrize(("status", "error"), [(401, Forbidden), (403, Forbidden), (404, NotFound), (500, Unavailable)])
def test_what_modelscope_refuses_is_said(hub: Hub, home: Path, status: int, error: type[Exception]) -> None:
    hub.error = (status, "")

    with pytest.raises(error, match=REPO):
        resolving.resolve(NAME, home=home)


def test_a_revision_that_is_not_there_is_not_found(hub: Hub, home: Path) -> None:
    with pytest.raises(NotFound, match="'v9'"):
        resolving.resolve(f"{NAME}@v9", home=home)


def test_a_repository_that_holds_only_pickles_is_refused(hub: Hub, home: Path) -> None:
    hub.commit({"pytorch_model.bin": b"\x80\x04", "config.json": b"{}"})

    with pytest.raises(InvalidSpec, match="no safetensors"):
        resolving.resolve(NAME, home=home)


def test_a_server_that_cannot_be_reached_is_unavailable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(Unavailable, match="cannot be reached"):
        resolving.resolve(NAME, home=home)
