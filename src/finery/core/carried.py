"""What one attempt of a job hands on to the next, beside its checkpoints: `carried.json`.

A checkpoint takes a run back; what has been learned about the run since must not go back with it. So live settings that
were changed, batches that are left out, and the counts of rules stand here. The child writes the file, who launches
the next attempt puts it into that attempt's spec.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

CARRIED = "carried.json"


class LiveSet(BaseModel):
    """A live setting was changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    step: int
    """Optimizer steps done by then; a checkpoint of this step or a later one contains the change."""
    name: str
    before: float
    after: float
    by: str
    """Who did it, such as `rule kl_divergence_high`."""


class RolledBack(BaseModel):
    """An attempt ended so that the next goes on from an earlier state."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    rule: str
    message: str
    """What the rule saw."""
    attempt: int
    """The attempt that ended."""
    step: int
    """Steps it had done."""
    to_step: int
    """Step of the checkpoint to go on from; 0 is the beginning."""
    checkpoint: str | None
    """Its absolute path; None for the beginning."""
    saved: str | None
    """Absolute path of the state that was saved before going back; None where it was not finite."""


class Carried(BaseModel):
    """carried.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    version: Literal[1] = 1
    rules: dict[str, Any] = {}
    """Rule name -> what it remembers (`finery.rules.watch.Watch.dump`)."""
    sets: tuple[LiveSet, ...] = ()
    """In the order in which they were made."""
    skipped_steps: tuple[int, ...] = ()
    """Steps whose rows of data are left out from there on, in the order in which that was decided. Each counts in the
    order of data that those before it have left."""
    rollbacks: tuple[RolledBack, ...] = ()


def to_apply(sets: Sequence[LiveSet], step: int) -> list[LiveSet]:
    """What has to be set again after a restore: changes that the checkpoint of `step` does not contain."""
    return [one for one in sets if one.step > step]


def without_batches(
    visits: Sequence[int], skipped_steps: Sequence[int], *, size: int, steps_per_batch: int
) -> list[int]:
    """An order of rows without the batches that are left out, and without later visits of their rows.

    Where no other row would be left, as with data of a single batch, its rows do come again in the next pass.

    Args:
        visits: Rows in the order in which they are visited, each of them at least once.
        skipped_steps: As in `Carried`, from 1.
        size: Rows in a batch.
        steps_per_batch: Optimizer steps that are made with one batch.
    """
    left, rows = list(visits), set(visits)
    for step in skipped_steps:
        start = (step - 1) // steps_per_batch * size
        bad, later = set(left[start : start + size]), left[start + size :]
        if rows - bad:
            rows -= bad
            later = [row for row in later if row not in bad]
        left[start:] = later
    return left
