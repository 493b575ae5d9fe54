"""A job on a cluster of two nodes: real raylets of this host, a pretended GPU each, and one of them is lost."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finery.core import checkpoints
from finery.core.rundir import RunDir
from finery.runtime.cluster import local
from finery.runtime.cluster.local import LocalCluster
from tests.platform import end_strays
from tests.training import driver
from tests.verl.cluster.conftest import environment, marked, verl_python, wait_for  # noqa: F401 - a fixture

SECONDS = 400
"""For a start of verl, on a machine that is busy with other tests."""
ADDRESS = "127.0.0.3"
"""Of the second node; the head has one of its own."""
ROWS = [{"prompt": f"{a}+{b}=", "response": str(a + b), "answer": str(a + b)} for a in range(5) for b in range(4)]
SFT: dict[str, Any] = {"algorithm": "sft", "optim": {"learning_rate": 1e-3, "steps": 3000}, "batch_size": 4}
GRPO: dict[str, Any] = {
    "algorithm": "grpo",
    "optim": {"learning_rate": 1e-3, "steps": 2},
    "rewards": [{"name": "length", "params": {"min": 1, "max": 3, "slack": 3}}],
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "prompts_per_step": 4,
    "kl_coef": 0.01,
}


@dataclass
class Cluster:
    """A head, and a second node that comes and goes."""

    head: LocalCluster
    python: str
    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    _process: "subprocess.Popen[bytes] | None" = None

    def join(self) -> None:
        """Start the second node and wait until the cluster counts it."""
        listening, client = local._free_ports(2)
        argv = [
            *(self.python, "-P", "-m", "ray.scripts.scripts", "start", "--block", "--address", self._address()),
            *("--node-ip-address", ADDRESS, "--num-gpus", "1", "--num-cpus", "32", "--disable-usage-stats"),
            *("--dashboard-agent-listen-port", str(listening), "--object-store-memory", "200000000"),
        ]
        env = local._environment(environment(self.mark), self.head.folder / "token", num_pretended=1)
        with open(self.folder / "second.log", "ab") as log:
            self._process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: self.gpus() == 2, 120, "the second node joins")

    def _address(self) -> str:
        """Of the head's control store, as `ray start` was told."""
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = entry.read_bytes().decode().split("\0")
                if str(self.head.folder / "r") in words and "ray.scripts.scripts" in words:
                    told = dict(zip(words, words[1:], strict=False))
                    return f"{told['--node-ip-address']}:{told['--port']}"
        raise AssertionError("no head")

    def gpus(self) -> int:
        return int(sum(node.total.get("GPU", 0) for node in self.head.api.nodes() if node.is_alive))

    def lose(self) -> None:
        """kill -9 of the second node's raylet, as when its machine goes: its workers go with it."""
        lost = [pid for pid, line in marked(self.mark).items() if "raylet/raylet" in line]
        assert len(lost) == 1, marked(self.mark)
        os.kill(lost[0], signal.SIGKILL)

    def workers(self) -> list[str]:
        """Processes of jobs on the second node."""
        return [line for line in marked(self.mark).values() if line.startswith("ray::")]

    def end(self) -> None:
        for pid in marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


@dataclass
class Here:
    """A home, and `finery run` in it."""

    folder: Path
    cluster: Cluster
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def start(self, name: str, task: dict[str, Any] | None = None) -> "subprocess.Popen[str]":
        """Run a job on both nodes; without a task the one of that name goes on."""
        if task is None:
            words = ["--resume", str(self._attempts(name)[-1].parent)]
        else:
            job = {
                "name": name,
                "kind": "train",
                "task": {"engine": "verl", "model": {"base": "tiny-char"}, "data": {"train": "./rows.jsonl"}, **task},
                "resources": {"gpus": 0, "processes": 1, "nodes": 2, "cluster": "lab", "cpu_threads": 1},
                "monitoring": {"checkpoint_interval": 20, "keep_checkpoints": 3, "rules": []},
                "grace_seconds": 15,
                "seed": 3,
            }
            (self.folder / f"{name}.json").write_text(json.dumps(job))
            words = [f"{name}.json"]
        head = self.cluster.head
        lab = {"address": head.api.address, "token_file": str(head.folder / "token"), "python": self.cluster.python}
        process = subprocess.Popen(
            [sys.executable, "-m", "finery.cli.main", "run", *words, "--json"],
            cwd=self.folder,
            env={
                **os.environ,
                "FINERY_HOME": str(self.folder / "home"),
                "FINERY_RAY_CLUSTERS": json.dumps({"lab": lab}),
                "NO_COLOR": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def attempt(self, name: str) -> RunDir:
        """The newest attempt of a job."""
        return RunDir(self._attempts(name)[-1])

    def end(self, process: "subprocess.Popen[str]", seconds: float) -> dict[str, Any]:
        """What a job said at its end."""
        out, err = process.communicate(timeout=seconds)
        assert out, err
        return dict(json.loads(out))

    def _attempts(self, name: str) -> list[Path]:
        found = (self.folder / "home" / "runs").glob(f"{name}-*/attempt-*")
        return sorted(found, key=lambda path: int(path.name.removeprefix("attempt-")))


@pytest.fixture(scope="module")
def cluster(verl_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:  # noqa: F811
    folder = tmp_path_factory.mktemp("nodes")
    head = LocalCluster.start(
        verl_python,
        num_accelerators=1,
        accelerator="GPU",
        log=folder / "head.log",
        env=environment("head"),
        has_devices=False,
    )
    made = Cluster(head, verl_python, folder)
    try:
        made.join()
        yield made
    finally:
        made.end()
        head.stop()


@pytest.fixture(scope="module")
def here(cluster: Cluster) -> Iterator[Here]:
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    (cluster.folder / "rows.jsonl").write_text(rows)
    made = Here(cluster.folder, cluster)
    yield made
    for process in made.started:
        process.kill()
    end_strays(cluster.folder)


def test_ranks_on_both_nodes_train_one_policy(here: Here) -> None:
    done = here.end(here.start("policy", GRPO), SECONDS)

    assert done["state"] == "completed", (done, driver.log_of(here.attempt("policy")))
    run_dir = here.attempt("policy")
    assert ranks(run_dir) == 2
    assert sorted(driver.metrics(run_dir)) == [1, 2]
    manifest = checkpoints.read_manifest(driver.checkpoint(run_dir, 2))
    assert manifest is not None
    assert manifest.world_size == 2


def test_a_lost_node_fails_the_job_and_the_next_attempt_goes_on_when_it_is_back(here: Here, cluster: Cluster) -> None:
    process = here.start("sft", SFT)
    saved = wait_for(lambda: latest(here, "sft"), SECONDS, "a checkpoint")
    lost_at = time.monotonic()
    cluster.lose()
    done = here.end(process, 60)
    took = time.monotonic() - lost_at
    first = here.attempt("sft")

    assert took < 30
    assert done["state"] == "failed"
    assert ADDRESS in done["cause"], driver.log_of(first)
    assert "node" in done["cause"]
    wait_for(lambda: not cluster.workers(), 10, "the ranks of the lost node end")
    wait_for(lambda: not of_run(first), 10, "nothing of the job runs on")

    cluster.join()
    again = here.start("sft")
    step = wait_for(
        lambda: here.attempt("sft").path.name == "attempt-2" and latest(here, "sft"), SECONDS, "a checkpoint"
    )
    again.send_signal(signal.SIGINT)
    done = here.end(again, 60)

    assert done["state"] == "paused", done
    second = here.attempt("sft")
    assert step > saved
    assert min(driver.metrics(second)) == int(Path(second.read_spec().resume_from or "").name.rpartition("-")[2]) + 1
    assert ranks(second) == 2


def latest(here: Here, name: str) -> int:
    """Step of the newest checkpoint of the newest attempt; 0 without one."""
    try:
        saved = checkpoints.existing(here.attempt(name).checkpoints)
    except IndexError:
        return 0
    return saved[-1][0] if saved else 0


def ranks(run_dir: RunDir) -> int:
    """Nodes on which ranks have been, as the events tell."""
    places = {
        actor["node"]
        for event in driver.events(run_dir, "cluster", writer="ray")
        for actor in event["actors"]
        if actor["resources"].get("GPU") and actor["node"]
    }
    return len(places)


def of_run(run_dir: RunDir) -> list[str]:
    """Command lines that name the run, and Ray's workers on the head."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = entry.read_bytes().replace(b"\0", b" ").decode()
            if str(run_dir.path) in line:
                found.append(line)
    return found
