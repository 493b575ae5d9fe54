"""How quickly is what a run wrote queryable, and how small? `python benchmarks/ingest.py [--no-peers] [--postgres URL]`

One run of 30 metrics x 10,000 steps (points per second from the first call of `log` on, and from the run directory on),
as Trackio, TensorBoard and MLflow get it too, each in an environment of its own that this program makes under
`benchmarks/.peers`; ours and the quick peers in turn, three rounds, medians. Then what only a big run shows: a series
of 1,000,000 points, a list of 100 runs, 1-second flushes. Prints the figures with the ratio to the best peer and the
physical limit, and as its last line a JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from runs import make_runs, median_ms
from sqlalchemy import text

from finery import migrations
from finery.core.clock import SystemClock
from finery.core.db import Database
from finery.core.rundir import Run, RunDir
from finery.core.settings import Settings
from finery.jobs import listing
from finery.monitoring import service as monitoring
from finery.worker.loop import Worker

NUM_METRICS = 30
NUM_STEPS = 10_000
LONG = 1_000_000
HERE = Path(__file__).parent
PEERS = {
    "trackio": "trackio==0.43.0",
    "tensorboard": "tensorboardX==2.6.5 tensorboard==2.21.0",
    "mlflow": "mlflow==3.17.2",
}
QUICK = ("trackio", "tensorboard")
ROUNDS = 3

Figures = dict[str, float]


class Home:
    """A home with a database, a worker in this process, and runs that nothing trains."""

    def __init__(self, folder: Path, url: str = ""):
        self.settings = Settings(home=folder, database_url=url)
        folder.mkdir(parents=True)
        self.db = Database(self.settings.url)
        if url:
            with self.db.engine.begin() as connection:
                connection.execute(text("drop schema public cascade"))
                connection.execute(text("create schema public"))
        migrations.upgrade(self.db, lock=folder / "migrate.lock")
        self.worker = Worker(self.db, self.settings, SystemClock())

    def make_runs(self, number: int) -> list[Run]:
        return [Run.open(run_dir.path) for run_dir in make_runs(self.db, self.settings, number)]

    def drain(self, runs: list[RunDir]) -> None:
        """Let the worker work until everything is stored."""
        sizes = {int(run.path.parent.name): (run.events / "rank0.jsonl").stat().st_size for run in runs}
        while True:
            self.worker.tick()
            with self.db.read() as session:
                if all(monitoring.offset(session, job, 1, "rank0") >= size for job, size in sizes.items()):
                    return

    def num_bytes(self) -> int:
        with self.db.engine.connect() as connection:
            if self.db.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                return (self.settings.home / "finery.db").stat().st_size
            return int(connection.execute(text("select pg_database_size(current_database())")).scalar_one())

    def series(self, job_id: int, max_points: int) -> int:
        with self.db.read() as session:
            [found] = monitoring.series(session, job_id, ["metric_7"], max_points=max_points)
        return found.num_points

    def listing(self) -> int:
        with self.db.read() as session:
            rows, _ = listing.find(session, query="", sort="", now=datetime.now(UTC), limit=100, offset=0)
            return sum(len(row.last_values) for row in rows)

    def close(self) -> None:
        self.worker.close()
        self.db.close()


def values_of(step: int) -> dict[str, float]:
    """30 numbers that do not compress."""
    return {f"metric_{i}": ((step * 2654435761 + i * 40503) % 1000003) / 7919 for i in range(NUM_METRICS)}


def short_run(folder: Path, url: str = "") -> Figures:
    """30 metrics x 10,000 steps from `run.log` to a query."""
    home = Home(folder, url)
    [run] = home.make_runs(1)
    before = home.num_bytes()
    rows = [values_of(step) for step in range(NUM_STEPS)]
    start = time.perf_counter()
    for step, row in enumerate(rows):
        run.log(row, step)
    logged = time.perf_counter() - start
    start = time.perf_counter()
    home.drain([run.dir])
    assert home.series(1, 100_000) == NUM_STEPS
    stored = time.perf_counter() - start
    points = NUM_STEPS * NUM_METRICS
    figures = {
        "points_per_second": points / (logged + stored),
        "run_directory_points_per_second": points / stored,
        "log_us": 1e6 * logged / NUM_STEPS,
        "bytes_per_point": (home.num_bytes() - before) / points,
        "series_10k_ms": median_ms(lambda: home.series(1, 100_000)),
    }
    home.close()
    return figures


def big_runs(folder: Path, url: str = "") -> Figures:
    """A long run, many runs, and a stream that is read while it grows."""
    home = Home(folder, url)
    [long, live] = home.make_runs(2)
    _write_long(long.dir.events / "rank0.jsonl")
    home.drain([long.dir])
    figures = {"series_1m_to_2000_ms": median_ms(lambda: home.series(1, 2000)), **_live(home, live)}
    many = home.make_runs(98)
    for run in many:
        for step in range(10):
            run.log(values_of(step), step)
    home.drain([run.dir for run in many])
    assert home.listing() == 99 * NUM_METRICS + 1
    figures["list_100_runs_ms"] = median_ms(home.listing)
    home.close()
    return figures


def _write_long(path: Path) -> None:
    with open(path, "ab") as file:
        for step in range(LONG):
            event = {"type": "metrics", "seq": step, "time": 1e9 + step, "step": step}
            file.write(orjson.dumps({**event, "values": {"metric_7": (step * 7919 % 10007) / 13}}) + b"\n")


def _live(home: Home, run: Run) -> Figures:
    """Five flushes of a second's worth: 1,000 steps of 30 metrics. How long each takes to be queryable."""
    lags = []
    for flush in range(5):
        for step in range(1000 * flush, 1000 * (flush + 1)):
            run.log(values_of(step), step)
        start = time.perf_counter()
        home.drain([run.dir])
        lags.append(time.perf_counter() - start)
    return {"live_flush_30k_points_ms": 1000 * statistics.median(lags)}


def limits(folder: Path) -> Figures:
    """What the machine allows: parsing alone, and writing the numbers' bytes alone."""
    lines = [
        orjson.dumps({"type": "metrics", "seq": s, "time": 1.0, "step": s, "values": values_of(s)}) for s in range(5000)
    ]
    points = len(lines) * NUM_METRICS
    parse_ms = median_ms(lambda: [orjson.loads(line) for line in lines], 3)
    payload = os.urandom(8 * points)

    def write() -> None:
        with open(folder / "raw", "wb") as file:
            file.write(payload)
            os.fsync(file.fileno())

    return {
        "json_points_per_second": 1000 * points / parse_ms,
        "disk_points_per_second": 1000 * points / median_ms(write, 3),
    }


def peer(name: str, folder: Path) -> Figures:
    """The same short run in a peer, in its own environment."""
    home = HERE / ".peers" / name
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS[name].split()], check=True)
    folder.mkdir(parents=True)
    script = HERE / "peers" / f"{name}_ingest.py"
    done = subprocess.run([str(python), str(script)], cwd=folder, check=True, capture_output=True, text=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--postgres", default="", help="postgresql+psycopg://... of an empty database that may be wiped"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rounds: dict[str, list[Figures]] = {"finery": []}
        for number in range(ROUNDS):
            rounds["finery"].append(short_run(folder / f"ours-{number}"))
            for peer_name in () if args.no_peers else QUICK:
                rounds.setdefault(peer_name, []).append(peer(peer_name, folder / f"{peer_name}-{number}"))
        if not args.no_peers:
            rounds["mlflow"] = [peer("mlflow", folder / "mlflow")]
        found = {who: _medians(figures) for who, figures in rounds.items()}
        found["finery"] |= big_runs(folder / "big")
        if args.postgres:
            found["finery on PostgreSQL"] = short_run(folder / "pg", args.postgres) | big_runs(
                folder / "pg-big", args.postgres
            )
        report(found, limits(folder))


def _medians(rounds: list[Figures]) -> Figures:
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def report(found: dict[str, Figures], physical: Figures) -> None:
    """Print the table and the JSON line."""
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    print(f"{'':28}" + "".join(f"{who:>22}" for who in found))
    for name in names:
        cells = [f"{figures[name]:,.1f}" if name in figures else "-" for figures in found.values()]
        print(f"{name:28}" + "".join(f"{cell:>22}" for cell in cells))
    peers = [figures for who, figures in found.items() if not who.startswith("finery")]
    best = max((figures["points_per_second"] for figures in peers), default=0.0)
    result: dict[str, Any] = {**found["finery"], **physical}
    if best:
        result["ratio_to_best_peer"] = found["finery"]["points_per_second"] / best
        print(f"points/s against the best peer: {result['ratio_to_best_peer']:.1f} x")
    json_limit, disk_limit = physical["json_points_per_second"], physical["disk_points_per_second"]
    print(f"limits in points/s: parsing JSON {json_limit:,.0f}, writing 8 bytes to disk {disk_limit:,.0f}")
    if "finery on PostgreSQL" in found:
        result["postgresql"] = found["finery on PostgreSQL"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
