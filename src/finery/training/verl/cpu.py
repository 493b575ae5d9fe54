"""A CPU as one of verl's platforms, so that what runs on GPUs can be run, tested and debugged without any.

Loaded by verl itself in each of its processes, as `engine.CPU_ENVIRONMENT` says. The engines for CUDA do as they are:
all that they ask of a device, they ask of the platform.

Relies on these internals of verl 0.9.1: `initialize_global_process_group_ray` and TrainingWorker begin a process group
with the backend `cpu:gloo,<device>:<backend>`, of which torch does not take one device twice; what is offloaded lies in
pinned memory, which needs an accelerator; `load_valuehead_model` asks for FlashAttention whatever the config says.
"""

import os
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psutil
import torch
import torch.distributed as dist
from transformers import AutoModelForTokenClassification
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


def _device_module() -> types.ModuleType:
    """What verl calls where it would call `torch.cuda`."""
    module: Any = types.ModuleType("finery_cpu_device")
    zero = dict.fromkeys(("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"), 0)
    for name, value in zero.items():
        setattr(module, name, lambda *_, found=value, **__: found)
    for name in ("set_device", "synchronize", "empty_cache", "ipc_collect", "reset_peak_memory_stats"):
        setattr(module, name, lambda *_, **__: None)
    stream = types.SimpleNamespace(synchronize=lambda: None, wait_stream=lambda _: None)
    module.is_available = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: "cpu"
    module.mem_get_info = lambda *_: (psutil.virtual_memory().available, psutil.virtual_memory().total)
    module.manual_seed = module.manual_seed_all = torch.manual_seed
    module.get_rng_state = lambda *_: torch.get_rng_state()
    module.set_rng_state = lambda state, *_: torch.set_rng_state(state)
    module.get_device_name = lambda *_: "cpu"
    module.get_device_properties = lambda *_: types.SimpleNamespace(
        name="cpu", total_memory=psutil.virtual_memory().total, multi_processor_count=os.cpu_count()
    )
    module.current_stream = lambda *_: stream
    module.Stream = lambda *_, **__: stream
    module.stream = lambda _: nullcontext()
    found: types.ModuleType = module
    return found


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """Answers for the processor where verl asks for an accelerator."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        return

    def synchronize(self, device_index: int | None = None) -> None:
        return

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        return

    def empty_cache(self) -> None:
        return

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        return

    def profiler_stop(self) -> None:
        return

    def ray_resource_name(self) -> str:
        """verl counts no resource but these of accelerators; on a CPU they are numbers that Ray was told."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None:
        return


def _begin_group(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
    return _torch_begin_group("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)


_torch_begin_group = dist.init_process_group
if os.environ.get("VERL_PLATFORM") == "cpu":
    dist.init_process_group = _begin_group


def adapt_engines() -> None:
    """Have engines keep in ordinary memory what they would offload, and build critics without FlashAttention."""
    # verl imports this module before itself.
    import verl.utils.model  # noqa: PLC0415
    from verl.workers.engine.fsdp import transformer_impl  # noqa: PLC0415

    transformer_impl.CPUOffloadPolicy = lambda pin_memory=True: None
    verl.utils.model.load_valuehead_model = _critic


def _critic(local_path: str, torch_dtype: torch.dtype, model_config: Any, trust_remote_code: bool) -> Any:
    return AutoModelForTokenClassification.from_pretrained(
        local_path, dtype=torch_dtype, config=model_config, attn_implementation="sdpa"
    )
