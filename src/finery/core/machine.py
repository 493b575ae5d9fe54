"""What a machine and the processes of a job use at this moment: processor, memory, disk, network, accelerators.

Through psutil and NVML. Sizes are in bytes, times in seconds; rates are means since the call before.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pynvml


@dataclass(frozen=True)
class Gpu:
    """An accelerator as the driver sees it. None where the driver does not say."""

    index: int
    name: str
    utilization_percent: float | None
    memory_used: int
    memory_total: int
    temperature_celsius: float | None
    power_watts: float | None


@dataclass(frozen=True)
class Machine:
    """A machine at one moment."""

    cpu_cores: int
    cpu_percent: float
    """Of all cores together: at most 100."""
    load_average: float
    """Processes that ran or waited, mean of the last minute."""
    memory_used: int
    memory_total: int
    disk_free: int
    """What this user may still write to the file system that holds the given folder."""
    disk_total: int
    gpus: tuple[Gpu, ...]


def look(folder: Path, *, seconds: float | None = None) -> Machine:
    """How busy the machine is.

    Args:
        folder: A folder of the file system to report.
        seconds: How long to watch the processor; None means since the call before.
    """
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(folder))
    return Machine(
        cpu_cores=os.cpu_count() or 1,
        cpu_percent=psutil.cpu_percent(interval=seconds),
        load_average=os.getloadavg()[0],
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        disk_free=disk.free,
        disk_total=disk.total,
        gpus=tuple(gpus()),
    )


def gpus() -> list[Gpu]:
    """NVIDIA GPUs of this machine; none where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:  # a GPU that fell off the bus must not take the others' watcher with it
        return []
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    utilization = _asked(pynvml.nvmlDeviceGetUtilizationRates, handle)
    power = _asked(pynvml.nvmlDeviceGetPowerUsage, handle)
    return Gpu(
        index=index,
        name=str(pynvml.nvmlDeviceGetName(handle)),
        utilization_percent=None if utilization is None else float(utilization.gpu),
        memory_used=int(memory.used),
        memory_total=int(memory.total),
        temperature_celsius=_asked(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        power_watts=None if power is None else power / 1000,
    )


def _asked(question: Any, *arguments: Any) -> Any:
    """The driver's answer; None where this device has none."""
    try:
        return question(*arguments)
    except pynvml.NVMLError:
        return None


@dataclass
class _Counters:
    """Sums that only rise, and when they were read."""

    time: float
    cpu_seconds: float
    read_bytes: int
    written_bytes: int
    network_bytes: int


@dataclass
class JobSampler:
    """Samples what the processes below one process use, and the machine around them.

    A process that came and went between two samples is not seen; the processor time of children that were waited for
    is counted.
    """

    pid: int
    folder: Path
    visible_gpus: str | None = field(default_factory=lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    _before: _Counters | None = None

    def sample(self) -> dict[str, float]:
        """Name -> value. Names with `machine/` are of the whole machine, with `gpu0/` of one accelerator.

        `cpu_percent` counts 100 for each core that is busy; `memory_bytes` is the sum of resident memory, so that pages
        that processes share count for each.
        """
        found = self._of_processes()
        machine = look(self.folder)
        found |= {
            "machine/cpu_percent": machine.cpu_percent,
            "machine/memory_used_bytes": machine.memory_used,
            "machine/memory_total_bytes": machine.memory_total,
            "machine/disk_free_bytes": machine.disk_free,
            "machine/disk_total_bytes": machine.disk_total,
        }
        for gpu in machine.gpus:
            if self.sees_gpu(gpu.index):
                found |= _of_gpu(gpu)
        return found

    def _of_processes(self) -> dict[str, float]:
        memory = threads = 0
        now = _Counters(time.monotonic(), 0.0, 0, 0, _network_bytes())
        processes = _tree(self.pid)
        for process in processes:
            try:
                with process.oneshot():
                    memory += process.memory_info().rss
                    threads += process.num_threads()
                    used = process.cpu_times()
                    now.cpu_seconds += used.user + used.system + used.children_user + used.children_system
                    if hasattr(process, "io_counters"):
                        io = process.io_counters()
                        now.read_bytes += io.read_bytes
                        now.written_bytes += io.write_bytes
            except psutil.Error:  # it ended while it was looked at, or belongs to another user
                continue
        found: dict[str, float] = {
            "memory_bytes": memory,
            "num_processes": len(processes),
            "num_threads": threads,
        }
        return found | self._rates(now)

    def _rates(self, now: _Counters) -> dict[str, float]:
        before, self._before = self._before, now
        if before is None or now.time <= before.time:
            return {}
        seconds = now.time - before.time
        # A child that ends takes its sums with it, and a difference below zero says nothing.
        return {
            "cpu_percent": max(0.0, 100 * (now.cpu_seconds - before.cpu_seconds) / seconds),
            "disk_read_bytes_per_second": max(0.0, (now.read_bytes - before.read_bytes) / seconds),
            "disk_written_bytes_per_second": max(0.0, (now.written_bytes - before.written_bytes) / seconds),
            "machine/network_bytes_per_second": max(0.0, (now.network_bytes - before.network_bytes) / seconds),
        }

    def sees_gpu(self, index: int) -> bool:
        """Whether the job may use an accelerator. Ones that are named by id and not by number are not told apart."""
        if self.visible_gpus is None:
            return True
        wanted = [part.strip() for part in self.visible_gpus.split(",")]
        return str(index) in wanted or any(not part.isdigit() and part for part in wanted)


def _of_gpu(gpu: Gpu) -> dict[str, float]:
    figures: Mapping[str, float | None] = {
        "utilization_percent": gpu.utilization_percent,
        "memory_used_bytes": gpu.memory_used,
        "memory_total_bytes": gpu.memory_total,
        "temperature_celsius": gpu.temperature_celsius,
        "power_watts": gpu.power_watts,
    }
    return {f"gpu{gpu.index}/{name}": value for name, value in figures.items() if value is not None}


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _network_bytes() -> int:
    counters = psutil.net_io_counters()
    return 0 if counters is None else counters.bytes_sent + counters.bytes_recv
