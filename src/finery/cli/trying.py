"""The pre-flight of a job: two real optimizer steps on the longest rows of its data, measured against the estimate.

The job runs as it would under `finery run`, in a child process under a supervisor, in a run directory that is deleted
afterwards; nothing is registered. Owns: which rows are the longest batch, and what is said of the outcome. Does not
own: the estimate (jobs).
"""

import heapq
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from finery.cli import run as running
from finery.core import console, documents, refs
from finery.core.checkpoints import file_sha256
from finery.core.errors import InvalidSpec
from finery.core.rundir import ExitRecord, ResolvedInput, RunSpec
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.jobs import checking, clusters, estimating, expecting, references, states
from finery.jobs.estimating import Estimate, Lengths
from finery.jobs.specs import PipelineSpec, TrainJob
from finery.planner.accelerators import Accelerator
from finery.planner.memory import GIB
from finery.training.specs import PpoSpec
from finery.training.specs.groups import GroupSpec

STEPS: Final = 2
"""The first has no optimizer states yet, so that the second is the one that counts."""
_CANDIDATES: Final = 4
"""Times as many rows as a batch has are counted in tokens: those with the longest texts."""
_FEWEST_CANDIDATES: Final = 256
_TRUNCATED: Final = "response_truncated_fraction"


@dataclass(frozen=True)
class Trial:
    """What two steps took."""

    state: str
    """`completed`, or how it ended."""
    cause: str
    is_oom: bool
    measured_bytes: int | None
    """At the peak: on a CPU resident in the training process, on a GPU allocated by torch. None where it ran out."""
    seconds_per_step: float | None
    """Of the second step."""
    tokens_per_second: float | None
    estimate: Estimate | None
    """None where nothing is known of this machine's devices."""
    lengths: Lengths
    """Of the longest batch, counted."""
    truncated: float | None
    """Share of the completions that were as long as they may be; None where none are generated."""
    advice: tuple[str, ...]
    """Changes with which it would fit, if it does not."""

    @property
    def fits(self) -> bool | None:
        """Whether what was measured leaves the margin of the device; None where that is not known."""
        if self.is_oom:
            return False
        if self.measured_bytes is None or self.estimate is None:
            return None
        return self.measured_bytes <= self.estimate.usable_bytes


def try_job(job: Path | TrainJob, *, overrides: Sequence[str] = (), settings: Settings | None = None) -> Trial:
    """Run two optimizer steps of a training job on the longest batch of its data, on this machine.

    Args:
        job: A job file, or a job whose paths are absolute.
        overrides: Fields of the job file to change, as `finery run` takes them.
        settings: Of this installation.

    Raises:
        InvalidSpec: it is no training job, or it cannot run on this machine.
        NotFound, Forbidden, Unavailable: a reference cannot be resolved.
    """
    settings = settings or Settings()
    spec = job if isinstance(job, TrainJob) else _read(job, overrides)
    resolver = running.local_resolver(settings)
    inputs = {**resolver.inputs(spec, allow_paths=True), **resolver.checkpoint(spec)}
    with tempfile.TemporaryDirectory(prefix="finery-try-") as folder:
        rows, lengths = _longest(spec, inputs)
        inputs = {**inputs, spec.task.data.train: _written(rows, Path(folder) / "rows.jsonl")}
        follower, exit_ = running.attempted(
            Path(folder) / "attempt-1", _run_spec(spec, inputs, settings), settings, quiet=True, hear=lambda *_: None
        )
    return _trial(spec, inputs, lengths, follower, exit_)


def show(trial: Trial) -> None:
    """Tell what was measured beside what was estimated, and whether the job fits."""
    made = trial.estimate
    if made is not None and made.peak_bytes is not None:
        console.say(f"estimated: {made.peak_bytes / GIB:.2f} GiB of each device, while it has to {made.peak_phase}")
    elif made is not None:
        console.say(f"estimated: nothing; {made.reason}")
    if trial.measured_bytes is not None:
        ratio = ""
        if made is not None and made.peak_bytes:
            ratio = f", {trial.measured_bytes / made.peak_bytes:.2f} of the estimate"
        console.say(f"measured:  {trial.measured_bytes / GIB:.2f} GiB{ratio}")
    if trial.seconds_per_step is not None:
        speed = f", {trial.tokens_per_second:,.0f} tokens/s" if trial.tokens_per_second else ""
        console.say(f"a step:    {trial.seconds_per_step:.3g} s{speed}")
    if trial.truncated is not None and trial.truncated < 1:
        console.say(
            f"{1 - trial.truncated:.0%} of the completions ended before max_new_tokens, so that a later step may take "
            "more than these did"
        )
    console.say(verdict(trial))
    for change in trial.advice:
        console.say(f"would fit: {change}")


def document(trial: Trial) -> dict[str, Any]:
    """A trial as plain data."""
    return {
        "state": trial.state,
        "fits": trial.fits,
        "verdict": verdict(trial),
        "measured_bytes": trial.measured_bytes,
        "seconds_per_step": trial.seconds_per_step,
        "tokens_per_second": trial.tokens_per_second,
        "tokens_of_longest_row": trial.lengths.total,
        "truncated_share": trial.truncated,
        **estimated(trial.estimate, trial.advice),
    }


def estimates(
    path: Path, *, overrides: Sequence[str] = (), device: Accelerator | None = None
) -> list[tuple[str, Estimate | None, tuple[str, ...]]]:
    """What each training job of a file is expected to take of each of its devices, with changes that would fit.

    Args:
        path: A job file, or a pipeline. Its data is read where it is a file; nothing is downloaded.
        overrides: Fields of the file to change.
        device: What it runs on; None is what this machine has.

    Returns:
        Name, estimate and changes of each; no estimate where nothing is known of the devices that it would run on.

    Raises:
        InvalidSpec: there is no training job in it.
    """
    document = checking.override(documents.load(path), list(overrides), name=path.name)
    spec = checking.read(document, name=path.name)
    found: list[tuple[str, Estimate | None, tuple[str, ...]]] = []
    bases: dict[str, str] = {}
    for job in spec.jobs if isinstance(spec, PipelineSpec) else (spec,):
        if not isinstance(job, TrainJob):
            continue
        ref = refs.checkpoint(job.task.model.base)
        if ref is not None and ref.job in bases:  # a job ends with a model of the shape that it started from
            job = _with_base(job, bases[ref.job])
        bases[job.name] = job.task.model.base
        found.append((job.name, *_estimate(_absolute(job, path), device)))
    if not found:
        raise InvalidSpec(f"{path.name} has no job of kind train; only these are estimated")
    return found


def _with_base(job: TrainJob, base: str) -> TrainJob:
    raw = job.model_dump(mode="json")
    raw["task"]["model"]["base"] = base
    made: TrainJob = parse(TrainJob, raw)
    return made


def _estimate(spec: TrainJob, device: Accelerator | None) -> tuple[Estimate | None, tuple[str, ...]]:
    named = references.find(spec.model_dump(mode="json"))
    inputs = {
        one.text: ResolvedInput(kind="file", path=one.text, sha256="") for one in named if Path(one.text).is_absolute()
    }
    place = expecting.device_of(spec, expecting.this_host())
    if device is not None:
        place = device, spec.resources.num_processes
    if place is None:
        return None, ()
    made, shape, lengths = expecting.on_device(None, spec, inputs, *place)
    if shape is None or made.fits is not False:
        return made, ()
    return made, estimating.would_fit(spec, shape, *place, lengths=lengths)


def estimated(made: Estimate | None, changes: Sequence[str]) -> dict[str, Any]:
    """An estimate as plain data."""
    if made is None:
        return {"estimate": None, "would_fit": list(changes)}
    return {
        "estimate": {
            "device": made.device_name,
            "num_devices": made.num_devices,
            "fits": made.fits,
            "peak_bytes": made.peak_bytes,
            "peak_phase": made.peak_phase,
            "usable_bytes": made.usable_bytes,
            "tokens_per_second": made.tokens_per_second,
            "phases": {phase.name: {name: round(size) for name, size in phase.parts.items()} for phase in made.phases},
            "reason": made.reason,
        },
        "would_fit": list(changes),
    }


def show_estimate(made: Estimate | None, changes: Sequence[str]) -> None:
    """Tell what a job is expected to take."""
    if made is None:
        console.say("nothing is known of the devices that this job would run on: a cluster, NPUs, or GPUs elsewhere")
        return
    console.say(f"{made.num_devices} x {made.device_name}, {made.usable_bytes / GIB:.1f} GiB of each can be used")
    if made.peak_bytes is None:
        console.say(f"no estimate: {made.reason}")
        return
    for phase in made.phases:
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in phase.parts.items() if size >= 0.005 * GIB)
        mark = "*" if phase.name == made.peak_phase and len(made.phases) > 1 else " "
        console.say(f" {mark} {phase.name:14} {phase.allocated / GIB:7.2f} GiB   {parts}")
    if made.tokens_per_second is not None:
        console.say(f"   about {made.tokens_per_second:,.0f} tokens/s")
    if made.lengths.total is None and made.lengths.prompt is None:
        console.say("   the data was not read: rows are taken to be as long as the job file allows")
    console.say("it fits" if made.fits else "it does not fit")
    for change in changes:
        console.say(f"would fit: {change}")


def verdict(trial: Trial) -> str:
    """Whether the job fits, in a sentence."""
    if trial.is_oom:
        return f"the job does not fit: {trial.cause}"
    if trial.state != "completed":
        return f"the trial {trial.state}: {trial.cause}"
    if trial.fits is None or trial.estimate is None:
        return "two steps went well; how much memory the device has is not known"
    usable = f"{trial.estimate.usable_bytes / GIB:.1f} GiB of {trial.estimate.device_name} can be used"
    return f"the job fits: {usable}" if trial.fits else f"the job fits without the margin at best: {usable}"


def _read(path: Path, overrides: Sequence[str]) -> TrainJob:
    """The job of a file, with absolute paths."""
    document = checking.override(documents.load(path), list(overrides), name=path.name)
    spec = checking.read(document, name=path.name)
    if not isinstance(spec, TrainJob):
        raise InvalidSpec(f"{path.name} is of kind {spec.kind}; only a single job of kind train can be tried")
    return _absolute(spec, path)


def _absolute(spec: TrainJob, path: Path) -> TrainJob:
    found = running.with_absolute_paths(spec, path.resolve().parent)
    assert isinstance(found, TrainJob)
    return found


def _run_spec(spec: TrainJob, inputs: dict[str, ResolvedInput], settings: Settings) -> RunSpec:
    """The job for two steps, in the order of the file."""
    job = spec.model_dump(mode="json")
    # Nothing acts on two steps of the same rows.
    job["monitoring"] |= {"evaluation": None, "keep_best": 0, "exports": [], "rules": []}
    job["task"]["data"]["shuffle"] = False
    job["task"]["optim"] |= {"steps": STEPS, "warmup_steps": 0}
    return RunSpec(
        job_id="trial",
        attempt=1,
        job=job,
        inputs=inputs,
        seed=spec.seed or 0,
        gpus=running.gpus_of(job),
        cluster=clusters.target(job, settings),
        grace_seconds=spec.grace_seconds,
    )


def _trial(
    spec: TrainJob, inputs: dict[str, ResolvedInput], lengths: Lengths, follower: "running.Follower", exit_: ExitRecord
) -> Trial:
    """What came of it."""
    end = states.outcome(exit_, phase=follower.phase, message=follower.message, stop_verb=None, step=follower.step)
    is_oom = end.state != "completed" and "out of memory" in end.cause
    place = expecting.device_of(spec, expecting.this_host())
    made, measured = None, None
    advice: tuple[str, ...] = ()
    if place is not None:
        device, num = place
        shape = expecting.model_shape(None, spec, inputs)
        made = estimating.estimate(spec, shape, device, num, lengths=lengths)
        if end.state == "completed":
            measured = expecting.measured_bytes(follower.values, exit_, device.id)
        does_not_fit = is_oom or (measured is not None and measured > made.usable_bytes)
        if does_not_fit:
            advice = estimating.would_fit(spec, shape, device, num, lengths=lengths)
    return Trial(
        state=end.state,
        cause=end.cause,
        is_oom=is_oom,
        measured_bytes=measured,
        seconds_per_step=_number(follower.values.get("seconds_per_step")),
        tokens_per_second=_number(follower.values.get("tokens_per_second")),
        estimate=made,
        lengths=lengths,
        truncated=_number(follower.values.get(_TRUNCATED)),
        advice=advice,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _written(rows: Sequence[dict[str, Any]], path: Path) -> ResolvedInput:
    """The rows of both steps as canonical JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*rows] * STEPS), encoding="utf-8")
    return ResolvedInput(kind="file", path=str(path), sha256=file_sha256(path))


def _longest(spec: TrainJob, inputs: dict[str, ResolvedInput]) -> tuple[list[dict[str, Any]], Lengths]:
    """The rows of a batch with the most tokens, and how many these have."""
    # These import torch and transformers, which a command line that tries nothing has no use for.
    from finery.models import loading  # noqa: PLC0415

    task = spec.task
    folder = loading.materialize(inputs[task.model.base], task.model.base)
    tokenizer = loading.load_tokenizer(folder, task.model.template)
    num = _batch_rows(spec)
    with open(inputs[task.data.train].path, "rb") as file:
        lines = heapq.nlargest(max(_CANDIDATES * num, _FEWEST_CANDIDATES), (line for line in file if line.strip()), len)
    if not lines:
        raise InvalidSpec(f"{task.data.train} has no rows; training needs at least one")
    counted = [(_tokens(orjson.loads(line), tokenizer, task.data.max_prompt_tokens), line) for line in lines]
    counted.sort(key=lambda one: one[0][1], reverse=True)
    kept = counted[:num]
    total = min(kept[0][0][1], task.data.max_tokens)
    longest = Lengths(prompt=max(prompt for (prompt, _), _ in kept) or None, total=max(2, total))
    rows = [orjson.loads(line) for _, line in kept]
    return [rows[number % len(rows)] for number in range(num)], longest


def _batch_rows(spec: TrainJob) -> int:
    """Rows of the data that a step, or a batch of rollouts, takes."""
    task = spec.task
    if isinstance(task, GroupSpec):
        return task.prompts_per_step
    if isinstance(task, PpoSpec):
        return task.prompts_per_batch
    return int(getattr(task, "batch_size", 1))


def _tokens(row: dict[str, Any], tokenizer: Any, max_prompt: int) -> tuple[int, int]:
    """Tokens of a row's prompt and of the whole row with its longest answer, as training renders them."""
    from finery.models import chat  # noqa: PLC0415 - imports transformers

    if "messages" in row:
        ids, _ = chat.render_example(tokenizer, row["messages"], loss_on="all")
        return 0, len(ids)
    answers = [row[name] for name in ("response", "chosen", "rejected", "completion") if isinstance(row.get(name), str)]
    if not answers:
        prompt = min(max_prompt, len(chat.render_prompt(tokenizer, row["prompt"])))
        return prompt, prompt
    made = [chat.render_completion(tokenizer, row["prompt"], answer) for answer in answers]
    return len(made[0][0]), max(len(prompt) + len(answer) for prompt, answer in made)
