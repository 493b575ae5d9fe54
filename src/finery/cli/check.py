"""`finery check`: says whether a job file is right, without running it."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from finery.cli import engines
from finery.core import console, documents, refs
from finery.core.console import JsonOption
from finery.core.errors import InvalidSpec
from finery.core.rundir import ResolvedInput
from finery.core.spec import Spec
from finery.jobs import checking, expecting, references
from finery.jobs.specs import JobSpec, PipelineSpec

FileArgument = Annotated[Path | None, typer.Argument(help="Job file (YAML or JSON).", show_default=False)]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(help="Fields to override: optim.learning_rate=1e-5", show_default=False)
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Job file; the same as the argument.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Override a field; the same as an argument. Repeatable.")
]

EngineOption = Annotated[
    str | None, typer.Option("--engine", help="Show what this engine is told of each field: verl or trl.")
]


def read(file: Path | None, config: Path | None, overrides: list[str]) -> tuple[documents.Document, str]:
    """The document that the user means, with overrides applied, and its name."""
    if config is not None and file is not None:  # the file was named already: the first argument is an override too
        overrides, file = [str(file), *overrides], None
    path = file or config
    if path is None:
        raise typer.BadParameter("name a job file: `finery run job.yaml`")
    return checking.override(documents.load(path), overrides, name=path.name), path.name


def check(
    file: FileArgument = None,
    overrides: OverridesArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a job file and show it complete, with every default; or with --engine what an engine makes of it."""
    document, name = read(file, config, [*(overrides or []), *(set_ or [])])
    if engine is not None:
        if isinstance(document.value, dict) and document.value.get("kind") == "pipeline":
            raise InvalidSpec(f"{name} is a pipeline, whose jobs name their engines; leave --engine out")
        document = checking.override(document, [f"engine={engine}"])
    spec = checking.read(document, name=name)
    if engine is not None:
        try:
            told = engines.told(spec, engine, notes=document.notes)
        except InvalidSpec as error:
            raise checking.placed(error, document.lines) from error
        console.emit(told) if as_json else engines.show(told, name)
        return
    warnings = _warnings(spec, Path(file or config or ".").resolve().parent)
    if as_json:
        checked = {"is_valid": True, "spec": spec.model_dump(mode="json"), "notes": list(document.notes)}
        console.emit({**checked, "warnings": warnings})
        return
    for path, value, is_said in _leaves(spec, document.value):
        console.say(f"{path} = {value}{'' if is_said else '   (default)'}")
    for note in document.notes:
        console.say(f"note: {note}")
    for warning in warnings:
        console.warn(warning)
    jobs = len(spec.jobs) if isinstance(spec, PipelineSpec) else 1
    console.say(f"{name} is valid: {jobs} job{'s' if jobs > 1 else ''}.")


def _warnings(spec: JobSpec | PipelineSpec, base: Path) -> list[str]:
    """Jobs that are not expected to fit into this machine, from what can be known without a server.

    Args:
        spec: What was read.
        base: Folder that relative paths are relative to.
    """
    found = []
    for job in spec.jobs if isinstance(spec, PipelineSpec) else (spec,):
        named = references.find(job.model_dump(mode="json"))
        paths = {one.text: base / Path(one.text).expanduser() for one in named if refs.is_local_path(one.text)}
        inputs = {text: ResolvedInput(kind="file", path=str(path), sha256="") for text, path in paths.items()}
        found += [f"{job.name}: {told}" for told in expecting.warnings(None, job, inputs)]
    return found


def _leaves(spec: Spec, raw: Any) -> list[tuple[str, Any, bool]]:
    """Path and value of each part of a job, and whether the file says it."""
    found: list[tuple[str, Any, bool]] = []

    def walk(value: Any, said: Any, path: str) -> None:
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        if not children:
            found.append((path, value, said is not _UNSAID))
        for key, child in children:
            walk(child, _said(said, key, child), f"{path}.{key}" if path else str(key))

    walk(spec.model_dump(mode="json"), raw, "")
    return found


def _said(raw: Any, key: str | int, value: Any) -> Any:
    """What raw data say of a part; a text may stand for a list (`exact,format`) or for the part that it names."""
    if isinstance(raw, dict):
        return raw.get(key, _UNSAID)
    if isinstance(raw, str) and isinstance(key, int):
        raw = [name.strip() for name in raw.split(",")]
    if isinstance(raw, list | tuple) and isinstance(key, int) and key < len(raw):
        return raw[key]
    return raw if isinstance(raw, str) and raw == value else _UNSAID


_UNSAID: Final = object()
