"""How long the planner takes to answer: over the real API, as the page's sliders ask it.

    python benchmarks/planner_latency.py [--rounds 40]

Starts a server on a free port and posts requests of several sizes one after the other. Prints JSON: milliseconds of
each request, 50th and 95th percentile, from the first byte sent to the last one read. Asked: 50 ms.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn

from finery import migrations
from finery.api.app import create_app
from finery.core.db import Database
from finery.core.settings import Settings

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "7B, 8 GPUs, sft": {"model": "Qwen/Qwen2.5-7B", "num_gpus": 8},
    "7B, 8 GPUs, grpo with LoRA": {"model": "Qwen/Qwen2.5-7B", "num_gpus": 8, "algorithm": "grpo", "lora": True},
    "7B, 8 GPUs, grpo, colocated": {
        **{"model": "Qwen/Qwen2.5-7B", "num_gpus": 8, "algorithm": "grpo", "rollouts": "colocated", "batch": 1024},
    },
    "72B, 1 card, nothing fits": {"model": "Qwen/Qwen2.5-72B", "gpu": "RTX 4090"},
    "72B, 64 GPUs, sft": {"model": "Qwen/Qwen2.5-72B", "gpu": "H100", "num_gpus": 64, "batch": 256, "context": 8192},
    "30B mixture, 64 GPUs, grpo, colocated": {
        **{"model": "Qwen/Qwen3-30B-A3B", "gpu": "H100", "num_gpus": 64, "batch": 256},
        **{"algorithm": "grpo", "rollouts": "colocated"},
    },
    "671B mixture, 512 GPUs, sft": {"model": "deepseek-ai/DeepSeek-V3", "gpu": "H100", "num_gpus": 512, "batch": 2048},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="times that each request is made")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        db = Database(settings.url)
        migrations.upgrade(db, lock=settings.home / "migrate.lock")
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings, db=db), host="127.0.0.1", port=0, log_level="warning")
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        token = settings.token_file.read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}) as http:
            figures = {name: _measured(http, body, args.rounds) for name, body in REQUESTS.items()}
        server.should_exit = True
        thread.join()
    print(json.dumps(figures, indent=1))
    return 0


def _measured(http: httpx.Client, body: dict[str, Any], rounds: int) -> dict[str, float]:
    took = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        http.post("/api/plan", json=body).raise_for_status()
        took.append((time.perf_counter() - start) * 1e3)
    took = sorted(took[2:])
    return {"p50_ms": round(statistics.median(took), 1), "p95_ms": round(took[int(0.95 * (len(took) - 1))], 1)}


if __name__ == "__main__":
    sys.exit(main())
