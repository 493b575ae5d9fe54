"""Do requests stay quick while 100 runs are ingested at full speed? `python benchmarks/contention.py [--seconds 30]`

Real processes on SQLite: an API, a worker that tails 100 run directories, writers that append metrics as fast as the
machine allows, and clients that submit, cancel and claim. Prints the 50th, 90th and 99th percentile of each in
milliseconds beside the limit of one bare commit, and as its last line a JSON object.
"""

import argparse
import functools
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
from runs import SPEC, make_runs
from sqlalchemy import select

from finery import migrations
from finery.core.client import Client, locate
from finery.core.db import Database
from finery.core.errors import Conflict
from finery.core.rundir import RunDir
from finery.core.settings import Settings
from finery.jobs import service as jobs
from finery.jobs.scheduling import Free
from finery.jobs.tables import Job
from finery.monitoring.tables import TailOffset

NUM_RUNS = 100
METRICS = {f"metric_{i}": i / 7 for i in range(30)}


def write_streams(paths: list[Path], seconds: float, written: "multiprocessing.Value") -> None:  # type: ignore[valid-type]
    """Append rows to all streams in turn, without ever being more than 2,000 rows a run ahead of a full machine."""
    files = [open(path, "ab", buffering=0) for path in paths]  # noqa: SIM115
    end = time.monotonic() + seconds
    step = 0
    while time.monotonic() < end:
        for file in files:
            rows = [_row(step + i) for i in range(10)]
            file.write(b"\n".join(rows) + b"\n")
        step += 10
        written.value = step * len(files) * len(METRICS)
        time.sleep(0.1)


def _row(step: int) -> bytes:
    return orjson.dumps({"type": "metrics", "seq": step, "time": time.time(), "step": step, "values": METRICS})


def timed(durations: list[float], errors: list[str], call: object) -> object:
    """Call and note how long it took."""
    start = time.perf_counter()
    try:
        return call()  # type: ignore[operator]
    except Conflict:
        return None  # the claimer was faster than the cancel: an answer, and a timely one
    except Exception as error:  # noqa: BLE001 - a failed request is a result of this benchmark
        errors.append(f"{type(error).__name__}: {error}")
        return None
    finally:
        durations.append(1000 * (time.perf_counter() - start))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        measure(Settings(home=Path(folder) / "home", max_running_jobs=1), seconds)


def measure(settings: Settings, seconds: float) -> None:
    """Start everything, load it, end it, print."""
    settings.home.mkdir()
    db = Database(settings.url)
    migrations.upgrade(db, lock=settings.home / "migrate.lock")
    bare = [_bare_commit(db) for _ in range(50)]
    environment = {**os.environ, "FINERY_HOME": str(settings.home), "FINERY_PORT": str(_free_port())}
    api = subprocess.Popen([sys.executable, "-m", "finery.cli.main", "api"], env=environment)
    url = f"http://127.0.0.1:{environment['FINERY_PORT']}"
    _await(url)
    client = Client(url, locate(settings)[1])
    client.post("/datasets/generate", {"generator": "arithmetic", "name": "sums", "params": {"num_rows": 50}})
    paths = [run_dir.events / "rank0.jsonl" for run_dir in make_runs(db, settings, NUM_RUNS)]
    worker = subprocess.Popen([sys.executable, "-m", "finery.cli.main", "worker"], env=environment)
    written = multiprocessing.Value("q", 0)
    writer = multiprocessing.Process(target=write_streams, args=(paths, seconds + 5, written))
    writer.start()
    time.sleep(3)
    figures: dict[str, list[float]] = {"post": [], "cancel": [], "claim": []}
    errors: list[str] = []
    stop = time.monotonic() + seconds

    def submit_and_cancel() -> None:
        own = Client(url, locate(settings)[1])
        while time.monotonic() < stop:
            job = timed(figures["post"], errors, functools.partial(own.post, "/jobs", {"spec": SPEC}))
            if isinstance(job, dict):
                timed(figures["cancel"], errors, functools.partial(own.post, f"/jobs/{job['id']}/cancel", {}))
            time.sleep(0.05)

    def claim() -> None:
        while time.monotonic() < stop:
            timed(figures["claim"], errors, lambda: _claim(db))
            time.sleep(0.05)

    threads = [threading.Thread(target=submit_and_cancel) for _ in range(3)] + [threading.Thread(target=claim)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = _stored_points(db)
    for process in (worker, api):
        process.terminate()
        process.wait()
    writer.terminate()
    report(figures, errors, bare, written.value, stored, seconds)


def report(
    figures: dict[str, list[float]], errors: list[str], bare: list[float], written: int, stored: float, seconds: float
) -> None:
    """Print the table and the JSON line."""
    print(f"{NUM_RUNS} runs, {written / (seconds + 3):,.0f} points/s written, {stored:.0%} of the bytes ingested")
    print(f"{'':8} {'n':>6} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'p99 / bare commit':>18}")
    base = statistics.median(bare)
    result = {"errors": len(errors), "bare_commit_ms": base, "ingested_share": stored}
    for name, values in figures.items():
        p50, p90, p99 = (_percentile(values, share) for share in (0.5, 0.9, 0.99))
        print(f"{name:8} {len(values):6} {p50:8.1f} {p90:8.1f} {p99:8.1f} {p99 / base:18.0f}")
        result[f"{name}_p99_ms"] = p99
    for error in errors[:5]:
        print("error:", error)
    print(json.dumps(result))


def _claim(db: Database) -> None:
    with db.session() as session:
        job = jobs.claim(session, worker="other", free=Free(slots=1, gpus=0, all_gpus=0), now=datetime.now(UTC))
        if job is not None:
            session.get_one(Job, job.id).state = "cancelled"


def _bare_commit(db: Database) -> float:
    start = time.perf_counter()
    with db.session() as session:
        jobs.seen(session, worker="bare", host="h", pid=1, now=datetime.now(UTC))
    return 1000 * (time.perf_counter() - start)


def _stored_points(db: Database) -> float:
    with db.read() as session:
        read = sum(session.scalars(select(TailOffset.offset)))
        rows = jobs.live_attempts(session, host=socket.gethostname())
    total = sum(stream.stat().st_size for row in rows for stream in RunDir(Path(row.run_dir)).events.glob("*.jsonl"))
    return read / total if total else 0.0


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(url: str) -> None:
    for _ in range(200):
        try:
            httpx.get(f"{url}/api/server", trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("the API did not come up")


if __name__ == "__main__":
    main()
