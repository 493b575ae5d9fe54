"""What a check of this installation has found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    verdict: Literal["ok", "missing", "problem"]
    detail: str
    costs: str = ""
    """What the user does not get because of it."""
