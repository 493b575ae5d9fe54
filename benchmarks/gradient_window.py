"""How long does the API take for a window of the gradient heatmap? `python benchmarks/gradient_window.py [--rounds 30]`

A file of 1,000 probed steps x 400 tensors (31 MB) as the engine writes it, in two attempts of which the second goes on
from the first; the whole application with its checks, database and JSON, asked in this process. Medians, and the
slowest, of some rounds after the first, whose own time is `first_ms`; the limit is to copy the numbers of an answer
once and to write them as JSON. Prints a table and, as its last line, JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from fastapi.testclient import TestClient

from finery import migrations
from finery.api.app import create_app
from finery.core.db import Database
from finery.core.gradients import FIELDS, NUM_OCTAVES, GradientWriter, Layout, TensorEntry
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.jobs import submitting
from finery.jobs.specs import JobSpec
from finery.jobs.tables import Attempt

NUM_LAYERS = 44
PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "input_norm", "post_norm")
NUM_STEPS = 1000
JOB = {
    "name": "window",
    "kind": "train",
    "task": {"algorithm": "sft", "model": {"base": "tiny-char"}, "data": {"train": "./rows.jsonl"}},
}
QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "layers": ("", {"by": "layer", "max_columns": 1000}),
    "tensors": ("", {"by": "tensor", "max_columns": 600}),
    "tensors_all_steps": ("", {"by": "tensor", "max_columns": 1000}),
    "tensors_zoomed": ("", {"by": "tensor", "metric": "p99", "from_step": 20_000, "to_step": 40_000}),
    "series": ("/series", {"by": "layer", "name": "7"}),
    "histogram": ("/histogram", {"by": "layer", "name": "7", "step": 50_000}),
}


def write(folder: Path, layout: Layout, steps: range) -> None:
    """Records of random numbers, for the size and the reading."""
    stream = np.random.default_rng(1)
    writer = GradientWriter(folder / "gradients", layout)
    folder.mkdir(parents=True)
    histograms = np.zeros((len(layout.tensors), 2, NUM_OCTAVES), dtype=np.uint32)
    histograms[:, :, 100:125] = stream.integers(0, 1 << 20, (len(layout.tensors), 2, 25))
    for step in steps:
        values = stream.normal(size=(len(FIELDS), layout.num_columns)).astype(np.float32)
        writer.append(step, 0.0, values, histograms)


def prepare(folder: Path) -> tuple[TestClient, int, Layout]:
    """An application with a job whose two attempts were probed every 100 steps."""
    tensors = [
        TensorEntry(name=f"model.layers.{layer}.{part}.weight", layer=str(layer), group="other", num_values=1)
        for layer in range(NUM_LAYERS)
        for part in PARTS
    ]
    ends = [
        TensorEntry(name=name, layer=name, group="other", num_values=1) for name in ("embed", "norm", "head", "score")
    ]
    layout = Layout(tensors=tuple(tensors + ends))
    settings = Settings(home=folder / "home")
    db = Database(settings.url)
    migrations.upgrade(db, lock=settings.home / "migrate.lock")
    now = datetime.now(UTC)
    with db.session() as session:
        job = submitting.submit(session, parse(JobSpec, JOB), inputs={}, code=None, now=now).id
        for number, resumed in ((1, None), (2, f"job:{job}/step:60000")):
            run = {"run_dir": str(folder / f"attempt-{number}"), "run_spec": {}, "host": "h", "worker": "w"}
            session.add(Attempt(job_id=job, number=number, resumed_from=resumed, **run))
    write(folder / "attempt-1", layout, range(100, 70_001, 100))
    write(folder / "attempt-2", layout, range(60_100, 100_001, 100))
    http = TestClient(create_app(settings, db=db), base_url="http://127.0.0.1:8321")
    http.headers["Authorization"] = f"Bearer {settings.token_file.read_text()}"
    return http, job, layout


def timed(work: Callable[[], Any]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        http, job, layout = prepare(Path(name))
        table = np.random.default_rng(2).normal(size=(NUM_STEPS, len(layout.tensors))).astype(np.float32)
        read = statistics.median(timed(table.copy) for _ in range(rounds))
        written = statistics.median(
            timed(lambda: orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)) for _ in range(rounds)
        )
        for what, (path, query) in QUERIES.items():

            def ask(path: str = path, query: dict[str, Any] = query) -> None:
                answer = http.get(f"/api/jobs/{job}/gradients{path}", params=query)
                assert answer.status_code == 200, answer.text

            found[f"{what}_first_ms"] = timed(ask)
            times = [timed(ask) for _ in range(rounds)]
            found[f"{what}_ms"], found[f"{what}_slowest_ms"] = statistics.median(times), max(times)
        size = (Path(name) / "attempt-1" / "gradients" / "statistics.bin").stat().st_size
    found |= {"limit_read_ms": read, "limit_json_ms": written, "bytes_per_probe": size / 700}
    for what, value in found.items():
        print(f"{what:30} {value:12.2f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
