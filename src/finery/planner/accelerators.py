"""Accelerators by name: how much memory each has, how fast it computes and how fast it talks to others.

Owns: the table `data/accelerators.json` and the spellings under which a device is found. Does not own: what a job needs
of a device. One entry is what a framework sees as one device: of a package of two dies (MI250X, Ascend 910C) one die.

A bare name that several devices share takes the usual one: A100 and H100 the SXM board of 80 GB, V100 that of 32 GB,
910B the 910B3, Ascend910 the 910A, an Apple chip the smallest memory it is sold with, CPU a host of 64 GB.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from finery.core.errors import InvalidSpec

_PATH: Final = Path(__file__).parent / "data" / "accelerators.json"
_USABLE: Final = 0.985
"""Share of the nominal memory that a driver leaves, where nobody reported the figure."""
_NEAR: Final = 3
"""Devices that are offered for a name that is not known."""
_MAKERS: Final = frozenset({"nvidia", "tesla", "geforce", "amd", "instinct", "huawei", "apple", "google"})
"""Words that people write or leave out."""

Vendor = Literal["nvidia", "amd", "huawei", "apple", "google", "cpu"]


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device as a framework counts them. Peaks are dense, with accumulation in fp32 where that matters."""

    id: str
    """Stable key, such as `a100-sxm-80`."""
    name: str
    """What people call it, with its memory."""
    vendor: Vendor
    memory_gib: float
    """Nominal size, as the vendor prints it."""
    usable_gib: float | None
    """What the driver reports as total, in GiB; None where it is unknown. For Apple: what Metal lets a process use."""
    bandwidth_gb_s: float
    """Of its own memory, in GB/s (decimal)."""
    bf16: float | None
    """Peak in TFLOP/s; None where it has none or, with `uncertain`, where nobody published it. As are the next four."""
    fp16: float | None
    """TFLOP/s."""
    fp32: float | None
    """TFLOP/s without tensor cores."""
    fp8: float | None
    """TFLOP/s."""
    int8: float | None
    """TOP/s."""
    link_gb_s: float | None
    """To the other devices of its host, per direction, in GB/s; None where it has no others or the figure is unknown.

    A bridge that joins only pairs does not count: between all devices of a host such cards have their PCIe.
    """
    link: str | None
    """Kind of that link, such as `NVLink4` or `PCIe4 x16`."""
    network_gb_s: float | None
    """Between hosts, per device and direction, in GB/s: what such hosts usually have, not a property of the device.

    None where nothing is usual.
    """
    context_gib: float
    """What driver, kernels and one communicator take outside the allocator of a training process, in GiB.

    The communicator is 1.5 of it, over PCIe 1.0; a job on a single device has none.
    """
    aliases: tuple[str, ...]
    """Further names. Spelling is forgiven (see `find`), so each stands once."""
    source: str
    """Where the figures were published."""
    uncertain: bool
    """Whether one of the figures of the device itself was not read in the source."""

    @property
    def total_bytes(self) -> int:
        """Memory that a process can plan with, in bytes, before `context_gib` is taken off."""
        gib = self.memory_gib * _USABLE if self.usable_gib is None else self.usable_gib
        return round(gib * 2**30)


def find(name: str) -> Accelerator:
    """The device of this name.

    Case, spaces, hyphens, underscores, remarks in parentheses and the makers' names do not count, nor does the unit
    after a size: `A100-80G`, `a100_80gb` and `NVIDIA A100 80GB` are one. Of unified memory and of a CPU the number
    chooses the size: `M3 Max 64GB`, `CPU 256GB`.

    Raises:
        InvalidSpec: there is no such device.
    """
    key, known = _key(name), _index()
    if key in known:
        return known[key]
    near = list(dict.fromkeys(known[one].name for one in get_close_matches(key, known, n=12)))[:_NEAR]
    listed = " or ".join(part for part in (", ".join(near[:-1]), *near[-1:]) if part)
    hint = f"; did you mean {listed}?" if near else "; names look like A100-80GB, RTX 4090 or M3 Max 64GB."
    raise InvalidSpec(
        f"accelerator {name!r} is not known{hint} For a device that is not listed, name the listed one that is nearest "
        "in memory and speed"
    )


def names() -> list[str]:
    """Names of all devices, by vendor and age. An Apple chip and the CPU stand once, without their sizes."""
    return [one.name for one in _table()]


@cache
def _table() -> tuple[Accelerator, ...]:
    rows: list[dict[str, Any]] = orjson.loads(_PATH.read_bytes())
    return tuple(Accelerator(**{**row, "aliases": tuple(row["aliases"])}) for row in rows)


@cache
def _index() -> Mapping[str, Accelerator]:
    """Every spelling. The first device to claim one keeps it."""
    found: dict[str, Accelerator] = {}
    for device in _table():
        for spelling, sized in _spellings(device):
            found.setdefault(spelling, sized)
    return found


def _spellings(device: Accelerator) -> Iterator[tuple[str, Accelerator]]:
    for alias in (device.id, device.name, *device.aliases):
        key, sized = _key(alias), _sized(device, alias)
        yield key, sized
        yield f"{key}{sized.memory_gib:g}", sized


def _sized(device: Accelerator, alias: str) -> Accelerator:
    """A device without memory of its own, with that of the alias."""
    size = re.search(r" (\d+)GB$", alias)
    if device.vendor not in ("apple", "cpu") or size is None:
        return device
    gib = float(size[1])
    usable = None if device.vendor == "cpu" else round(gib * _metal_share(gib), 1)
    return replace(device, name=f"{device.name} {gib:g}GB", memory_gib=gib, usable_gib=usable)


def _metal_share(gib: float) -> float:
    """Part of unified memory that Metal recommends as working set. `sysctl iogpu.wired_limit_mb` raises it."""
    return 2 / 3 if gib <= 32 else 3 / 4


def _key(name: str) -> str:
    """What is left of a name when nothing counts that people write one way or the other."""
    text = re.sub(r"[\s_-]+", "-", re.sub(r"\(.*?\)", " ", name.lower())).strip("-")
    text = re.sub(r"(-\d+)(?:g|-?gi?b)(?=-|$)", r"\1", text)
    text = re.sub(r"(?<=\d)gi?b(?=-|$)", "", text)
    return re.sub(r"[^a-z0-9]", "", "".join(word for word in text.split("-") if word not in _MAKERS))
