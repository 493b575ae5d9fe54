"""What a job says of the machine that it needs."""

from typing import Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec
from finery.training.specs import processes


class ResourceSpec(Spec):
    """What a job occupies while it runs."""

    gpus: int | None = Field(None, ge=0)
    """GPUs that are this job's alone while it runs. None takes one where the machine has any; 0 runs on the CPU. A
    training job is trained on all of them at once, by one process each."""
    processes: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Processes that train together, each on its share of every batch; None is one per GPU, at least one. Several on a
    CPU need `gpus: 0`. Batch sizes stay those of the whole step; only `micro_batch_size` is per process."""
    cpu_threads: int | None = Field(None, ge=1)
    """Threads for matrix work, of all processes together; None takes all cores. One thread makes results
    bit-reproducible."""

    @property
    def num_processes(self) -> int:
        """Processes that train."""
        return processes.number(gpus=self.gpus, processes=self.processes)

    @model_validator(mode="after")
    def _one_process_per_gpu(self) -> Self:
        if self.processes is not None and self.processes != max(1, self.gpus or 0) and self.gpus != 0:
            raise ValueError(
                f"processes ({self.processes}) must be as many as gpus ({1 if self.gpus is None else self.gpus}), "
                f"which get one each; set gpus: {self.processes}, or gpus: 0 for processes on the CPU"
            )
        return self
