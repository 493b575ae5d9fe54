"""What a job says of the machines that it needs."""

from typing import Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec
from finery.training.specs import processes


class ResourceSpec(Spec):
    """What a job occupies while it runs."""

    nodes: int = Field(1, ge=1, le=4096, json_schema_extra=ADVANCED)
    """Machines that train together (engine verl); `gpus` and `processes` are those of each of them."""
    gpus: int | None = Field(None, ge=0)
    """GPUs that are this job's alone while it runs. None takes one where the machine has any; 0 runs on the CPU. A
    training job is trained on all of them at once, by one process each."""
    device: Literal["auto", "cpu", "cuda", "npu"] = Field("auto", json_schema_extra=ADVANCED)
    """What `gpus` are (engine verl): cuda, or npu for Ascend; cpu needs `gpus: 0`. `auto` is cuda, and cpu without
    any."""
    cluster: str | None = Field(None, min_length=1, max_length=100, json_schema_extra=ADVANCED)
    """Name of a configured Ray cluster to train on (engine verl); None starts one for the job on this machine."""
    processes: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Processes that train together, each on its share of every batch; None is one per GPU, at least one. Several on a
    CPU need `gpus: 0`. Batch sizes stay those of the whole step; only `micro_batch_size` is per process."""
    cpu_threads: int | None = Field(None, ge=1)
    """Threads for matrix work, of all processes together; None takes all cores. One thread makes results
    bit-reproducible."""

    @property
    def num_processes(self) -> int:
        """Processes of the job, on all machines together."""
        return self.nodes * processes.number(gpus=self.gpus, processes=self.processes)

    @model_validator(mode="after")
    def _one_process_per_gpu(self) -> Self:
        if self.processes is not None and self.processes != max(1, self.gpus or 0) and self.gpus != 0:
            raise ValueError(
                f"processes ({self.processes}) must be as many as gpus ({1 if self.gpus is None else self.gpus}), "
                f"which get one each; set gpus: {self.processes}, or gpus: 0 for processes on the CPU"
            )
        if self.device == "cpu" and self.gpus:
            raise ValueError(f"device: cpu has no GPUs; set gpus: 0, or device: auto to train on {self.gpus}")
        if self.device in ("cuda", "npu") and self.gpus == 0:
            raise ValueError(f"device: {self.device} needs gpus, and gpus is 0; set how many each machine has")
        return self
