"""What Prometheus is told of the platform: families of gauges and counters, made anew at each scrape.

Bounded: of jobs those that hold a machine or ended lately, at most MAX_JOBS, with at most MAX_METRICS values each; of
processes the sums. Base units: seconds, bytes, ratios from 0 to 1. A job's label is `job_id`: Prometheus calls by `job`
what it scrapes.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from finery.core import machine as machines
from finery.core.events import MetricValue, decode_value
from finery.core.nvml import Gpu
from finery.core.rundir import RESOURCES
from finery.jobs.specs import JobState
from finery.jobs.states import ACTIVE, NEXT
from finery.jobs.tables import ALIVE, Job, Worker
from finery.monitoring.tables import EventRow, MetricSummary

Families = Iterator[Metric]

SHOWN_AFTER_END: Final = timedelta(minutes=5)
"""So that the last values are scraped; then the series end, as Prometheus expects."""
MAX_JOBS: Final = 100
MAX_METRICS: Final = 200
"""Names without a slash come first: of a thousand layers some are left out, and the loss is not."""
_LONGEST_NAME: Final = 200


class _Figure(NamedTuple):
    """How a sampled resource is told."""

    family: str
    help: str
    factor: float = 1.0


_OF_JOB: Final[Mapping[str, _Figure]] = {
    "cpu_percent": _Figure("finery_job_cpu_cores", "Processor cores that the job keeps busy.", 0.01),
    "memory_bytes": _Figure("finery_job_memory_bytes", "Resident memory of the job's processes."),
    "num_processes": _Figure("finery_job_processes", "Processes of the job."),
    "num_threads": _Figure("finery_job_threads", "Threads of the job's processes."),
    "disk_read_bytes_per_second": _Figure("finery_job_disk_read_bytes_per_second", "Read by the job from disks."),
    "disk_written_bytes_per_second": _Figure("finery_job_disk_written_bytes_per_second", "Written by the job."),
    "disk_wait_percent": _Figure(
        "finery_job_disk_wait_ratio", "Processes of the job that wait for a disk, on average.", 0.01
    ),
}
_OF_JOBS_GPU: Final[Mapping[str, _Figure]] = {
    "utilization_percent": _Figure(
        "finery_job_gpu_utilization_ratio", "Share of time in which a GPU of the job worked.", 0.01
    ),
    "job_memory_bytes": _Figure("finery_job_gpu_own_memory_bytes", "Memory of a GPU that the job's processes hold."),
    "memory_used_bytes": _Figure("finery_job_gpu_memory_used_bytes", "Memory in use on a GPU of the job, by anybody."),
    "temperature_celsius": _Figure("finery_job_gpu_temperature_celsius", "Temperature of a GPU of the job."),
    "power_watts": _Figure("finery_job_gpu_power_watts", "Power that a GPU of the job draws."),
}
_GPU: Final = re.compile(r"gpu(\d+)/(\w+)")


def platform(session: Session, *, now: datetime) -> Families:
    """Jobs, the queue and the worker."""
    version = GaugeMetricFamily("finery_info", "The version that runs.", labels=["version"])
    version.add_metric([metadata.version("finery")], 1)
    yield version
    yield from _queue(session, now)
    yield from _workers(session, now)
    jobs = _shown(session, now)
    yield from _progress(session, jobs)
    yield _values(jobs)
    yield from _resources(session, jobs)


def machine(folder: Path) -> Families:
    """The machine of the server. What it has done is told as sums, from which Prometheus makes rates.

    Args:
        folder: A folder of the file system to report.
    """
    done, memory, disk = machines.totals(), psutil.virtual_memory(), psutil.disk_usage(str(folder))
    cpu = CounterMetricFamily("finery_machine_cpu_seconds", "Time of all cores, by what was done.", labels=["mode"])
    for mode, seconds in done.cpu_seconds.items():
        cpu.add_metric([mode], seconds)
    yield cpu
    for name, help_, total in (
        ("disk_read_bytes", "Read from disks.", done.disk_read_bytes),
        ("disk_written_bytes", "Written to disks.", done.disk_written_bytes),
        ("network_received_bytes", "Received from other machines.", done.network_received_bytes),
        ("network_sent_bytes", "Sent to other machines.", done.network_sent_bytes),
    ):
        yield CounterMetricFamily(f"finery_machine_{name}", help_, value=total)
    for name, help_, size in (
        ("cpu_cores", "Processor cores.", psutil.cpu_count() or 1),
        ("memory_used_bytes", "Memory in use.", memory.total - memory.available),
        ("memory_size_bytes", "Memory in all.", memory.total),
        ("disk_free_bytes", "Free on the disk of the home.", disk.free),
        ("disk_size_bytes", "Size of the disk of the home.", disk.total),
    ):
        yield GaugeMetricFamily(f"finery_machine_{name}", help_, value=size)
    yield from _gpus(machines.gpus())


def _gpus(gpus: Sequence[Gpu]) -> Families:
    figures: dict[str, tuple[str, Callable[[Gpu], float | None], float]] = {
        "utilization_ratio": ("Share of time in which the GPU worked.", lambda gpu: gpu.utilization_percent, 0.01),
        "memory_used_bytes": ("Memory in use on the GPU.", lambda gpu: gpu.memory_used, 1.0),
        "memory_size_bytes": ("Memory of the GPU in all.", lambda gpu: gpu.memory_total, 1.0),
        "temperature_celsius": ("Temperature of the GPU.", lambda gpu: gpu.temperature_celsius, 1.0),
        "power_watts": ("Power that the GPU draws.", lambda gpu: gpu.power_watts, 1.0),
    }
    for name, (help_, read, factor) in figures.items():
        family = GaugeMetricFamily(f"finery_gpu_{name}", help_, labels=["gpu", "gpu_name"])
        for gpu in gpus:
            value = read(gpu)
            if value is not None:
                family.add_metric([str(gpu.index), gpu.name], factor * value)
        yield family


def _queue(session: Session, now: datetime) -> Families:
    counted = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
    jobs = GaugeMetricFamily("finery_jobs", "Jobs in each state, archived ones too.", labels=["state"])
    for state in NEXT:
        jobs.add_metric([state], counted.get(state, 0))
    yield jobs
    oldest = session.scalars(select(func.min(Job.created_at)).where(Job.state == "queued")).one()
    waited = (now - oldest).total_seconds() if oldest else 0.0
    yield GaugeMetricFamily("finery_queue_oldest_seconds", "Age of the oldest job that waits; 0 if none.", value=waited)


def _workers(session: Session, now: datetime) -> Families:
    alive = session.scalars(select(func.count()).where(Worker.seen_at > now - ALIVE)).one()
    yield GaugeMetricFamily("finery_workers_alive", "Workers that start and watch jobs.", value=alive)
    seen = session.scalars(select(func.max(Worker.seen_at))).one()
    if seen is not None:
        help_ = "When a worker was last seen."
        yield GaugeMetricFamily("finery_worker_last_seen_timestamp_seconds", help_, value=seen.timestamp())


class _Shown(NamedTuple):
    """What is told of a job."""

    id: int
    name: str
    kind: str
    algorithm: str | None
    state: JobState
    attempt: int
    step: int | None
    total_steps: int | None
    seconds_per_step: float | None
    last_heard_at: datetime | None
    last_values: dict[str, MetricValue]


def _shown(session: Session, now: datetime) -> list[_Shown]:
    """Jobs that hold a machine, then those that ended lately; the newest of each where there are too many."""
    since = now - SHOWN_AFTER_END
    # What ended lately has changed since, and that column has an index; the rows of the table are long.
    ended = (Job.changed_at >= since, Job.ended_at >= since)
    found: list[_Shown] = []
    for which in ((Job.state.in_(ACTIVE),), ended):
        matching = set(session.scalars(select(Job.id).where(*which))) - {job.id for job in found}
        ids = sorted(matching, reverse=True)[: MAX_JOBS - len(found)]
        query = select(*(vars(Job)[name] for name in _Shown._fields)).where(Job.id.in_(ids)).order_by(Job.id.desc())
        found += [_Shown(*row) for row in session.execute(query)]
    return found


def _progress(session: Session, jobs: Sequence[_Shown]) -> Families:
    info = GaugeMetricFamily(
        "finery_job_info", "What a job is; 1.", labels=["job_id", "job_name", "kind", "algorithm", "state"]
    )
    for job in jobs:
        info.add_metric([str(job.id), job.name, job.kind, job.algorithm or "", job.state], 1)
    yield info
    heard = {job.id: job.last_heard_at.timestamp() for job in jobs if job.last_heard_at}
    for name, help_, values in (
        ("step", "Steps done.", {job.id: job.step for job in jobs}),
        ("planned_steps", "Steps in all.", {job.id: job.total_steps for job in jobs}),
        ("step_seconds", "Time of a step, mean of the newest.", {job.id: job.seconds_per_step for job in jobs}),
        ("attempt", "Number of the newest attempt.", {job.id: job.attempt for job in jobs}),
        ("last_event_timestamp_seconds", "When the job last wrote an event.", heard),
    ):
        family = GaugeMetricFamily(f"finery_job_{name}", help_, labels=["job_id"])
        for job_id, value in values.items():
            if value is not None:
                family.add_metric([str(job_id)], value)
        yield family
    yield _alerts(session, jobs)


def _alerts(session: Session, jobs: Sequence[_Shown]) -> Metric:
    ids = [job.id for job in jobs]
    query = select(EventRow.job_id, func.count()).where(EventRow.job_id.in_(ids), EventRow.type == "alert")
    counted = dict(session.execute(query.group_by(EventRow.job_id)).all())
    family = CounterMetricFamily("finery_job_alerts", "Alerts that the job has raised.", labels=["job_id"])
    for job_id in ids:
        family.add_metric([str(job_id)], counted.get(job_id, 0))
    return family


def _values(jobs: Sequence[_Shown]) -> Metric:
    family = GaugeMetricFamily("finery_job_metric", "Newest value of a metric of the job.", labels=["job_id", "name"])
    for job in jobs:
        names = sorted(job.last_values, key=lambda name: ("/" in name, name))
        for name in [name for name in names if len(name) <= _LONGEST_NAME][:MAX_METRICS]:
            family.add_metric([str(job.id), name], decode_value(job.last_values[name]))
    return family


def _resources(session: Session, jobs: Sequence[_Shown]) -> Families:
    """What the newest attempt of each job was last seen to use."""
    attempts = {job.id: job.attempt for job in jobs if job.state in ACTIVE}
    families = {
        figure: GaugeMetricFamily(figure.family, figure.help, labels=["job_id"]) for figure in _OF_JOB.values()
    } | {
        figure: GaugeMetricFamily(figure.family, figure.help, labels=["job_id", "gpu"])
        for figure in _OF_JOBS_GPU.values()
    }
    query = select(MetricSummary).where(MetricSummary.job_id.in_(attempts), MetricSummary.writer == RESOURCES)
    for stream in session.scalars(query):
        if stream.attempt != attempts[stream.job_id]:
            continue
        for name, stats in stream.metrics.items():
            gpu = _GPU.fullmatch(name)
            figure = _OF_JOBS_GPU.get(gpu[2]) if gpu else _OF_JOB.get(name)
            if figure is not None:
                labels = [str(stream.job_id), gpu[1]] if gpu else [str(stream.job_id)]
                families[figure].add_metric(labels, figure.factor * decode_value(stats["last"]))
    yield from families.values()
