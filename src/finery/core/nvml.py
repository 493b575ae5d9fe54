"""NVIDIA GPUs as their driver sees them, through NVML."""

from dataclasses import dataclass
from typing import Any

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


class Driver:
    """A connection to the driver, kept open: to open it takes longer than to ask."""

    def __init__(self) -> None:
        self._is_open = False

    def gpus(self) -> list[Gpu]:
        """GPUs of this machine; none where there is no driver, or it fails."""
        try:
            self._open()
            return [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:  # a GPU that fell off the bus must not take the others' watcher with it
            self.close()
            return []

    def memory_of_processes(self, index: int) -> dict[int, int]:
        """Process id -> bytes of a GPU's memory that it holds. Empty where the driver does not say, as in containers
        that have process ids of their own."""
        found = _asked(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(index)))
        return {process.pid: process.usedGpuMemory for process in found or () if process.usedGpuMemory is not None}

    def close(self) -> None:
        """Give the connection back; the next question opens another one."""
        if self._is_open:
            self._is_open = False
            _asked(pynvml.nvmlShutdown)

    def _open(self) -> None:
        if not self._is_open:
            pynvml.nvmlInit()
            self._is_open = True


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
