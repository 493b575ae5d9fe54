"""What is expected of a job on the machine that it will run on, and what became of that when it has ended.

Services take the session first. Owns: which device a job gets, where its model and data lie, and the figures of ended
jobs. Does not own: the estimate itself (estimating), statistics of the figures (planner).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import orjson
import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session

from finery.core import machine, refs
from finery.core.errors import FineryError, InvalidSpec, NotFound
from finery.core.nvml import Gpu
from finery.core.rundir import ExitRecord, ResolvedInput
from finery.core.spec import parse
from finery.jobs import estimating, service
from finery.jobs.estimating import Estimate, Lengths
from finery.jobs.specs import JobSpec, TrainJob
from finery.jobs.tables import Attempt, Job, JobEstimate
from finery.models import resolving as models
from finery.planner import accelerators, calibrating, planning
from finery.planner.accelerators import Accelerator
from finery.planner.shapes import ModelShape
from finery.planner.specs import BandView, PlanRequest

log = logging.getLogger(__name__)
_BYTES_PER_TOKEN: Final = 3.0
"""Of text: English has 4 to 5, code and Chinese about 3."""
_SMALL_VOCABULARY: Final = 1000
"""A tokenizer with fewer entries has a token for each character."""
_TEMPLATE_TOKENS: Final = 40
"""That a chat template adds, with a system prompt of its own."""
_MOST_ROWS: Final = 20_000
"""That are read for their lengths."""
_OF_VERL: Final = "native/perf/max_memory_allocated_gb"
_LONGEST_CHAIN: Final = 50
"""Of jobs that each start from the one before."""


@dataclass(frozen=True)
class Host:
    """What a machine has to run jobs on."""

    gpus: tuple[Gpu, ...]
    memory_bytes: int


def this_host() -> Host:
    """The machine that this process runs on."""
    return Host(tuple(machine.gpus()), psutil.virtual_memory().total)


def device_of(spec: TrainJob, host: Host) -> tuple[Accelerator, int] | None:
    """The device that each process of a job gets on a machine, and how many; None where nothing is known of it.

    Args:
        spec: The job file.
        host: The machine that would run it.
    """
    resources = spec.resources
    if resources.cluster is not None or resources.nodes > 1 or resources.device == "npu":
        return None
    wanted = resources.gpus if resources.gpus is not None else min(1, len(host.gpus))
    if wanted > len(host.gpus):
        return None
    if wanted == 0:
        gib = host.memory_bytes / 2**30
        return replace(accelerators.find("CPU"), memory_gib=gib, usable_gib=gib), resources.num_processes
    return _accelerator(min(host.gpus[:wanted], key=lambda gpu: gpu.memory_total)), resources.num_processes


def _accelerator(gpu: Gpu) -> Accelerator:
    """A GPU of the driver in the table, with the memory that the driver says; one that the table lacks has no peaks."""
    gib = gpu.memory_total / 2**30
    try:
        return replace(accelerators.find(gpu.name), usable_gib=gib)
    except InvalidSpec:
        like = accelerators.find("A100-80G")
        unknown: dict[str, Any] = dict.fromkeys(("fp16", "fp32", "fp8", "int8"))
        name = gpu.name.lower().replace(" ", "-")
        # Mixed precision is what every GPU of these days computes in; how fast is not known.
        return replace(like, id=name, name=gpu.name, memory_gib=gib, usable_gib=gib, bf16=0.0, **unknown)


def expected(
    session: Session | None, spec: TrainJob, inputs: Mapping[str, ResolvedInput], host: Host
) -> Estimate | None:
    """The estimate for a job on a machine; None where nothing is known of what it would run on.

    Args:
        session: In which checkpoints of other jobs are looked up; None looks up none.
        spec: The job file.
        inputs: What its references stand for, as far as that is known.
        host: The machine that would run it.
    """
    place = device_of(spec, host)
    return None if place is None else on_device(session, spec, inputs, *place)[0]


def on_device(
    session: Session | None, spec: TrainJob, inputs: Mapping[str, ResolvedInput], device: Accelerator, num: int
) -> tuple[Estimate, ModelShape | None, Lengths]:
    """The estimate for a job on a kind of device, the model's shape if it is known, and lengths of the data.

    Args:
        session, spec, inputs: As of `expected`.
        device: What each of its processes runs on.
        num: Of them.
    """
    shape, why = None, ""
    try:
        shape = model_shape(session, spec, inputs)
    except FineryError as error:
        why = f"the shape of model {spec.task.model.base} is not known: {error}"
    data = inputs.get(spec.task.data.train)
    lengths = Lengths() if data is None or shape is None else lengths_of(Path(data.path), shape.vocabulary)
    made = estimating.estimate(spec, shape, device, num, lengths=lengths)
    return (replace(made, reason=why) if shape is None and why else made), shape, lengths


def warnings(
    session: Session | None, spec: JobSpec, inputs: Mapping[str, ResolvedInput], host: Host | None = None
) -> list[str]:
    """What to tell who submits a job that is not expected to fit; nothing where it fits or nothing is known.

    Args:
        session, spec, inputs: As of `expected`.
        host: The machine that would run it; None is this one.
    """
    if not isinstance(spec, TrainJob):
        return []
    place = device_of(spec, host or this_host())
    if place is None:
        return []
    made, shape, lengths = on_device(session, spec, inputs, *place)
    if shape is None or made.fits is not False:
        return []
    return [estimating.warning(made, estimating.would_fit(spec, shape, *place, lengths=lengths))]


def warnings_of(session: Session, job: Job) -> list[str]:
    """`warnings` of a job that is in the database, on this machine. Never raises: a warning must not block a job."""
    try:
        spec: JobSpec = parse(JobSpec, job.spec)
        inputs = {name: ResolvedInput.model_validate(found) for name, found in job.inputs.items()}
        return warnings(session, spec, inputs)
    except (FineryError, OSError, KeyError):
        log.exception("no estimate of job=%s", job.id)
        return []


def model_shape(session: Session | None, spec: TrainJob, inputs: Mapping[str, ResolvedInput]) -> ModelShape:
    """The shape of a job's model: from its folder, by its name, or from the job whose checkpoint it is.

    Raises:
        NotFound: nobody knows it. InvalidSpec: its config.json cannot be used.
    """
    base = spec.task.model.base
    for _ in range(_LONGEST_CHAIN):
        resolved = inputs.get(base)
        folder = models.local_folder(base, resolved) if resolved is not None else None
        ref = refs.checkpoint(base)
        if ref is None or (folder is not None and (folder / "config.json").is_file()):
            return estimating.shape_of(base, folder)
        if session is None or ref.job_id is None:
            raise NotFound(f"{base} is a checkpoint that is not known here")
        # A job ends with a model of the shape that it started from.
        job = service.get(session, ref.job_id)
        base = job.spec["task"]["model"]["base"]
        inputs = {name: ResolvedInput.model_validate(found) for name, found in job.inputs.items()}
    raise NotFound(f"{spec.task.model.base}: more than {_LONGEST_CHAIN} jobs start from each other")


def lengths_of(path: Path, vocabulary: int) -> Lengths:
    """About how many tokens the longest row of a file of canonical JSON lines has; nothing where it cannot be read.

    Args:
        path: One row a line, with `prompt` and what answers it.
        vocabulary: Entries of the tokenizer; few of them mean a token for each character.
    """
    each = 1.0 if vocabulary < _SMALL_VOCABULARY else _BYTES_PER_TOKEN
    prompt = total = 0
    try:
        with open(path, "rb") as file:
            for line in islice(file, _MOST_ROWS):
                row = orjson.loads(line) if line.strip() else {}
                asked = _num_bytes(row.get("prompt"))
                answers = [_num_bytes(row.get(name)) for name in ("response", "chosen", "rejected", "completion")]
                prompt = max(prompt, asked)
                total = max(total, asked + max(answers), _num_bytes(row.get("messages")))
    except (OSError, ValueError, AttributeError):
        return Lengths()
    if total == 0:
        return Lengths()
    return Lengths(
        prompt=round(prompt / each) + _TEMPLATE_TOKENS if prompt else None,
        total=round(total / each) + _TEMPLATE_TOKENS,
    )


def _num_bytes(value: Any) -> int:
    """Of all texts in a value."""
    return sum(len(text.encode()) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, Sequence):
        for one in value:
            yield from _texts(one)


def foreseen(session: Session, job_id: int, host: Host) -> Estimate | None:
    """What was to be expected of the newest attempt of a training job; None where nothing was. Reads its data.

    Args:
        session: Of the database.
        job_id: The job.
        host: The machine that it ran on.
    """
    job = service.get(session, job_id)
    if job.kind != "train":
        return None
    try:
        spec = parse(TrainJob, job.spec)
        told = service.attempt(session, job_id, job.attempt).run_spec["inputs"]
        known = {name: ResolvedInput.model_validate(one) for name, one in told.items()}
        return expected(session, spec, known, host)
    except (FineryError, OSError, KeyError):
        log.exception("no estimate of job=%s", job_id)
        return None


def keep(
    session: Session, job: Job, attempt: Attempt, exit_: ExitRecord, made: Estimate | None, *, now: datetime
) -> None:
    """Keep an estimate beside what a job took, once it has completed or run out of memory.

    Args:
        session: In which the job was settled.
        job: Settled.
        attempt: Its last one.
        exit_: How that has ended.
        made: Of `foreseen`.
        now: The moment.
    """
    outcome = _outcome(job)
    if made is None or outcome is None:
        return
    row = session.get(JobEstimate, job.id) or JobEstimate(job_id=job.id)
    row.attempt, row.outcome, row.reason, row.ended_at = attempt.number, outcome, made.reason, now
    row.device, row.engine, row.algorithm = made.device, made.engine, made.algorithm
    row.num_devices, row.usable_bytes = made.num_devices, round(made.usable_bytes)
    row.predicted_bytes = None if made.peak_bytes is None else round(made.peak_bytes)
    row.predicted_speed = made.tokens_per_second
    row.measured_bytes = None if outcome == "oom" else measured_bytes(job.last_values, exit_, made.device)
    speed = job.last_values.get("tokens_per_second")
    row.measured_speed = float(speed) if outcome == "completed" and isinstance(speed, int | float) else None
    session.add(row)
    session.flush()


def of_job(session: Session, job_id: int) -> JobEstimate | None:
    """What is kept of a job's estimate."""
    return session.get(JobEstimate, job_id)


def correction(
    session: Session, *, device: str, engine: str, algorithm: str, of: Literal["memory", "speed"] = "memory"
) -> calibrating.Correction | None:
    """How far estimates were off for jobs like this one; None where fewer than three have ended.

    Args:
        session: Of the database.
        device: Id of the accelerator.
        engine, algorithm: Of the job.
        of: What was estimated.
    """
    is_memory = of == "memory"
    predicted = JobEstimate.predicted_bytes if is_memory else JobEstimate.predicted_speed
    measured = JobEstimate.measured_bytes if is_memory else JobEstimate.measured_speed
    query = select(JobEstimate.device, JobEstimate.engine, JobEstimate.algorithm, predicted, measured).where(
        JobEstimate.device == device, predicted > 0, measured > 0
    )
    seen = [
        calibrating.Seen(where, how, what, float(said or 0), float(took or 0))
        for where, how, what, said, took in session.execute(query)
    ]
    return calibrating.choose(seen, device=device, engine=engine, algorithm=algorithm)


def band(session: Session, request: PlanRequest) -> BandView | None:
    """How far estimates were off for jobs like the one that is planned; None where too few have ended.

    Raises:
        InvalidSpec, NotFound: the request cannot be answered.
    """
    best = planning.find(request).recommendation.best
    engine = "trl" if best is None else best.engine
    alike = {"device": accelerators.find(request.gpu).id, "engine": engine, "algorithm": request.algorithm}
    memory, speed = (correction(session, **alike, of=one) for one in ("memory", "speed"))
    if memory is None:
        return None
    return BandView(
        num=memory.num,
        basis=memory.scope,
        ratio=memory.ratio,
        low=memory.low,
        high=memory.high,
        speed_ratio=None if speed is None else speed.ratio,
    )


def _outcome(job: Job) -> str | None:
    if job.state == "completed":
        return "completed"
    return "oom" if job.state == "failed" and "out of memory" in job.cause else None


def measured_bytes(values: Mapping[str, Any], exit_: ExitRecord, device: str) -> int | None:
    """What a training process took at most: on a CPU resident, on a GPU allocated by torch.

    Args:
        values: Newest metrics of the run.
        exit_: How the process ended.
        device: Id of the accelerator.
    """
    if device.startswith("cpu"):
        return exit_.peak_memory_bytes
    allocated, of_verl = values.get("peak_memory_bytes"), values.get(_OF_VERL)
    if isinstance(allocated, int | float):
        return round(allocated)
    return round(of_verl * 2**30) if isinstance(of_verl, int | float) else None
