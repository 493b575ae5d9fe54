"""30 metrics x 10,000 steps into Trackio, local. Runs in an environment that has it; prints one JSON object."""

import json
import os
import time
from pathlib import Path

os.environ["TRACKIO_DIR"] = str(Path.cwd() / "trackio")
os.environ["HF_HUB_OFFLINE"] = "1"
import trackio
from trackio.sqlite_storage import SQLiteStorage

STEPS, METRICS = 10_000, 30


def values_of(step: int) -> dict[str, float]:
    return {f"metric_{i}": ((step * 2654435761 + i * 40503) % 1000003) / 7919 for i in range(METRICS)}


def series() -> int:
    return len(SQLiteStorage.get_metric_values("bench", "run", "metric_7"))


rows = [values_of(step) for step in range(STEPS)]
trackio.init(project="bench", name="run", embed=False)
start = time.perf_counter()
for step, row in enumerate(rows):
    trackio.log(row, step=step)
logged = time.perf_counter() - start
trackio.finish()
assert series() == STEPS, series()
queryable = time.perf_counter() - start
queries = []
for _ in range(5):
    begin = time.perf_counter()
    series()
    queries.append(1000 * (time.perf_counter() - begin))
size = sum(path.stat().st_size for path in Path("trackio").rglob("*") if path.is_file())
print(
    json.dumps(
        {
            "points_per_second": STEPS * METRICS / queryable,
            "log_us": 1e6 * logged / STEPS,
            "bytes_per_point": size / STEPS / METRICS,
            "series_10k_ms": sorted(queries)[2],
        }
    )
)
