"""Secrets are encrypted where they lie and come back only to who has the key."""

import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from finery.core.errors import InvalidSpec, NotFound, Unavailable
from finery.core.secrets import SecretStore
from finery.core.settings import Settings

VALUE = "hf_very-secret-value"


@pytest.fixture
def store(settings: Settings) -> SecretStore:
    return SecretStore(settings)


def contents(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_a_secret_comes_back_and_its_value_is_in_no_file(store: SecretStore, home: Path) -> None:
    store.write("HF_TOKEN", VALUE)

    assert store.read("HF_TOKEN") == VALUE
    assert [found.name for found in store.names()] == ["HF_TOKEN"]
    assert VALUE.encode() not in contents(home)


def test_the_key_is_readable_by_its_owner_only(store: SecretStore, home: Path) -> None:
    store.write("A", "1")

    assert os.stat(home / "secret.key").st_mode & 0o077 == 0
    assert os.stat(home / "secrets").st_mode & 0o077 == 0


def test_a_secret_can_be_replaced_and_removed(store: SecretStore) -> None:
    store.write("A", "1")
    store.write("A", "2")
    assert store.read("A") == "2"

    store.delete("A")

    assert store.find("A") is None
    with pytest.raises(NotFound, match="finery secrets set A"):
        store.read("A")
    with pytest.raises(NotFound):
        store.delete("A")


def test_a_key_of_the_environment_lies_nowhere_and_another_key_opens_nothing(home: Path) -> None:
    first, other = (Settings(home=home, secret_key=Fernet.generate_key().decode()) for _ in range(2))
    SecretStore(first).write("A", VALUE)

    assert not (home / "secret.key").exists()
    assert SecretStore(first).read("A") == VALUE
    with pytest.raises(Unavailable, match="stored with another key"):
        SecretStore(other).read("A")


def test_a_key_that_is_none_is_said(home: Path) -> None:
    with pytest.raises(Unavailable, match="no Fernet key"):
        SecretStore(Settings(home=home, secret_key="short")).write("A", VALUE)


@pytest.mark.parametrize("name", ["", "a", "../A", "A/B", "A B", "A\n", "Ä", "A" * 65])
def test_a_name_that_could_be_a_path_or_no_variable_is_refused(store: SecretStore, home: Path, name: str) -> None:
    with pytest.raises(InvalidSpec, match="cannot name a secret"):
        store.write(name, VALUE)

    assert list(home.iterdir()) == []


def test_an_empty_value_is_refused(store: SecretStore) -> None:
    with pytest.raises(InvalidSpec, match="is empty"):
        store.write("A", "")


def test_settings_do_not_show_the_key() -> None:
    assert "topsecret" not in repr(Settings(secret_key="topsecret"))
