"""What jobs took, on the way from a run to a plan: real jobs, the real API, the command."""

import subprocess
from typing import Any

import orjson
import pytest

from tests.platform import FINERY, Server, sft_job

MIB = 2**20


def plan(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [*FINERY, "plan", *words]
    return subprocess.run(argv, capture_output=True, text=True, env=server.environment, timeout=120)


def small(name: str, **task: Any) -> dict[str, Any]:
    job = sft_job(steps=2, name=name)
    return {**job, "task": {**job["task"], **task}}


def test_jobs_that_have_ended_correct_the_next_plan(server: Server) -> None:
    server.generate("sums", num_rows=100, format="sft")
    made = [server.submit(small(f"seen {number}")) for number in range(3)]
    done = [server.await_state(job_id, "completed") for job_id in made]

    estimates = [server.client.get(f"/jobs/{job['id']}")["estimate"] for job in done]
    for one in estimates:
        assert (one["outcome"], one["device"], one["engine"], one["algorithm"]) == (
            "completed",
            "cpu-generic",
            "trl",
            "sft",
        )
        assert 300 * MIB < one["measured_bytes"] < 2000 * MIB
        assert abs(one["predicted_bytes"] / one["measured_bytes"] - 1) < 0.3
        assert one["measured_speed"] > 0
    ratios = sorted(one["measured_bytes"] / one["predicted_bytes"] for one in estimates)
    request = {"params": 0.1, "gpu": "CPU", "context": 512, "batch": 8, "calibrated": True}
    corrected, plain = (server.client.post("/plan", {**request, "calibrated": told}) for told in (True, False))
    band = corrected["band"]
    assert band["num"] == 3
    assert ratios[0] * 0.9 <= band["low"] <= band["high"] <= ratios[-1] * 1.1
    assert band["ratio"] == pytest.approx(ratios[1], rel=1e-3)
    assert plain["band"] is None
    ratio = corrected["best"]["peak_bytes"] / plain["best"]["peak_bytes"]
    assert abs(ratio / band["ratio"] - 1) < 0.02

    said = plan(server, "--params", "0.1", "--gpu", "CPU", "--context", "512", "--batch", "8", "--calibrated")
    assert said.returncode == 0, said.stderr
    assert f"they took {band['ratio']:.2f} of what was predicted" in said.stdout
    unknown = plan(server, "--params", "7", "--calibrated", "--lora", "--json")
    assert orjson.loads(unknown.stdout)["band"] is None
    assert "not calibrated: fewer than three jobs" in unknown.stderr


def test_a_job_that_does_not_fit_is_submitted_with_a_warning(shared: Server) -> None:
    shared.generate("sums", num_rows=100, format="sft")
    huge = small("too large", batch_size=65536)
    job = shared.client.post("/jobs", {"spec": {**huge, "after": [shared.submit(sft_job(steps=3000))]}})
    shared.ask(job["id"], "cancel")
    shared.ask(job["after"][0], "cancel")

    [warning] = job["warnings"]
    assert "GiB are needed while it has to update" in warning
    assert "would fit: micro_batch_size: " in warning
