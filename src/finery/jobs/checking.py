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


def read(document: documents.Document, *, name: str = "job file") -> JobSpec | PipelineSpec:
    """Validate a document as a job or a pipeline, with the parameters of everything that it names.

    Raises:
        InvalidSpec: with the line of each problem.
    """
    if not isinstance(document.value, dict):
        raise InvalidSpec(f"{name} must be a mapping with name, kind and task, but it is {_kind(document.value)}")
    spec: JobSpec | PipelineSpec = parse(JobFile, document.value, what=name, lines=document.lines)
    jobs = spec.jobs if isinstance(spec, PipelineSpec) else (spec,)
    for index, job in enumerate(jobs):
        prefix = f"jobs.{index}." if isinstance(spec, PipelineSpec) else ""
        check_members(job, prefix, document.lines)
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


def check_members(job: JobSpec, prefix: str, lines: dict[str, int]) -> None:
    """Validate the parameters of rewards and benchmarks against the members' own models.

    Args:
        job: A valid job file.
        prefix: Of its paths, where it is part of a pipeline: `jobs.1.`.
        lines: 1-based line of each dotted path.

    Raises:
        InvalidSpec: with the place of the problem.
    """
    if isinstance(job, EvaluateJob):
        _at(f"{prefix}task.benchmark", lines, lambda: evaluation.check(job.task))
        return
    plan = job.monitoring.evaluation
    for index, problems in enumerate(plan.benchmarks if plan else ()):
        place = f"monitoring.evaluation.benchmarks.{index}"
        check_ = functools.partial(evaluation.check, problems, place=place)
        _at(f"{prefix}{place}", lines, check_)
    for index, reward in enumerate(job.task.rewards if isinstance(job.task, Rewarded) else ()):
        path = f"{prefix}task.rewards.{index}"
        _at(path, lines, lambda reward=reward: rewards.registry.params(reward.name, reward.params), inner="params")


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
