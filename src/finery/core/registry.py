"""Open sets: things that a user adds by dropping in one file."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from finery.core.errors import InvalidSpec
from finery.core.spec import Spec, parse

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One member of an open set."""

    name: str
    target: T
    params: type[Spec]
    summary: str
    """First line of the target's docstring; API, CLI and UI show it."""


@dataclass
class Registry(Generic[T]):
    """Name -> implementation, filled by importing every module of `package`."""

    package: str
    noun: str
    """What one member is called in messages, such as `reward`."""
    _entries: dict[str, Entry[T]] = field(default_factory=dict)
    _is_loaded: bool = False

    def register(self, name: str, *, params: type[Spec]) -> Callable[[T], T]:
        """Add the decorated target under `name`. A second one of that name is an error."""

        def add(target: T) -> T:
            if name in self._entries:
                raise ValueError(f"{name!r} is already registered in {self.package}")
            summary = (target.__doc__ or "").strip().partition("\n")[0]
            self._entries[name] = Entry(name, target, params, summary)
            return target

        return add

    def get(self, name: str) -> Entry[T]:
        """Look a member up.

        Raises:
            InvalidSpec: no such member; the message lists those that exist.
        """
        self._load()
        if name not in self._entries:
            raise InvalidSpec(f"unknown {self.noun} {name!r}; known: {', '.join(sorted(self._entries))}")
        return self._entries[name]

    def all(self) -> list[Entry[T]]:
        """All members by name."""
        self._load()
        return [self._entries[name] for name in sorted(self._entries)]

    def params(self, name: str, raw: dict[str, Any]) -> Spec:
        """Validate the parameters of member `name`."""
        entry = self.get(name)
        return parse(entry.params, raw, what=f"{self.noun} {name!r}")  # type: ignore[no-any-return]

    def _load(self) -> None:
        if self._is_loaded:
            return
        root = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(root.__path__, prefix=f"{self.package}."):
            importlib.import_module(module.name)  # an import error is an error, not a missing entry
        self._is_loaded = True
