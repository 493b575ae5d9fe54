"""Checks the text of a job file and says what is wrong where. Used by the API and by `finery check`. Pure."""

import functools
from collections.abc import Iterator
from dataclasses import replace
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
from finery.training.verl import template, translating

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
    document = expanded(document, name=name)
    spec: JobSpec | PipelineSpec = parse(JobFile, document.value, what=name, lines=document.lines)
    jobs = spec.jobs if isinstance(spec, PipelineSpec) else (spec,)
    for index, job in enumerate(jobs):
        prefix = f"jobs.{index}." if isinstance(spec, PipelineSpec) else ""
        check_members(job, prefix, document.lines, is_run_here=is_run_here)
    return spec


def override(document: documents.Document, assignments: list[str], *, name: str = "job file") -> documents.Document:
    """Apply `a.b=1` to a job file, see `documents.override`. What no job has by that name is a field of the task:
    `model.base=tiny-char` means `task.model.base=tiny-char`. A file in verl's words is one in ours afterwards.

    Raises:
        InvalidSpec: an assignment is none, or fits nowhere.
    """
    if template.is_template(document.value):
        document = replace(document, value=template.lifted(document.value))
    if isinstance(document.value, dict) and isinstance(document.value.get("task"), dict):
        assignments = [f"task.{text}" if _is_of_task(text) else text for text in assignments]
    return expanded(documents.override(document, assignments), name=name)


def expanded(document: documents.Document, *, name: str = "job file") -> documents.Document:
    """A job file, or a pipeline, of which no job is in verl's words any more. Lines are those of verl's keys.

    Raises:
        InvalidSpec: a key of verl's cannot be read; with its line.
    """
    value = document.value
    if template.is_template(value):
        return _expanded(document, value, "", name)
    if isinstance(value, dict) and isinstance(value.get("jobs"), list):
        for index, job in enumerate(value["jobs"]):
            if template.is_template(job):
                document = _expanded(document, job, f"jobs.{index}.", name)
    return document


def _expanded(document: documents.Document, job: dict[str, Any], prefix: str, name: str) -> documents.Document:
    """The document with the one job at `prefix` read as the template that it is."""
    overridden = {path.removeprefix(prefix) for path in document.overridden if path.startswith(prefix)}
    lines = {path.removeprefix(prefix): line for path, line in document.lines.items() if path.startswith(prefix)}
    for path in list(lines):
        if path.partition(".")[0] in template.LIFTED:
            lines.setdefault(f"task.{path}", lines[path])
    try:
        reading = template.read(job, settled=overridden)
    except template.UnreadableTemplate as error:
        line = _line(f"task.{error.key}", lines)
        place = f"{name}, line {line}" if line else name
        raise InvalidSpec(f"{place}: {error}", (Problem(f"{prefix}{error.key}", str(error), line),)) from error
    made = dict(lines)
    for path, key in reading.origins.items():
        for below, line in lines.items():
            if below == f"task.{key}" or below.startswith(f"task.{key}."):
                made.setdefault(path + below.removeprefix(f"task.{key}"), line)
    for path in _leaves(reading.job):
        if "task.base_config" in lines and not _has_parent(path, {*made, *overridden} - {"", "task"}):
            made[path] = lines["task.base_config"]
    made = {path: line for path, line in made.items() if path not in overridden}
    value: Any = reading.job
    if prefix:
        value = {**document.value, "jobs": list(document.value["jobs"])}
        value["jobs"][int(prefix.split(".")[1])] = reading.job
    notes = tuple(f"{prefix}{note}" for note in reading.notes)
    all_lines = document.lines | {f"{prefix}{path}": line for path, line in made.items()}
    return replace(document, value=value, lines=all_lines, notes=document.notes + notes)


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of what holds nothing."""
    if not isinstance(value, dict) or not value:
        yield path
        return
    for key, child in value.items():
        yield from _leaves(child, f"{path}.{key}" if path else str(key))


def _has_parent(path: str, places: set[str]) -> bool:
    """Whether the path or what it lies in is one of the places."""
    while path and path not in places:
        path = path.rpartition(".")[0]
    return bool(path)


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
        raise placed(error, lines, prefix) from error


def placed(error: InvalidSpec, lines: dict[str, int], prefix: str = "") -> InvalidSpec:
    """What an engine refuses, with the lines of the job file.

    Args:
        error: Its problems have paths of one job.
        lines: 1-based line of each dotted path.
        prefix: Of the job's paths, where it is part of a pipeline.
    """
    named = ((f"{prefix}{one.path}" if one.path else "", one.message) for one in error.problems)
    found = tuple(Problem(path, told, _line(path, lines)) for path, told in named)
    line = f" (line {found[0].line})" if len(found) == 1 and found[0].line else ""
    return InvalidSpec(f"{error}{line}", found or (Problem(f"{prefix}task", str(error), lines.get("task")),))


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
