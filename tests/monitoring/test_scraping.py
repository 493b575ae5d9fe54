"""What Prometheus is told: right values under proper names, and never more than so much."""

import math
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from finery.core.db import Database
from finery.core.rundir import RESOURCES
from finery.jobs.tables import Job, Worker
from finery.monitoring import scraping
from tests.conftest import need
from tests.jobs.test_service import begin, submit
from tests.monitoring.test_service import metrics, take

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(db: Database, now: datetime = NOW) -> bytes:
    class Now(Collector):
        def collect(self) -> scraping.Families:
            with db.read() as session:
                yield from scraping.platform(session, now=now)

    registry = CollectorRegistry()
    registry.register(Now())
    return generate_latest(registry)


def samples(text: bytes) -> Samples:
    """As Prometheus' own parser reads them: (name, labels) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def resource(seq: int, **values: float) -> bytes:
    return orjson.dumps({"type": "resource", "seq": seq, "time": 1.0, "values": values})


def change(db: Database, job_id: int, **changes: Any) -> None:
    with db.session() as session:
        job = session.get_one(Job, job_id)
        for name, value in changes.items():
            setattr(job, name, value)


@pytest.fixture
def job_id(db: Database, tmp_path: Path) -> int:
    submit(db)
    return begin(db, tmp_path)[0]


def test_every_state_is_there_and_counts_its_jobs(db: Database, job_id: int) -> None:
    for seconds in (30, 90):
        change(db, submit(db), created_at=NOW - timedelta(seconds=seconds))

    found = samples(scraped(db))

    states = {labels[0][1]: value for (name, labels), value in found.items() if name == "finery_jobs"}
    assert states.pop("queued") == 2
    assert states.pop(next(state for state in ("allocated", "running") if states[state])) == 1
    assert len(states) == 9
    assert set(states.values()) == {0}
    assert found["finery_queue_oldest_seconds", ()] == 90


def test_an_empty_platform_is_told_without_gaps(db: Database) -> None:
    found = samples(scraped(db))

    assert found["finery_queue_oldest_seconds", ()] == 0
    assert found["finery_workers_alive", ()] == 0
    assert ("finery_worker_last_seen_timestamp_seconds", ()) not in found


def test_workers_are_counted_while_they_are_seen(db: Database) -> None:
    with db.session() as session:
        for name, ago in (("new", 1), ("old", 3600)):
            session.add(Worker(name=name, host="h", pid=1, seen_at=NOW - timedelta(seconds=ago)))

    found = samples(scraped(db))

    assert found["finery_workers_alive", ()] == 1
    assert found["finery_worker_last_seen_timestamp_seconds", ()] == NOW.timestamp() - 1


def test_a_running_job_is_told_with_its_newest_values(db: Database, tmp_path: Path) -> None:
    submit(db)
    attempt = begin(db, tmp_path)
    job = ("job_id", str(attempt[0]))
    alert = {"type": "alert", "seq": 3, "time": 9.0, "rule": "r", "severity": "info", "message": "m"}
    lines = [metrics(0, loss=2.0), metrics(1, loss="NaN", **{"reward/x_mean": 0.5}), orjson.dumps(alert)]
    take(db, attempt, lines, 100)
    used = {"cpu_percent": 150.0, "memory_bytes": 1e9, "gpu3/utilization_percent": 80.0, "gpu3/job_memory_bytes": 2e9}
    use = [resource(0, memory_bytes=5.0), resource(1, **used, **{"process/python.4/memory_bytes": 1.0})]
    take(db, attempt, use, 100, writer=RESOURCES)

    found = samples(scraped(db))

    assert math.isnan(found["finery_job_metric", (job, ("name", "loss"))])
    assert found["finery_job_metric", (job, ("name", "reward/x_mean"))] == 0.5
    assert found["finery_job_step", (job,)] == 2
    assert found["finery_job_attempt", (job,)] == 1
    assert found["finery_job_alerts_total", (job,)] == 1
    assert found["finery_job_last_event_timestamp_seconds", (job,)] == 9
    assert found["finery_job_cpu_cores", (job,)] == 1.5
    assert found["finery_job_memory_bytes", (job,)] == 1e9
    assert found["finery_job_gpu_utilization_ratio", (("gpu", "3"), job)] == pytest.approx(0.8)
    assert found["finery_job_gpu_own_memory_bytes", (("gpu", "3"), job)] == 2e9
    [info] = [dict(labels) for name, labels in found if name == "finery_job_info"]
    assert info["job_id"] == str(attempt[0])
    assert info["state"] in ("allocated", "running")
    assert not any("process" in value for _, labels in found for _, value in labels)


def test_a_job_is_told_for_five_minutes_after_its_end(db: Database, job_id: int) -> None:
    change(db, job_id, state="completed", ended_at=NOW, changed_at=NOW, last_values={"loss": 1.0})
    label = (("job_id", str(job_id)), ("name", "loss"))

    assert samples(scraped(db, NOW + timedelta(seconds=299)))["finery_job_metric", label] == 1
    assert ("finery_job_metric", label) not in samples(scraped(db, NOW + timedelta(seconds=301)))


def test_neither_jobs_nor_names_are_without_bound(db: Database, job_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"layer/{number}": 1.0 for number in range(2000)} | {"loss": 2.0, "x" * 201: 3.0}
    change(db, job_id, last_values=many)
    names = [labels[1][1] for name, labels in samples(scraped(db)) if name == "finery_job_metric"]
    assert len(names) == scraping.MAX_METRICS
    assert names[0] == "loss"

    monkeypatch.setattr(scraping, "MAX_JOBS", 2)
    ended = [submit(db) for _ in range(3)]
    for one in ended:
        change(db, one, state="completed", ended_at=NOW, changed_at=NOW)
    shown = {dict(labels)["job_id"] for name, labels in samples(scraped(db)) if name == "finery_job_info"}
    assert shown == {str(job_id), str(max(ended))}


def test_hostile_names_stay_values_of_labels(db: Database, job_id: int) -> None:
    name = 'x"} 1\nfinery_jobs{state="queued'
    change(db, job_id, last_values={name: 1.0}, name=name)

    found = samples(scraped(db))

    assert found["finery_job_metric", (("job_id", str(job_id)), ("name", name))] == 1
    assert found["finery_jobs", (("state", "queued"),)] == 0


def test_the_machine_is_told_in_sums_and_sizes(tmp_path: Path) -> None:
    found = {sample.name: sample.value for family in scraping.machine(tmp_path) for sample in family.samples}

    assert found["finery_machine_cpu_seconds_total"] >= 0
    assert 0 < found["finery_machine_memory_used_bytes"] < found["finery_machine_memory_size_bytes"]
    assert 0 < found["finery_machine_disk_free_bytes"] <= found["finery_machine_disk_size_bytes"]
    assert {"finery_machine_network_received_bytes_total", "finery_machine_disk_read_bytes_total"} <= set(found)


def test_prometheus_own_linter_has_nothing_to_say(db: Database, job_id: int) -> None:
    promtool = shutil.which("promtool")
    need("promtool (prometheus)", promtool is not None)
    change(db, job_id, last_values={"loss": 1.0}, seconds_per_step=1.0, total_steps=3)

    done = subprocess.run([str(promtool), "check", "metrics"], input=scraped(db), capture_output=True)

    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
