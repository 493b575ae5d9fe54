"""Recipes: job files to start from. Some come with Finery, the others are the user's own. No session."""

import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finery.core import documents
from finery.core.checkpoints import write_atomically
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.core.paths import resolve_inside
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.jobs import checking, views
from finery.jobs.specs import (
    DifferenceView,
    JobSpec,
    PipelineSpec,
    RecipeDifferences,
    RecipeName,
    RecipeText,
    RecipeView,
)

_SUFFIX = ".yaml"


def find_shipped() -> Path | None:
    """The folder of the recipes that come with Finery: installed with the package, or of a checkout."""
    installed = Path(sysconfig.get_path("data")) / "share" / "finery" / "recipes"
    checkout = Path(__file__).parents[3] / "recipes"
    return next((folder for folder in (checkout, installed) if folder.is_dir()), None)


class RecipeBook:
    """The recipes of one installation. A name of Finery's is never the user's."""

    def __init__(self, settings: Settings, *, shipped: Path | None = None):
        self._shipped = shipped or find_shipped()
        self._own = settings.home / "recipes"

    def all(self) -> list[RecipeView]:
        """Finery's, then the user's, each by name."""
        shipped = _files(self._shipped)
        own = {name: path for name, path in _files(self._own).items() if name not in shipped}
        found = [_read(path, is_own=False) for path in shipped.values()]
        found += [_read(path, is_own=True) for path in own.values()]
        return [RecipeView(**recipe.model_dump(exclude={"text"})) for recipe in found]

    def get(self, name: str) -> RecipeText:
        """One recipe with its text. Raises `NotFound`."""
        path, is_own = self._find(name)
        return _read(path, is_own)

    def save(self, name: str, text: str) -> RecipeText:
        """Keep a job file under a name; one of the user's own of this name is replaced.

        Raises:
            InvalidSpec: the name or the job file is not valid. Conflict: Finery brings a recipe of this name.
        """
        if name in _files(self._shipped):
            raise Conflict(f"the recipe {name} comes with Finery and stays as it is; choose another name")
        path = self._own_path(name)
        checking.read(documents.parse(text, name=path.name), name=path.name)
        self._own.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
        return _read(path, is_own=True)

    def delete(self, name: str) -> None:
        """Remove one of the user's own.

        Raises:
            NotFound: there is none. Conflict: it comes with Finery.
        """
        path, is_own = self._find(name)
        if not is_own:
            raise Conflict(f"the recipe {name} comes with Finery and cannot be deleted")
        path.unlink(missing_ok=True)

    def differences(self, job: Mapping[str, Any]) -> RecipeDifferences:
        """What a complete job file has otherwise than the recipe that it names."""
        name = job.get("recipe")
        if name is None:
            return RecipeDifferences(recipe=None, is_known=False, differences=[])
        base = self._base(str(name), str(job["name"]))
        found = differences(base, job) if base is not None else []
        return RecipeDifferences(recipe=name, is_known=base is not None, differences=found)

    def _base(self, name: str, job_name: str) -> dict[str, Any] | None:
        """The recipe, complete; of a pipeline, the job of the same name."""
        try:
            path, _ = self._find(name)
            spec = _spec(path)
        except (NotFound, InvalidSpec):
            return None
        if isinstance(spec, PipelineSpec):
            found = next((job for job in spec.jobs if job.name == job_name), None)
            return found.model_dump(mode="json") if found else None
        return spec.model_dump(mode="json")

    def _find(self, name: str) -> tuple[Path, bool]:
        shipped = _files(self._shipped)
        if name in shipped:
            return shipped[name], False
        path = self._own_path(name)
        if not path.is_file():
            raise NotFound(f"there is no recipe {name!r}; `finery recipes list` shows those that exist")
        return path, True

    def _own_path(self, name: str) -> Path:
        parse(RecipeName, name, what=f"the recipe name {name[:80]!r}")
        return resolve_inside(self._own, f"{name}{_SUFFIX}")


def differences(recipe: Mapping[str, Any], job: Mapping[str, Any]) -> list[DifferenceView]:
    """Fields of two complete job files that are not the same, by dotted key. Pure."""
    before, after = _comparable(recipe), _comparable(job)
    keys = [*before, *(key for key in after if key not in before)]
    return [
        DifferenceView(key=key, recipe=before.get(key), job=after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _comparable(job: Mapping[str, Any]) -> dict[str, Any]:
    return views.flat({key: value for key, value in job.items() if key != "recipe"})


def _files(folder: Path | None) -> dict[str, Path]:
    if folder is None or not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.glob(f"*{_SUFFIX}")) if not path.name.startswith(".")}


def _read(path: Path, is_own: bool) -> RecipeText:
    text = path.read_text("utf-8-sig", errors="replace")
    spec, problem = None, ""
    try:
        spec = _spec(path)
    except InvalidSpec as error:
        problem = str(error)
    return RecipeText(
        name=path.stem,
        kind=spec.kind if spec else None,
        algorithm=getattr(getattr(spec, "task", None), "algorithm", None),
        description=_description(text),
        is_own=is_own,
        problem=problem,
        text=text,
    )


def _spec(path: Path) -> JobSpec | PipelineSpec:
    return checking.read(documents.load(path), name=path.name)


def _description(text: str) -> str:
    """The first line, when it is a comment."""
    first = text.lstrip().partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
