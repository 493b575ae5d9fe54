"""The verbs of the jobs slice. Wishes come from users through `request`; what follows is the worker's. Jobs come into
being in `submitting`.

Services take the session first and flush; they never commit and never call the network.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from finery.core import checkpoints as files
from finery.core import refs, retention
from finery.core.carried import Carried
from finery.core.clusters import ClusterTarget
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.core.events import CheckpointEvent, ControlAckEvent, ControlsEvent, Event, StatusEvent
from finery.core.paths import resolve_inside
from finery.core.rundir import Command, ExitRecord, ResolvedInput, RunSpec
from finery.jobs import clusters, holding, lineage, scheduling, states
from finery.jobs.lineage import Saved, Try
from finery.jobs.scheduling import Free, Waiting
from finery.jobs.specs import JobEdit, JobState, Verb
from finery.jobs.tables import Attempt, Checkpoint, ControlRequest, Job, Worker
from finery.rules import defaults

LEASE = timedelta(seconds=60)
_COMMAND_PREFIX = "request-"
_RULE_PREFIX = "rule "


def get(session: Session, job_id: int) -> Job:
    """One job. Raises `NotFound`."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}; `finery jobs list` shows those that exist")
    return job


def edit(session: Session, job_ids: Sequence[int], changes: JobEdit, *, now: datetime) -> list[Job]:
    """Change what people write on jobs: name, tags, notes, whether they are pinned or archived. All or none.

    Raises:
        NotFound: one does not exist. Conflict: one that has not ended cannot be archived.
    """
    found = [get(session, job_id) for job_id in job_ids]
    if changes.is_archived:
        active = [job for job in found if job.state not in states.ENDED]
        if active:
            raise Conflict(f"{in_words([job.id for job in active])} has not ended; cancel it first, then archive it")
    for job in found:
        if changes.name is not None:
            job.name = changes.name
        if changes.notes is not None:
            job.notes = changes.notes
        if changes.is_pinned is not None:
            job.is_pinned = changes.is_pinned
        if changes.is_archived is not None:
            job.archived_at = now if changes.is_archived else None
        tags = list(job.tags) if changes.tags is None else list(changes.tags)
        kept = [tag for tag in tags if tag not in changes.remove_tags]
        job.tags = list(dict.fromkeys([*kept, *changes.add_tags]))
        job.changed_at = now
    session.flush()
    return found


def changed_since(session: Session, moment: datetime, *, limit: int = 500) -> list[Job]:
    """Jobs whose row changed at or after a moment, oldest change first."""
    return list(session.scalars(select(Job).where(Job.changed_at >= moment).order_by(Job.changed_at).limit(limit)))


def by_rule(name: str) -> str:
    """Who asks, where that is a rule."""
    return f"{_RULE_PREFIX}{name}"


def rule_of(wish: ControlRequest | None) -> str | None:
    """The rule that has asked; None where a person has."""
    is_of_rule = wish is not None and wish.by.startswith(_RULE_PREFIX)
    return wish.by.removeprefix(_RULE_PREFIX) if wish is not None and is_of_rule else None


def newest_request(session: Session, job_id: int, verb: str) -> ControlRequest | None:
    """What was last asked of a job with this verb."""
    query = select(ControlRequest).where(ControlRequest.job_id == job_id, ControlRequest.verb == verb)
    return session.scalars(query.order_by(ControlRequest.id.desc())).first()


def request(
    session: Session,
    job_id: int,
    verb: Verb,
    *,
    values: dict[str, float],
    by: str,
    now: datetime,
    reason: str = "",
    undoes: int | None = None,
) -> Job:
    """Record what a user or a rule asks of a job. Asking again for what is already asked for changes nothing.

    Args:
        session: Its own.
        job_id: The job.
        verb: What is asked.
        values: Of `set` and `rewind`.
        by: A user, or `by_rule`.
        now: The moment.
        reason: What a rule has seen.
        undoes: Cursor of the action of a rule that this takes back.

    Raises:
        NotFound: no such job.
        Conflict: its state does not allow that; the message says what it allows.
    """
    job = get(session, job_id)
    state: JobState = job.state  # type: ignore[assignment]
    if verb not in states.verbs(job.kind, state):
        allowed = ", ".join(states.verbs(job.kind, state))
        raise Conflict(
            f"job {job_id} is {state}; {verb} is not possible {f'now, only {allowed}' if allowed else 'any more'}"
        )
    if verb == "set" and not values:
        raise InvalidSpec("set needs values, such as learning_rate=5e-6")
    if verb == "rewind":
        holding.hold(session, rewind_target(session, job_id, values), retention.job_hold(job_id))
    same = select(ControlRequest).where(
        ControlRequest.job_id == job_id, ControlRequest.verb == verb, ControlRequest.outcome == "requested"
    )
    if verb == "set" or session.scalars(same).first() is None:
        wish = ControlRequest(job_id=job_id, verb=verb, values=values, by=by, requested_at=now)
        wish.message, wish.undoes = reason, undoes
        session.add(wish)
        job.changed_at = now
        session.flush()
    return job


def open_requests(session: Session, job_ids: Sequence[int]) -> dict[int, list[ControlRequest]]:
    """Wishes that have not come to an end, by job."""
    query = select(ControlRequest).where(
        ControlRequest.job_id.in_(job_ids), ControlRequest.outcome.in_(("requested", "delivered"))
    )
    found: dict[int, list[ControlRequest]] = {}
    for row in session.scalars(query.order_by(ControlRequest.id)):
        found.setdefault(row.job_id, []).append(row)
    return found


_ANSWERED = 50
"""Wishes with their answers that the page of a job gets."""


def answered_requests(session: Session, job_id: int) -> list[ControlRequest]:
    """The newest wishes that have come to an end, newest first."""
    query = select(ControlRequest).where(
        ControlRequest.job_id == job_id, ControlRequest.outcome.in_(("applied", "rejected"))
    )
    return list(session.scalars(query.order_by(ControlRequest.id.desc()).limit(_ANSWERED)))


def undoing_requests(session: Session, job_id: int) -> list[ControlRequest]:
    """Wishes that take back what a rule did, oldest first."""
    query = select(ControlRequest).where(ControlRequest.job_id == job_id, ControlRequest.undoes.is_not(None))
    return list(session.scalars(query.order_by(ControlRequest.id)))


def attempts(session: Session, job_id: int) -> list[Attempt]:
    """All tries at a job, oldest first."""
    return list(session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)))


def attempt(session: Session, job_id: int, number: int) -> Attempt:
    """One try. Raises `NotFound`."""
    found = session.scalars(select(Attempt).where(Attempt.job_id == job_id, Attempt.number == number)).first()
    if found is None:
        raise NotFound(f"job {job_id} has no attempt {number}")
    return found


def run_dir(attempt_: Attempt) -> Path:
    """Where an attempt's files lie."""
    return Path(attempt_.run_dir)


def checkpoints(session: Session, job_id: int) -> list[Checkpoint]:
    """Checkpoints that were reported, oldest first."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id)
    return list(session.scalars(query.order_by(Checkpoint.attempt, Checkpoint.step)))


# The worker's verbs.


def move(job: Job, state: JobState, cause: str, *, now: datetime) -> None:
    """Bring a job into its next state. An impossible step is a bug and raises AssertionError."""
    before: JobState = job.state  # type: ignore[assignment]
    if state != before:
        assert state in states.NEXT[before], f"job {job.id}: {before} -> {state}"
        job.state = state
    job.cause = cause
    job.changed_at = now
    if state in states.ENDED or state == "paused":
        job.ended_at = now
        job.stop_verb = None
        job.lease_owner = job.lease_until = None


def promote(session: Session, *, now: datetime) -> None:
    """Queue the created jobs whose dependencies are completed; cancel those that can never run."""
    for job in session.scalars(select(Job).where(Job.state == "created")):
        rows = session.execute(select(Job.id, Job.state).where(Job.id.in_(job.after)))
        verdict = states.after_dependencies([(row.id, row.state) for row in rows])
        if verdict is not None:
            move(job, verdict.state, verdict.cause, now=now)


_QUEUE_AHEAD = 50
"""Queued jobs that are told what they wait for."""


def claim(session: Session, *, worker: str, free: Free, now: datetime) -> Job | None:
    """Lease the next job that fits, or None. Safe with several workers: the UPDATE names the state that it expects."""
    query = select(Job).where(Job.state == "queued").order_by(Job.priority, Job.id).limit(_QUEUE_AHEAD)
    rows = [
        *session.scalars(query.where(Job.parent_id.is_(None))),
        *session.scalars(query.where(Job.parent_id.is_not(None))),
    ]
    queue = [
        Waiting(row.id, row.priority, _gpus(session, row, free.all_gpus), row.parent_id is not None) for row in rows
    ]
    chosen = scheduling.pick(queue, free)
    if chosen is None:
        for row, waiting in zip(rows, queue, strict=True):
            why = scheduling.why_waiting(waiting, queue, free)
            if row.cause != why:
                row.cause, row.changed_at = why, now
        return None
    taken = session.execute(
        update(Job)
        .where(Job.id == chosen.job_id, Job.state == "queued")
        .values(state="allocated", cause="", lease_owner=worker, lease_until=now + LEASE, changed_at=now)
    )
    return session.get(Job, chosen.job_id) if taken.rowcount == 1 else None  # type: ignore[attr-defined]


def _gpus(session: Session, job: Job, all_gpus: int) -> int:
    """GPUs that a queued job takes from those that are free."""
    is_guest = _shared_gpus(session, job) is not None
    return (
        0
        if is_guest or clusters.is_elsewhere(job.spec)
        else scheduling.num_gpus(job.spec["resources"]["gpus"], all_gpus)
    )


def _shared_gpus(session: Session, job: Job) -> tuple[str, ...] | None:
    """GPUs that an evaluation shares with the training job that asked for it, while that runs; None where it shares
    none."""
    parent = session.get(Job, job.parent_id) if job.parent_id else None
    if parent is None or parent.spec["monitoring"]["evaluation"]["device"] != "share":
        return None
    query = select(Attempt).where(Attempt.job_id == parent.id, Attempt.is_settled.is_(False))
    live = session.scalars(query).first()
    return tuple(live.run_spec.get("gpus") or ())[:1] or None if live else None


def waiting_states(session: Session) -> set[str]:
    """Which of `created` and `queued` occur. Reads only: an idle worker writes nothing."""
    query = select(Job.state).where(Job.state.in_(("created", "queued"))).distinct()
    return set(session.scalars(query))


def requeue_abandoned(session: Session, *, worker: str | None, now: datetime) -> None:
    """Queue again the jobs that were claimed and never got an attempt: their worker died in between.

    Args:
        worker: A worker that has just started, whose own claims are abandoned for sure; None waits for leases to end.
    """
    has_attempt = select(Attempt.id).where(Attempt.job_id == Job.id, Attempt.is_settled.is_(False)).exists()
    is_over = or_(Job.lease_until < now, Job.lease_owner == worker) if worker else Job.lease_until < now
    for job in session.scalars(select(Job).where(Job.state == "allocated", ~has_attempt, is_over)):
        move(job, "queued", "its worker died before it was started", now=now)


def begin_attempt(
    session: Session,
    job: Job,
    *,
    runs: Path,
    inputs: dict[str, ResolvedInput],
    resume_from: Checkpoint | None,
    host: str,
    worker: str,
    now: datetime,
    carried: Carried | None = None,
    gpus: Sequence[str] | None = None,
    cluster: ClusterTarget | None = None,
) -> Attempt:
    """Record an attempt with all that its child will be told, before anything is spawned.

    Args:
        runs: Folder of all run directories.
        inputs: What could be resolved only now, such as another job's checkpoint.
        resume_from: Checkpoint to go on from; its files are known to be good.
        carried: What the attempt before this one hands on.
        gpus: Names of the machine's GPUs; the attempt gets the first that no live attempt on this host holds. None
            assigns none and hides none, as for a job that does not say and a machine without any.
        cluster: The Ray cluster that its child runs on, if on any. One elsewhere takes no GPU of this host.
    """
    given: tuple[str, ...] | None = None
    wanted = job.spec["resources"]["gpus"]
    shared = _shared_gpus(session, job)
    if cluster is not None and cluster.address:
        given = ()
    elif shared is not None:
        given = shared
    elif gpus or (gpus is not None and wanted is not None):
        num = scheduling.num_gpus(wanted, len(gpus))
        given = scheduling.lowest_free(num, gpus, held_gpus(live_attempts(session, host=host)))
    job.attempt += 1
    job.ended_at = job.rewind_to = None
    if job.kind == "evaluate":
        paths = [str(files.whole(Path(found.path))) for found in inputs.values()]
        job.checkpoint_id = session.scalars(select(Checkpoint.id).where(Checkpoint.path.in_(paths))).first()
    job.started_at = job.started_at or now
    spec = RunSpec(
        job_id=str(job.id),
        attempt=job.attempt,
        job=defaults.filled(job.spec),
        inputs={ref: ResolvedInput.model_validate(found) for ref, found in job.inputs.items()} | inputs,
        seed=job.seed,
        resume_from=resume_from.path if resume_from else None,
        gpus=given,
        grace_seconds=job.spec["grace_seconds"],
        code=job.code,
        cluster=cluster,
        carried=carried or Carried(),
    )
    made = Attempt(
        job_id=job.id,
        number=job.attempt,
        run_dir=str(runs / str(job.id) / f"attempt-{job.attempt}"),
        run_spec=spec.model_dump(mode="json"),
        host=host,
        worker=worker,
        resumed_from=f"job:{job.id}/step:{resume_from.step}" if resume_from else None,
        phase_message="",
        cause="",
        is_settled=False,
        started_at=now,
    )
    session.add(made)
    session.flush()
    return made


def live_attempts(session: Session, *, host: str) -> list[Attempt]:
    """Attempts on this host that have not been settled."""
    query = select(Attempt).where(Attempt.is_settled.is_(False), Attempt.host == host)
    return list(session.scalars(query.order_by(Attempt.id)))


def held_gpus(attempts: Sequence[Attempt]) -> set[str]:
    """GPUs that these attempts were given."""
    return {name for attempt_ in attempts for name in attempt_.run_spec.get("gpus") or ()}


def apply_event(session: Session, job: Job, attempt_: Attempt, event: Event, *, now: datetime) -> None:
    """Take from an event what the job's row shows."""
    if isinstance(event, StatusEvent):
        attempt_.phase, attempt_.phase_message = event.status, event.message
        job.total_steps = event.total_steps if event.total_steps is not None else job.total_steps
        job.step = event.step if event.step is not None else job.step
        if event.status == "running" and job.state in ("allocated", "lost"):
            move(job, "running", "", now=now)
    elif isinstance(event, CheckpointEvent):
        _apply_checkpoint(session, job, attempt_, event)
    elif isinstance(event, ControlsEvent):
        job.controls = dict(event.values)
    elif isinstance(event, ControlAckEvent) and event.command_id.startswith(_COMMAND_PREFIX):
        wish = session.get(ControlRequest, int(event.command_id.removeprefix(_COMMAND_PREFIX)))
        if wish is not None and wish.job_id == job.id and wish.verb not in ("pause", "cancel", "rewind"):
            wish.outcome, wish.message = event.outcome, event.message


def running(session: Session, *, host: str) -> tuple[int, int]:
    """Live attempts on this host that take slots: of jobs, and of evaluations of checkpoints."""
    query = (
        select(Job.parent_id)
        .join(Attempt, Attempt.job_id == Job.id)
        .where(Attempt.is_settled.is_(False), Attempt.host == host, Job.kind != "external")
    )
    parents = list(session.scalars(query))
    return parents.count(None), len(parents) - parents.count(None)


def undelivered(session: Session) -> list[ControlRequest]:
    """Wishes that nobody has acted on."""
    query = select(ControlRequest).where(ControlRequest.outcome == "requested").order_by(ControlRequest.id)
    return list(session.scalars(query))


def answer_request(session: Session, wish: ControlRequest, *, now: datetime) -> Command | None:
    """Do what can be done about a wish at once; returns the command that the child must get, if any."""
    job = session.get_one(Job, wish.job_id)
    state: JobState = job.state  # type: ignore[assignment]
    verb: Verb = wish.verb  # type: ignore[assignment]
    if verb not in states.VERBS[state]:
        wish.outcome, wish.message = "rejected", f"the job is {state} by now"
        job.changed_at = now
        return None
    if verb == "rewind":
        job.rewind_to = rewind_target(session, job.id, wish.values).id
    if verb in ("resume", "retry", "rewind") and state != "running":
        wish.outcome = "applied"
        move(job, "queued", "", now=now)
        return None
    if verb == "cancel" and state in ("created", "queued", "paused"):
        wish.outcome = "applied"
        move(job, "cancelled", f"cancelled while {state}", now=now)
        return None
    if verb in ("pause", "cancel", "rewind"):
        job.stop_verb = verb
        move(job, "cancelling" if verb == "cancel" else "pausing", f"{verb} was asked for", now=now)
    wish.outcome, wish.attempt = "delivered", job.attempt
    return Command(
        id=f"{_COMMAND_PREFIX}{wish.id}",
        attempt=job.attempt,
        time=now.timestamp(),
        command="pause" if verb == "rewind" else verb,
        values=wish.values,
    )


def resume_point(session: Session, job_id: int) -> list[Checkpoint]:
    """Checkpoints from which a job may go on, the best first: along the way that led to its newest attempt."""
    rows = {row.path: row for row in checkpoints(session, job_id)}
    tries = [Try(row.number, row.run_spec["resume_from"]) for row in attempts(session, job_id)]
    saved = [Saved(row.attempt, row.step, row.path) for row in rows.values()]
    return [rows[one.path] for one in lineage.surviving(tries, saved)]


def rewind_target(session: Session, job_id: int, values: Mapping[str, float]) -> Checkpoint:
    """The checkpoint that a job is asked to go on from, whichever attempt saved it.

    Raises:
        InvalidSpec: no step is named. NotFound: the job has no such checkpoint.
    """
    if "step" not in values:
        raise InvalidSpec("rewind needs the step of a checkpoint, such as step=200")
    step, number = int(values["step"]), values.get("attempt")
    rows = [row for row in checkpoints(session, job_id) if row.step == step and number in (None, row.attempt)]
    if not rows:
        raise NotFound(f"job {job_id} has no checkpoint of step {step}; `finery jobs show {job_id}` lists those it has")
    return rows[-1]


def find_checkpoints(session: Session, ref: refs.CheckpointRef) -> list[Checkpoint]:
    """Checkpoints that a reference may mean, the best first.

    Raises:
        NotFound: the job has none of that step. InvalidSpec: the job is named, not numbered.
    """
    if ref.job_id is None:
        raise InvalidSpec(f"{ref}: there is no job {ref.job!r}; a job is named by its id, as in job:41/last")
    found = [row for row in resume_point(session, ref.job_id) if ref.step is None or row.step == ref.step]
    if not found:
        which = "no checkpoint" if ref.step is None else f"no checkpoint of step {ref.step}"
        raise NotFound(f"job {ref.job} has {which}; `finery jobs show {ref.job}` lists those it has")
    return found


def newest_checkpoints(session: Session, *, limit: int) -> list[tuple[Checkpoint, str]]:
    """Checkpoints of all jobs with the names of their jobs, the newest first; also those deleted since."""
    query = select(Checkpoint, Job.name).join(Job, Job.id == Checkpoint.job_id).order_by(Checkpoint.id.desc())
    return [(row, name) for row, name in session.execute(query.limit(limit))]


def settle(session: Session, job: Job, attempt_: Attempt, exit_: ExitRecord, *, now: datetime) -> None:
    """Close an attempt whose process has ended and whose events are all ingested."""
    wish = newest_request(session, job.id, job.stop_verb) if job.stop_verb else None
    end = states.outcome(
        exit_,
        phase=attempt_.phase,
        message=attempt_.phase_message,
        stop_verb=job.stop_verb,
        asked_by=f"{wish.by}: {wish.message}" if wish is not None and rule_of(wish) else "",
        step=job.step,
    )
    attempt_.is_settled = True
    attempt_.ended_at = now
    attempt_.exit_code = exit_.code
    attempt_.signal = exit_.signal
    attempt_.cause = end.cause
    stale = select(ControlRequest).where(ControlRequest.job_id == job.id, ControlRequest.outcome == "delivered")
    for row in session.scalars(stale):
        row.outcome = "applied" if row.verb == job.stop_verb else "rejected"
        row.message = row.message or f"the attempt ended: {end.state}"
    move(job, end.state, end.cause, now=now)


def was_asked(session: Session, job: Job) -> bool:
    """Whether a person, not a rule, has asked for the stop that is under way."""
    return job.stop_verb is not None and rule_of(newest_request(session, job.id, job.stop_verb)) is None


def seen(session: Session, *, worker: str, host: str, pid: int, now: datetime) -> None:
    """Record that a worker lives."""
    row = session.get(Worker, worker)
    if row is None:
        session.add(Worker(name=worker, host=host, pid=pid, seen_at=now))
    else:
        row.host, row.pid, row.seen_at = host, pid, now


def mark_lost(session: Session, *, now: datetime) -> list[Job]:
    """Show attempts whose worker has been silent for longer than a lease as lost, with the last that is known.

    Returns:
        The jobs that were not lost before.
    """
    query = (
        select(Job, Worker)
        .join(Attempt, Attempt.job_id == Job.id)
        .join(Worker, Worker.name == Attempt.worker)
        .where(Attempt.is_settled.is_(False), Worker.seen_at < now - LEASE, Job.state != "lost")
    )
    found = [(job, worker) for job, worker in session.execute(query) if job.state in states.ACTIVE]
    for job, worker in found:
        move(
            job,
            "lost",
            f"no contact with the worker on {worker.host} since {worker.seen_at:%Y-%m-%d %H:%M:%S} UTC",
            now=now,
        )
    return [job for job, _ in found]


def _apply_checkpoint(session: Session, job: Job, attempt_: Attempt, event: CheckpointEvent) -> None:
    """Note a checkpoint; one that does not lie within the attempt is none of this job's."""
    try:
        resolve_inside(Path(attempt_.run_dir), event.path)
    except InvalidSpec:
        return
    same = select(Checkpoint).where(
        Checkpoint.job_id == job.id, Checkpoint.attempt == attempt_.number, Checkpoint.step == event.step
    )
    row = session.scalars(same).first()
    if row is None:
        row = Checkpoint(job_id=job.id, attempt=attempt_.number, step=event.step)
        session.add(row)
    row.path = str(Path(attempt_.run_dir) / event.path)
    row.num_bytes = event.num_bytes
    row.created_at = datetime.fromtimestamp(event.time, UTC)
    row.evaluation = "due" if event.evaluate else ""


def in_words(ids: Sequence[int]) -> str:
    """Jobs by their numbers, such as `job 4, job 7`."""
    return ", ".join(f"job {number}" for number in ids)
