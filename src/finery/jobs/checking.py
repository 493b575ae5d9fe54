"""Checks the text of a job file and says what is wrong where. Used by the API and by `finery check`. Pure."""

import functools
from typing import Annotated, Any

from pydantic import Field

from finery.core import documents
from finery.core.errors import InvalidSpec, Problem
from finery.core.spec import parse
from finery.evaluation import service as evaluation
from finery.jobs.specs import CheckView, CompareJob, EvaluateJob, JobSpec, PipelineSpec, ProblemView, TrainJob
from finery.training import rewards
from finery.training.specs.base import Rewarded
from finery.training.verl import checking as verl_checking
from finery.training.verl import translating

JobFile = Annotated[TrainJob | EvaluateJob | CompareJob | PipelineSpec, Field(discriminator="kind")]
"""What a file may hold."""


def check(text: str) -> CheckView:
    """Verdict on a job file."""
    try:
        spec = read(documents.parse(text))
    except InvalidSpec as error:
        problems = error.problems or (Problem("", str(error)),)
        shown = [ProblemView(path=p.path, message=p.message, line=p.line) for p in problems]
        return CheckView(is_valid=False, problems=shown, spec=None)
    return CheckView(is_valid=True, problems=[], spec=spec.model_dump(mode="json"))


def read(document: documents.Document, *, name: str = "job file", is_run_here: bool = True) -> JobSpec | PipelineSpec:
    """Validate a document as a job or a pipeline, with the parameters of everything that it names.

    Args:
        document: What was read.
        name: What the user calls it.
        is_run_here: Whether an engine of ours is to run it, or what it is exported for.

    Raises:
        InvalidSpec: with the line of each problem.
    """
    if not isinstance(document.value, dict):
        raise InvalidSpec(f"{name} must be a mapping with name, kind and task, but it is {_kind(document.value)}")
    spec: JobSpec | PipelineSpec = parse(JobFile, document.value, what=name, lines=document.lines)
    jobs = spec.jobs if isinstance(spec, PipelineSpec) else (spec,)
    for index, job in enumerate(jobs):
        prefix = f"jobs.{index}." if isinstance(spec, PipelineSpec) else ""
        check_members(job, prefix, document.lines, is_run_here=is_run_here)
    return spec


def override(document: documents.Document, assignments: list[str]) -> documents.Document:
    """Apply `a.b=1` to a job file, see `documents.override`. What no job has by that name is a field of the task:
    `model.base=tiny-char` means `task.model.base=tiny-char`.

    Raises:
        InvalidSpec: an assignment is none, or fits nowhere.
    """
    if isinstance(document.value, dict) and isinstance(document.value.get("task"), dict):
        assignments = [f"task.{text}" if _is_of_task(text) else text for text in assignments]
    return documents.override(document, assignments)


def _is_of_task(assignment: str) -> bool:
    path, equals, _ = assignment.partition("=")
    return bool(path and equals) and path.partition(".")[0] not in TrainJob.model_fields


def check_members(job: JobSpec, prefix: str, lines: dict[str, int], *, is_run_here: bool = True) -> None:
    """Validate the parameters of rewards and benchmarks against the members' own models.

    Args:
        job: A valid job file.
        prefix: Of its paths, where it is part of a pipeline: `jobs.1.`.
        lines: 1-based line of each dotted path.
        is_run_here: As of `read`.

    Raises:
        InvalidSpec: with the place of the problem.
    """
    if isinstance(job, EvaluateJob):
        _at(f"{prefix}task.benchmark", lines, lambda: evaluation.check(job.task))
        return
    if is_run_here and isinstance(job, TrainJob) and job.task.engine == "verl":
        _translated(job, prefix, lines)
    plan = job.monitoring.evaluation
    for index, problems in enumerate(plan.benchmarks if plan else ()):
        place = f"monitoring.evaluation.benchmarks.{index}"
        check_ = functools.partial(evaluation.check, problems, place=place)
        _at(f"{prefix}{place}", lines, check_)
    for index, reward in enumerate(job.task.rewards if isinstance(job.task, Rewarded) else ()):
        path = f"{prefix}task.rewards.{index}"
        _at(path, lines, lambda reward=reward: rewards.registry.params(reward.name, reward.params), inner="params")


def _translated(job: TrainJob, prefix: str, lines: dict[str, int]) -> None:
    """Find what verl cannot honour, and numbers that do not divide."""
    try:
        inputs = translating.assumed(job)
        verl_checking.check(translating.translate(job, inputs=inputs), inputs=inputs, files=False)
    except InvalidSpec as error:
        placed = ((f"{prefix}{one.path}" if one.path else "", one.message) for one in error.problems)
        found = tuple(Problem(path, told, _line(path, lines)) for path, told in placed)
        raise InvalidSpec(str(error), found or (Problem(f"{prefix}task", str(error), lines.get("task")),)) from error


def _line(path: str, lines: dict[str, int]) -> int | None:
    """Of the path, or of the nearest parent that was written."""
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path)


def _at(path: str, lines: dict[str, int], check_: Any, *, inner: str = "") -> None:
    """Run a check and give its complaints the place in the file: `path`, or the fields below `inner` that it names."""
    try:
        check_()
    except InvalidSpec as error:
        named = [problem for problem in error.problems if inner and problem.path]
        places = [(f"{path}.{inner}.{problem.path}", problem.message) for problem in named] or [(path, str(error))]
        problems = tuple(Problem(place, told, lines.get(place, lines.get(path))) for place, told in places)
        raise InvalidSpec(str(error), problems) from error


def _kind(value: object) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"
