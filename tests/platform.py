"""Real processes: `finery up` on a free port, real jobs of the tiny model, what kills them; and the command line."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from finery.cli.main import main
from finery.core.client import Client, locate
from finery.core.errors import Unavailable
from finery.core.rundir import RunDir
from finery.core.settings import Settings

FINERY = [sys.executable, "-m", "finery.cli.main"]
Inside = Callable[..., subprocess.CompletedProcess[str]]
JOB = """name: tiny
kind: train
task:
  algorithm: sft
  model: {base: tiny-char}
  data: {train: ./train.jsonl, max_tokens: 64}
  optim: {learning_rate: 1.0e-3, steps: 6}
  batch_size: 4
resources: {cpu_threads: 1}
seed: 3
"""
END_STATES = ("completed", "failed", "cancelled", "paused")


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    """The first true value of `condition`, or a failure that names what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {seconds:g} s in vain for {what}")


class Server:
    """A running `finery up`."""

    def __init__(self, home: Path, **environment: str):
        self.home = home
        self.environment = {**os.environ, "FINERY_HOME": str(home), "FINERY_PORT": "0", **environment}
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        (self.home / "server.json").unlink(missing_ok=True)
        argv = [*FINERY, "up", "--port", "0"]
        with open(self.home.parent / "up.log", "ab") as log:
            self.process = subprocess.Popen(argv, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        wait_for("finery up", lambda: (self.home / "server.json").exists() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, (self.home.parent / "up.log").read_text()
        self.client = Client(*locate(Settings(home=self.home)))

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)

    def kill(self, name: str) -> int:
        """kill -9 of `api`, `worker` or `up`; returns the pid that died."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        if name == "up":
            self.process.wait()
        return pid

    def pid(self, name: str) -> int:
        if name == "up":
            return self.process.pid
        for child in psutil.Process(self.process.pid).children():
            try:
                if name in child.cmdline():
                    return child.pid
            except psutil.NoSuchProcess:
                continue
        raise AssertionError(f"no {name} process")

    def await_restart(self, name: str, dead: int) -> None:
        def is_back() -> bool:
            try:
                return self.pid(name) != dead and self.client.get("/server")["worker"]["is_alive"]
            except (AssertionError, Unavailable, psutil.NoSuchProcess):
                return False

        wait_for(f"a new {name}", is_back, 60)

    # jobs

    def generate(self, name: str, **params: Any) -> None:
        body = {"generator": "arithmetic", "name": name, "params": params}
        self.client.post("/datasets/generate", body)

    def submit(self, spec: dict[str, Any]) -> int:
        return int(self.client.post("/jobs", {"spec": spec})["id"])

    def job(self, job_id: int) -> dict[str, Any]:
        return self.client.get(f"/jobs/{job_id}")

    def ask(self, job_id: int, verb: str, **values: float) -> None:
        self.client.post(f"/jobs/{job_id}/{verb}", {"values": values})

    def await_state(self, job_id: int, *states: str, seconds: float = 120.0) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            job = self.job(job_id)
            is_settled = job["state"] in END_STATES and not job["requests"]
            assert job["state"] in states or not is_settled, (job["state"], job["cause"], self.log(job_id))
            return job if job["state"] in states and not job["requests"] else None

        return wait_for(f"job {job_id} to be {' or '.join(states)}", reached, seconds)

    def await_attempt(self, job_id: int, number: int) -> None:
        wait_for(f"attempt {number} of job {job_id}", lambda: self.job(job_id)["attempt"] >= number)

    def await_step(self, job_id: int, step: int) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            job = self.job(job_id)
            assert job["state"] not in END_STATES, (job["state"], job["cause"], self.log(job_id))
            return job if (job["step"] or 0) >= step else None

        return wait_for(f"step {step} of job {job_id}", reached)

    def log(self, job_id: int) -> str:
        return str(self.client.get(f"/jobs/{job_id}/logs", offset=-3000)["text"]) if self.job(job_id)["attempt"] else ""

    def attempt(self, job_id: int, number: int = 1) -> RunDir:
        return RunDir(self.home / "runs" / str(job_id) / f"attempt-{number}")

    def stored(self, job_id: int) -> list[dict[str, Any]]:
        """Every event and metric of a job as the API gives it, page by page."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = self.client.get(f"/jobs/{job_id}/events", after=after, limit=100)
            found += page["events"]
            after = page["next_after"]
            if page["is_complete"]:
                return found

    def assert_every_event_is_there_once(self, job_id: int, attempts: int = 1) -> None:
        """The database holds exactly the lines of the files, in the order of each writer."""
        stored = [(e["attempt"], e["writer"], e["event"]["seq"]) for e in self.stored(job_id)]
        written = [
            (number, stream.stem, json.loads(line)["seq"])
            for number in range(1, attempts + 1)
            for stream in self.attempt(job_id, number).events.glob("*.jsonl")
            for line in stream.read_text().splitlines()
        ]
        assert len(stored) == len(set(stored))
        assert sorted(stored) == sorted(written)
        cursors = [e["cursor"] for e in self.stored(job_id)]
        assert cursors == sorted(cursors)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    home = tmp_path / "home"
    home.mkdir()
    made = Server(home)
    yield made
    if made.process.poll() is None:
        made.stop()
    end_strays(home)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that only add to what it holds and leave it running; starting one takes seconds."""
    home = tmp_path_factory.mktemp("shared") / "home"
    home.mkdir()
    made = Server(home)
    yield made
    made.stop()
    end_strays(home)


def end_strays(home: Path) -> None:
    """End what a test left running on its home; only processes whose command line names that home."""
    for process in psutil.process_iter(["cmdline"]):
        if any(str(home) in part for part in process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def processes_of(home: Path) -> list[psutil.Process]:
    """Supervisors and children of runs of a home."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(str(home / "runs") in part for part in process.info["cmdline"] or ())
    ]


def sft_job(steps: int = 300, **changes: Any) -> dict[str, Any]:
    """A job of the tiny model that trains for about `steps` / 10 seconds."""
    return {
        "name": "tiny",
        "kind": "train",
        "task": {
            "algorithm": "sft",
            "model": {"base": "tiny-char"},
            "data": {"train": "sums", "max_tokens": 64},
            "optim": {"learning_rate": 1e-3, "steps": steps},
            "batch_size": 8,
        },
        "resources": {"cpu_threads": 1},
        "monitoring": {"checkpoint_interval": 20},
        "seed": 7,
        "grace_seconds": 20,
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job file and its data."""
    rows = [{"prompt": f"{i}+1=", "response": str(i + 1)} for i in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inside:
    """`finery` in this process: what the program does but for its start, which takes longer than a test."""

    def run(folder: Path, *arguments: str, lines: str = "", home: Path | None = None) -> object:
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            for name, value in (("HOME", str(home or folder / "home")), ("PORT", "9")):
                patch.setenv(f"FINERY_{name}", value)
            patch.setenv("NO_COLOR", "1")
            patch.setattr(sys, "argv", ["finery", *arguments])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(lines))))
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code or 0, shown.out, shown.err)

    return run
