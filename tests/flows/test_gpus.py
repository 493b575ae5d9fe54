"""Which attempt gets which GPU of a machine, with a worker that is told of imaginary ones and real processes."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from finery import migrations
from finery.core import checkpoints
from finery.core.clock import SystemClock
from finery.core.db import Database
from finery.core.errors import InvalidSpec
from finery.core.objects import ObjectStore
from finery.core.rundir import RunDir
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.jobs import service, submitting
from finery.jobs.resolving import Resolver
from finery.jobs.specs import JobSpec
from finery.jobs.tables import Attempt, Job
from finery.worker import gpus
from finery.worker.loop import Worker
from tests.platform import end_strays, sft_job, wait_for

FOUR = ("0", "1", "GPU-5f2a", "3")


class Machine:
    """A home with a worker that has four GPUs."""

    def __init__(self, home: Path):
        self.settings = Settings(home=home, max_running_jobs=8)
        self.db = Database(self.settings.url)
        migrations.upgrade(self.db, lock=home / "migrate.lock")
        self.rows = home / "rows.jsonl"
        self.rows.write_text("".join(f'{{"prompt": "{n}+1=", "response": "{n + 1}"}}\n' for n in range(8)))
        self.start()

    def start(self) -> None:
        self.worker = Worker(self.db, self.settings, SystemClock(), gpu_names=FOUR)

    def restart(self) -> None:
        self.worker.close()
        self.start()

    def submit(self, steps: int = 100_000, **resources: Any) -> int:
        raw = sft_job(steps, resources={"cpu_threads": 2, **resources})
        raw["task"]["data"]["train"] = str(self.rows)
        spec: JobSpec = parse(JobSpec, raw)
        inputs = Resolver(self.db, ObjectStore(self.settings.objects), self.settings).inputs(spec, allow_paths=True)
        with self.db.session() as session:
            return submitting.submit(session, spec, inputs=inputs, code=None, now=SystemClock().now()).id

    def job(self, job_id: int) -> Job:
        with self.db.read() as session:
            return session.get_one(Job, job_id)

    def held(self) -> dict[int, tuple[str, ...]]:
        """Job -> GPUs of its live attempt."""
        with self.db.read() as session:
            return {one.job_id: tuple(one.run_spec["gpus"]) for one in self._live(session)}

    def shown(self, job_id: int) -> str:
        """CUDA_VISIBLE_DEVICES of the processes of a job."""
        record = wait_for("a supervisor", RunDir(self.settings.runs / str(job_id) / "attempt-1").read_supervisor)
        return psutil.Process(record.supervisor.pid).environ()["CUDA_VISIBLE_DEVICES"]

    def kill(self, job_id: int) -> None:
        """End the processes of a job, and let the worker see it."""
        run_dir = RunDir(self.settings.runs / str(job_id) / "attempt-1")
        record = wait_for("a child", lambda: (found := run_dir.read_supervisor()) and found.child and found)
        for process in (record.supervisor, record.child):
            os.kill(process.pid, signal.SIGKILL)
        self.await_end(job_id)

    def await_end(self, job_id: int, seconds: float = 120.0) -> Job:
        def ended() -> Job | None:
            self.worker.tick()
            time.sleep(0.05)
            return self.job(job_id) if job_id not in self.held() else None

        return wait_for(f"the end of job {job_id}", ended, seconds)

    def _live(self, session: Any) -> list[Attempt]:
        return service.live_attempts(session, host=self.worker._host)


@pytest.fixture
def machine(home: Path) -> Iterator[Machine]:
    made = Machine(home)
    yield made
    made.worker.close()
    end_strays(home)


def test_attempts_get_gpus_of_their_own_and_give_them_back(machine: Machine) -> None:
    two, none, one = machine.submit(gpus=2), machine.submit(gpus=0), machine.submit()
    machine.worker.tick()

    assert machine.held() == {two: ("0", "1"), none: (), one: ("GPU-5f2a",)}
    assert [machine.shown(job_id) for job_id in (two, none, one)] == ["0,1", "", "GPU-5f2a"]

    machine.restart()
    waiting = machine.submit(gpus=2)
    last = machine.submit(gpus=1)
    machine.worker.tick()

    assert machine.held() == {two: ("0", "1"), none: (), one: ("GPU-5f2a",)}
    assert machine.job(waiting).cause == "waits for 2 GPUs; 1 of 4 are free"
    assert machine.job(last).cause == f"behind job {waiting}"

    machine.kill(two)
    machine.worker.tick()

    assert machine.held() == {none: (), one: ("GPU-5f2a",), waiting: ("0", "1"), last: ("3",)}


def test_a_job_that_asks_for_more_gpus_than_there_are_is_told_so(machine: Machine) -> None:
    job_id = machine.submit(gpus=8)

    machine.worker.tick()

    assert machine.job(job_id).cause == "needs 8 GPUs; this machine has 4"


def test_two_processes_train_below_the_supervisor_and_what_both_say_is_stored(machine: Machine) -> None:
    job_id = machine.submit(steps=5, gpus=2)

    machine.worker.tick()
    job = machine.await_end(job_id)

    run_dir = RunDir(machine.settings.runs / str(job_id) / "attempt-1")
    assert job.state == "completed", (job.cause, run_dir.stdout.read_text()[-3000:])
    manifest = checkpoints.read_manifest(checkpoints.directory(run_dir.checkpoints, 5))
    assert manifest is not None
    assert manifest.world_size == 2
    assert json.loads((run_dir.path / "provenance.json").read_text())["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize(
    ("listed", "expected"),
    [("", ()), ("2,0", ("2", "0")), (" GPU-5f2a , 1", ("GPU-5f2a", "1")), ("0,-1,2", ("0",)), ("-1", ())],
)
def test_what_the_environment_lists_is_what_may_be_given_out(listed: str, expected: tuple[str, ...]) -> None:
    assert gpus.visible({"CUDA_VISIBLE_DEVICES": listed}) == expected


def test_a_run_in_the_foreground_takes_the_first_gpus_and_says_when_they_are_too_few() -> None:
    names = ("2", "GPU-5f2a", "5")

    assert gpus.first(2, names) == ("2", "GPU-5f2a")
    assert gpus.first(None, names) == ("2",)
    assert gpus.first(0, names) == ()
    assert gpus.first(None, ()) is None
    with pytest.raises(InvalidSpec, match="4 GPUs are asked for, and 3 can be used here.*set resources.gpus: 3"):
        gpus.first(4, names)


def test_a_child_is_shown_what_it_was_given_and_numbers_mean_what_the_driver_means() -> None:
    assert gpus.variables(("0", "3"), {}) == {"CUDA_VISIBLE_DEVICES": "0,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert gpus.variables(("1",), {"CUDA_VISIBLE_DEVICES": "1,2"}) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert gpus.variables(None, {"CUDA_VISIBLE_DEVICES": "1,2"}) == {}
