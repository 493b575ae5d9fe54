"""Jobs on a Ray cluster that somebody else runs: not there, full, out of contact, or with a token of its own."""

import os
import selectors
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finery.core.clusters import TOKEN_VARIABLE
from finery.core.rundir import append_line
from finery.runtime.cluster.local import LocalCluster
from tests.verl.cluster.conftest import Attempt, wait_for

Make = Callable[..., Attempt]


class Gate:
    """A way to a port that can be shut."""

    def __init__(self, port: int):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.is_open = True
        self._is_over = False
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._is_over = True
        self._listener.close()

    def _serve(self) -> None:
        while not self._is_over:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_open:
                threading.Thread(target=self._join, args=(near,), daemon=True).start()
            else:
                near.close()

    def _join(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._port)) as far, selectors.DefaultSelector() as selector:
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)


@pytest.fixture
def gate(other_ray: LocalCluster) -> Iterator[Gate]:
    made = Gate(int(other_ray.api.address.rpartition(":")[2]))
    yield made
    made.close()


@pytest.fixture
def configured(attempt: Make, other_ray: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes attempts on the other Ray, whose token they are handed."""
    monkeypatch.setenv(TOKEN_VARIABLE, (other_ray.folder / "token").read_text())

    def make(name: str = "train", *, address: str = other_ray.api.address, **more: Any) -> Attempt:
        return attempt(name, address=address, **more)

    return make


def test_a_cluster_that_is_not_there_fails_the_job_within_30_seconds(attempt: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    run = attempt(address=f"http://127.0.0.1:{port}")
    began = time.monotonic()
    run.start()
    assert run.wait_for_exit(30).code == 1
    assert time.monotonic() - began < 30
    assert f"http://127.0.0.1:{port}" in run.cause()
    assert "refused" in run.cause()


def test_a_wrong_token_fails_the_job_at_once(configured: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "not-the-token")
    run = configured().start()
    assert run.wait_for_exit(10).code == 1
    assert "does not accept the token" in run.cause()


def test_a_job_waits_until_the_cluster_has_room(configured: Make) -> None:
    first = configured().start()
    first.wait_for_step()
    second = configured(number=2, steps=3).start()
    wait_for(lambda: "2 GPUs" in second.cause(), 20, "the second says what it waits for")
    assert "0 of 2 are free" in second.cause()
    assert not second.events("rank0", "status")
    append_line(first.dir.control, {"id": "c", "attempt": 1, "time": time.time(), "command": "cancel"})
    assert first.wait_for_exit().code == 4
    assert second.wait_for_exit(60).code == 0, second.output()


def test_of_two_jobs_that_come_at_once_one_waits(configured: Make, other_ray: LocalCluster) -> None:
    wait_for(lambda: other_ray.api.room("GPU") == (2, 2), 30, "all is free")
    runs = [configured(number=number).start() for number in (1, 2)]
    waiting = wait_for(lambda: [run for run in runs if "2 GPUs" in run.cause()], 20, "one says what it waits for")
    (taking,) = (run for run in runs if run not in waiting)
    taking.wait_for_step()
    assert not waiting[0].events("rank0", "status")
    for number, run in enumerate(runs, 1):
        append_line(run.dir.control, {"id": "c", "attempt": number, "time": time.time(), "command": "cancel"})
        assert run.wait_for_exit().code == 4


def test_what_others_hold_counts_before_ray_reports_it(other_ray: LocalCluster, verl_python: str) -> None:
    holding = """
import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
ray.init()
group = placement_group([{"GPU": 1, "CPU": 1}])
ray.get(group.ready())
@ray.remote(num_gpus=1)
class Holder:
    def hold(self):
        return 1
inside = Holder.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote()
beside = Holder.remote()
ray.get([inside.hold.remote(), beside.hold.remote()])
print("holds", 1 + 1, flush=True)
ray.get(ray.remote(lambda: __import__("time").sleep(60)).remote())
"""
    api = other_ray.api
    wait_for(lambda: api.room("GPU") == (2, 2), 20, "all is free")
    api.submit("foreign", f"{verl_python} -c {shlex.quote(holding)}", env={}, metadata={}, seconds=30)
    try:
        wait_for(lambda: "holds 2" in api.logs("foreign"), 60, "the foreign job holds GPUs")
        assert api.room("GPU") == (0, 2)
    finally:
        api.stop("foreign")
    wait_for(lambda: api.room("GPU") == (2, 2), 30, "all is free again")


def test_a_job_that_waits_for_room_can_be_cancelled(configured: Make) -> None:
    run = configured(num_accelerators=64).start()
    wait_for(lambda: "64 GPUs" in run.cause(), 20, "what it waits for")
    append_line(run.dir.control, {"id": "c", "attempt": 1, "time": time.time(), "command": "cancel"})
    assert run.wait_for_exit(10).code == 4
    assert run.events("ray", "status")[-1]["status"] == "cancelled"


def test_lost_contact_is_told_within_30_seconds_and_followed_again(configured: Make, gate: Gate) -> None:
    run = configured(address=f"http://127.0.0.1:{gate.port}").start()
    run.wait_for_step()
    gate.is_open = False
    wait_for(lambda: run.events("ray", "alert"), 30, "lost contact is told")
    assert "contact with cluster" in run.events("ray", "alert")[0]["message"]
    assert run.events("ray", "cluster")[-1]["is_reachable"] is False
    gate.is_open = True
    wait_for(lambda: len(run.events("ray", "alert")) > 1, 10, "contact is back")
    append_line(run.dir.control, {"id": "c", "attempt": 1, "time": time.time(), "command": "pause"})
    assert run.wait_for_exit().code == 3


def test_a_child_that_nobody_follows_any_more_saves_and_stops(configured: Make) -> None:
    run = configured().start()
    run.wait_for_step()
    run.kill("tests.verl.cluster.launching", "tests.verl.cluster.supervising")
    wait_for(lambda: run.events("rank0", "status")[-1]["status"] == "paused", 30, "the child stops")


def test_a_launcher_that_is_ended_stops_its_job_and_leaves_the_cluster(
    configured: Make, other_ray: LocalCluster
) -> None:
    run = configured().start("tests.verl.cluster.launching")
    run.wait_for_step()
    pid = next(int(one["message"].split()[1]) for one in run.events("rank0", "log") if "ranks" in one["message"])
    child = _driver(run.dir.path)
    os.kill(child, signal.SIGSTOP)  # it could else save and stop at the first signal
    os.kill(run.pid, signal.SIGTERM)
    time.sleep(1.0)
    os.kill(run.pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 20, "the rank ends")
    assert other_ray.api.version()


def test_what_a_job_on_a_cluster_is_handed(configured: Make) -> None:
    run = configured("environment", steps=1).start()
    assert run.wait_for_exit(60).code == 0, run.output()
    line = next(line for line in run.dir.stdout.read_text().splitlines() if line.startswith("environment"))
    assert "'HF_TOKEN'" in line
    assert "'TEST_RUN'" in line  # the cluster's own, not the launcher's
    assert "FINERY_" not in line
    seen = run.events("ray", "cluster")[-1]
    assert [actor["name"] for actor in seen["actors"]] == ["rank0", "rank1"]
    assert {actor["node"] for actor in seen["actors"]} == {seen["nodes"][0]["id"]}
    assert seen["nodes"][0]["total"]["GPU"] == 2
    assert 0 < seen["nodes"][0]["free"]["memory"] < seen["nodes"][0]["total"]["memory"]


def _driver(path: Path) -> int:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        words = entry.read_bytes().split(b"\0")
        if b"tests.verl.cluster.standin" in words and str(path).encode() in words:
            return int(entry.parent.name)
    raise AssertionError("no driver")
