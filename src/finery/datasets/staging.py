"""The slow half of making a version: from a file or a generator to canonical rows in the object store.

No session is open here: reading a file can take minutes, and a writing transaction lets nobody else write. What comes
out is `Staged`, which `service.add` turns into a version within a millisecond.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from finery.core.errors import InvalidSpec, Problem
from finery.core.objects import ObjectStore
from finery.core.rundir import ResolvedInput
from finery.datasets import formats, generators, strictjson
from finery.datasets.generators import Generated, GeneratorParams
from finery.datasets.reading import MAX_ROW_BYTES, BrokenRow, Item, RawRow, read_rows
from finery.datasets.specs import GenerateSpec, ImportSpec

MAX_DATASET_BYTES = 40 << 30
MAX_PROBLEMS = 100
"""Broken rows that are kept with the version; the rest is only counted."""

_DETECT_ROWS = 50
_PIECE_BYTES = 1 << 20
_MAX_MESSAGE = 500


@dataclass(frozen=True)
class Staged:
    """Rows that are stored and wait for a version number."""

    name: str
    format: str
    sha256: str
    num_bytes: int
    num_rows: int
    source: dict[str, Any]
    problems: list[dict[str, Any]]
    num_problems: int


@dataclass
class _Tally:
    """What came through while rows were written, and what did not."""

    shown: str
    """What messages call the input."""
    keep_good_rows: bool = False
    num_rows: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    num_problems: int = 0

    def complain(self, line: int, message: str) -> None:
        """Note a broken row; raises when that is enough to refuse the input."""
        self.num_problems += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append({"line": line, "message": _clean(message)})
        elif not self.keep_good_rows:
            raise self.refusal()

    def settle(self) -> None:
        """Raise at the end of the input unless it can be kept."""
        if not self.num_rows or (self.num_problems and not self.keep_good_rows):
            raise self.refusal()

    def refusal(self) -> InvalidSpec:
        """The error with all that is wrong."""
        if not self.problems:
            return InvalidSpec(f"{self.shown} has no rows")
        first = self.problems[0]
        count = f"more than {MAX_PROBLEMS}" if self.num_problems > MAX_PROBLEMS else str(self.num_problems)
        rows = "row is" if self.num_problems == 1 else "rows are"
        way_out = "correct it, or leave broken rows out with keep_good_rows" if self.num_rows else "correct it"
        return InvalidSpec(
            f"{self.shown}: {count} {rows} broken; line {first['line']}: {first['message']}; {way_out}",
            tuple(Problem("", problem["message"], problem["line"]) for problem in self.problems),
        )


def from_upload(spec: ImportSpec, *, objects: ObjectStore) -> Staged:
    """Read an uploaded file and store its rows in canonical form.

    Raises:
        NotFound: the upload is not there.
        InvalidSpec: the file is not readable, has no good row, or has broken ones and they are not to be left out.
        Unavailable: the disk is full.
    """
    path = objects.path(spec.object)
    source = {"kind": "file", "file_name": spec.file_name, "object": spec.object}
    return _stage(
        read_rows(path, file_name=spec.file_name),
        name=spec.name,
        shown=spec.file_name,
        format=spec.format,
        keep_good_rows=spec.keep_good_rows,
        source=source,
        objects=objects,
    )


def canonical_file(path: Path, *, formats: tuple[str, ...], objects: ObjectStore) -> ResolvedInput:
    """Make a file that a job names directly readable for engines, without making it a version.

    Args:
        path: A file with one of the known endings, or an object of the store, whose type is then told by its content.
        formats: What the job can use; one is taken for granted, of several the rows tell which.
        objects: Where the canonical rows are kept.

    Raises:
        InvalidSpec: as `from_upload`; broken rows are never left out; or the rows are of another format.
    """
    name = path.name if path.suffix else None
    staged = _stage(
        read_rows(path, file_name=name),
        name="",
        shown=name or "the file",
        format=formats[0] if len(formats) == 1 else None,
        keep_good_rows=False,
        source={},
        objects=objects,
    )
    check_format(staged.format, formats, shown=name or "the file")
    return ResolvedInput(kind="file", path=str(objects.path(staged.sha256)), sha256=staged.sha256)


def check_format(format: str, usable: tuple[str, ...], *, shown: str) -> None:
    """Refuse data of a format that a job cannot use; an empty `usable` takes any."""
    if usable and format not in usable:
        raise InvalidSpec(
            f"{shown} is data of the format {format}, but this job needs {' or '.join(usable)}; name other data, or "
            f"make some with `finery data generate ... --set format={usable[0]}`"
        )


def from_generator(spec: GenerateSpec, *, excluded: dict[str, Path], objects: ObjectStore) -> Staged:
    """Run a generator and store its rows.

    Args:
        spec: Which one, with its parameters.
        excluded: Version, as `name@n`, -> file of each version that the parameters exclude.
        objects: Where the rows are kept.

    Raises:
        InvalidSpec: the parameters are wrong, or fewer different problems exist than are asked for.
        Unavailable: the generator needs a package that is not installed, or the disk is full.
    """
    params = params_of(spec)
    taken = frozenset(itertools.chain.from_iterable(prompts_of(path) for path in excluded.values()))
    tally = _Tally(f"generator {spec.generator}")
    problems = generators.registry.get(spec.generator).target(params, taken)
    lines = _encoded((_row(index, problem, params) for index, problem in enumerate(problems)), tally)
    stored = objects.put_stream(lines, max_bytes=MAX_DATASET_BYTES)
    source = {
        "kind": "generator",
        "generator": spec.generator,
        "params": params.model_dump(mode="json") | {"exclude": list(excluded)},
    }
    return Staged(
        spec.name, params.format, stored.sha256, stored.num_bytes, tally.num_rows, source, problems=[], num_problems=0
    )


def params_of(spec: GenerateSpec) -> GeneratorParams:
    """The validated parameters of a generation.

    Raises:
        InvalidSpec: no such generator, or the parameters do not fit it.
    """
    params = generators.registry.params(spec.generator, spec.params)
    assert isinstance(params, GeneratorParams)
    return params


def read_canonical(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a stored version."""
    with open(path, "rb") as file:
        for line in file:
            yield orjson.loads(line)


def pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a stored version, a piece at a time."""
    with open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def prompts_of(path: Path) -> Iterator[str]:
    """The prompt of each row of a stored version; of a conversation the user's last message."""
    for row in read_canonical(path):
        prompt = row.get("prompt", row.get("messages"))
        if isinstance(prompt, list):
            prompt = next((m["content"] for m in reversed(prompt) if m["role"] == "user"), None)
        if prompt is not None:
            yield prompt


def _stage(
    items: Iterator[Item],
    *,
    name: str,
    shown: str,
    format: str | None,
    keep_good_rows: bool,
    source: dict[str, Any],
    objects: ObjectStore,
) -> Staged:
    first = list(itertools.islice(items, _DETECT_ROWS))
    good = [item.row for item in first if isinstance(item, RawRow)]
    tally = _Tally(shown, keep_good_rows)
    if format is None:
        if not good:
            raise _unreadable(first, tally)
        format = formats.detect(good)
    rows = _canonical(itertools.chain(first, items), format, tally)
    stored = objects.put_stream(_encoded(rows, tally), max_bytes=MAX_DATASET_BYTES)
    return Staged(
        name, format, stored.sha256, stored.num_bytes, tally.num_rows, source, tally.problems, tally.num_problems
    )


def _unreadable(items: list[Item], tally: _Tally) -> InvalidSpec:
    """What is wrong with a file that has no good row among its first ones."""
    for item in items:
        if isinstance(item, BrokenRow):
            tally.complain(item.line, item.message)
    return tally.refusal()


def _canonical(items: Iterable[Item], format: str, tally: _Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    normalise = formats.registry.get(format).target.normalise
    for item in items:
        if isinstance(item, BrokenRow):
            tally.complain(item.line, item.message)
            continue
        try:
            yield item.line, normalise(item.row)
        except ValueError as error:
            tally.complain(item.line, str(error))


def _encoded(rows: Iterator[tuple[int, dict[str, Any]]], tally: _Tally) -> Iterator[bytes]:
    """Lines of the object. An error at the end keeps it from being stored."""
    for line, row in rows:
        try:
            encoded = strictjson.encode(row)
        except ValueError as error:
            tally.complain(line, str(error))
            continue
        if len(encoded) > MAX_ROW_BYTES:
            tally.complain(line, f"has {len(encoded):,} bytes; a row can have {MAX_ROW_BYTES:,}")
            continue
        tally.num_rows += 1
        yield encoded + b"\n"
    tally.settle()


def _row(index: int, problem: Generated, params: GeneratorParams) -> tuple[int, dict[str, Any]]:
    if params.format == "sft":
        return 0, {"prompt": problem.prompt, "response": problem.response}
    if params.format == "verifiable":
        return 0, {"prompt": problem.prompt, "answer": problem.answer}
    if not problem.wrong_response:
        raise InvalidSpec(
            f"this generator makes no wrong answers, which the format {params.format} needs; take arithmetic, or the "
            "format verifiable or sft"
        )
    if params.format == "preference":
        return 0, {"prompt": problem.prompt, "chosen": problem.response, "rejected": problem.wrong_response}
    is_right = index % 2 == 0
    completion = problem.response if is_right else problem.wrong_response
    return 0, {"prompt": problem.prompt, "completion": completion, "label": is_right}


def _clean(message: str) -> str:
    """Fit for every database: no NUL, no half surrogates, not long."""
    return message.replace("\0", "\\0").encode("utf-8", "replace").decode()[:_MAX_MESSAGE]
