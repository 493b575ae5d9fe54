"""Nothing is left of a job on Ray and its state is true within 30 s, whoever is killed."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from finery.core.rundir import append_line
from finery.runtime.cluster.local import LocalCluster
from tests.verl.cluster.conftest import OTHER, Attempt, marked, wait_for

Make = Callable[..., Attempt]


@pytest.mark.parametrize(
    ("killed", "said"),
    [
        (("ray.scripts.scripts",), "the Ray cluster of this job has ended"),
        (("gcs_server",), "the Ray cluster of this job has ended"),
        (("raylet/raylet",), "the Ray cluster of this job has ended"),
        (("dashboard.py",), "the Ray cluster of this job"),
        (("cluster.keeper",), "the Ray cluster of this job has ended"),
        (("ray::Rank",), "ended without a word, as a process does that is killed (SIGKILL)"),
    ],
)
def test_a_job_fails_with_its_cause_when_part_of_its_cluster_is_killed(
    attempt: Make, killed: tuple[str, ...], said: str
) -> None:
    run = attempt().start()
    run.wait_for_step()
    began = time.monotonic()
    run.kill(*killed)
    record = run.wait_for_exit()
    assert time.monotonic() - began < 30
    assert record.code == 1
    assert said in run.cause(), run.output()
    run.wait_until_gone(5)


@pytest.mark.parametrize(
    "killed", [("tests.verl.cluster.launching",), ("tests.verl.cluster.launching", "tests.verl.cluster.supervising")]
)
def test_nothing_is_left_when_the_launcher_is_killed(attempt: Make, killed: tuple[str, ...]) -> None:
    run = attempt().start()
    run.wait_for_step()
    folder = _folder(run)
    run.kill(*killed)
    run.wait_until_gone()
    assert not folder.exists()
    record = run.wait_for_exit()
    assert record.signal == ("SIGKILL" if len(killed) == 1 else None)


def test_a_run_without_its_supervisor_saves_and_stops_and_its_cluster_goes(attempt: Make) -> None:
    run = attempt().start()
    run.wait_for_step()
    run.kill("tests.verl.cluster.supervising")
    run.wait_until_gone()
    assert run.events("rank0", "status")[-1]["status"] == "paused"
    assert "supervisor was killed" in run.wait_for_exit(5).cause


def test_another_ray_of_the_host_is_not_touched_and_the_job_goes_on_as_a_new_attempt(
    attempt: Make, other_ray: LocalCluster
) -> None:
    its_own = ("ray.scripts.scripts", "gcs_server", "raylet/raylet", "dashboard.py", "cluster.keeper")
    before = {pid for pid, line in marked(OTHER).items() if any(word in line for word in its_own)}
    first = attempt().start()
    first.wait_for_step()
    first.kill("gcs_server")
    first.wait_for_exit()
    second = attempt(number=2, steps=5).start()
    assert second.wait_for_exit(120).code == 0, second.output()
    second.wait_until_gone(5)
    assert before <= marked(OTHER).keys()
    assert other_ray.api.version()


def test_a_pause_stops_the_child_on_ray_and_takes_the_cluster_down(attempt: Make) -> None:
    run = attempt().start()
    run.wait_for_step()
    append_line(run.dir.control, {"id": "c1", "attempt": 1, "time": time.time(), "command": "pause"})
    assert run.wait_for_exit().code == 3
    run.wait_until_gone(5)


def test_a_child_that_does_not_stop_is_ended_with_its_cluster(attempt: Make) -> None:
    run = attempt().start()
    run.wait_for_step()
    for pid, line in marked(run.mark).items():
        if "tests.verl.cluster.standin" in line:
            os.kill(pid, signal.SIGSTOP)
    append_line(run.dir.control, {"id": "c1", "attempt": 1, "time": time.time(), "command": "cancel"})
    record = run.wait_for_exit(40)
    assert "did not stop within 15 s of cancel" in record.cause
    run.wait_until_gone(5)


def _folder(run: Attempt) -> Path:
    def found() -> Path | None:
        lines = [line for line in marked(run.mark).values() if "cluster.keeper" in line]
        return Path(lines[0].split("cluster.keeper ")[1].split()[0]) if lines else None

    path: Path = wait_for(found, 5, "the keeper")
    return path
