"""What a process tree uses is measured on real processes that use a known amount."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from finery.core import machine
from finery.core.machine import JobSampler

MEGABYTES = 64
BUSY = f"""
import subprocess, sys, time
held = bytearray({MEGABYTES} << 20)
child = subprocess.Popen([sys.executable, "-c", "import time; end = time.time() + 60\\nwhile time.time() < end: pass"])
print("ready", flush=True)
time.sleep(60)
"""


def test_memory_and_processor_time_of_a_process_and_its_child_are_counted(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        sampler = JobSampler(parent.pid, tmp_path)
        first = sampler.sample()
        time.sleep(1.0)
        second = sampler.sample()
    finally:
        for process in [*psutil.Process(parent.pid).children(recursive=True), parent]:
            process.kill()
        parent.wait()

    assert "cpu_percent" not in first  # a rate needs two looks
    assert second["num_processes"] == 2
    assert second["memory_bytes"] > MEGABYTES << 20
    assert 5 < second["cpu_percent"] < 150  # one busy core, on a machine that others use too
    assert 0 < second["machine/memory_used_bytes"] < second["machine/memory_total_bytes"]
    assert 0 < second["machine/disk_free_bytes"] <= second["machine/disk_total_bytes"]


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


def test_the_machine_has_cores_memory_and_a_disk(tmp_path: Path) -> None:
    seen = machine.look(tmp_path, seconds=0.05)

    assert seen.cpu_cores >= 1
    assert 0 <= seen.cpu_percent <= 100
    assert 0 < seen.memory_used < seen.memory_total
    assert 0 < seen.disk_free <= seen.disk_total
