"""A home from which messages may go to this machine, and channels of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.secrets import SecretStore
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.notifying import service
from finery.notifying.specs import ChannelSpec, Notice
from tests.notifying.receivers import Receiver, receiving


@pytest.fixture
def settings(home: Any) -> Settings:
    return Settings(home=home, allow_private_addresses=True, public_url="https://finery.example.org")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as made:
        yield made


def add(db: Database, settings: Settings, clock: FakeClock, **spec: Any) -> None:
    """Set a channel up."""
    with db.session() as session:
        service.add(session, parse(ChannelSpec, spec, what="channel"), SecretStore(settings), now=clock.now())


def notice(**changes: Any) -> Notice:
    return Notice(
        **{
            "kind": "alerts",
            "run": "41",
            "job_id": None,
            "name": "sums",
            "attempt": 1,
            "rule": "grad_explosion",
            "severity": "error",
            "message": "grad_norm > 100 (grad_norm = 153)",
            "step": 120,
            "time": 1_767_225_600.0,
            **changes,
        }
    )
