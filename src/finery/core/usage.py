"""What the processes of a job use, and the machine around them: processor, memory, disk, network, accelerators.

Through psutil and NVML. Sizes are in bytes, times in seconds; rates are means since the look before.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from finery.core import machine
from finery.core.machine import Totals
from finery.core.nvml import Driver, Gpu

MAX_PROCESSES: Final = 16
"""So many processes of a job get figures of their own; the sums count all."""
_OF_RAY: Final = re.compile(
    r"^ray::(IDLE|DashboardAgent|RuntimeEnvAgent|JobSupervisor)|^ray-dashboard|/ray/(_private|autoscaler|core|dashboard)/"
    r"|\bray\.(dashboard|scripts|util)\."
)
"""Command lines of the processes that a Ray cluster itself is made of: they come before those that do a job's work."""
WALK_SECONDS: Final = 8.0
"""A new process is found after at most so long."""
_ACCOUNTING: Final = Path("/proc/sys/kernel/task_delayacct")
_HAS_LISTS: Final = Path("/proc/thread-self/children").exists()


@dataclass(frozen=True)
class _Used:
    """A process at one moment: what it holds, and sums that only rise."""

    name: str
    memory_bytes: int
    num_threads: int
    cpu_seconds: float
    """Its own, and of children that it has waited for."""
    disk_wait_seconds: float
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class _Look:
    """All of it at one moment."""

    time: float
    processes: Mapping[int, _Used]
    machine: Totals


@dataclass
class JobSampler:
    """Samples what the processes below one process use, and the machine around them.

    A process that came and went between two samples is not seen; the processor time of children that were waited for
    is counted. What single processes send over the network no system tells without special rights.
    """

    pid: int
    folder: Path
    visible_gpus: str | None = field(default_factory=lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    _driver: Driver = field(default_factory=Driver)
    _before: _Look | None = None
    _tree: Mapping[int, psutil.Process] = field(default_factory=dict)
    _walk_at: float = 0.0
    _named: dict[int, str] = field(default_factory=dict)
    """Processes with figures of their own, by id."""

    def sample(self) -> dict[str, float]:
        """Name -> value. Names with `machine/` are of the whole machine, with `gpu0/` of one accelerator, with
        `process/python.4242/` of one process, whose id that is; the others are of all processes of the job.

        `cpu_percent` counts 100 for each core that is busy; `memory_bytes` is the sum of resident memory, so that pages
        that processes share count for each. `disk_wait_percent` counts 100 for each process that waits for a disk all
        the time, where the kernel keeps account of that; the machine's is the share of its processor time that was idle
        for that reason. A process gets figures of its own once it was seen twice, unless it is a part of Ray.
        """
        now = _Look(time.monotonic(), self._processes(), machine.totals())
        before, self._before = self._before, now
        found = _sums(now)
        if before is not None and now.time > before.time:
            found |= _rates(before, now)
            found |= self._of_single_processes(before, now)
        return found | _of_machine(self.folder) | self._of_gpus()

    def sees_gpu(self, index: int) -> bool:
        """Whether the job may use an accelerator. Ones that are named by id and not by number are not told apart."""
        if self.visible_gpus is None:
            return True
        wanted = [part.strip() for part in self.visible_gpus.split(",")]
        return str(index) in wanted or any(not part.isdigit() and part for part in wanted)

    def _processes(self) -> dict[int, _Used]:
        """Of the tree as it was found at most WALK_SECONDS ago: to find it takes longer than to look at it."""
        if time.monotonic() >= self._walk_at:
            self._walk_at = time.monotonic() + WALK_SECONDS
            self._tree = _tree(self.pid, self._tree)
        found = {}
        for pid, process in self._tree.items():
            try:
                found[pid] = _used(process)
            except psutil.Error:  # it has ended, or belongs to another user
                continue
        return found

    def _of_single_processes(self, before: _Look, now: _Look) -> dict[str, float]:
        found: dict[str, float] = {}
        seconds = now.time - before.time
        for pid, used in now.processes.items():
            known = before.processes.get(pid)
            if known is None or (pid not in self._named and not self._is_named(pid)):
                continue
            # A worker of Ray is called after what it does at the moment: `ray::WorkerDict.update_actor`.
            name = self._named.setdefault(pid, f"process/{used.name.partition('.')[0]}.{pid}")
            found[f"{name}/memory_bytes"] = used.memory_bytes
            rates = {
                "cpu_percent": 100 * (used.cpu_seconds - known.cpu_seconds),
                "disk_read_bytes_per_second": used.read_bytes - known.read_bytes,
                "disk_written_bytes_per_second": used.written_bytes - known.written_bytes,
            }
            found |= {f"{name}/{rate}": max(0.0, value / seconds) for rate, value in rates.items()}
        return found

    def _is_named(self, pid: int) -> bool:
        """Whether a process gets figures of its own from now on."""
        if len(self._named) >= MAX_PROCESSES:
            return False
        try:
            return not _OF_RAY.search(" ".join(self._tree[pid].cmdline()))
        except psutil.Error:
            return False

    def _of_gpus(self) -> dict[str, float]:
        found: dict[str, float] = {}
        pids = self._before.processes if self._before else {}
        for gpu in self._driver.gpus():
            if not self.sees_gpu(gpu.index):
                continue
            found |= _of_gpu(gpu)
            held = {pid: size for pid, size in self._driver.memory_of_processes(gpu.index).items() if pid in pids}
            if held:
                found[f"gpu{gpu.index}/job_memory_bytes"] = sum(held.values())
            for pid, size in held.items():
                if pid in self._named:
                    found[f"{self._named[pid]}/gpu{gpu.index}_memory_bytes"] = size
        return found


def _sums(now: _Look) -> dict[str, float]:
    used = now.processes.values()
    return {
        "memory_bytes": sum(process.memory_bytes for process in used),
        "num_processes": len(used),
        "num_threads": sum(process.num_threads for process in used),
    }


def _rates(before: _Look, now: _Look) -> dict[str, float]:
    seconds = now.time - before.time

    def of_job(sum_: str) -> float:
        then, later = (sum(getattr(one, sum_) for one in look.processes.values()) for look in (before, now))
        # A child that ends takes its sums with it, and a difference below zero says nothing.
        return max(0.0, float(later - then) / seconds)

    found = {
        "cpu_percent": 100 * of_job("cpu_seconds"),
        "disk_read_bytes_per_second": of_job("read_bytes"),
        "disk_written_bytes_per_second": of_job("written_bytes"),
    }
    if _keeps_account_of_waiting():
        found["disk_wait_percent"] = 100 * of_job("disk_wait_seconds")
    for name in ("disk_read_bytes", "disk_written_bytes", "network_received_bytes", "network_sent_bytes"):
        rate = (getattr(now.machine, name) - getattr(before.machine, name)) / seconds
        found[f"machine/{name}_per_second"] = max(0.0, rate)
    return found | _shares_of_processor(before.machine, now.machine)


def _shares_of_processor(before: Totals, now: Totals) -> dict[str, float]:
    """Of all cores together: at most 100."""
    passed = now.all_cpu_seconds - before.all_cpu_seconds
    if passed <= 0:
        return {}

    def share(mode: str) -> float:
        return max(0.0, 100 * (now.cpu_seconds.get(mode, 0.0) - before.cpu_seconds.get(mode, 0.0)) / passed)

    waiting = share("iowait")
    found = {"machine/cpu_percent": max(0.0, 100 - share("idle") - waiting)}
    return found | ({"machine/disk_wait_percent": waiting} if "iowait" in now.cpu_seconds else {})


def _of_machine(folder: Path) -> dict[str, float]:
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(folder))
    return {
        "machine/memory_used_bytes": memory.total - memory.available,
        "machine/memory_total_bytes": memory.total,
        "machine/disk_free_bytes": disk.free,
        "machine/disk_total_bytes": disk.total,
    }


def _of_gpu(gpu: Gpu) -> dict[str, float]:
    figures: Mapping[str, float | None] = {
        "utilization_percent": gpu.utilization_percent,
        "memory_used_bytes": gpu.memory_used,
        "memory_total_bytes": gpu.memory_total,
        "temperature_celsius": gpu.temperature_celsius,
        "power_watts": gpu.power_watts,
    }
    return {f"gpu{gpu.index}/{name}": value for name, value in figures.items() if value is not None}


def _used(process: psutil.Process) -> _Used:
    with process.oneshot():
        cpu = process.cpu_times()
        io = process.io_counters() if hasattr(process, "io_counters") else None
        return _Used(
            name=process.name(),
            memory_bytes=process.memory_info().rss,
            num_threads=process.num_threads(),
            cpu_seconds=cpu.user + cpu.system + cpu.children_user + cpu.children_system,
            disk_wait_seconds=getattr(cpu, "iowait", 0.0),
            read_bytes=io.read_bytes if io else 0,
            written_bytes=io.write_bytes if io else 0,
        )


def _tree(pid: int, known: Mapping[int, psutil.Process]) -> dict[int, psutil.Process]:
    """A process and all below it; those that are known already are not looked up again."""
    found = {}
    for one in (pid, *_descendants(pid)):
        try:
            is_same = one in known and known[one].is_running()
            found[one] = known[one] if is_same else psutil.Process(one)
        except psutil.Error:
            continue
    return found


def _descendants(pid: int) -> Iterator[int]:
    """Through the kernel's lists of children where it has them: psutil reads every process of the machine instead."""
    if not _HAS_LISTS:
        yield from _descendants_by_psutil(pid)
        return
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in children.read_text().split()]
        except OSError:  # the thread has ended
            continue
        for child in found:
            yield child
            yield from _descendants(child)


def _descendants_by_psutil(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _keeps_account_of_waiting() -> bool:
    try:
        return _ACCOUNTING.read_text().strip() == "1"
    except OSError:
        return False
