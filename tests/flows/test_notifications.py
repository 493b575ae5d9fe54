"""People are told once, through whatever is killed on the way, with a server and without."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from finery import migrations
from finery.core.clock import SystemClock
from finery.core.db import Database
from finery.core.settings import Settings
from tests.notifying.conftest import add
from tests.notifying.receivers import Receiver, receiving
from tests.platform import FINERY, Server, end_strays, wait_for

TOKEN = "T0KEN-nobody-may-see"
SCRIPT = """
import os, time, finery
run = finery.init(name="watched")
print(run.id, flush=True)
def await_file(name):
    while not os.path.exists(name):
        time.sleep(0.02)
await_file("go")
events = run._run.events
finery.log({"grad_norm": 153.0})
events.emit("alert", rule="grad_explosion", severity="error", message="grad_norm > 100 (grad_norm = 153)", step=0)
events.emit("action", rule="grad_explosion", action="notify", outcome="asked", message="people are told", step=0)
await_file("end")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    home = tmp_path / "home"
    home.mkdir()
    made = Server(home, FINERY_ALLOW_PRIVATE_ADDRESSES="true", FINERY_PUBLIC_URL="https://finery.example.org")
    yield made
    made.stop()
    end_strays(home)


def finery(server: Server, *arguments: str, lines: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    argv = [*FINERY, *arguments]
    return subprocess.run(argv, env=server.environment, input=lines, capture_output=True, text=True, check=check)


def begin(server: Server) -> tuple[subprocess.Popen[str], int]:
    """A script that waits for the file `go`, asks that people be told, and waits for the file `end`."""
    folder = server.home.parent
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=server.environment, cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert script.stdout is not None
    return script, int(script.stdout.readline())


def deliveries(server: Server, job_id: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client.get("/deliveries", job_id=job_id)["deliveries"]
    return found


def test_an_alert_arrives_once_though_the_worker_is_killed_before_and_after(server: Server, receiver: Receiver) -> None:
    made = finery(server, "channels", "add", "team", "webhook", "--language", "zh", lines=f"{receiver.url}\n")
    assert TOKEN not in made.stdout + made.stderr
    tested = finery(server, "channels", "test", "team")
    assert "sent" in tested.stdout
    assert receiver.taken.pop().json["title"] == "Finery · 测试消息"
    script, job_id = begin(server)

    dead = server.kill("worker")
    (server.home.parent / "go").touch()
    server.await_restart("worker", dead)
    wait_for("the message", lambda: receiver.taken)
    wait_for("its record", lambda: [one["state"] for one in deliveries(server, job_id)] == ["sent"])
    server.await_restart("worker", server.kill("worker"))
    (server.home.parent / "end").touch()
    assert script.wait(30) == 0
    server.await_state(job_id, "completed")
    time.sleep(1.5)  # several turns of who delivers

    [taken] = receiver.taken
    assert taken.json["title"] == "Finery · watched：grad_explosion"
    assert taken.json["link"] == f"https://finery.example.org/runs/{job_id}"
    assert taken.json["severity"] == "error"
    assert len(deliveries(server, job_id)) == 1
    listed = finery(server, "channels", "list", "--json").stdout + finery(server, "channels", "deliveries").stdout
    assert "grad_explosion" in listed
    assert TOKEN not in listed
    assert [path for path in server.home.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()] == []
    assert [p for p in psutil.process_iter(["cmdline"]) if TOKEN in " ".join(p.info["cmdline"] or ())] == []


def test_a_reward_that_collapses_is_told_once_of_a_run_that_goes_on(server: Server, receiver: Receiver) -> None:
    """A reward that is easily had: soon all completions have it, and a group has nothing left to compare."""
    finery(server, "channels", "add", "team", "webhook", "--events", "alerts", lines=f"{receiver.url}\n")
    server.generate("problems", num_rows=50)
    when = "reward_std < 0.01 for 5 steps and reward_mean > 0.9"
    rule = {"name": "reward_collapse", "when": when, "then": ["notify"], "cooldown_steps": 1, "max_count": 1}
    job_id = server.submit(
        {
            "name": "greedy",
            "kind": "train",
            "task": {
                "algorithm": "grpo",
                "model": {"base": "tiny-char"},
                "data": {"train": "problems"},
                "optim": {"learning_rate": 1e-2, "steps": 60},
                "prompts_per_step": 4,
                "rollout": {"completions_per_prompt": 8, "max_new_tokens": 6},
                "rewards": [{"name": "format", "params": {"pattern": "[0-9].*"}}],
            },
            "monitoring": {"rules": [rule]},
            "resources": {"cpu_threads": 1},
        }
    )

    server.await_state(job_id, "completed")
    wait_for("the message", lambda: receiver.taken)
    time.sleep(1.5)  # several turns of who delivers

    [taken] = receiver.taken
    assert taken.json["title"] == "Finery · greedy: reward_collapse"
    [alert] = [
        one["event"] for one in server.client.get(f"/jobs/{job_id}/story")["entries"] if one["event"]["type"] == "alert"
    ]
    assert 5 < alert["step"] < 60
    spread = server.client.get(f"/jobs/{job_id}/series", names="reward_std")["series"][0]["values"]
    assert max(spread[: alert["step"] - 5]) > 0.1
    assert max(spread[alert["step"] - 5 : alert["step"]]) < 0.01


def test_a_worker_that_is_killed_while_it_sends_is_followed_by_one_that_sends_the_same(
    server: Server, receiver: Receiver
) -> None:
    finery(server, "channels", "add", "team", "webhook", "--events", "alerts", lines=f"{receiver.url}\n")
    script, job_id = begin(server)
    receiver.hang = threading.Event()
    (server.home.parent / "go").touch()
    wait_for("a first try", lambda: receiver.taken)

    dead = server.kill("worker")
    server.await_restart("worker", dead)
    wait_for("a second try", lambda: len(receiver.taken) == 2)
    receiver.hang.set()

    wait_for("its record", lambda: [one["state"] for one in deliveries(server, job_id)] == ["sent"])
    first, second = receiver.taken
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body
    (server.home.parent / "end").touch()
    assert script.wait(30) == 0


def test_the_command_line_says_what_is_wrong_and_what_a_channel_answered(server: Server, receiver: Receiver) -> None:
    assert finery(server, "channels", "add", "team", "pager", check=False).returncode == 2
    named = finery(server, "channels", "add", "team", "slack", "--set", f"url={receiver.url}", check=False)
    assert named.returncode == 2
    assert TOKEN not in named.stderr
    assert "There are no channels" in finery(server, "channels", "list").stdout

    receiver.answers = [(404, "no_service")]
    finery(server, "channels", "add", "team", "slack", lines=f"{receiver.url}\n")
    refused = finery(server, "channels", "test", "team", check=False)
    assert refused.returncode == 1
    assert "status 404: no_service" in refused.stderr

    receiver.answers = [(200, "ok")]
    finery(server, "channels", "edit", "team", "--events", "failed", "--off")
    finery(server, "channels", "edit", "team", "--secret", "url", lines=f"{receiver.url}/new\n")
    assert finery(server, "channels", "test", "team").returncode == 0
    assert receiver.taken[-1].path.endswith("/new")
    [row] = json.loads(finery(server, "channels", "list", "--json").stdout)["channels"]
    assert (row["events"], row["is_enabled"]) == (["failed"], False)
    finery(server, "channels", "remove", "team")
    assert json.loads(finery(server, "secrets", "list", "--json").stdout)["secrets"] == []


def test_a_run_without_a_server_tells_that_it_failed(folder: Path, receiver: Receiver) -> None:
    settings = Settings(home=folder / "home")
    db = Database(f"sqlite:///{settings.home}/finery.db")
    migrations.upgrade(db, lock=settings.home / "migrate.lock")
    add(db, settings, SystemClock(), name="me", kind="webhook", secrets={"url": receiver.url})
    db.close()
    environment = {**psutil.Process().environ(), "FINERY_HOME": str(settings.home), "OMP_NUM_THREADS": "1"}
    argv = [*FINERY, "run", "job.yaml", "task.batch_size=1000", "task.native={bf16: true}", "--quiet"]

    done = subprocess.run(
        argv,
        env={**environment, "FINERY_ALLOW_PRIVATE_ADDRESSES": "true"},
        cwd=folder,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    [taken] = receiver.taken
    assert taken.json["title"] == "Finery · tiny has failed"
    assert taken.json["notices"][0]["run"].startswith("tiny-")
    assert "Cause: " in taken.json["text"]
