"""The environment variables of an installation: what is read, and what is said of one that is wrong."""

from pathlib import Path

import pytest

from finery.core import folders
from finery.core.errors import InvalidSpec, Unavailable
from finery.core.settings import Settings


def test_clusters_are_read_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINERY_RAY_CLUSTERS", '{"lab": {"address": "http://head:8265"}}')

    assert Settings().ray_clusters["lab"].address == "http://head:8265"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FINERY_RAY_CLUSTERS", "oops", "it is not JSON"),
        ("FINERY_RAY_CLUSTERS", "[]", "dictionary"),
        ("FINERY_RAY_CLUSTERS", '{"lab": {"adress": "http://head:8265"}}', "lab.adress: unknown key"),
        ("FINERY_RAY_CLUSTERS", '{"lab": {"address": "head"}}', "lab.address: "),
        ("FINERY_PORT", "99999", "65535"),
        ("FINERY_ALLOW_CODE", "perhaps", "boolean"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidSpec) as refused:
        Settings()

    said = str(refused.value)
    assert said.startswith(f"{variable} is not right: ")
    assert told in said
    assert variable != "FINERY_RAY_CLUSTERS" or said.endswith('"token_file": "/etc/finery/lab.token"}}')
    assert [problem.path for problem in refused.value.problems] == [variable]


def test_every_wrong_variable_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINERY_PORT", "http")
    monkeypatch.setenv("FINERY_CHAT_MODELS", "0")

    with pytest.raises(InvalidSpec, match="and 1 more") as refused:
        Settings()

    assert {problem.path for problem in refused.value.problems} == {"FINERY_PORT", "FINERY_CHAT_MODELS"}


def test_a_home_that_is_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable, match="cannot write .*; set FINERY_HOME"):
        Settings(home=tmp_path / "file" / "home").make_home()


def test_a_folder_that_can_be_written_is_left_empty(tmp_path: Path) -> None:
    made = folders.writable(tmp_path / "a" / "b", way_out="", mode=0o700)

    assert list(made.iterdir()) == []
    assert made.stat().st_mode & 0o777 == 0o700
