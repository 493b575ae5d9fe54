"""Models of a hub, against a server on this machine that speaks its protocol. No request leaves it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from finery.core.errors import Forbidden, InvalidSpec, NotFound, Unavailable
from finery.models import loading, resolving
from finery.models.generation import Sampling, generate
from tests.models.hub import Hub, serving

REPO = "someone/tiny"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that holds the tiny model, with pickles beside its safetensors."""
    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir() if path.name != "finery.json"}
    made = Hub(REPO)
    made.commit(files | {"pytorch_model.bin": b"\x80\x04", "training_args.bin": b"\x80\x04", "README.md": b"# tiny"})
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(made):
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the seconds between two tries."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def test_a_name_is_pinned_to_the_commit_that_it_stands_for(hub: Hub, home: Path) -> None:
    found = resolving.resolve(REPO, home=home)

    assert (found.kind, found.sha256) == ("hub", hub.main)
    assert Path(found.path).is_relative_to(home)


def test_a_revision_in_the_name_is_the_one_that_is_pinned(hub: Hub, home: Path) -> None:
    first = hub.main
    hub.commit(hub.commits[first] | {"README.md": b"# newer"})

    assert resolving.resolve(f"{REPO}@{first}", home=home).sha256 == first
    assert resolving.resolve(f"{REPO}@main", home=home).sha256 == hub.main != first


def test_the_token_is_sent_to_the_hub(hub: Hub, home: Path) -> None:
    resolving.resolve(REPO, home=home, tokens={"HF_TOKEN": "hf_secret"})

    assert {seen.token for seen in hub.requests} == {"Bearer hf_secret"}


def test_a_downloaded_model_has_the_bytes_of_the_hub_and_generates(hub: Hub, home: Path) -> None:
    found = resolving.resolve(REPO, home=home)

    folder = loading.materialize(found, REPO)

    assert (folder / WEIGHTS).read_bytes() == hub.commits[hub.main][WEIGHTS]
    model, tokenizer = loading.load_model(folder), loading.load_tokenizer(folder)
    [completion] = generate(model, [tokenizer("1+1=")["input_ids"]], Sampling(max_new_tokens=3))
    assert len(completion.token_ids) == 3


def test_pickles_of_a_repository_are_never_requested(hub: Hub, home: Path) -> None:
    folder = loading.materialize(resolving.resolve(REPO, home=home), REPO)

    assert not [seen.path for seen in hub.requests if seen.path.endswith(".bin")]
    assert not list(folder.rglob("*.bin"))


def test_the_pinned_commit_is_fetched_after_the_branch_moved_on(hub: Hub, home: Path) -> None:
    first = hub.main
    found = resolving.resolve(REPO, home=home)
    hub.commit(hub.commits[first] | {WEIGHTS: b"other weights"})

    folder = loading.materialize(found, REPO)

    assert (folder / WEIGHTS).read_bytes() == hub.commits[first][WEIGHTS]


def test_a_model_that_is_there_needs_no_hub(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolving.resolve(REPO, home=home)
    folder = loading.materialize(found, REPO)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    assert loading.materialize(found, REPO) == folder


@pytest.mark.usefixtures("no_pause")
def test_a_transfer_that_is_cut_goes_on_where_it_was_cut(hub: Hub, home: Path) -> None:
    whole = hub.commits[hub.main][WEIGHTS]
    hub.cuts[WEIGHTS] = 1

    folder = loading.materialize(resolving.resolve(REPO, home=home), REPO)

    assert [seen.range for seen in hub.requested(WEIGHTS)] == [None, f"bytes={len(whole) // 2}-"]
    assert (folder / WEIGHTS).read_bytes() == whole


@pytest.mark.parametrize("status", [500, 503])
def test_a_retry_goes_on_where_the_download_was_cut(hub: Hub, home: Path, status: int, no_pause: None) -> None:
    whole = hub.commits[hub.main][WEIGHTS]
    found = resolving.resolve(REPO, home=home)
    hub.cuts[WEIGHTS], hub.fails_after_cut = 1, status

    with pytest.raises(Unavailable, match=f"the hub answered {status}.*a retry goes on"):
        loading.materialize(found, REPO)

    hub.fails_after_cut = 0
    hub.requests.clear()
    folder = loading.materialize(found, REPO)
    assert (folder / WEIGHTS).read_bytes() == whole
    assert [seen.range for seen in hub.requested(WEIGHTS)] == [f"bytes={len(whole) // 2}-"]
    assert hub.requested("config.json") == []


def test_a_download_that_was_killed_goes_on_where_it_was(hub: Hub, home: Path) -> None:
    whole = hub.commits[hub.main][WEIGHTS]
    found = resolving.resolve(REPO, home=home)
    first = loading.materialize(found, REPO)
    unfinished = first.with_name(f"{first.name}.unfinished")
    first.rename(unfinished)
    (unfinished / WEIGHTS).rename(unfinished / f"{WEIGHTS}.part")
    os.truncate(unfinished / f"{WEIGHTS}.part", 1000)
    hub.requests.clear()

    folder = loading.materialize(found, REPO)

    assert (folder / WEIGHTS).read_bytes() == whole
    assert [(seen.path.rpartition("/")[2], seen.range) for seen in hub.requests[1:]] == [(WEIGHTS, "bytes=1000-")]
    assert not unfinished.exists()


@pytest.mark.usefixtures("no_pause")
def test_a_hub_that_knows_no_ranges_sends_the_whole_file_again(hub: Hub, home: Path) -> None:
    hub.cuts[WEIGHTS], hub.ignores_ranges = 1, True

    folder = loading.materialize(resolving.resolve(REPO, home=home), REPO)

    assert (folder / WEIGHTS).read_bytes() == hub.commits[hub.main][WEIGHTS]


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_bytes_that_are_not_those_announced_are_refused_and_not_kept(hub: Hub, home: Path, name: str) -> None:
    found = resolving.resolve(REPO, home=home)
    hub.spoils.add(name)

    with pytest.raises(Unavailable, match=f"{name} of {REPO} came with other bytes"):
        loading.materialize(found, REPO)

    hub.spoils.clear()
    assert (loading.materialize(found, REPO) / name).read_bytes() == hub.commits[hub.main][name]


def test_a_file_that_the_hubs_own_cache_holds_is_not_fetched(
    hub: Hub, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "cache" / "models--someone--tiny" / "snapshots" / hub.main
    snapshot.mkdir(parents=True)
    (snapshot / WEIGHTS).write_bytes(hub.commits[hub.main][WEIGHTS])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    folder = loading.materialize(resolving.resolve(REPO, home=home), REPO)

    assert (folder / WEIGHTS).read_bytes() == hub.commits[hub.main][WEIGHTS]
    assert hub.requested(WEIGHTS) == []


def test_a_disk_without_room_is_said_before_a_byte_is_fetched(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = resolving.resolve(REPO, home=home)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1_000_000}))

    with pytest.raises(Unavailable, match="needs 0.0 GB .* has 0.0 GB left; free some space"):
        loading.materialize(found, REPO)

    assert hub.requested(WEIGHTS) == []


@pytest.mark.usefixtures("no_pause")
def test_a_transfer_that_is_cut_for_good_is_unavailable(hub: Hub, home: Path) -> None:
    found = resolving.resolve(REPO, home=home)
    hub.cuts[WEIGHTS] = 1000

    with pytest.raises(Unavailable, match=REPO):
        loading.materialize(found, REPO)


@pytest.mark.usefixtures("no_pause")
def test_half_a_download_is_not_taken_for_a_model_when_the_hub_is_gone(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = resolving.resolve(REPO, home=home)
    hub.cuts[WEIGHTS], hub.fails_after_cut = 1, 503
    with pytest.raises(Unavailable):
        loading.materialize(found, REPO)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(Unavailable, match=REPO):
        loading.materialize(found, REPO)


def test_a_gated_repository_is_forbidden_and_the_message_names_the_token(hub: Hub, home: Path) -> None:
    hub.error = (401, "GatedRepo")

    with pytest.raises(Forbidden, match="HF_TOKEN"):
        resolving.resolve(REPO, home=home)


@pytest.mark.parametrize("status", [401, 404])
def test_a_repository_that_is_not_there_is_not_found(hub: Hub, home: Path, status: int) -> None:
    hub.error = (status, "RepoNotFound")

    with pytest.raises(NotFound, match=REPO):
        resolving.resolve(REPO, home=home)


def test_a_revision_that_is_not_there_is_not_found(hub: Hub, home: Path) -> None:
    with pytest.raises(NotFound, match="no-such-branch"):
        resolving.resolve(f"{REPO}@no-such-branch", home=home)


def test_a_hub_that_fails_is_unavailable(hub: Hub, home: Path) -> None:
    hub.error = (503, "")

    with pytest.raises(Unavailable, match="503"):
        resolving.resolve(REPO, home=home)


def test_a_hub_that_cannot_be_reached_is_unavailable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(Unavailable, match="HF_ENDPOINT"):
        resolving.resolve(REPO, home=home)


def test_a_repository_that_holds_only_pickles_is_refused_with_the_way_to_convert_it(hub: Hub, home: Path) -> None:
    hub.commit({"config.json": b"{}", "pytorch_model.bin": b"\x80\x04"})

    with pytest.raises(InvalidSpec, match="safe_serialization=True"):
        resolving.resolve(REPO, home=home)


@pytest.mark.parametrize("name", ["a/..", "-a/b", "a/b--c", "a/b.git"])
def test_a_name_that_no_repository_can_have_is_invalid_and_asks_no_hub(hub: Hub, home: Path, name: str) -> None:
    with pytest.raises(InvalidSpec, match="org/name"):
        resolving.resolve(name, home=home)

    assert hub.requests == []
