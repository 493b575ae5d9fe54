"""What a machine says of itself, and of accelerators through a driver that is not there."""

import collections
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from finery.core import machine

ASKED = """
import dataclasses, json, sys
from finery.core.nvml import Driver
driver = Driver()
found = [dataclasses.asdict(gpu) for gpu in driver.gpus()]
print(json.dumps([found, driver.memory_of_processes(0), driver.memory_of_processes(1)]))
driver.close()
"""


def test_the_machine_has_cores_memory_and_a_disk(tmp_path: Path) -> None:
    seen = machine.look(tmp_path, seconds=0.05)

    assert seen.cpu_cores >= 1
    assert 0 <= seen.cpu_percent <= 100
    assert 0 < seen.memory_used < seen.memory_total
    assert 0 < seen.disk_free <= seen.disk_total


def test_what_the_machine_has_done_only_rises() -> None:
    before = machine.totals()
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    after = machine.totals()

    assert after.cpu_seconds["user"] > before.cpu_seconds["user"]
    assert after.all_cpu_seconds - before.all_cpu_seconds > 0.1
    for name in ("disk_read_bytes", "disk_written_bytes", "network_received_bytes", "network_sent_bytes"):
        assert getattr(after, name) >= getattr(before, name) >= 0


def test_what_processes_say_to_each_other_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    Card = collections.namedtuple("Card", ["bytes_sent", "bytes_recv"])
    cards = {"lo": Card(100, 100), "eth0": Card(5, 20), "wlan0": Card(1, 2)}
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: cards)

    found = machine.totals()

    assert (found.network_sent_bytes, found.network_received_bytes) == (6, 22)


def asked(environment: dict[str, str]) -> Any:
    done = subprocess.run([sys.executable, "-c", ASKED], env={**os.environ, **environment}, capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_gpus_are_read_through_the_drivers_library(imaginary_gpus: dict[str, str]) -> None:
    gpus, first, second = asked({**imaginary_gpus, "FAKE_GPU_PID": "4242"})

    assert gpus == [
        {
            "index": 0,
            "name": "Imaginary GPU",
            "utilization_percent": 87.0,
            "memory_used": 5_000_000_000,
            "memory_total": 8_000_000_000,
            "temperature_celsius": 61,
            "power_watts": 250.5,
        },
        {
            "index": 1,
            "name": "Imaginary GPU",
            "utilization_percent": 0.0,
            "memory_used": 1_000_000_000,
            "memory_total": 8_000_000_000,
            "temperature_celsius": None,
            "power_watts": None,
        },
    ]
    assert (first, second) == ({"1": 1_000_000_000, "4242": 3_000_000_000}, {})


def test_a_driver_that_fails_and_one_that_is_not_there_have_no_gpus(imaginary_gpus: dict[str, str]) -> None:
    assert asked({**imaginary_gpus, "FAKE_GPU_FAILS": "1"})[0] == []
    assert asked({"LD_LIBRARY_PATH": ""})[0] == []
