"""Scripts that report by themselves, as real processes against a real server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finery.core.errors import Conflict
from tests.platform import FINERY, Server, sft_job, wait_for

BEGIN = """
import finery, os, sys, time
run = finery.init(project="sums", name="a script", config={"learning_rate": 0.5, "layers": [1, 2], "path": object()},
                  tags=["sdk"], notes="first")
print("printed by the script")
for step in range(20):
    finery.log({"loss": 1 / (step + 1), "eval": {"accuracy": step / 20}, "words": "none", "bad": float("nan")})
"""


def run(server: Server, code: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code], env=server.environment, capture_output=True, text=True, check=check
    )


def newest(server: Server) -> int:
    return int(server.client.get("/jobs", sort="-id", limit=1)["jobs"][0]["id"])


def num_jobs(server: Server) -> int:
    return int(server.client.get("/jobs")["total"])


def test_a_script_reports_metrics_settings_output_and_its_end(shared: Server) -> None:
    run(shared, "time.sleep(1.5); finery.finish()")

    job = shared.await_state(newest(shared), "completed")
    series = shared.client.get(f"/jobs/{job['id']}/series", names=["loss"])["series"][0]

    assert (job["name"], job["tags"], job["notes"], job["verbs"]) == ("a script", ["sdk"], "first", [])
    assert job["last_values"]["loss"] == pytest.approx(1 / 20)
    assert job["last_values"]["eval.accuracy"] == pytest.approx(19 / 20)
    assert job["last_values"]["bad"] == "NaN"
    assert series["steps"] == list(range(20))
    assert job["spec"]["task"]["config"]["learning_rate"] == 0.5
    assert "printed by the script" in shared.log(job["id"])
    used = {one["name"]: one["values"] for one in shared.client.get(f"/jobs/{job['id']}/resources")["series"]}
    assert max(used["memory_bytes"]) > 10 << 20
    found = shared.client.get("/jobs", query=f"task.config.learning_rate>0.4 task.project:sums id:{job['id']}")
    assert [row["id"] for row in found["jobs"]] == [job["id"]]
    shared.assert_every_event_is_there_once(job["id"])


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("raise ValueError('diverged')", "ValueError: diverged"),
        ("sys.exit(3)", "exited with 3"),
        ("finery.finish(exit_code=2)", "exit code 2"),
        ("os.kill(os.getpid(), 9)", "ended without a word"),
    ],
)
def test_a_script_that_fails_is_shown_as_failed_with_its_cause(shared: Server, end: str, cause: str) -> None:
    run(shared, end, check=False)

    assert cause in shared.await_state(newest(shared), "failed")["cause"]


def test_the_end_of_a_forked_process_is_not_the_end_of_the_script(shared: Server) -> None:
    run(shared, "if os.fork() == 0:\n    sys.exit(1)\nos.wait()\nfinery.log({'loss': 7.0})")

    assert shared.await_state(newest(shared), "completed")["last_values"]["loss"] == 7.0


def test_a_script_takes_no_place_from_jobs_and_goes_on_without_the_server(server: Server) -> None:
    server.generate("sums", num_rows=50, format="sft")
    loop = "while not os.path.exists('stop'):\n    finery.log({'loss': 2.0}); time.sleep(0.05)"
    folder = server.home.parent
    script = subprocess.Popen([sys.executable, "-c", BEGIN + loop], env=server.environment, cwd=folder)
    wait_for("the script to report", lambda: server.client.get("/jobs")["total"] == 1)
    job_id = newest(server)

    server.await_state(server.submit(sft_job(steps=2)), "completed")
    dead = server.kill("api")
    time.sleep(1)
    server.await_restart("api", dead)
    before = server.job(job_id)["step"]
    wait_for("more steps", lambda: server.job(job_id)["step"] > before)
    (folder / "stop").touch()
    assert script.wait(timeout=30) == 0

    server.await_state(job_id, "completed")
    server.assert_every_event_is_there_once(job_id)


def test_ctrl_c_ends_the_run_as_failed(shared: Server) -> None:
    # A shell that starts the tests in the background has them ignore the interrupt, and their children with them.
    as_in_a_terminal = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code = as_in_a_terminal + BEGIN + "time.sleep(60)"
    before = num_jobs(shared)
    script = subprocess.Popen([sys.executable, "-c", code], env=shared.environment)
    wait_for("the script to report", lambda: num_jobs(shared) == before + 1)
    job_id = newest(shared)
    shared.await_step(job_id, 19)

    script.send_signal(signal.SIGINT)

    assert "KeyboardInterrupt" in shared.await_state(job_id, "failed")["cause"]


def test_without_a_server_the_script_is_told_how_to_start_one(tmp_path: Path) -> None:
    alone = {**os.environ, "FINERY_HOME": str(tmp_path / "nowhere"), "FINERY_PORT": "9"}

    done = subprocess.run([sys.executable, "-c", BEGIN], env=alone, capture_output=True, text=True)

    assert done.returncode != 0
    assert "finery up" in done.stderr


def test_a_script_of_another_machine_is_refused_with_the_way_out(shared: Server) -> None:
    process = {"host": "elsewhere", "boot_id": "b", "pid": 1, "start_time": 1.0}
    spec = {"name": "a", "kind": "external", "task": {}}
    before = num_jobs(shared)

    with pytest.raises(Conflict, match="finery jobs import"):
        shared.client.post("/jobs/external", {"spec": spec, "process": process})

    assert num_jobs(shared) == before


def test_a_trainer_state_is_imported_with_its_history(shared: Server, tmp_path: Path) -> None:
    history = [{"loss": 1.0 / step, "epoch": step / 10, "step": step} for step in range(1, 11)]
    state = tmp_path / "run-7" / "trainer_state.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"log_history": history, "global_step": 10}))

    argv = [*FINERY, "jobs", "import", str(state), "--json"]
    done = subprocess.run(argv, env=shared.environment, capture_output=True, text=True, check=True)

    [made] = json.loads(done.stdout)["jobs"]
    job = shared.await_state(made["id"], "completed")
    assert made["num_steps"] == 10
    assert (job["step"], job["last_values"]["loss"], job["tags"]) == (10, 0.1, ["imported"])
    assert job["spec"]["task"]["config"]["source"].endswith("trainer_state.json")


def test_what_cannot_be_imported_makes_no_run(shared: Server, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    before = num_jobs(shared)

    argv = [*FINERY, "jobs", "import", str(tmp_path / "notes.txt")]
    done = subprocess.run(argv, env=shared.environment, capture_output=True, text=True)

    assert done.returncode == 2
    assert "nothing that can be imported" in done.stderr
    assert num_jobs(shared) == before
