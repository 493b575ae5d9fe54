"""Which GPUs attempts may be given, by the names that CUDA_VISIBLE_DEVICES has for them: numbers or UUIDs."""

import itertools
from collections.abc import Mapping

from finery.core import machine
from finery.core.errors import InvalidSpec

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"


def visible(environment: Mapping[str, str]) -> tuple[str, ...]:
    """GPUs that a process with this environment may use: what it lists, else all that the driver knows."""
    listed = environment.get(_VISIBLE)
    if listed is not None:
        names = (name.strip() for name in listed.split(","))
        return tuple(itertools.takewhile(lambda name: name and not name.startswith("-"), names))  # as CUDA reads it
    return tuple(str(gpu.index) for gpu in machine.gpus())


def variables(given: tuple[str, ...] | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that show a child the GPUs that it was given, and no others.

    Args:
        given: Their names; None leaves the environment as it is.
        environment: What the child inherits.
    """
    if given is None:
        return {}
    # Numbers of the driver follow the bus; CUDA's own, without this, put the fastest first.
    order = {} if _VISIBLE in environment else {_ORDER: "PCI_BUS_ID"}
    return {_VISIBLE: ",".join(given), **order}


def first(wanted: int | None, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The first `wanted` of some GPUs. None is one where there is any, and else leaves it to the environment.

    Raises:
        InvalidSpec: there are fewer.
    """
    if wanted is None and not names:
        return None
    num = min(1, len(names)) if wanted is None else wanted
    if num > len(names):
        raise InvalidSpec(
            f"resources.gpus: {num} GPUs are asked for, and {len(names)} can be used here"
            f"{f' ({_VISIBLE})' if names else ''}; set resources.gpus: {len(names)}"
        )
    return names[:num]
