"""What does a scrape of /metrics cost beside many jobs? `python benchmarks/scrape.py [--jobs 10000] [--running 100]`

A home with so many jobs in its database (SQLite), of which some run, with 60 metrics and what they use each; the whole
application answers in this process, door and all. Prints a table and, as its last line, a JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import scale_home
from fastapi.testclient import TestClient
from runs import make_runs

from finery.api.app import create_app
from finery.core.db import Database
from finery.core.rundir import RESOURCES
from finery.core.settings import Settings
from finery.core.usage import JobSampler
from finery.jobs.tables import Job
from finery.monitoring.tables import MetricSummary

ROUNDS = 40


def add_running(db: Database, settings: Settings, number: int) -> None:
    """Jobs that look alive: newest values of 60 metrics, and a real sample of what a process uses."""
    sampler = JobSampler(1, settings.home)
    sampler.sample()
    used = {name: {"last": value} for name, value in sampler.sample().items()}
    values = {name: float(index) for index, name in enumerate(scale_home.METRICS)}
    for run_dir in make_runs(db, settings, number):
        with db.session() as session:
            job = session.get_one(Job, int(run_dir.path.parent.name))
            job.state, job.step, job.total_steps, job.last_values = "running", 10, 100, values
            job.seconds_per_step, job.last_heard_at = 0.5, datetime.now(UTC)
            session.add(MetricSummary(job_id=job.id, attempt=1, writer=RESOURCES, metrics=used))


def measure(client: TestClient, token: str) -> dict[str, float]:
    """Times of the answers, the first one left out, and the size of the last."""
    times, cpu_before = [], time.process_time()
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
        times.append(time.perf_counter() - began)
        assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    own = sorted(times[1:])
    return {
        "p50_ms": 1000 * statistics.median(own),
        "p95_ms": 1000 * own[int(0.95 * len(own))],
        "cpu_ms": 1000 * (time.process_time() - cpu_before) / len(times),
        "samples": len(lines),
        "kilobytes": len(answer.content) / 1000,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--running", type=int, default=100)
    args = parser.parse_args()
    print(f"{'jobs':>7} {'running':>8} {'p50 ms':>7} {'p95 ms':>7} {'cpu ms':>7} {'samples':>8} {'kB':>6}")
    result: dict[str, float] = {"jobs": args.jobs, "running": args.running}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        scale_home.fill(settings, args.jobs, 1000)
        db = Database(settings.url)
        client = TestClient(create_app(settings, db=db), base_url="http://127.0.0.1:8321")
        token = settings.metrics_token_file.read_text()
        for running in (0, args.running):
            add_running(db, settings, running)
            found = measure(client, token)
            print(
                f"{args.jobs:7} {running:8} {found['p50_ms']:7.1f} {found['p95_ms']:7.1f} "
                f"{found['cpu_ms']:7.1f} {found['samples']:8} {found['kilobytes']:6.0f}"
            )
            result |= {f"{'idle_' if running == 0 else ''}{name}": value for name, value in found.items()}
        db.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
