"""30 metrics x 10,000 steps into MLflow on SQLite, in its largest batches. Prints one JSON object."""

import json
import logging
import os
import time
from pathlib import Path

os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path.cwd() / 'mlflow.db'}"
import mlflow
from mlflow.entities import Metric

STEPS, METRICS, BATCH_STEPS = 10_000, 30, 33

logging.disable(logging.WARNING)


def values_of(step: int) -> dict[str, float]:
    return {f"metric_{i}": ((step * 2654435761 + i * 40503) % 1000003) / 7919 for i in range(METRICS)}


rows = [values_of(step) for step in range(STEPS)]
client = mlflow.MlflowClient()
run = client.create_run(client.create_experiment("bench")).info.run_id
start = time.perf_counter()
for first in range(0, STEPS, BATCH_STEPS):
    batch = [
        Metric(name, value, 1_000_000 + step, step)
        for step in range(first, min(STEPS, first + BATCH_STEPS))
        for name, value in rows[step].items()
    ]
    client.log_batch(run, metrics=batch)
logged = time.perf_counter() - start
client.set_terminated(run)
assert len(client.get_metric_history(run, "metric_7")) == STEPS
queryable = time.perf_counter() - start
queries = []
for _ in range(5):
    begin = time.perf_counter()
    client.get_metric_history(run, "metric_7")
    queries.append(1000 * (time.perf_counter() - begin))
print(
    json.dumps(
        {
            "points_per_second": STEPS * METRICS / queryable,
            "log_us": 1e6 * logged / STEPS,
            "bytes_per_point": Path("mlflow.db").stat().st_size / STEPS / METRICS,
            "series_10k_ms": sorted(queries)[2],
        }
    )
)
