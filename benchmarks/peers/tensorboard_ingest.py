"""30 metrics x 10,000 steps into TensorBoard event files. Prints one JSON object."""

import json
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

STEPS, METRICS = 10_000, 30


def values_of(step: int) -> dict[str, float]:
    return {f"metric_{i}": ((step * 2654435761 + i * 40503) % 1000003) / 7919 for i in range(METRICS)}


rows = [values_of(step) for step in range(STEPS)]
writer = SummaryWriter("events")
start = time.perf_counter()
for step, row in enumerate(rows):
    for name, value in row.items():
        writer.add_scalar(name, value, step)
logged = time.perf_counter() - start
writer.close()
accumulator = EventAccumulator("events", size_guidance={"scalars": 0})
accumulator.Reload()
assert len(accumulator.Scalars("metric_7")) == STEPS
queryable = time.perf_counter() - start
queries = []
for _ in range(5):
    begin = time.perf_counter()
    accumulator.Scalars("metric_7")
    queries.append(1000 * (time.perf_counter() - begin))
size = sum(path.stat().st_size for path in Path("events").rglob("*") if path.is_file())
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
