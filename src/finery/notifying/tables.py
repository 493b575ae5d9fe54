"""Tables of the notifying slice. Channels are written by the API, deliveries by who sees something and who delivers."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from finery.core.db import Table


class Channel(Table):
    """A way to tell people."""

    __tablename__ = "channel"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    params: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Of secrets their names."""
    events: Mapped[list[str]] = mapped_column(JSON)
    language: Mapped[str]
    is_enabled: Mapped[bool]
    created_at: Mapped[datetime]


class Delivery(Table):
    """One notice for one channel. It outlives the channel, so that it stays known what was told."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("channel", "run", "key"),
        Index("ix_delivery_state_next_at", "state", "next_at"),
        Index("ix_delivery_channel_planned_at", "channel", "planned_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    channel: Mapped[str]
    """Its name."""
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"), index=True)
    """None for a run without a server."""
    run: Mapped[str]
    key: Mapped[str]
    """What of the run it tells: attempt, writer and seq of an event, or a state and the attempt."""
    notice: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str]
    message: Mapped[str | None] = mapped_column(index=True)
    """Key of the message in which it goes. Decided, and committed, before the first try: each try is of the same."""
    planned_at: Mapped[datetime | None]
    attempts: Mapped[int]
    error: Mapped[str]
    created_at: Mapped[datetime]
    next_at: Mapped[datetime]
    claimed_by: Mapped[str | None]
    """Who tries it now; until `next_at` nobody else does."""
    ended_at: Mapped[datetime | None]
