"""A command group that imports a command's module when the command is asked for.

Every start of `finery`, the two processes of `finery up` among them, would otherwise wait for the imports of all.
"""

import importlib
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group


class LazyGroup(TyperGroup):
    """Takes its commands from `table`: command name to (`module:attribute`, hidden).

    The attribute is a function with Typer's annotations, or a `typer.Typer` with commands of its own.
    """

    table: ClassVar[dict[str, tuple[str, bool]]]

    def __init__(self, **attributes: Any):
        super().__init__(**attributes)
        self._loaded: dict[str, Any] = {}
        self.commands = dict.fromkeys(self.table)  # type: ignore[assignment]  # names: what a misspelt one is compared to

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported; None where there is none of this name."""
        if cmd_name in self.table and cmd_name not in self._loaded:
            self._loaded[cmd_name] = _load(cmd_name, *self.table[cmd_name])
        return self._loaded.get(cmd_name)


def _load(name: str, place: str, hidden: bool) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        group = get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False)
    alone.command(name, hidden=hidden)(found)
    return get_command(alone)
