"""How metrics and samples look from outside."""

from typing import Any

from finery.core.events import AlertEvent, MetricValue
from finery.core.spec import View


class SeriesView(View):
    """One metric of one attempt."""

    name: str
    attempt: int
    writer: str
    steps: list[int]
    times: list[float]
    """Seconds since the Unix epoch."""
    values: list[MetricValue]
    num_points: int
    """Points that are stored within the steps that were asked for; more than are here when the series was thinned."""


class SeriesPage(View):
    series: list[SeriesView]
    cursor: int
    """The job's newest cursor when the series were read; follow the live stream after it."""


class MetricSummary(View):
    """A metric and its range."""

    name: str
    attempt: int
    num_points: int
    last_step: int
    last: MetricValue
    min: float | None
    """Over finite values; None when there is none."""
    max: float | None
    num_non_finite: int


class MetricPage(View):
    metrics: list[MetricSummary]
    cursor: int
    """The job's newest cursor when they were read: a metric that is not here appears after it."""


class SampleRecord(View):
    """A rollout or completion as the engine wrote it."""

    attempt: int
    step: int
    record: dict[str, Any]


class SampleRecordPage(View):
    steps: list[int]
    """Steps that have samples."""
    samples: list[SampleRecord]


class AlertView(View):
    """Something that a person should know, and of which job."""

    job_id: int
    job_name: str
    attempt: int
    alert: AlertEvent


class AlertPage(View):
    alerts: list[AlertView]
