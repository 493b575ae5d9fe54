"""REST of the notifying slice."""

from typing import Annotated

from fastapi import APIRouter, Query

from finery.core.secrets import SecretStore
from finery.core.web import ClockDep, DatabaseDep, Db, SettingsDep
from finery.notifying import service, trying
from finery.notifying.specs import (
    ChannelEdit,
    ChannelKindPage,
    ChannelPage,
    ChannelSpec,
    ChannelView,
    DeliveryPage,
    DeliveryState,
    TrialView,
)

router = APIRouter(prefix="/channels", tags=["channels"])
deliveries = APIRouter(prefix="/deliveries", tags=["channels"])


@router.get("")
def list_channels(db: Db) -> ChannelPage:
    """The channels through which people are told, and what came of the last delivery of each."""
    return ChannelPage(channels=service.channels(db))


@router.get("/kinds")
def list_kinds() -> ChannelKindPage:
    """Kinds of channels with the parameters of each."""
    return service.kinds()


@router.post("", status_code=201)
def add(body: ChannelSpec, db: Db, settings: SettingsDep, clock: ClockDep) -> ChannelView:
    """Set up a channel. Its secrets are stored encrypted and never shown again."""
    made = service.add(db, body, SecretStore(settings), now=clock.now())
    return service.view(db, made.name)


@router.patch("/{name}")
def edit(name: str, body: ChannelEdit, db: Db, settings: SettingsDep) -> ChannelView:
    """Change a channel, or switch it off and on."""
    return service.view(db, service.edit(db, name, body, SecretStore(settings)).name)


@router.delete("/{name}", status_code=204)
def remove(name: str, db: Db, settings: SettingsDep, clock: ClockDep) -> None:
    """Forget a channel and its secrets. What waits for it is not sent."""
    service.remove(db, name, SecretStore(settings), now=clock.now())


@router.post("/{name}/test")
def test(name: str, database: DatabaseDep, settings: SettingsDep, clock: ClockDep) -> TrialView:
    """Send a test message now, and say what came of it."""
    with database.read() as session:
        channel = service.get(session, name)
    return trying.trial(channel, settings, clock)


@deliveries.get("")
def list_deliveries(
    db: Db,
    channel: str | None = None,
    job_id: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    state: DeliveryState | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> DeliveryPage:
    """What was to be told, newest first: to whom, of what, and what came of it."""
    return DeliveryPage(deliveries=service.deliveries(db, channel=channel, job_id=job_id, state=state, limit=limit))
