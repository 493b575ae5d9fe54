"""Wire types of the server itself."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from finery.core.spec import Spec, View
from finery.jobs.specs import JobView, StreamedEvent


class LoginSpec(Spec):
    code: str = Field(min_length=1, max_length=200)


class LoginCodeView(View):
    code: str
    link: str
    """Opens the web UI and logs the browser in, once, within 15 minutes."""


class WorkerView(View):
    is_alive: bool
    last_seen_at: datetime | None


class ServerView(View):
    version: str
    home: str
    database: Literal["sqlite", "postgresql"]
    worker: WorkerView


class GpuView(View):
    """An accelerator. None where its driver does not say."""

    index: int
    name: str
    utilization_percent: float | None
    memory_used: int
    memory_total: int
    temperature_celsius: float | None
    power_watts: float | None


class DevicesView(View):
    """The machine of the server at this moment. Sizes in bytes."""

    host: str
    cpu_cores: int
    cpu_percent: float
    """Of all cores together: at most 100."""
    load_average: float
    memory_used: int
    memory_total: int
    disk_free: int
    """Of the file system that holds the home."""
    disk_total: int
    gpus: list[GpuView]


class StoredObjectView(View):
    sha256: str
    num_bytes: int


class SecretSpec(Spec):
    value: SecretStr = Field(min_length=1, max_length=65_536)


class SecretView(View):
    """That there is a secret. What it is, no answer says."""

    name: str
    updated_at: datetime


class SecretList(View):
    secrets: list[SecretView]


class TreeSpec(Spec):
    """A folder of uploaded files."""

    files: dict[Annotated[str, Field(max_length=1000)], Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    """Relative path -> sha256 of its content."""


class LiveEvent(View):
    """A message of the websocket: something happened in the job."""

    kind: Literal["event"]
    event: StreamedEvent


class LiveJob(View):
    """A message of the websocket: the job's row changed."""

    kind: Literal["job"]
    job: JobView


class LiveMessage(View):
    """All that a websocket sends; here so that the types reach the UI."""

    message: Annotated[LiveEvent | LiveJob, Field(discriminator="kind")]
