"""Jobs from their file to their end, with real processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import Conflict, InvalidSpec
from tests.platform import Server, sft_job, wait_for


def pipeline() -> dict[str, Any]:
    warm_up = sft_job(steps=20, name="warm-up")
    grpo = {
        "name": "grpo",
        "kind": "train",
        "after": ["warm-up"],
        "task": {
            "algorithm": "grpo",
            "model": {"base": "job:warm-up/last", "lora": {"rank": 4, "alpha": 8}},
            "data": {"train": "problems"},
            "rewards": [{"name": "exact"}, {"name": "format", "weight": 0.2, "params": {"pattern": ".*[0-9].*"}}],
            "optim": {"learning_rate": 1e-4, "steps": 4},
            "rollout": {"completions_per_prompt": 4, "max_new_tokens": 4},
            "prompts_per_step": 2,
        },
        "resources": {"cpu_threads": 1},
    }
    score = {
        "name": "score",
        "kind": "evaluate",
        "after": ["grpo"],
        "task": {
            "model": {"base": "job:grpo/last"},
            "benchmark": {"name": "arithmetic"},
            "data": "problems",
            "max_new_tokens": 4,
        },
        "resources": {"cpu_threads": 1},
    }
    return {"kind": "pipeline", "name": "all", "jobs": [warm_up, grpo, score]}


def test_a_pipeline_runs_from_sft_over_grpo_to_a_score(shared: Server) -> None:
    shared.generate("sums", num_rows=100, format="sft")
    shared.generate("problems", num_rows=50)

    made = shared.client.post("/pipelines", {"spec": pipeline()})["jobs"]
    done = [shared.await_state(job["id"], "completed") for job in made]

    assert [job["attempt"] for job in done] == [1, 1, 1]
    rollouts = f"/jobs/{made[1]['id']}/rollouts"
    assert shared.client.get(f"{rollouts}/steps")["first_steps"] == [1, 2, 3, 4]
    shown = shared.client.get(f"{rollouts}/one", step=4, index=0)
    assert len(shown["tokens"]) == len(shown["entropy"]) == shown["length"]
    used = {one["name"]: one["values"] for one in shared.client.get(f"/jobs/{made[1]['id']}/resources")["series"]}
    assert max(used["memory_bytes"]) > 50 << 20
    assert max(used["num_processes"]) >= 1
    [score] = [one for one in shared.client.get("/evaluations")["scores"] if one["job_id"] == made[2]["id"]]
    assert score["num_samples"] == 50
    assert shared.client.get(f"/evaluations/{made[2]['id']}/samples")["num_samples"] == 50
    found = shared.client.get("/evaluations/compare", baseline=made[2]["id"], candidate=made[2]["id"])
    assert (found["improved"], found["regressed"], found["p_value"]) == (0, 0, 1.0)


def test_the_average_of_a_jobs_weights_is_scored_beside_its_last(shared: Server) -> None:
    shared.generate("sums", num_rows=100, format="sft")
    shared.generate("problems", num_rows=50)
    first, _, score = pipeline()["jobs"]
    first["task"]["optim"]["ema_decay"] = 0.999
    last, average = (
        {**score, "after": [], "task": {**score["task"], "model": {"base": f"job:warm-up/last{part}"}}, "name": name}
        for part, name in (("", "last"), ("/ema", "average"))
    )

    made = shared.client.post(
        "/pipelines", {"spec": {"kind": "pipeline", "name": "both", "jobs": [first, last, average]}}
    )["jobs"]
    paths = [shared.attempt(shared.await_state(job["id"], "completed")["id"]).read_spec().inputs for job in made[1:]]

    warm_up = f"job:{made[0]['id']}/last"
    assert Path(paths[0][warm_up].path).name == "step-20"
    assert Path(paths[1][f"{warm_up}/ema"].path).name == "ema"
    seen = shared.client.get(f"/jobs/{made[0]['id']}/checkpoints")
    assert sorted(one["label"] for one in seen["series"]) == ["arithmetic · problems", "arithmetic · problems · EMA"]
    [ref] = [one["average_ref"] for one in seen["checkpoints"] if one["is_latest"]]
    assert ref in [one["ref"] for one in shared.client.get("/chat/choices")["checkpoints"]]
    without = shared.submit(sft_job(steps=2))
    shared.await_state(without, "completed")
    refused = shared.submit(
        {**score, "after": [], "task": {**score["task"], "model": {"base": f"job:{without}/last/ema"}}}
    )
    assert "optim.ema_decay" in shared.await_state(refused, "failed")["cause"]


def test_a_running_job_obeys_pauses_resumes_and_holds_no_secret(shared: Server) -> None:
    shared.generate("sums", num_rows=200, format="sft")
    job_id = shared.submit(sft_job(steps=400))
    shared.await_step(job_id, 2)
    assert_nothing_is_inherited(shared, job_id)

    assert_a_live_setting_is_in_effect_from_the_next_step(shared, job_id)

    shared.ask(job_id, "pause")
    paused = shared.await_state(job_id, "paused")
    assert shared.attempt(job_id).read_exit().code == 3
    shared.ask(job_id, "resume")
    done = shared.await_state(job_id, "completed")

    assert done["attempt"] == 2
    assert done["attempts"][1]["resumed_from"] == f"job:{job_id}/step:{paused['step']}"
    shared.assert_every_event_is_there_once(job_id, attempts=2)


def assert_nothing_is_inherited(server: Server, job_id: int) -> None:
    """No token, address or database is in the environment or on the command line of supervisor and child."""
    token = (server.home / "token").read_text()
    record = server.attempt(job_id).read_supervisor()
    for process in (record.supervisor, record.child):
        for file in ("environ", "cmdline"):
            content = Path(f"/proc/{process.pid}/{file}").read_bytes().decode()
            assert token not in content
            assert "FINERY_" not in content


def assert_a_live_setting_is_in_effect_from_the_next_step(server: Server, job_id: int) -> None:
    server.ask(job_id, "set", learning_rate=1.25e-4)

    def changed() -> bool:
        return server.job(job_id)["last_values"].get("learning_rate") == pytest.approx(1.25e-4)

    wait_for("the new learning rate", changed)
    acks = [e["event"] for e in server.stored(job_id) if e["event"]["type"] == "control_ack"]
    assert [(ack["command"], ack["outcome"]) for ack in acks] == [("set", "applied")]
    assert "0.001" in acks[0]["message"]
    server.ask(job_id, "set", temperature_of_the_moon=1.0)
    wait_for("the refusal", lambda: len([e for e in server.stored(job_id) if e["event"]["type"] == "control_ack"]) == 2)


def test_provenance_and_checkpoints_are_stored_with_every_run(shared: Server) -> None:
    shared.generate("sums", num_rows=50, format="sft")
    monitoring = {"checkpoint_interval": 5, "keep_checkpoints": 2}
    code = {"commit": "c" * 40, "branch": "b", "is_dirty": True, "diff": "+x"}
    body = {"spec": sft_job(steps=20, monitoring=monitoring), "code": code}
    job_id = shared.client.post("/jobs", body)["id"]

    job = shared.await_state(job_id, "completed")

    assert job["code"]["commit"] == "c" * 40
    assert job["provenance"]["packages"]["torch"].startswith("2.13.0")
    assert job["provenance"]["hardware"]["cpu_cores"] >= 1
    spec = json.loads((shared.attempt(job_id).path / "spec.json").read_text())
    assert spec["inputs"]["sums"]["sha256"] == job["inputs"]["sums"]["sha256"]
    assert [row["step"] for row in job["checkpoints"]] == [15, 20]  # those that are there
    assert job["num_deleted_checkpoints"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"train": "ghost"}}, "ghost"),
        ({"data": {"train": "./rows.jsonl"}}, "uploads"),
        ({"model": {"base": "job:999/last"}}, "999"),
        ({"model": {"base": "no-such-model"}}, "no-such-model"),
        ({"model": {"base": "/etc"}}, "path"),
    ],
)
def test_a_reference_that_cannot_be_resolved_is_refused_and_nothing_is_queued(
    shared: Server, change: dict[str, Any], message: str
) -> None:
    from finery.core.errors import FineryError

    shared.generate("sums", num_rows=50, format="sft")
    spec = sft_job()
    spec["task"] = {**spec["task"], **change}
    before, runs = shared.client.get("/jobs")["total"], sorted(shared.home.glob("runs/*"))

    with pytest.raises(FineryError, match=message):
        shared.submit(spec)

    assert shared.client.get("/jobs")["total"] == before
    assert sorted(shared.home.glob("runs/*")) == runs


def test_a_failing_job_says_why_and_its_followers_do_not_start(shared: Server) -> None:
    shared.generate("sums", num_rows=50, format="sft")
    spec = sft_job(steps=5)
    spec["task"]["native"] = {"no_such_option": 1}
    first = shared.submit(spec)
    second = shared.submit({**sft_job(steps=5), "after": [first]})

    assert "no_such_option" in shared.await_state(first, "failed")["cause"]
    assert f"job {first}" in shared.await_state(second, "cancelled")["cause"]
    with pytest.raises(Conflict):
        shared.ask(first, "pause")
    with pytest.raises(InvalidSpec):
        shared.submit({**sft_job(), "surprise": 1})
