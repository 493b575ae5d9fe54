"""Channels are set up, changed and removed, and their secrets are seen nowhere, on SQLite and PostgreSQL."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.core.secrets import SecretStore
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.notifying import hearing, service
from finery.notifying.specs import ChannelEdit, ChannelView
from tests.notifying.conftest import add, notice

URL = "https://hooks.example.org/services/T0KEN-nobody-may-see"


def look(db: Database, name: str) -> ChannelView:
    with db.read() as session:
        return service.view(session, name)


def change(db: Database, settings: Settings, name: str, **raw: Any) -> None:
    with db.session() as session:
        service.edit(session, name, parse(ChannelEdit, raw, what="change"), SecretStore(settings))


def remove(db: Database, settings: Settings, name: str) -> None:
    with db.session() as session:
        service.remove(session, name, SecretStore(settings), now=FakeClock().now())


def secret_names(settings: Settings) -> list[str]:
    return [found.name for found in SecretStore(settings).names()]


def test_a_channel_shows_the_names_of_its_secrets_alone(db: Database, settings: Settings, clock: FakeClock) -> None:
    add(db, settings, clock, name="team", kind="slack", secrets={"url": f" {URL}\n"})

    found = look(db, "team")
    assert (found.kind, found.events, found.language, found.is_enabled) == (
        "slack",
        ["alerts", "failed", "lost", "paused"],
        "en",
        True,
    )
    assert SecretStore(settings).read(found.params["url"]) == URL
    with db.read() as session:
        rows = session.execute(text("select * from channel")).all()
    assert "nobody-may-see" not in repr(rows) + found.model_dump_json()
    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert [path for path in files if b"nobody-may-see" in path.read_bytes()] == []


def test_a_stored_secret_can_be_named(db: Database, settings: Settings, clock: FakeClock) -> None:
    SecretStore(settings).write("MINE", URL)
    add(db, settings, clock, name="team", kind="slack", params={"url": "MINE"})
    remove(db, settings, "team")

    assert secret_names(settings) == ["MINE"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "telegram"}, "unknown channel kind 'telegram'; known: dingtalk, email, feishu, slack, webhook"),
        ({}, "url"),
        ({"params": {"url": "GONE"}}, "url names no stored secret; `finery secrets set GONE`"),
        ({"params": {"url": URL}}, "url takes the name of a stored secret"),
        ({"secrets": {"url": "hooks.slack.com/T0KEN-nobody-may-see"}}, "is no address"),
        ({"secrets": {"url": "ftp://x/T0KEN-nobody-may-see"}}, "is no address"),
        ({"secrets": {"url": "  "}}, "url is empty"),
        (
            {"secrets": {"url": URL, "token": "T0KEN-nobody-may-see"}},
            "token is no secret of the kind slack; it has url",
        ),
        ({"secrets": {"url": URL}, "params": {"channel": "x"}}, "unknown key"),
        ({"secrets": {"url": URL}, "events": ["everything"]}, "events"),
        ({"secrets": {"url": URL}, "name": "A B"}, "name"),
        ({"secrets": {"url": URL}, "language": "fr"}, "language"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret_and_leaves_nothing(
    spec: dict[str, Any], words: str, db: Database, settings: Settings, clock: FakeClock
) -> None:
    with pytest.raises(InvalidSpec) as error:
        add(db, settings, clock, **{"name": "team", "kind": "slack", **spec})

    said = str(error.value) + json.dumps([problem.message for problem in error.value.problems])
    assert words in said
    assert "nobody-may-see" not in said
    assert secret_names(settings) == []
    with db.read() as session:
        assert service.channels(session) == []


def test_a_name_is_taken_once(db: Database, settings: Settings, clock: FakeClock) -> None:
    add(db, settings, clock, name="team", kind="slack", secrets={"url": URL})

    with pytest.raises(Conflict, match="'team' already"):
        add(db, settings, clock, name="team", kind="slack", secrets={"url": URL})


def test_what_is_not_given_stays(db: Database, settings: Settings, clock: FakeClock) -> None:
    add(db, settings, clock, name="team", kind="dingtalk", secrets={"url": URL, "secret": "SEC1"})
    before = look(db, "team").params

    change(db, settings, "team", events=["completed"], language="zh", is_enabled=False)
    assert look(db, "team").params == before
    change(db, settings, "team", secrets={"url": "https://other.example.org/"}, params={})
    found = look(db, "team")
    assert (found.events, found.language, found.is_enabled) == (["completed"], "zh", False)
    assert SecretStore(settings).read(found.params["url"]) == "https://other.example.org/"
    assert SecretStore(settings).read(found.params["secret"]) == "SEC1"

    change(db, settings, "team", secrets={"secret": None})
    assert look(db, "team").params["secret"] == ""
    with pytest.raises(InvalidSpec):
        change(db, settings, "team", secrets={"url": None})
    with pytest.raises(NotFound, match="no channel 'other'"):
        change(db, settings, "other", is_enabled=True)


def test_a_removed_channel_takes_its_secrets_with_it_and_what_waits_is_not_sent(
    db: Database, settings: Settings, clock: FakeClock
) -> None:
    add(db, settings, clock, name="team", kind="slack", secrets={"url": URL})
    with db.session() as session:
        hearing.tell(session, notice(), key="1", named=(), now=clock.now())
    assert look(db, "team").num_pending == 1

    remove(db, settings, "team")

    assert secret_names(settings) == []
    with db.read() as session:
        [left] = service.deliveries(session, channel="team", job_id=None, state="failed", limit=10)
    assert left.error == "the channel was removed"
    with pytest.raises(NotFound):
        remove(db, settings, "team")


def test_each_kind_says_which_of_its_parameters_are_secret() -> None:
    kinds = {kind.name: kind.params_schema["properties"] for kind in service.kinds().kinds}

    assert {name for name, field in kinds["dingtalk"].items() if "secret" in field} == {"url", "secret"}
    assert {name for name, field in kinds["email"].items() if "secret" in field} == {"password"}
    assert all(field.get("description") for fields in kinds.values() for field in fields.values())


def test_mail_takes_addresses_as_a_list(db: Database, settings: Settings, clock: FakeClock, tmp_path: Path) -> None:
    params = {"host": "smtp.example.org", "sender": "a@example.org", "to": ["b@example.org", "c@example.org"]}
    add(
        db,
        settings,
        clock,
        name="mail",
        kind="email",
        params={**params, "user": "a", "password": ""},
        secrets={"password": "pw"},
    )

    assert look(db, "mail").params["to"] == ["b@example.org", "c@example.org"]
    assert look(db, "mail").params["port"] is None
