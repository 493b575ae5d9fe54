"""Where a job file names things: models, data, code, secrets. Pure.

Works on job files as plain data, complete or as sparse as somebody wrote them, so that uploading, resolving, waiting
for other jobs and making paths absolute all see the same places. A new place is added here and nowhere else.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from finery.core import refs
from finery.core.errors import InvalidSpec
from finery.training import rewards

Kind = Literal["model", "data", "code", "secret"]
CANDIDATES: Final = ("task", "candidates")
"""Where a comparison names its models."""
EVALUATED: Final = ("monitoring", "evaluation", "benchmarks")
"""Where a training job names the problems that its checkpoints are put through."""


class Reference(NamedTuple):
    """A text of a job file that names something."""

    path: tuple[str | int, ...]
    """Keys and positions that lead to it."""
    kind: Kind
    text: str

    @property
    def dotted(self) -> str:
        """Such as `task.rewards.0.params.model`."""
        return ".".join(map(str, self.path))


def find(job: Mapping[str, Any]) -> list[Reference]:
    """All references of a job, the model that it starts from first."""
    task = job["task"]
    base = task["model"]["base"]
    found = [Reference(("task", "model", "base"), "model", base)]
    data = task.get("data")
    if isinstance(data, Mapping) and "train" in data:
        found.append(Reference(("task", "data", "train"), "data", data["train"]))
    elif isinstance(data, str):
        found.append(Reference(("task", "data"), "data", data))
    candidates = task.get("candidates")
    if isinstance(candidates, Mapping):
        found += [
            Reference((*CANDIDATES, name), "model", text) for name, text in candidates.items() if isinstance(text, str)
        ]
    plan = (job.get("monitoring") or {}).get("evaluation") or {}
    for index, problems in enumerate(plan.get("benchmarks") or ()):
        if isinstance(problems, Mapping) and isinstance(problems.get("data"), str):
            found.append(Reference((*EVALUATED, index, "data"), "data", problems["data"]))
    parts = task.get("rewards")
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, Mapping):
            found += _of_reward(part, ("task", "rewards", index, "params"))
    return found


def checkpoints(job: Mapping[str, Any]) -> list[tuple[Reference, refs.CheckpointRef]]:
    """References to checkpoints of jobs."""
    parsed = [(found, refs.checkpoint(found.text)) for found in find(job) if found.kind == "model"]
    return [(found, ref) for found, ref in parsed if ref is not None]


def is_checkpoint(found: Reference) -> bool:
    """Whether it names a checkpoint of a job, which is resolved when the job starts."""
    return found.kind == "model" and refs.checkpoint(found.text) is not None


def replaced(job: Mapping[str, Any], new: Callable[[Reference], str]) -> dict[str, Any]:
    """A copy of the job in which each reference is what `new` makes of it."""
    made: dict[str, Any] = copy.deepcopy(dict(job))
    for reference in find(job):
        place: Any = made
        for key in reference.path[:-1]:
            place = place[key]
        place[reference.path[-1]] = new(reference)
    return made


def _of_reward(part: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Reference]:
    """References among the parameters of a reward: the fields that its params model marks with `refs.Names`."""
    try:
        fields = rewards.registry.get(str(part.get("name"))).params.model_fields
    except InvalidSpec:
        return
    params = part.get("params") or {}
    for name, field in fields.items():
        for mark in field.metadata:
            if isinstance(mark, refs.Names) and isinstance(params.get(name), str) and params[name]:
                yield Reference((*path, name), mark.kind, params[name])
