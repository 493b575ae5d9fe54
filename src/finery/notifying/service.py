"""The verbs of channels: set up, change, remove, look at.

As in every slice the session comes first, and nothing commits or calls the network.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from finery.core.errors import Conflict, InvalidSpec, NotFound, Problem
from finery.core.secrets import NAME_PATTERN, SecretStore
from finery.core.spec import Spec
from finery.notifying.channels import registry
from finery.notifying.specs import (
    ChannelEdit,
    ChannelKindPage,
    ChannelKindView,
    ChannelSpec,
    ChannelView,
    DeliveryState,
    DeliveryView,
    SecretValues,
)
from finery.notifying.tables import Channel, Delivery

_OWN_SECRET: Final = "CHANNEL_{id}_{field}"
_SECRET_KEY: Final = "secret"


def kinds() -> ChannelKindPage:
    """Every kind with its parameters."""
    return ChannelKindPage(
        kinds=[
            ChannelKindView(name=entry.name, summary=entry.summary, params_schema=entry.params.model_json_schema())
            for entry in registry.all()
        ]
    )


def get(session: Session, name: str) -> Channel:
    """One channel. Raises `NotFound`."""
    found = session.scalars(select(Channel).where(Channel.name == name)).first()
    if found is None:
        raise NotFound(f"there is no channel {name!r}; `finery channels list` shows those that exist")
    return found


def channels(session: Session) -> list[ChannelView]:
    """All channels by name, with what came of the newest of their deliveries."""
    rows = list(session.scalars(select(Channel).order_by(Channel.name)))
    ended = select(func.max(Delivery.id)).where(Delivery.state != "pending").group_by(Delivery.channel)
    last = {row.channel: row for row in session.scalars(select(Delivery).where(Delivery.id.in_(ended)))}
    waiting = select(Delivery.channel, func.count()).where(Delivery.state == "pending").group_by(Delivery.channel)
    pending = dict(session.execute(waiting).all())
    return [_view(row, last.get(row.name), pending.get(row.name, 0)) for row in rows]


def view(session: Session, name: str) -> ChannelView:
    """One of `channels`. Raises `NotFound`."""
    get(session, name)
    return next(found for found in channels(session) if found.name == name)


def deliveries(
    session: Session, *, channel: str | None, job_id: int | None, state: DeliveryState | None, limit: int
) -> list[DeliveryView]:
    """What was to be told, newest first."""
    query = select(Delivery)
    for column, wanted in ((Delivery.channel, channel), (Delivery.job_id, job_id), (Delivery.state, state)):
        if wanted is not None:
            query = query.where(column == wanted)
    rows = session.scalars(query.order_by(Delivery.id.desc()).limit(limit))
    return [DeliveryView.model_validate(row) for row in rows]


def add(session: Session, spec: ChannelSpec, secrets: SecretStore, *, now: datetime) -> Channel:
    """Set up a channel and store its secrets.

    Raises:
        Conflict: there is one of this name. InvalidSpec: the kind is unknown, or a parameter is wrong.
    """
    if session.scalars(select(Channel.id).where(Channel.name == spec.name)).first() is not None:
        raise Conflict(f"there is a channel {spec.name!r} already; change it, or take another name")
    registry.get(spec.kind)
    row = Channel(
        name=spec.name,
        kind=spec.kind,
        params={},
        events=list(spec.events),
        language=spec.language,
        is_enabled=spec.is_enabled,
        created_at=now,
    )
    session.add(row)
    session.flush()
    row.params = _stored(row, spec.params, spec.secrets, secrets)
    session.flush()
    return row


def edit(session: Session, name: str, changes: ChannelEdit, secrets: SecretStore) -> Channel:
    """Change a channel.

    Raises:
        NotFound: there is none. InvalidSpec: a parameter is wrong.
    """
    row = get(session, name)
    if changes.params is not None or changes.secrets:
        kept = {field: row.params[field] for field in secret_fields(row.kind) if field in row.params}
        params = row.params if changes.params is None else {**kept, **changes.params}
        row.params = _stored(row, params, changes.secrets, secrets)
    if changes.events is not None:
        row.events = list(changes.events)
    if changes.language is not None:
        row.language = changes.language
    if changes.is_enabled is not None:
        row.is_enabled = changes.is_enabled
    session.flush()
    return row


def remove(session: Session, name: str, secrets: SecretStore, *, now: datetime) -> None:
    """Forget a channel and its own secrets; what waits for it is not sent.

    Raises:
        NotFound: there is none.
    """
    row = get(session, name)
    waiting = update(Delivery).where(Delivery.channel == name, Delivery.state == "pending")
    session.execute(waiting.values(state="failed", error="the channel was removed", ended_at=now))
    session.execute(delete(Channel).where(Channel.id == row.id))
    own = {_OWN_SECRET.format(id=row.id, field=field.upper()) for field in secret_fields(row.kind)}
    for found in secrets.names():
        if found.name in own:
            secrets.delete(found.name)


def secret_fields(kind: str) -> dict[str, str]:
    """Parameters of a kind that are secrets, and what they are: `url` or `text`."""
    properties = registry.get(kind).params.model_json_schema()["properties"]
    return {name: schema[_SECRET_KEY] for name, schema in properties.items() if _SECRET_KEY in schema}


def _stored(row: Channel, params: Mapping[str, Any], values: SecretValues, secrets: SecretStore) -> dict[str, Any]:
    """The checked parameters of a channel, with the names of its secrets, once these are stored."""
    fields = secret_fields(row.kind)
    for field in fields:
        if not re.fullmatch(f"({NAME_PATTERN})?", str(params.get(field, ""))):
            raise _wrong(
                field, f"takes the name of a stored secret, such as TEAM_{field.upper()}; a value goes to `secrets`"
            )
    for field, value in values.items():
        _check_secret(row.kind, field, value, fields)
    own = {field: _OWN_SECRET.format(id=row.id, field=field.upper()) for field, value in values.items() if value}
    checked: Spec = registry.params(row.kind, {**params, **dict.fromkeys(values, ""), **own})
    for field, name in own.items():
        value = values[field]
        assert value is not None
        secrets.write(name, value.get_secret_value().strip())
    stored = checked.model_dump(mode="json")
    known = {"", *(found.name for found in secrets.names())}
    for field in fields:
        if stored[field] not in known:
            raise _wrong(field, f"names no stored secret; `finery secrets set {stored[field]}` stores one")
    return stored


def _check_secret(kind: str, field: str, value: SecretStr | None, fields: Mapping[str, str]) -> None:
    """Refuse what is no secret of the kind, or cannot be what it should. The value is no part of what is said."""
    if field not in fields:
        raise _wrong(field, f"is no secret of the kind {kind}; it has {', '.join(fields) or 'none'}")
    text = value.get_secret_value().strip() if value is not None else None
    if text == "":
        raise _wrong(field, "is empty; give its value, or leave it out")
    if text is not None and fields[field] == "url" and not _is_url(text):
        raise _wrong(field, "is no address; expected one that begins with https:// (or http://)")


def _wrong(field: str, words: str) -> InvalidSpec:
    return InvalidSpec(f"{field} {words}", (Problem(field, f"{field} {words}"),))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable() and " " not in text
    except ValueError:
        return False


def _view(row: Channel, last: Delivery | None, num_pending: int) -> ChannelView:
    return ChannelView(
        name=row.name,
        kind=row.kind,
        params=row.params,
        events=row.events,
        language=row.language,
        is_enabled=row.is_enabled,
        created_at=row.created_at,
        num_pending=num_pending,
        last=DeliveryView.model_validate(last) if last is not None else None,
    )
