"""Finds, sorts and groups jobs by what they are, what they were given and what they measured.

A query is words and conditions, all of which must hold:

    state:failed,lost tag:baseline task.optim.learning_rate>1e-4 reward_mean>=0.5 created>3d -name~test sums

A word is looked for in names, tags, notes and algorithms. A condition is field, operator, value: `:` and `=` any of
several values, `!=` none of them, `~` contains, `<` `<=` `>` `>=` compare numbers and times (`2026-11-21`, `3d` ago).
A field is one of FIELDS, a key of the job file from `task.`, `resources.` or `monitoring.` on, or the name of a metric,
whose newest value counts. `-` before a word or condition turns it round. Values with spaces stand in double quotes.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Float,
    FunctionElement,
    SQLColumnExpression,
    String,
    and_,
    cast,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session

from finery.core.errors import InvalidSpec
from finery.jobs.tables import Attempt, Job

MAX_TERMS: Final = 20
"""Conditions and words of one query."""
SPEC_ROOTS: Final = ("task", "resources", "monitoring")

_TERM = re.compile(
    r'(?P<not>-?)(?:(?P<field>[A-Za-z_][\w./-]*?)(?P<op>!=|>=|<=|[:=<>~]))?(?P<value>"[^"]*"|[^\s"]+)(?=\s|$)'
)
_FIELD = re.compile(r"^[A-Za-z_][\w./-]*$")
_INDEX = re.compile(r"[0-9]{1,9}")
_AGO = re.compile(r"^(\d+)([mhdw])$")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_COMPARISONS: Final[dict[str, Callable[[Any, Any], ColumnElement[bool]]]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@dataclass(frozen=True)
class Group:
    """Jobs that have the same value of a field."""

    value: str | None
    num_jobs: int
    mean: float | None
    """Of the metric's newest value over the jobs that have it."""
    low: float | None
    high: float | None


def find(session: Session, *, query: str, sort: str, now: datetime, limit: int, offset: int) -> tuple[list[Job], int]:
    """Jobs that match, pinned ones first, and how many there are in all.

    Args:
        session: Where to look.
        query: As above; empty takes all that are not archived and no evaluations that training jobs asked for:
            `parent:41` finds those of job 41, `parent>0` those of all.
        sort: Fields separated by commas, `-` for the largest first; jobs without a value come last. Newest first when
            it is empty.
        now: What `3d` is counted from.
        limit: At most so many.
        offset: Matches to skip.

    Raises:
        InvalidSpec: the query or the order cannot be understood.
    """
    matching = select(Job).where(_conditions(query, now))
    total = session.scalar(select(func.count()).select_from(matching.with_only_columns(Job.id).subquery())) or 0
    ordered = matching.order_by(Job.is_pinned.desc(), *_order(sort), Job.id.desc())
    return list(session.scalars(ordered.limit(limit).offset(offset))), total


def group(session: Session, *, query: str, by: str, metric: str, now: datetime, limit: int = 200) -> list[Group]:
    """Matching jobs by the value of a field, with the mean and range of a metric's newest value.

    Raises:
        InvalidSpec: the query or a field cannot be understood.
    """
    key, value = _field(by).text, _JsonNumber(Job.last_values, (_checked(metric),))
    rows = session.execute(
        select(key, func.count(), func.avg(value), func.min(value), func.max(value))
        .where(_conditions(query, now))
        .group_by(key)
        .order_by(func.count().desc(), key)
        .limit(limit)
    )
    return [Group(*row) for row in rows]


class _JsonPath(FunctionElement[Any]):
    """What lies under a path in a JSON column. The names of the path are checked: they become part of the statement."""

    inherit_cache = False

    def __init__(self, column: SQLColumnExpression[Any], path: Sequence[str]):
        assert all(_FIELD.match(part) or _INDEX.fullmatch(part) for part in path)
        super().__init__(column)
        self.path = tuple(path)

    @property
    def sqlite_path(self) -> str:
        return "'$" + "".join(f"[{part}]" if _INDEX.fullmatch(part) else f'."{part}"' for part in self.path) + "'"

    @property
    def postgresql_path(self) -> str:
        return "'{" + ",".join(f'"{part}"' for part in self.path) + "}'"


class _JsonNumber(_JsonPath):
    """The number there; null where there is none, or something else."""

    inherit_cache = False
    type = Float()


class _JsonText(_JsonPath):
    """What is there, as text."""

    inherit_cache = False
    type = String()


@compiles(_JsonNumber, "sqlite")
def _(element: _JsonNumber, compiler: Any, **options: Any) -> str:
    column, path = compiler.process(element.clauses, **options), element.sqlite_path
    return f"CASE WHEN json_type({column}, {path}) IN ('integer', 'real') THEN json_extract({column}, {path}) END"


@compiles(_JsonText, "sqlite")
def _(element: _JsonText, compiler: Any, **options: Any) -> str:
    column, path = compiler.process(element.clauses, **options), element.sqlite_path
    is_word = f"json_type({column}, {path}) IN ('true', 'false')"
    value = f"CAST(json_extract({column}, {path}) AS TEXT)"
    return f"CASE WHEN {is_word} THEN json_type({column}, {path}) ELSE {value} END"


@compiles(_JsonNumber, "postgresql")
def _(element: _JsonNumber, compiler: Any, **options: Any) -> str:
    column, path = compiler.process(element.clauses, **options), element.postgresql_path
    is_number = f"json_typeof({column} #> {path}) = 'number'"
    return f"CASE WHEN {is_number} THEN ({column} #>> {path})::double precision END"


@compiles(_JsonText, "postgresql")
def _(element: _JsonText, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)} #>> {element.postgresql_path})"


@dataclass(frozen=True)
class _Field:
    """How a field is read: as text, and as a number or a time where it can be one."""

    text: SQLColumnExpression[Any]
    number: SQLColumnExpression[Any] | None = None
    time: SQLColumnExpression[Any] | None = None


_DATA = func.coalesce(_JsonText(Job.spec, ("task", "data", "train")), _JsonText(Job.spec, ("task", "data")))
_HOST = select(Attempt.host).where(Attempt.job_id == Job.id, Attempt.number == Job.attempt).scalar_subquery()

FIELDS: Final[dict[str, _Field]] = {
    "id": _Field(cast(Job.id, String), number=Job.id),
    "name": _Field(Job.name),
    "state": _Field(Job.state),
    "kind": _Field(func.coalesce(Job.algorithm, Job.kind)),
    "cause": _Field(Job.cause),
    "notes": _Field(Job.notes),
    "pipeline": _Field(Job.pipeline),
    "parent": _Field(cast(Job.parent_id, String), number=Job.parent_id),
    "model": _Field(_JsonText(Job.spec, ("task", "model", "base"))),
    "data": _Field(_DATA),
    "priority": _Field(_JsonText(Job.spec, ("priority",))),
    "host": _Field(_HOST),
    "seed": _Field(cast(Job.seed, String), number=Job.seed),
    "step": _Field(cast(Job.step, String), number=Job.step),
    "attempt": _Field(cast(Job.attempt, String), number=Job.attempt),
    "seconds_per_step": _Field(cast(Job.seconds_per_step, String), number=Job.seconds_per_step),
    "created": _Field(cast(Job.created_at, String), time=Job.created_at),
    "started": _Field(cast(Job.started_at, String), time=Job.started_at),
    "ended": _Field(cast(Job.ended_at, String), time=Job.ended_at),
}
"""Name -> how it is read. `tag` and `archived` are read in ways of their own."""


def _conditions(query: str, now: datetime) -> ColumnElement[bool]:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in query if character not in "\t\n\r"):
        raise InvalidSpec("a query has no control characters")
    found: list[ColumnElement[bool]] = []
    at = 0
    named: set[str] = set()
    while at < len(query):
        if query[at].isspace():
            at += 1
            continue
        term = _TERM.match(query, at)
        if term is None:
            raise InvalidSpec(
                f'the query cannot be read from {query[at : at + 30]!r} on; a value with spaces stands in ""'
            )
        if len(found) == MAX_TERMS:
            raise InvalidSpec(f"a query has at most {MAX_TERMS} words and conditions")
        condition = _condition(term["field"], term["op"], term["value"], now)
        found.append(not_(func.coalesce(condition, False)) if term["not"] else condition)
        named.add(term["field"] or "")
        at = term.end()
    if "archived" not in named:
        found.append(Job.archived_at.is_(None))
    if "parent" not in named:
        found.append(Job.parent_id.is_(None))
    return and_(*found)


def _condition(name: str | None, op: str | None, value: str, now: datetime) -> ColumnElement[bool]:
    if name is None or op is None:
        return _has_word(value.strip('"'))
    values = [value[1:-1]] if value.startswith('"') else value.split(",")
    if name == "tag":
        return _on_tags(op, values)
    if name == "archived":
        return Job.archived_at.is_not(None) if values == ["yes"] else Job.archived_at.is_(None)
    field = _field(name)
    if op == "~":
        return or_(*(_contains(field.text, part) for part in values))
    if op in _COMPARISONS:
        return _compared(name, field, op, values, now)
    matches = or_(*(_equals(field, part) for part in values))
    return matches if op in (":", "=") else not_(func.coalesce(matches, False))


def _field(name: str) -> _Field:
    """What a name in a query means."""
    if name in FIELDS:
        return FIELDS[name]
    _checked(name)
    root, _, rest = name.partition(".")
    if rest and root in SPEC_ROOTS:
        path = name.split(".")
        return _Field(_JsonText(Job.spec, path), number=_JsonNumber(Job.spec, path))
    metric = (name.removeprefix("metric."),)
    return _Field(_JsonText(Job.last_values, metric), number=_JsonNumber(Job.last_values, metric))


def _checked(name: str) -> str:
    parts = name.split(".")
    if not all(_FIELD.match(part) or _INDEX.fullmatch(part) for part in parts):
        raise InvalidSpec(f"{name!r} is no field; write letters, digits, '_', '-', '/', with '.' between keys")
    return name


def _compared(name: str, field: _Field, op: str, values: Sequence[str], now: datetime) -> ColumnElement[bool]:
    if len(values) != 1:
        raise InvalidSpec(f"{name}{op} takes one value, not {','.join(values)}")
    if field.time is not None:
        return _COMPARISONS[op](field.time, _moment(name, values[0], now))
    if field.number is None:
        raise InvalidSpec(f"{name} is text; use {name}:VALUE or {name}~PART")
    return _COMPARISONS[op](field.number, _number(name, values[0]))


def _equals(field: _Field, value: str) -> ColumnElement[bool]:
    if field.number is not None:
        try:
            return or_(field.number == float(value), field.text == value)
        except ValueError:
            return field.text == value
    return func.lower(field.text) == value.lower()


def _on_tags(op: str, values: Sequence[str]) -> ColumnElement[bool]:
    if op in _COMPARISONS:
        raise InvalidSpec("tags are words; use tag:NAME or tag~PART")
    tags = cast(Job.tags, String)
    if op == "~":
        return or_(*(_contains(tags, json.dumps(value)[1:-1]) for value in values))
    has_one = or_(*(_contains(tags, json.dumps(value)) for value in values))
    return has_one if op in (":", "=") else not_(has_one)


def _has_word(word: str) -> ColumnElement[bool]:
    texts = (Job.name, Job.notes, func.coalesce(Job.algorithm, Job.kind), Job.pipeline)
    return or_(*(_contains(text, word) for text in texts), _contains(cast(Job.tags, String), json.dumps(word)[1:-1]))


def _contains(text: SQLColumnExpression[Any], part: str) -> ColumnElement[bool]:
    escaped = part.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return func.coalesce(text, "").ilike(f"%{escaped}%", escape="\\")


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidSpec(f"{name} is compared with a number, not with {value!r}") from None


def _moment(name: str, value: str, now: datetime) -> datetime:
    ago = _AGO.match(value)
    try:
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        raise InvalidSpec(
            f"{name} is compared with a time such as 2026-11-21 or 3d (ago), not with {value!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


def _order(sort: str) -> list[ColumnElement[Any]]:
    found: list[ColumnElement[Any]] = []
    for part in filter(None, sort.split(",")):
        field = _field(part.removeprefix("-"))
        keys = [field.number, func.lower(field.text)] if field.time is None else [field.time]
        for key in keys:
            if key is not None:
                found += [key.is_(None), key.desc() if part.startswith("-") else key.asc()]
    return found
