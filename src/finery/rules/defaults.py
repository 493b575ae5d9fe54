"""The rules of a job that names none: `defaults.yaml`. Read by the platform; a child finds them in its spec."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finery.core import documents
from finery.rules import reading
from finery.rules.specs import RuleSpec

_PATH = Path(__file__).with_suffix(".yaml")


def text() -> str:
    """The rules as they are written."""
    return _PATH.read_text("utf-8")


def rules() -> tuple[RuleSpec, ...]:
    """In the order of their precedence."""
    return reading.checked(documents.load(_PATH), name=_PATH.name)


def filled(job: Mapping[str, Any]) -> dict[str, Any]:
    """A training job with the default rules where it says nothing of them; any other job as it is.

    Args:
        job: `JobSpec` as plain data.
    """
    if job["kind"] != "train" or job["monitoring"].get("rules") is not None:
        return dict(job)
    named = [rule.model_dump(mode="json") for rule in rules()]
    return {**job, "monitoring": {**job["monitoring"], "rules": named}}
