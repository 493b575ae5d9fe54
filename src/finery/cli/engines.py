"""`finery check --engine`: what an engine makes of a job file, field by field."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from finery.cli import verl
from finery.core import console
from finery.core.errors import InvalidSpec
from finery.core.settings import Settings
from finery.core.spec import Spec
from finery.jobs.specs import TrainJob
from finery.training.verl import asking, translating

_DONE_HERE: Final = {
    "task.data.shuffle": "Finery brings the rows in their order",
    "monitoring.keep_checkpoints": "Finery keeps and removes checkpoints",
}
"""Field that verl is told nothing of -> who honours it."""


def told(spec: Spec, engine: str, *, notes: Sequence[str] = ()) -> dict[str, Any]:
    """What `engine` is told of a valid job.

    Args:
        spec: Complete.
        engine: Its name.
        notes: What in the job file has no effect.

    Returns:
        `fields`: one {field, value, key, told, done_here} for each setting, the last None or how Finery itself honours
        the field; `notes`; `composed_by`: the interpreter with which the engine's own code has checked the whole, None
        where there is none; `not_asked`: why it has not.

    Raises:
        InvalidSpec: it is no training job, or the engine's own code refuses it.
    """
    if not isinstance(spec, TrainJob):
        raise InvalidSpec("--engine is for training jobs, one in a file")
    if engine != "verl":  # which was checked when the file was read; TRL's own arguments are made where torch is
        notes = [*notes, "every field that is set is honoured; the fields of clusters are at their defaults"]
        return {"engine": engine, "fields": [], "settings": {}, "notes": notes, "composed_by": None, "not_asked": ""}
    translation = translating.translate(spec, inputs=translating.assumed(spec))
    plain = spec.model_dump(mode="json")
    fields = [
        {"field": field, "value": _value(plain, field), "key": key, "told": translation.get(key)}
        | {"done_here": _DONE_HERE.get(field) if translation.get(key) != _value(plain, field) else None}
        for key, field in translation.origins.items()
    ]
    settings = Settings()
    python = settings.verl_interpreter
    if python.is_file():
        asking.composed(translation, python)
    return {
        "engine": engine,
        "fields": sorted(fields, key=lambda one: one["field"]),
        "settings": {key: value for key, value in translation.settings.items() if key not in translation.origins},
        "notes": [*notes, *translation.notes],
        "composed_by": str(python) if python.is_file() else None,
        "not_asked": "" if python.is_file() else verl.absence(settings),
    }


def show(told: dict[str, Any], name: str) -> None:
    """Print it for people."""
    for one in told["fields"]:
        done = f"   ({one['done_here']} itself)" if one["done_here"] else ""
        console.say(f"{one['field']} = {one['value']}  ->  {one['key']} = {one['told']}{done}")
    for key, value in told["settings"].items():
        console.say(f"(always)  ->  {key} = {value}")
    for note in told["notes"]:
        console.say(f"note: {note}")
    by = f", composed and checked by verl itself ({told['composed_by']})" if told["composed_by"] else ""
    if told["not_asked"]:
        by = f"; verl itself was not asked: {told['not_asked']}"
    console.say(f"{name} is right for engine {told['engine']}{by}.")


def _value(plain: Any, field: str) -> Any:
    """The value at a dotted path, None where there is none. Keys may have dots themselves, as those of `native`."""
    if not field:
        return plain
    if not isinstance(plain, Mapping):
        return None
    fitting = [key for key in plain if field == key or field.startswith(f"{key}.")]
    found = (_value(plain[key], field.removeprefix(key).removeprefix(".")) for key in fitting)
    return next((value for value in found if value is not None), None)
