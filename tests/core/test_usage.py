"""What a process tree uses is measured on real processes that use a known amount."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from finery.core import usage
from finery.core.usage import JobSampler

MEGABYTES = 64
BUSY = f"""
import subprocess, sys, time
held = bytearray({MEGABYTES} << 20)
child = subprocess.Popen([sys.executable, "-c", "import time; end = time.time() + 60\\nwhile time.time() < end: pass"])
print("ready", flush=True)
time.sleep(60)
"""
READS = """
import os, sys, time
print("ready", flush=True)
end = time.time() + 60
while time.time() < end:
    with open(sys.argv[1], "wb") as file:
        file.write(bytes(1 << 22))
        file.flush()
        os.fsync(file.fileno())
    time.sleep(0.01)
"""


@contextmanager
def running(program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it is ready, and its end with all of its children."""
    parent = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        yield parent
    finally:
        for process in [*psutil.Process(parent.pid).children(recursive=True), parent]:
            process.kill()
        parent.wait()


def test_memory_and_processor_time_of_a_process_and_its_child_are_counted(tmp_path: Path) -> None:
    with running(BUSY) as parent:
        sampler = JobSampler(parent.pid, tmp_path)
        first = sampler.sample()
        time.sleep(1.0)
        second = sampler.sample()

    assert "cpu_percent" not in first  # a rate needs two looks
    assert second["num_processes"] == 2
    assert second["memory_bytes"] > MEGABYTES << 20
    assert 5 < second["cpu_percent"] < 150  # one busy core, on a machine that others use too
    assert 0 < second["machine/memory_used_bytes"] < second["machine/memory_total_bytes"]
    assert 0 < second["machine/disk_free_bytes"] <= second["machine/disk_total_bytes"]
    assert 0 < second["machine/cpu_percent"] <= 100
    assert 0 <= second["machine/disk_wait_percent"] <= 100
    assert {f"machine/network_{way}_bytes_per_second" for way in ("received", "sent")} <= set(second)
    assert {f"machine/disk_{way}_bytes_per_second" for way in ("read", "written")} <= set(second)


def test_each_process_has_figures_of_its_own_once_it_was_seen_twice(tmp_path: Path) -> None:
    with running(BUSY) as parent:
        [child] = psutil.Process(parent.pid).children()
        sampler = JobSampler(parent.pid, tmp_path)
        first = sampler.sample()
        time.sleep(0.5)
        second = sampler.sample()

    def figures(pid: int) -> dict[str, float]:
        return {name.rpartition("/")[2]: value for name, value in second.items() if f".{pid}/" in name}

    assert not any(name.startswith("process/") for name in first)
    assert figures(parent.pid)["memory_bytes"] > MEGABYTES << 20 > figures(child.pid)["memory_bytes"]
    assert figures(child.pid)["cpu_percent"] > 5 > figures(parent.pid)["cpu_percent"]
    both = figures(parent.pid)["memory_bytes"] + figures(child.pid)["memory_bytes"]
    assert both == second["memory_bytes"]


def test_what_a_process_writes_is_its_own_and_the_jobs(tmp_path: Path) -> None:
    with running(READS, str(tmp_path / "file")) as parent:
        sampler = JobSampler(parent.pid, tmp_path)
        sampler.sample()
        time.sleep(1.0)
        second = sampler.sample()

    own = [value for name, value in second.items() if name.endswith(f".{parent.pid}/disk_written_bytes_per_second")]
    assert own == [second["disk_written_bytes_per_second"]]
    assert own[0] > 1 << 20


def test_only_so_many_processes_get_lines_and_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MAX_PROCESSES", 1)
    with running(BUSY) as parent:
        sampler = JobSampler(parent.pid, tmp_path)
        sampler.sample()
        time.sleep(0.1)
        second = sampler.sample()

    assert {name.split("/")[1].rpartition(".")[2] for name in second if "process/" in name} == {str(parent.pid)}
    assert second["num_processes"] == 2


def test_what_a_cluster_is_made_of_takes_no_lines_from_what_works_on_it(tmp_path: Path) -> None:
    with running(BUSY, "/site-packages/ray/_private/log_monitor.py") as parent:
        sampler = JobSampler(parent.pid, tmp_path)
        sampler.sample()
        time.sleep(0.1)
        second = sampler.sample()
        children = [str(child.pid) for child in psutil.Process(parent.pid).children()]

    assert {name.split("/")[1].rpartition(".")[2] for name in second if "process/" in name} == set(children)
    assert second["num_processes"] == 2


def test_the_tree_is_found_without_the_kernels_lists_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_HAS_LISTS", False)
    with running(BUSY) as parent:
        found = JobSampler(parent.pid, tmp_path).sample()

    assert found["num_processes"] == 2


def test_a_process_that_comes_later_is_found_and_one_that_has_ended_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "WALK_SECONDS", 0.0)
    sampler = JobSampler(os.getpid(), tmp_path)
    before = sampler.sample()["num_processes"]
    with running(BUSY):
        during = sampler.sample()["num_processes"]

    assert (during - before, sampler.sample()["num_processes"]) == (2, before)


def test_a_disk_wait_is_told_where_the_kernel_keeps_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "task_delayacct"
    monkeypatch.setattr(usage, "_ACCOUNTING", switch)

    def names() -> set[str]:
        sampler = JobSampler(os.getpid(), tmp_path)
        sampler.sample()
        return set(sampler.sample())

    assert "disk_wait_percent" not in names()
    switch.write_text("1\n")
    assert "disk_wait_percent" in names()


def test_memory_of_a_gpu_is_told_for_the_job_and_its_processes(tmp_path: Path, imaginary_gpus: dict[str, str]) -> None:
    sampled = """
import json, os, sys
from pathlib import Path
os.environ["FAKE_GPU_PID"] = str(os.getpid())
from finery.core.usage import JobSampler
sampler = JobSampler(os.getpid(), Path(sys.argv[1]), visible_gpus="0")
sampler.sample()
print(json.dumps([os.getpid(), sampler.sample()]))
"""
    environment = {**os.environ, **imaginary_gpus}
    done = subprocess.run([sys.executable, "-c", sampled, str(tmp_path)], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    pid, found = json.loads(done.stdout)

    assert found["gpu0/utilization_percent"] == 87
    assert found["gpu0/memory_used_bytes"] == 5e9
    assert found["gpu0/temperature_celsius"] == 61
    assert found["gpu0/power_watts"] == 250.5
    assert found["gpu0/job_memory_bytes"] == 3e9
    assert [value for name, value in found.items() if name.endswith(f".{pid}/gpu0_memory_bytes")] == [3e9]
    assert not any(name.startswith("gpu1/") for name in found)


def test_a_process_that_has_ended_uses_nothing(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()

    found = JobSampler(done.pid, tmp_path).sample()

    assert (found["num_processes"], found["memory_bytes"]) == (0, 0)


def test_only_the_gpus_that_a_job_may_use_are_its_own(tmp_path: Path) -> None:
    def is_seen(visible: str | None) -> list[bool]:
        sampler = JobSampler(1, tmp_path, visible_gpus=visible)
        return [sampler.sees_gpu(index) for index in (0, 1, 2)]

    assert is_seen(None) == [True, True, True]
    assert is_seen("0,2") == [True, False, True]
    assert is_seen("") == [False, False, False]
    assert is_seen("GPU-5a6b") == [True, True, True]  # named by its id: which index that is, only CUDA knows
