"""Base classes of the wire types, and the one way from raw data to a spec."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError, model_validator

from finery.core import plain
from finery.core.errors import InvalidSpec, Problem

T = TypeVar("T")

_LONGEST_SHOWN: Final = 500
"""Characters of a value that a complaint about it repeats."""
ADVANCED: Final[dict[str, JsonValue]] = {"advanced": True}
"""`json_schema_extra` of a field that most people never touch; forms fold it away."""


class Spec(BaseModel):
    """Input that a user writes. Unknown keys are errors, and a spec never changes once parsed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _can_be_kept(cls, raw: Any) -> Any:
        found = plain.complaint(raw)
        if found:
            raise ValueError(found)
        return raw


class View(BaseModel):
    """Output of the API. Fields have no defaults, so that TypeScript sees them as present."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


def parse(type_: Any, raw: object, *, what: str = "job file", lines: Mapping[str, int] | None = None) -> Any:
    """Validate plain data as `type_`, a model class or an annotated union.

    Args:
        type_: What to validate as.
        raw: Plain data (dicts, lists, scalars).
        what: What the user calls the input; starts the message.
        lines: 1-based line of each dotted path, from `core.documents.load`.

    Raises:
        InvalidSpec: with one Problem for each thing that is wrong.
    """
    try:
        return TypeAdapter(type_).validate_python(raw)
    except ValidationError as error:
        raise invalid(error, raw, what=what, lines=lines) from error


def invalid(error: ValidationError, raw: object, *, what: str, lines: Mapping[str, int] | None = None) -> InvalidSpec:
    """Turn pydantic's report about `raw` into ours: dotted paths without union tags, plain words, lines."""
    problems = []
    for item in error.errors(include_url=False):
        path = _dotted(item["loc"], raw, is_missing=item["type"] == "missing")
        problems.append(Problem(path, _words(item), _line(path, lines)))
    first = problems[0]
    place = f" at {first.path}" if first.path else ""
    line = f" (line {first.line})" if first.line else ""
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    return InvalidSpec(f"{what} is not valid{place}{line}: {first.message}{more}", tuple(problems))


def _words(item: Any) -> str:
    kind, given = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return "unknown key; remove it or correct its spelling"
    if kind == "missing":
        return "this key is required and missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context = item["ctx"]
        known = context.get("expected_tags", "")
        return (
            f"{context['discriminator']} must be one of {known}" if known else f"{context['discriminator']} is missing"
        )
    message = str(item["msg"]).removeprefix("Value error, ")
    if isinstance(given, str | int | float | bool):
        shown = repr(given)
        return f"{message}, but it is {shown if len(shown) <= _LONGEST_SHOWN else f'{shown[:_LONGEST_SHOWN]}...'}"
    return message


def _dotted(loc: tuple[int | str, ...], raw: object, *, is_missing: bool) -> str:
    """Join a location. A discriminated union puts its tag into it; a tag names no key of `raw`, so it goes. As the last
    part it is told from a key by being one of the values there, unless that key `is_missing`."""
    parts: list[str] = []
    here = raw
    for index, part in enumerate(loc):
        is_item = isinstance(part, int) and isinstance(here, list | tuple) and part < len(here)
        is_key = isinstance(here, Mapping) and part in here
        if is_item or is_key:
            here = here[part]  # type: ignore[index]
        elif index < len(loc) - 1 or not is_missing and isinstance(here, Mapping) and part in here.values():
            continue
        parts.append(str(part))
    return ".".join(parts)


def _line(path: str, lines: Mapping[str, int] | None) -> int | None:
    """The line of the path, or of the nearest parent that was written."""
    while lines is not None and path:
        if path in lines:
            return lines[path]
        path = path.rpartition(".")[0]
    return None
