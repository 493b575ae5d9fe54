"""JSON Schema of a job file, as forms are drawn from it: with the parameters of every reward and benchmark. Pure."""

from typing import Any

from pydantic import TypeAdapter

from finery.core.registry import Registry
from finery.evaluation import benchmarks
from finery.jobs.checking import JobFile
from finery.training import rewards

_MEMBERS: dict[str, Registry[Any]] = {"RewardSpec": rewards.registry, "BenchmarkChoice": benchmarks.registry}
"""Definition with a `name` in an open set and free `params` -> the open set."""


def job_schema() -> dict[str, Any]:
    """The schema. What names a member of an open set is a union over `name`, each with its own `params`."""
    schema: dict[str, Any] = TypeAdapter(JobFile).json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    for name, registry in _MEMBERS.items():
        definitions |= _by_member(name, definitions[name], registry)
    return schema


def _by_member(name: str, definition: dict[str, Any], registry: Registry[Any]) -> dict[str, Any]:
    """Definitions in place of one: the union, an option for each member, and what the options refer to."""
    found: dict[str, Any] = {}
    mapping: dict[str, str] = {}
    for entry in registry.all():
        params = entry.params.model_json_schema(ref_template="#/$defs/{model}")
        found |= params.pop("$defs", {})
        properties = {
            **definition["properties"],
            "name": {"const": entry.name, "type": "string", "description": entry.summary},
            "params": {**params, "default": {}},
        }
        found[f"{name}.{entry.name}"] = {**definition, "properties": properties, "description": entry.summary}
        mapping[entry.name] = f"#/$defs/{name}.{entry.name}"
    found[name] = {
        "description": definition.get("description", ""),
        "discriminator": {"propertyName": "name", "mapping": mapping},
        "oneOf": [{"$ref": ref} for ref in mapping.values()],
    }
    return found
