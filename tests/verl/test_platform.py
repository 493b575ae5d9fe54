"""A verl job under the real server, from its data file to an answer of what it trained, through kills, a live setting,
a rule that goes back, and a pause."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from finery.core.settings import Settings
from tests.conftest import need
from tests.flows.test_chat_api import ask
from tests.platform import END_STATES, Server, end_strays, wait_for

SECONDS = 400.0
"""For what takes a start of Ray and verl, on a machine that is busy with other tests."""
NUM_STEPS = 30
PROBLEMS = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(8) for b in range(5)]
RULE = {
    "name": "back",
    "when": "learning_rate > 5e-3",
    "then": [{"name": "rollback_checkpoint", "params": {"learning_rate_factor": 0.1}}],
    "max_count": 1,
}
JOB: dict[str, Any] = {
    "name": "policy",
    "kind": "train",
    "task": {
        "algorithm": "grpo",
        "engine": "verl",
        "model": {"base": "tiny-char"},
        "data": {"train": "problems"},
        "rewards": [{"name": "length", "params": {"min": 1, "max": 3, "slack": 3}}],
        "optim": {"learning_rate": 1e-3, "steps": NUM_STEPS},
        "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
        "prompts_per_step": 2,
    },
    "resources": {"gpus": 0, "processes": 1, "cpu_threads": 1},
    "monitoring": {
        "checkpoint_interval": 2,
        "keep_checkpoints": 2,
        "gradient_interval": 1,
        "rules": [RULE],
        "evaluation": {
            "every_steps": 1000,
            "benchmarks": [{"benchmark": {"name": "arithmetic"}, "data": "problems", "limit": 8, "max_new_tokens": 6}],
            "cpu_threads": 1,
        },
    },
    "seed": 7,
    "grace_seconds": 60,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    need("verl's interpreter", Settings().verl_interpreter.is_file())
    home = tmp_path / "home"
    home.mkdir()
    made = Server(home)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()
    end_strays(home)


def test_a_job_of_verl_goes_from_its_data_file_to_an_answer_whatever_happens_to_it(server: Server) -> None:
    """One story, since each start of Ray and verl takes long: it must not be spread over processes of tests."""
    job = submitted(server)
    await_step(server, job, 3, attempt=1)

    goes_back_by_a_rule_that_a_live_setting_trips(server, job)
    step = pauses(server, job)
    goes_on_to_the_end_while_the_platform_is_killed(server, job, step)
    all_that_it_wrote_has_arrived(server, job)
    its_checkpoint_is_scored_and_answers(server, job)


def submitted(server: Server) -> int:
    file = server.home.parent / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    body = {"name": "problems", "object": server.client.upload(file), "file_name": file.name}
    assert server.client.post("/datasets/import", body)["num_rows"] == len(PROBLEMS)
    return server.submit(JOB)


def goes_back_by_a_rule_that_a_live_setting_trips(server: Server, job: int) -> None:
    server.ask(job, "set", learning_rate=1e-2)

    await_step(server, job, 1, attempt=2)
    second = server.job(job)["attempts"][1]
    back_to = int(second["resumed_from"].rpartition(":")[2])
    [skipped] = second["skipped_steps"]
    assert back_to < skipped
    assert second["sets"][-1]["after"] / second["sets"][-1]["before"] == pytest.approx(0.1)
    assert server.job(job)["controls"]["learning_rate"] == pytest.approx(1e-3)


def pauses(server: Server, job: int) -> int:
    """Gives the step after which it is paused."""
    running = processes(server, job)
    server.ask(job, "pause")
    paused = server.await_state(job, "paused", seconds=SECONDS)
    await_end(running)
    return int(paused["step"])


def goes_on_to_the_end_while_the_platform_is_killed(server: Server, job: int, paused_at: int) -> None:
    server.ask(job, "resume")
    await_step(server, job, 1, attempt=3)
    running = processes(server, job)
    dead = [psutil.Process(server.pid(name)) for name in ("api", "worker")]
    server.kill("up")  # first, since it would start the others again
    for process in dead:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await_end(dead)
    assert running[0].is_running(), "the run does not end with the platform"
    server.start()
    done = server.await_state(job, "completed", seconds=SECONDS)

    assert done["attempt"] == 3
    assert done["attempts"][2]["resumed_from"] == f"job:{job}/step:{paused_at}"
    assert done["step"] == NUM_STEPS
    await_end(running)


def all_that_it_wrote_has_arrived(server: Server, job: int) -> None:
    server.assert_every_event_is_there_once(job, attempts=3)
    for name in ("reward_mean", "policy_loss", "grad_norm", "entropy"):
        found = server.client.get(f"/jobs/{job}/series", names=name)["series"]
        assert {step for series in found for step in series["steps"]} == set(range(1, NUM_STEPS + 1)), name
    window = server.client.get(f"/jobs/{job}/gradients", metric="norm")
    assert (window["first_step"], window["last_step"], window["num_steps"]) == (1, NUM_STEPS, NUM_STEPS)
    assert server.client.get(f"/jobs/{job}/rollouts/steps")["last_steps"][-1] == NUM_STEPS
    shown = server.client.get(f"/jobs/{job}/rollouts/one", step=NUM_STEPS, index=0)
    assert len(shown["tokens"]) == shown["length"]
    told = [one for one in server.stored(job) if one["event"]["type"] == "cluster"]
    assert {one["attempt"] for one in told} == {1, 2, 3}
    assert any(actor["resources"].get("GPU") for one in told for actor in one["event"]["actors"])


def its_checkpoint_is_scored_and_answers(server: Server, job: int) -> None:
    def scored() -> list[dict[str, Any]]:
        rows = server.client.get(f"/jobs/{job}/checkpoints")["checkpoints"]
        found = [one for row in rows for one in row["evaluations"]]
        assert not any(one["state"] == "failed" for one in found), found
        return [one for one in found if one["state"] == "scored"]

    [score] = wait_for("a score", scored, SECONDS)
    assert 0 <= score["score"]["accuracy"] <= 1
    text, last = ask(server, f"job:{job}/last")
    assert last["type"] == "done"
    assert last["num_tokens"] >= 1, text  # to end at once is an answer, too


def await_end(processes: list[psutil.Process]) -> None:
    def left() -> list[psutil.Process]:
        found = []
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                found += [one] if one.is_running() and one.status() != psutil.STATUS_ZOMBIE else []
        return found

    wait_for(f"the end of {processes}", lambda: not left(), 10)


def await_step(server: Server, job_id: int, step: int, *, attempt: int) -> None:
    def reached() -> bool:
        job = server.job(job_id)
        is_settled = job["state"] in END_STATES and not job["requests"]
        assert not is_settled, (job["state"], job["cause"], server.log(job_id))
        if job["attempt"] < attempt:
            return False
        stream = server.attempt(job_id, attempt).events / "rank0.jsonl"
        lines = stream.read_text().splitlines() if stream.exists() else []
        told = [json.loads(line) for line in lines]
        return job["attempt"] == attempt and any(one["type"] == "metrics" and one["step"] >= step for one in told)

    wait_for(f"step {step} of attempt {attempt}", reached, SECONDS)


def processes(server: Server, job_id: int) -> list[psutil.Process]:
    """All that runs for a job now: its supervisor, and what has come from that, Ray's among it."""
    record = server.attempt(job_id, server.job(job_id)["attempt"]).read_supervisor()
    assert record is not None
    supervisor = psutil.Process(record.supervisor.pid)
    found = [supervisor, *supervisor.children(recursive=True)]
    assert len([one for one in found if "raylet" in one.name()]) == 1, found
    return found
