"""Reads rules that people have written."""

from finery.core import documents
from finery.core.documents import Document
from finery.core.errors import InvalidSpec
from finery.core.spec import parse
from finery.rules.specs import RuleSpec, distinct


def read(text: str, *, name: str = "rules") -> tuple[RuleSpec, ...]:
    """Rules as YAML or JSON: a list, or a job file of whose `monitoring.rules` they are.

    Raises:
        InvalidSpec: they cannot be read; the message names the line.
    """
    return checked(documents.parse(text, name=name), name=name)


def checked(document: Document, *, name: str) -> tuple[RuleSpec, ...]:
    """Rules from a document that was read; raises as `read` does."""
    value, lines = document.value, document.lines
    if isinstance(value, dict):
        at = "monitoring.rules" if "monitoring" in value else "rules"
        found = (value.get("monitoring") or {}).get("rules") if at == "monitoring.rules" else value.get("rules")
        value, lines = found, {key.removeprefix(f"{at}."): line for key, line in lines.items()}
    if not isinstance(value, list):
        raise InvalidSpec(f"{name} holds no list of rules; write - name: ..., when: ..., then: [...]")
    rules: tuple[RuleSpec, ...] = parse(tuple[RuleSpec, ...], value, what=name, lines=lines)
    try:
        return distinct(rules)
    except ValueError as error:
        raise InvalidSpec(f"{name}: {error}") from error
