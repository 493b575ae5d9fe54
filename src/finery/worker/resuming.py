"""Where the next attempt of a job begins, and what it is told of those before it."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finery.core import checkpoints
from finery.core.carried import Carried, LiveSet, RolledBack
from finery.core.db import Database
from finery.core.errors import NotFound
from finery.core.rundir import RunDir, RunSpec
from finery.jobs import lineage
from finery.jobs import service as jobs
from finery.jobs.lineage import Saved, Try
from finery.jobs.tables import Attempt, Checkpoint, ControlRequest

log = logging.getLogger(__name__)


def prepared(db: Database, job_id: int) -> tuple[Checkpoint | None, Carried]:
    """The checkpoint that a job goes on from, and what is carried along.

    Raises:
        NotFound: the files of the checkpoint that was asked for are gone or broken.
    """
    with db.read() as session:
        job = jobs.get(session, job_id)
        tries = jobs.attempts(session, job_id)
        wanted = session.get(Checkpoint, job.rewind_to) if job.rewind_to else None
        wish = jobs.newest_request(session, job_id, "rewind") if wanted is not None else None
        saved = max((row.step for row in jobs.checkpoints(session, job_id) if row.attempt == job.attempt), default=0)
        rate = (job.controls or {}).get("learning_rate")
        rows = jobs.resume_point(session, job_id)
    if not tries:
        return None, Carried()
    carried = _carried(tries[-1])
    if wanted is not None:
        problems = checkpoints.verify(Path(wanted.path))
        if problems:
            raise NotFound(f"the checkpoint of step {wanted.step} cannot be gone on from: {'; '.join(problems)}")
        origin = next(one for one in tries if one.number == wanted.attempt)
        found = _rewound(carried, _carried(origin), RunSpec.model_validate(origin.run_spec), wanted.step)
        rule = jobs.rule_of(wish)
        if rule is not None and wish is not None:
            found = _by_rule(found, rule, wish, wanted, attempt=tries[-1].number, saved_step=saved, rate=rate)
        return wanted, found
    return _newest_good([row for row in rows if row.step <= _limit(carried, tries[-1].number)]), carried


def prepared_locally(tries: Sequence[Path]) -> tuple[Path | None, Carried, list[str]]:
    """The same without a database: from the directories of the attempts, oldest first; also what was passed over."""
    specs = {path: RunDir(path).read_spec() for path in tries}
    saved = [
        Saved(spec.attempt, step, str(found))
        for path, spec in specs.items()
        for step, found in checkpoints.existing(RunDir(path).checkpoints)
    ]
    carried = RunDir(tries[-1]).read_carried()
    rows = lineage.surviving([Try(spec.attempt, spec.resume_from) for spec in specs.values()], saved)
    limit = _limit(carried, specs[tries[-1]].attempt)
    complaints: list[str] = []
    for row in (row for row in rows if row.step <= limit):
        problems = checkpoints.verify(Path(row.path))
        if not problems:
            return Path(row.path), carried, complaints
        complaints.append(f"checkpoint of step {row.step} is not used: {'; '.join(problems)}")
    return None, carried, complaints


def _limit(carried: Carried, attempt: int) -> float:
    """Up to which step a checkpoint may be gone on from: an attempt that goes back says so."""
    stories = carried.rollbacks
    return stories[-1].to_step if stories and stories[-1].attempt == attempt else math.inf


def _newest_good(rows: Sequence[Checkpoint]) -> Checkpoint | None:
    for row in rows:
        problems = checkpoints.verify(Path(row.path))
        if not problems:
            return row
        log.warning("checkpoint passed over job=%s step=%s problems=%s", row.job_id, row.step, problems)
    return None


def _carried(attempt: Attempt) -> Carried:
    """What an attempt hands on; what it was handed where its directory is gone."""
    try:
        return RunDir(Path(attempt.run_dir)).read_carried()
    except (OSError, ValueError):
        return RunSpec.model_validate(attempt.run_spec).carried


def _by_rule(
    carried: Carried, rule: str, wish: ControlRequest, to: Checkpoint, *, attempt: int, saved_step: int, rate: Any
) -> Carried:
    """What is carried when a rule has asked from outside: who it was, and the learning rate that it wants.

    Args:
        carried: As for a person.
        rule: Its name.
        wish: What it asked.
        to: The checkpoint that is gone back to.
        attempt: That ended for it.
        saved_step: Of the newest checkpoint of that attempt: what an undo goes on from.
        rate: Learning rate that was in effect; None where none is known.
    """
    story = RolledBack(
        rule=rule,
        message=wish.message,
        attempt=attempt,
        step=saved_step,
        to_step=to.step,
        checkpoint=to.path,
        saved=None,
    )
    factor = wish.values.get("learning_rate_factor", 1.0)
    cut: tuple[LiveSet, ...] = ()
    if factor != 1 and rate:
        # The checkpoint does not contain it.
        cut = (LiveSet(step=to.step + 1, name="learning_rate", before=rate, after=rate * factor, by=wish.by),)
    return carried.model_copy(update={"rollbacks": (*carried.rollbacks, story), "sets": (*carried.sets, *cut)})


def _rewound(newest: Carried, origin: Carried, spec: RunSpec, step: int) -> Carried:
    """What is carried to a checkpoint that was asked for: settings and data as there.

    Rules forget nothing; one whose rollback is taken back by this keeps quiet from there on.
    """
    taken_back = {one.rule for one in newest.rollbacks if (one.attempt, one.step) == (spec.attempt, step)}
    rules = newest.rules | {name: {**newest.rules.get(name, {}), "is_muted": True} for name in taken_back}
    sets = tuple(one for one in origin.sets if one.step <= step)
    return newest.model_copy(update={"rules": rules, "sets": sets, "skipped_steps": spec.carried.skipped_steps})
