"""Fixtures of the tests that need verl's interpreter, and real Ray under it."""

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from finery.core import processes
from finery.core.clusters import ClusterTarget
from finery.core.environment import child_environment
from finery.core.rundir import ExitRecord, RunDir, RunSpec
from finery.core.settings import Settings
from finery.runtime.cluster.local import LocalCluster
from finery.worker import afterlife
from tests.conftest import need

ROOT = Path(__file__).parents[3]
MARK = "TEST_RUN"
"""Environment variable that every process of a run inherits."""
OTHER = f"other-{os.getpid()}"
"""Mark of the processes of `other_ray`: tests run in several processes, each with one of its own."""


@pytest.fixture(scope="session")
def verl_python() -> str:
    path = Settings().verl_interpreter
    need("verl's interpreter", path.is_file())
    return str(path)


def environment(mark: str) -> dict[str, str]:
    """Of the processes of a run: what the platform gives them, and the tests' own modules."""
    base = child_environment(os.environ, cpu_threads=1, tokens={"HF_TOKEN": "hf_not_a_token"})
    return {**base, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", MARK: mark}


def marked(mark: str) -> dict[int, str]:
    """Living processes of a run: pid -> command line."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def wait_for(what: Callable[[], Any], seconds: float, why: str) -> Any:
    """What `what` returns once that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{why}: not within {seconds} s")


@dataclass
class Attempt:
    """An attempt of a job whose child is the stand-in."""

    dir: RunDir
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    pid: int = 0

    def start(self, module: str = "tests.verl.cluster.supervising") -> "Attempt":
        made = processes.spawn_detached(
            [sys.executable, "-P", "-m", module, str(self.dir.path)],
            stdout=self.dir.stdout.with_name("supervisor.log"),
            env=environment(self.mark),
            cwd=self.dir.path,
        )
        self.process, self.pid = made, made.pid
        return self

    def events(self, writer: str, type_: str) -> list[dict[str, Any]]:
        path = self.dir.events / f"{writer}.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [event for event in map(orjson.loads, lines) if event["type"] == type_]

    def wait_for_step(self, step: int = 3) -> None:
        def reached() -> bool:
            assert self.process.poll() is None, self.output()
            return any(event["step"] >= step for event in self.events("rank0", "metrics"))

        wait_for(reached, 120, "the first steps")

    def wait_for_exit(self, seconds: float = 30) -> ExitRecord:
        def ended() -> ExitRecord | None:
            self.process.poll()
            return afterlife.examine(self.dir.path)

        return wait_for(ended, seconds, f"exit.json; {marked(self.mark)}")

    def wait_until_gone(self, seconds: float = 30) -> None:
        def gone() -> bool:
            self.process.poll()
            return not marked(self.mark)

        wait_for(gone, seconds, f"left behind: {marked(self.mark)}")

    def cause(self) -> str:
        told = self.events("ray", "status")
        return told[-1]["message"] if told else ""

    def kill(self, *wanted: str) -> None:
        """Kill -9 the processes whose command lines hold these words, all at once."""
        found = {pid: next((word for word in wanted if word in line), "") for pid, line in marked(self.mark).items()}
        pids = [pid for pid, word in found.items() if word]
        assert {found[pid] for pid in pids} == set(wanted), marked(self.mark)
        for pid in pids:
            with suppress(ProcessLookupError):  # it may die of the one before
                os.kill(pid, signal.SIGKILL)

    def output(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.dir.stdout.parent.glob("*.log"))


@pytest.fixture
def attempt(tmp_path: Path, verl_python: str) -> Iterator[Callable[..., Attempt]]:
    """Makes attempts; what is left of them at the end is killed."""
    made: list[Attempt] = []

    def make(name: str = "train", *, steps: int = 600, number: int = 1, **target: Any) -> Attempt:
        spec = RunSpec(
            job_id="7",
            attempt=number,
            job={"kind": "train", "name": name, "steps": steps, "task": {}},
            inputs={},
            seed=1,
            gpus=(),
            grace_seconds=15,
            cluster=ClusterTarget(**{"python": verl_python, "num_accelerators": 2, **target}),
        )
        made.append(Attempt(RunDir.create(tmp_path / "runs" / "7" / f"attempt-{number}", spec)))
        return made[-1]

    yield make
    for one in made:
        for pid in marked(one.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def other_ray(verl_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A Ray cluster that is none of the job's: one that somebody has configured, or that just runs on this host."""
    log = tmp_path_factory.mktemp("other") / "ray.log"
    cluster = LocalCluster.start(
        verl_python,
        num_accelerators=2,
        accelerator="GPU",
        log=log,
        env={name: value for name, value in environment(OTHER).items() if name != "HF_TOKEN"},
        has_devices=False,
    )
    yield cluster
    cluster.stop()
