"""The event stream of a run: one JSON object per line, append-only, one file per writer.

An event says what happened in the child, the supervisor or (written into the database by the worker) the platform.
Uniqueness is (job, attempt, writer, seq). Times are seconds since the Unix epoch. JSON has no NaN, so a metric value
that is not finite is one of the strings in `NonFinite`.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

EVENTS_VERSION = 1

NonFinite = Literal["NaN", "Infinity", "-Infinity"]
MetricValue = float | NonFinite
Phase = Literal["running", "completed", "paused", "cancelled", "rolling_back", "failed"]


class BaseEvent(BaseModel):
    """What each event has."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    seq: int
    """Position in the stream of this writer, from 0."""
    time: float
    """Seconds since the Unix epoch."""


class StatusEvent(BaseEvent):
    """The work went from one phase to the next."""

    type: Literal["status"]
    status: Phase
    message: str
    """The cause, in words; empty when there is nothing to say."""
    step: int | None = None
    total_steps: int | None = None


class MetricsEvent(BaseEvent):
    """Numbers born at one step."""

    type: Literal["metrics"]
    step: int
    values: dict[str, MetricValue]


class GradientsEvent(BaseEvent):
    """Statistics of a step's gradients were appended to a file under gradients/."""

    type: Literal["gradients"]
    step: int
    path: str
    """Relative to the attempt's directory."""
    offset: int
    """Byte offset of the step's record."""


class SampleEvent(BaseEvent):
    """Rollouts or completions of a step were appended to a file under samples/."""

    type: Literal["sample"]
    step: int
    path: str
    """Relative to the attempt's directory."""
    offset: int
    """Byte offset of the first of the records."""
    num_records: int


class CheckpointEvent(BaseEvent):
    """A checkpoint exists: its manifest was written."""

    type: Literal["checkpoint"]
    step: int
    path: str
    """Relative to the attempt's directory."""
    num_bytes: int
    evaluate: bool = False
    """It is due for its evaluation."""


class AlertEvent(BaseEvent):
    """Something that a person should know."""

    type: Literal["alert"]
    rule: str
    severity: Literal["info", "warning", "error"]
    message: str
    step: int | None = None


class ActionEvent(BaseEvent):
    """What a rule that fired made happen, or why it could not."""

    type: Literal["action"]
    rule: str
    action: str
    """Its registered name, such as `reduce_lr`."""
    outcome: Literal["applied", "asked", "refused"]
    """Done; handed to whoever can do it, such as people to be told or a relaunch; or not possible."""
    message: str
    """The story in words; the reason where it was refused."""
    step: int | None = None
    before: dict[str, MetricValue | str] = {}
    """What was in effect, such as `{"learning_rate": 1e-4}`, `{"state": "running"}` or `{"step": 150}`."""
    after: dict[str, MetricValue | str] = {}
    channels: tuple[str, ...] = ()
    """Of `notify`: the channels that are told; none are all that there are."""


class ControlsEvent(BaseEvent):
    """The live settings that are in effect from here on: once before the first step, then after each change."""

    type: Literal["controls"]
    step: int
    """Steps done."""
    values: dict[str, MetricValue]


class ControlAckEvent(BaseEvent):
    """The child took a command from control.jsonl and says what came of it."""

    type: Literal["control_ack"]
    command_id: str
    command: str
    outcome: Literal["applied", "rejected"]
    message: str
    step: int | None = None


class ResourceEvent(BaseEvent):
    """What the machine was doing."""

    type: Literal["resource"]
    values: dict[str, MetricValue]


class ArtifactEvent(BaseEvent):
    """A file that others may want."""

    type: Literal["artifact"]
    name: str
    path: str
    """Relative to the attempt's directory."""


class LogEvent(BaseEvent):
    """One line that belongs to the story of the run, not to its output."""

    type: Literal["log"]
    level: Literal["debug", "info", "warning", "error"]
    message: str


class ClusterNode(BaseModel):
    """A machine of a cluster."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    id: str
    """The first characters of Ray's id, which name it among a cluster's nodes."""
    host: str
    address: str
    is_alive: bool
    is_head: bool
    total: dict[str, float]
    """Name of a resource -> how much of it there is: GPU, NPU and CPU as Ray counts them, memory in bytes."""
    free: dict[str, float]


class ClusterActor(BaseModel):
    """A process of a run on a cluster, such as a trainer's rank or a rollout server."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    kind: str
    """Name of its class."""
    state: str
    """In Ray's words: ALIVE, PENDING_CREATION, RESTARTING, DEAD."""
    node: str
    """Id of its node; empty while it has none."""
    pid: int
    resources: dict[str, float]
    """What it holds."""
    cause: str
    """Why it is dead; empty where it is not, or was ended on purpose."""


class ClusterEvent(BaseEvent):
    """The Ray cluster under a run, once it is up and whenever it has changed."""

    type: Literal["cluster"]
    name: str
    """As configured; empty is one that was started for the run."""
    address: str
    """Of its dashboard."""
    is_reachable: bool
    """Whether it answers; what else is told is then what was last seen."""
    nodes: tuple[ClusterNode, ...]
    actors: tuple[ClusterActor, ...]
    """Those of this run."""


Event = Annotated[
    StatusEvent
    | MetricsEvent
    | GradientsEvent
    | SampleEvent
    | CheckpointEvent
    | AlertEvent
    | ActionEvent
    | ControlsEvent
    | ControlAckEvent
    | ResourceEvent
    | ArtifactEvent
    | LogEvent
    | ClusterEvent,
    Field(discriminator="type"),
]

_adapter: TypeAdapter[Any] = TypeAdapter(Event)


def parse_event(line: bytes | str) -> Event:
    """Parse one line. Raises `pydantic.ValidationError` (a ValueError) when it is no event."""
    return _adapter.validate_json(line)  # type: ignore[no-any-return]


def validate_event(raw: dict[str, Any]) -> Event:
    """Validate an event that was stored as plain data."""
    return _adapter.validate_python(raw)  # type: ignore[no-any-return]


def encode_value(value: float) -> MetricValue:
    """A number as JSON can carry it."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def decode_value(value: MetricValue) -> float:
    """The inverse of `encode_value`."""
    return float(value)
