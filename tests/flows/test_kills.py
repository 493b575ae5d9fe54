"""kill -9 of any process at any moment: nothing is lost, nothing runs twice, nothing trains on unseen."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from finery.core import checkpoints, processes
from finery.core.rundir import RunDir, SupervisorRecord
from tests.flows.disk import fill, small_disk
from tests.platform import Server, processes_of, sft_job, wait_for


def supervisor_of(run_dir: RunDir) -> SupervisorRecord:
    def complete() -> SupervisorRecord | None:
        record = run_dir.read_supervisor()
        return record if record and record.child else None

    return wait_for("supervisor.json", complete)


def last_step(run_dir: RunDir) -> int:
    """The newest step that the child has written about."""
    lines = [json.loads(line) for line in (run_dir.events / "rank0.jsonl").read_text().splitlines()]
    return max(line["step"] for line in lines if line.get("step") is not None)


@pytest.fixture
def training(server: Server) -> tuple[Server, int]:
    """A server with a job that trains for longer than a test lasts, some steps behind it."""
    server.generate("sums", num_rows=200, format="sft")
    job_id = server.submit(sft_job(steps=5000))
    server.await_step(job_id, 5)
    return server, job_id


def test_training_goes_on_whatever_of_the_platform_is_killed(training: tuple[Server, int]) -> None:
    """The API, the worker, both at once, all of it with a pause before it returns; then the job is told to stop."""
    server, job_id = training
    record = supervisor_of(server.attempt(job_id))

    for victims in (("api",), ("worker",), ("api", "worker")):
        dead = {name: server.kill(name) for name in victims}
        assert processes.is_alive(record.child)
        for name, pid in dead.items():
            server.await_restart(name, pid)
    server.kill("up")
    wait_for("api and worker to follow", lambda: len(processes_of(server.home)) == 2)
    time.sleep(2)
    assert processes.is_alive(record.child)
    server.start()
    server.await_step(job_id, last_step(server.attempt(job_id)) + 1)

    assert supervisor_of(server.attempt(job_id)) == record
    server.ask(job_id, "pause")
    job = server.await_state(job_id, "paused")
    assert job["attempt"] == 1
    assert job["step"] == last_step(server.attempt(job_id))
    server.assert_every_event_is_there_once(job_id)


def test_a_child_killed_while_the_worker_was_dead_and_a_killed_supervisor_end_the_job(
    training: tuple[Server, int],
) -> None:
    server, job_id = training
    record = supervisor_of(server.attempt(job_id))

    server.kill("up")
    wait_for("the worker to follow", lambda: len(processes_of(server.home)) == 2)
    os.kill(record.child.pid, signal.SIGKILL)
    wait_for("exit.json", lambda: server.attempt(job_id).exit.exists())
    server.start()

    assert "SIGKILL" in server.await_state(job_id, "failed")["cause"]
    server.assert_every_event_is_there_once(job_id)

    server.ask(job_id, "retry")
    server.await_state(job_id, "running")
    second = supervisor_of(server.attempt(job_id, 2))
    os.kill(second.supervisor.pid, signal.SIGKILL)

    assert "supervisor" in server.await_state(job_id, "failed")["cause"]
    assert not processes.is_alive(second.child)  # no orphan trains on
    assert processes_of(server.home) == []


def test_a_killed_child_fails_with_its_cause_and_resumes_on_the_uninterrupted_curve(server: Server) -> None:
    server.generate("sums", num_rows=200, format="sft")
    straight = server.submit(sft_job(steps=60))
    server.await_state(straight, "completed")
    broken = server.submit(sft_job(steps=60))
    server.await_step(broken, 30)
    os.kill(supervisor_of(server.attempt(broken)).child.pid, signal.SIGKILL)
    job = server.await_state(broken, "failed")
    assert "SIGKILL" in job["cause"]
    assert "step" in job["cause"]
    server.ask(broken, "retry")
    job = server.await_state(broken, "completed")
    assert job["attempt"] == 2
    assert job["attempts"][1]["resumed_from"].startswith(f"job:{broken}/step:")
    server.assert_every_event_is_there_once(broken, attempts=2)

    def curve(job_id: int) -> dict[int, float]:
        found: dict[int, float] = {}
        for series in server.client.get(f"/jobs/{job_id}/series", names="loss")["series"]:
            found |= dict(zip(series["steps"], series["values"], strict=True))
        return found

    assert len(curve(straight)) == 60
    assert curve(broken) == curve(straight)


def test_a_worker_killed_before_its_supervisor_came_up_starts_it_once(server: Server) -> None:
    server.generate("sums", num_rows=200, format="sft")
    job_id = server.submit(sft_job(steps=20))
    wait_for("the attempt", lambda: server.job(job_id)["attempt"] == 1)
    server.await_restart("worker", server.kill("worker"))

    assert server.await_state(job_id, "completed")["attempt"] == 1
    server.assert_every_event_is_there_once(job_id)


def test_a_child_that_does_not_stop_is_killed_after_its_grace(shared: Server) -> None:
    shared.generate("sums", num_rows=200, format="sft")
    job_id = shared.submit(sft_job(steps=300, grace_seconds=2))
    shared.await_step(job_id, 1)
    child = psutil.Process(supervisor_of(shared.attempt(job_id)).child.pid)
    child.suspend()
    shared.ask(job_id, "cancel")

    job = shared.await_state(job_id, "cancelled", seconds=40)

    assert "did not stop in time" in job["cause"]
    assert processes_of(shared.home) == []


def test_two_workers_never_share_a_home(shared: Server) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "finery.cli.main", "worker"],
        env=shared.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert second.returncode == 4
    assert "another worker" in second.stderr


def test_a_full_disk_loses_no_training_and_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    """Needs the right to mount a small tmpfs."""
    with small_disk(tmp_path / "disk", megabytes=64) as home:
        server = Server(home)
        try:
            server.generate("sums", num_rows=200, format="sft")
            job_id = server.submit(sft_job(steps=400, monitoring={"checkpoint_interval": 10, "keep_checkpoints": 2}))
            server.await_step(job_id, 25)
            filler = home / "filler"
            fill(filler)
            time.sleep(4)
            child = supervisor_of(server.attempt(job_id)).child
            was_alive = processes.is_alive(child)
            filler.unlink()
            job = server.await_state(job_id, "completed", "failed", seconds=180)

            for _, path in checkpoints.existing(server.attempt(job_id).checkpoints):
                assert checkpoints.verify(path) == []
            assert was_alive or job["state"] == "failed"
            if job["state"] == "failed":
                server.ask(job_id, "retry")
                server.await_state(job_id, "completed", seconds=180)
            server.assert_every_event_is_there_once(job_id, attempts=job["attempt"])
        finally:
            server.stop()
