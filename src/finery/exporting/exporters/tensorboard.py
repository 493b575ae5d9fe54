"""The exporter `tensorboard`: event files, for `tensorboard --logdir`.

Written here: torch's writer needs the package tensorboard, 73 MB with what it depends on, which an engine's environment
does not have; the thread of tensorboardX 2.6.5 dies of a full disk, and who logs then waits for it for ever. Both hold
records back for up to two minutes, which a kill takes along.
"""

import os
import socket
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from finery.core.protobuf import bytes_field, double_field, float_field, varint_field
from finery.core.spec import Spec
from finery.core.tfrecords import frame
from finery.exporting.exporters import RunFacts, registry

_VERSION: Final = b"brain.Event:2"


class TensorboardParams(Spec):
    """There is nothing to choose."""


@registry.register("tensorboard", params=TensorboardParams)
class Tensorboard:
    """Event files of TensorBoard: a scalar for each metric, in 32 bits as TensorBoard keeps them."""

    def __init__(self, folder: Path, facts: RunFacts, params: TensorboardParams):
        now = clock.time()
        name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}.{facts.job_id}"
        self._file = open(folder / name, "ab", buffering=0)  # noqa: SIM115 - a record is one write(2); closed by `close`
        self._file.write(frame(double_field(1, now) + bytes_field(3, _VERSION)))

    def write(self, step: int, values: Mapping[str, float], *, time: float) -> None:
        """Append one record with all metrics of the step."""
        summary = b"".join(
            bytes_field(1, bytes_field(1, name.encode()) + float_field(2, value)) for name, value in values.items()
        )
        self._file.write(frame(double_field(1, time) + varint_field(2, step) + bytes_field(5, summary)))

    def close(self, *, is_ok: bool) -> None:
        """Close the file; every record is there already."""
        self._file.close()
