"""How busy a machine is: processor, memory, disk, network, accelerators. Through psutil and NVML; sizes in bytes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from finery.core import nvml
from finery.core.nvml import Gpu


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
    driver = nvml.Driver()
    try:
        return driver.gpus()
    finally:
        driver.close()


@dataclass(frozen=True)
class Totals:
    """What a machine has done since it was started: sums that only rise."""

    cpu_seconds: Mapping[str, float]
    """Mode -> seconds, over all cores: `user`, `system`, `idle`, on Linux also `iowait`: idle while a disk was waited
    for."""
    disk_read_bytes: int
    disk_written_bytes: int
    network_received_bytes: int
    """Without what processes of this machine say to each other."""
    network_sent_bytes: int

    @property
    def all_cpu_seconds(self) -> float:
        return sum(self.cpu_seconds.values())


def totals() -> Totals:
    """Sums of the machine; 0 for what it does not tell."""
    cpu, disk = psutil.cpu_times(), psutil.disk_io_counters()
    cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if not _is_loopback(name)]
    modes = [mode for mode in cpu._fields if not mode.startswith("guest")]  # guests are part of `user` already
    return Totals(
        cpu_seconds={mode: getattr(cpu, mode) for mode in modes},
        disk_read_bytes=disk.read_bytes if disk else 0,
        disk_written_bytes=disk.write_bytes if disk else 0,
        network_received_bytes=sum(card.bytes_recv for card in cards),
        network_sent_bytes=sum(card.bytes_sent for card in cards),
    )


def _is_loopback(card: str) -> bool:
    return card == "lo" or (card.startswith("lo") and card[2:].isdigit())
