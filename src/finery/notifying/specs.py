"""What channels and deliveries look like from outside, and what a delivery says."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field, SecretStr

from finery.core.spec import Spec, View
from finery.rules.specs import Severity

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,39}$"
Language = Literal["en", "zh"]
ChannelEvent = Literal["alerts", "failed", "lost", "completed", "paused"]
"""`alerts`: what a rule asks to be told (`notify`), and what no rule raised, such as a script's `run.alert` or a
checkpoint that was not saved. `lost`: no contact with where it runs. `paused`: paused or stopped, and no person asked
for it."""
DeliveryState = Literal["pending", "sent", "failed"]
DEFAULT_EVENTS: Final[tuple[ChannelEvent, ...]] = ("alerts", "failed", "lost", "paused")

SecretValues = dict[str, SecretStr | None]


class ChannelSpec(Spec):
    """A way to tell people."""

    name: str = Field(pattern=NAME_PATTERN)
    """Small letters, digits, dot, underscore and hyphen, at most 40 characters. Rules name it in `notify`."""
    kind: str
    """How: `webhook`, `slack`, `dingtalk`, `feishu`, `email`."""
    params: dict[str, Any] = {}
    """The kind's own parameters; of a secret one its name among the stored secrets."""
    secrets: SecretValues = {}
    """Secret parameters themselves. They are stored encrypted, under names of their own, and shown nowhere."""
    events: tuple[ChannelEvent, ...] = DEFAULT_EVENTS
    """What it tells. A rule that names the channel is told in any case."""
    language: Language = "en"
    """Of its messages."""
    is_enabled: bool = True


class ChannelEdit(Spec):
    """Change a channel. What is not given stays."""

    params: dict[str, Any] | None = None
    """All that are not secret, anew; of a secret one only where it changes."""
    secrets: SecretValues = {}
    """Those that change; null forgets one."""
    events: tuple[ChannelEvent, ...] | None = None
    language: Language | None = None
    is_enabled: bool | None = None
    """Off, it is told nothing more; what waits is still delivered."""


class Notice(View):
    """One thing that people are told. Kept with the delivery, and handed to webhooks as it is."""

    kind: ChannelEvent | Literal["test"]
    run: str
    """The job's number, or the name of a run without a server."""
    job_id: int | None
    name: str
    """Of the job."""
    attempt: int
    rule: str = ""
    severity: Severity
    message: str
    """What was seen, or the cause."""
    step: int | None
    time: float
    """Seconds since the Unix epoch."""


class DeliveryView(View):
    """Something that a channel was to tell."""

    id: int
    channel: str
    notice: Notice
    state: DeliveryState
    message: str | None
    """Key of the message in which it goes, the same for all that were folded into one; None until that is decided."""
    attempts: int
    """Times that the message was tried."""
    error: str
    """Why the last try failed."""
    created_at: datetime
    next_at: datetime
    """When it is tried next, while it is pending."""
    ended_at: datetime | None


class DeliveryPage(View):
    deliveries: list[DeliveryView]


class ChannelView(View):
    """A channel. Of its secrets it has the names."""

    name: str
    kind: str
    params: dict[str, Any]
    events: list[ChannelEvent]
    language: Language
    is_enabled: bool
    created_at: datetime
    num_pending: int
    last: DeliveryView | None
    """The newest that was sent or has failed."""


class ChannelPage(View):
    channels: list[ChannelView]


class ChannelKindView(View):
    name: str
    summary: str
    params_schema: dict[str, Any]
    """JSON Schema; a field with the key `secret` takes a stored secret by name, or its value in `secrets`."""


class ChannelKindPage(View):
    kinds: list[ChannelKindView]


class TrialView(View):
    """What came of a test message."""

    is_sent: bool
    answer: str
    """Why it was not; empty where it was."""
    seconds: float
