"""The dry run of a job file: everything that submitting it does, short of queueing. Downloads no model."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finery.core import documents, refs
from finery.core.db import Database
from finery.core.errors import FineryError, InvalidSpec, Problem
from finery.core.rundir import ResolvedInput
from finery.jobs import checking, expecting, references, service, submitting
from finery.jobs.references import Reference
from finery.jobs.resolving import Resolver, data_formats
from finery.jobs.specs import (
    CompareJob,
    DryRunJob,
    DryRunView,
    JobSpec,
    PipelineSpec,
    ProblemView,
    ResolvedView,
    TrainJob,
)
from finery.models import resolving as models
from finery.training.specs import CompareSpec, PpoSpec, TrainTask
from finery.training.specs.groups import GroupSpec


def dry_run(text: str, *, db: Database, resolver: Resolver) -> DryRunView:
    """Say what submitting a job file would do: what its references stand for, how much work it is, what is wrong."""
    try:
        document = documents.parse(text)
        spec = checking.read(document)
    except InvalidSpec as error:
        problems = error.problems or (Problem("", str(error)),)
        return DryRunView(is_valid=False, problems=[_shown(problem) for problem in problems], jobs=[])
    rehearsal = _Rehearsal(db, resolver, document.lines)
    if isinstance(spec, PipelineSpec):
        jobs = [rehearsal.job(job, f"jobs.{index}.") for index, job in enumerate(spec.jobs)]
    else:
        jobs = [rehearsal.job(spec, "")]
    return DryRunView(is_valid=not rehearsal.problems, problems=rehearsal.problems, jobs=jobs)


class _Rehearsal:
    """Goes through the jobs of one file and collects what is wrong with them."""

    def __init__(self, db: Database, resolver: Resolver, lines: Mapping[str, int]):
        self.problems: list[ProblemView] = []
        self._db = db
        self._resolver = resolver
        self._lines = lines
        self._earlier: set[str] = set()
        self._inputs: dict[str, ResolvedInput] = {}

    def job(self, spec: JobSpec, prefix: str) -> DryRunJob:
        """One job, after those that were gone through before it."""
        if prefix and spec.name in self._earlier:
            self._complain(f"{prefix}name", InvalidSpec(f"{spec.name!r} is used twice in this pipeline"))
        views: list[ResolvedView] = []
        self._inputs = {}
        for found in references.find(spec.model_dump(mode="json")):
            try:
                views += self._views(found, spec)
            except FineryError as error:
                self._complain(f"{prefix}{found.dotted}", error)
        try:
            self._resolver.check_code(spec)
        except FineryError as error:
            self._complain(f"{prefix}task.rewards", error)
        try:
            with self._db.read() as session:
                submitting.existing(session, [item for item in spec.after if item not in self._earlier])
        except FineryError as error:
            self._complain(f"{prefix}after", error)
        self._earlier.add(spec.name)
        with self._db.read() as session:
            warnings = expecting.warnings(session, spec, self._inputs)
        return _work(spec, views).model_copy(update={"warnings": warnings})

    def _views(self, found: Reference, spec: JobSpec) -> list[ResolvedView]:
        """What a reference stands for; nothing to show of a secret, which only has to be there."""
        if found.kind == "secret":
            self._resolver.check_secret(found.text)
            return []
        ref = refs.checkpoint(found.text) if found.kind == "model" else None
        if ref is not None:
            return [self._checkpoint(found, ref)]
        resolved = self._resolver.input(found, data_formats(spec, found), allow_paths=False)
        self._inputs[found.text] = resolved
        return [_model(found.text, resolved) if found.kind == "model" else _file(found, resolved)]

    def _checkpoint(self, found: Reference, ref: refs.CheckpointRef) -> ResolvedView:
        """A checkpoint that is there, or one that another job will have made."""
        later = ResolvedView(
            ref=found.text,
            role="model",
            kind="checkpoint",
            availability="later",
            sha256=None,
            num_rows=None,
            num_bytes=None,
        )
        if ref.job in self._earlier:
            return later
        with self._db.read() as session:
            if submitting.is_awaited(session, found, ref):
                return later
            row = service.find_checkpoints(session, ref)[0]
        return later.model_copy(update={"availability": "ready", "num_bytes": row.num_bytes})

    def _complain(self, path: str, error: FineryError) -> None:
        if all(problem.message != str(error) for problem in self.problems):
            self.problems.append(_shown(Problem(path, str(error), self._line(path))))

    def _line(self, path: str) -> int | None:
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path.rpartition(".")[0]
        return None


def _model(ref: str, resolved: ResolvedInput) -> ResolvedView:
    folder = models.local_folder(ref, resolved)
    is_here = folder.is_dir()
    return ResolvedView(
        ref=ref,
        role="model",
        kind=resolved.kind,
        availability="ready" if is_here else "build" if resolved.kind == "builtin" else "download",
        sha256=resolved.sha256,
        num_rows=None,
        num_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if is_here else None,
    )


def _file(found: Reference, resolved: ResolvedInput) -> ResolvedView:
    path = Path(resolved.path)
    num_rows = None
    if found.kind == "data":
        with open(path, "rb") as file:
            num_rows = sum(1 for line in file if line.strip())
    return ResolvedView(
        ref=found.text,
        role="data" if found.kind == "data" else "code",
        kind=resolved.kind,
        availability="ready",
        sha256=resolved.sha256,
        num_rows=num_rows,
        num_bytes=path.stat().st_size,
    )


def _work(spec: JobSpec, inputs: list[ResolvedView]) -> DryRunJob:
    """How much one job does, as far as its data is known."""
    num_rows = next((item.num_rows for item in inputs if item.role == "data"), None)
    if isinstance(spec, TrainJob):
        return DryRunJob(name=spec.name, inputs=inputs, warnings=[], **training_work(spec.task, num_rows))
    if num_rows is not None and spec.task.limit is not None:
        num_rows = min(num_rows, spec.task.limit)
    if isinstance(spec, CompareJob):
        return DryRunJob(name=spec.name, inputs=inputs, **_comparing_work(spec.task, num_rows))
    task = spec.task
    return DryRunJob(
        name=spec.name,
        inputs=inputs,
        num_steps=None if num_rows is None else math.ceil(num_rows / task.batch_size),
        num_rows=num_rows,
        rows_per_step=task.batch_size,
        completions_per_step=None,
        epochs=None if num_rows is None else 1.0,
        warnings=[],
    )


def _comparing_work(task: CompareSpec, num_rows: int | None) -> dict[str, Any]:
    """A step is one model, which answers every prompt."""
    return {
        "num_steps": 1 + len(task.candidates),
        "num_rows": num_rows,
        "rows_per_step": num_rows,
        "completions_per_step": num_rows and num_rows * task.rollout.completions_per_prompt,
        "epochs": 1.0,
        "warnings": [],
    }


def training_work(task: TrainTask, num_rows: int | None) -> dict[str, Any]:
    """Steps, rows and completions of a step, and passes over the data, of a training. Pure."""
    steps = task.optim.steps
    if isinstance(task, GroupSpec):
        rows_per_step = task.prompts_per_step
        completions = rows_per_step * task.rollout.completions_per_prompt
        visits = math.ceil(steps / task.num_iterations) * rows_per_step
    elif isinstance(task, PpoSpec):
        rows_per_step, completions = task.prompts_per_batch, task.num_completions
        visits = math.ceil(steps / task.steps_per_batch) * rows_per_step
    else:
        rows_per_step, completions = task.batch_size, None
        visits = steps * rows_per_step
    return {
        "num_steps": steps,
        "num_rows": num_rows,
        "rows_per_step": rows_per_step,
        "completions_per_step": completions,
        "epochs": visits / num_rows if num_rows else None,
    }


def _shown(problem: Problem) -> ProblemView:
    return ProblemView(path=problem.path, message=problem.message, line=problem.line)
