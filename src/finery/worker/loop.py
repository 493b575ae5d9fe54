"""The worker's loop: obey wishes, promote, claim, start, read, settle. Each step is its own short unit of work."""

import fcntl
import logging
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from finery.core import checkpoints, retention
from finery.core.clock import Clock
from finery.core.db import Database
from finery.core.errors import FineryError, NotFound, Unavailable
from finery.core.objects import ObjectStore
from finery.core.rundir import ExitRecord, ResolvedInput, RunDir, RunSpec, StreamReplaced
from finery.core.settings import Settings
from finery.core.spec import parse
from finery.experiments import checkpoints as scores
from finery.jobs import clusters, expecting, states
from finery.jobs import service as jobs
from finery.jobs.resolving import Resolver, hub_tokens, job_secrets
from finery.jobs.scheduling import Free
from finery.jobs.specs import JobSpec
from finery.jobs.tables import Attempt, Checkpoint, ControlRequest, Job
from finery.monitoring import ingest, parsing
from finery.monitoring import service as monitoring
from finery.notifying import hearing
from finery.worker import afterlife, evaluating, gpus, judging, launch, resuming
from finery.worker.transport import LocalTransport

log = logging.getLogger(__name__)

TICK_SECONDS = 0.2
_SEEN_EVERY_SECONDS = 2.0
_TIDY_EVERY_SECONDS = 2.0
_TIDY_OVERLAP = timedelta(seconds=60)
"""A transaction may be committed so long after the moment that it notes."""
_MAX_TIDIED = 20
"""Jobs whose checkpoints are looked at in one turn."""
_YIELD_SECONDS = 0.002
"""Pause after an ingest transaction, in which those who wait at the database's gate get in."""
_NICE = 10
"""Of evaluations of checkpoints: on a CPU they share the cores with the job."""
_MAX_LAUNCHES = 3
"""Supervisors that may die before they have taken an attempt."""


class Worker:
    """One worker of one home."""

    def __init__(self, db: Database, settings: Settings, clock: Clock, *, gpu_names: Sequence[str] | None = None):
        """Take the home.

        Args:
            db: Where jobs are.
            settings: Of this installation.
            clock: What time it is.
            gpu_names: GPUs that attempts are given; None means all that this process may use.
        """
        self._db = db
        self._settings = settings
        self._clock = clock
        self._host = socket.gethostname()
        self._name = f"{self._host}:{settings.home}"
        self._resolver = Resolver(db, ObjectStore(settings.objects), settings)
        self._supervisors: dict[int, subprocess.Popen[bytes]] = {}
        self._launches: dict[int, int] = {}
        self._complained: set[int] = set()
        self._gpus = tuple(gpus.visible(os.environ) if gpu_names is None else gpu_names)
        self._seen_at = 0.0
        self._tidied_at = 0.0
        self._tidy_since: datetime | None = None
        self._untidy: set[int] = set()
        self._lock = self._take_lock()

    def run(self) -> None:
        """Work until the process ends."""
        log.info("worker started name=%s pid=%s", self._name, os.getpid())
        while True:
            try:
                self.tick()
            except Exception:  # the loop outlives a failed turn; the traceback says what it was
                log.exception("a turn of the worker failed")
                time.sleep(1.0)
            time.sleep(TICK_SECONDS)

    def tick(self) -> None:
        """One turn."""
        self._report()
        self._obey()
        self._start_what_waits()
        checked_at = time.monotonic()
        for attempt in self._live():
            self._follow(attempt)
            if time.monotonic() - checked_at > TICK_SECONDS:  # many runs at full speed must not delay a wish
                self._obey()
                self._start_what_waits()
                checked_at = time.monotonic()
        self._plan_evaluations()
        self._tidy_checkpoints()
        self._reap()

    def close(self) -> None:
        """Let another worker have the home."""
        os.close(self._lock)

    def _take_lock(self) -> int:
        self._settings.make_home()
        handle = os.open(self._settings.home / "worker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise Unavailable(f"another worker runs on {self._settings.home}; one home has one worker") from None
        return handle

    def _report(self) -> None:
        if time.monotonic() - self._seen_at < _SEEN_EVERY_SECONDS:
            return
        with self._db.session() as session:
            jobs.seen(session, worker=self._name, host=self._host, pid=os.getpid(), now=self._clock.now())
            session.flush()
            for job in jobs.mark_lost(session, now=self._clock.now()):
                hearing.state(session, job, was_asked=False, now=self._clock.now())
                judging.moved(session, job, now=self._clock.now())
            jobs.requeue_abandoned(session, worker=self._name if self._seen_at == 0 else None, now=self._clock.now())
        self._seen_at = time.monotonic()

    def _obey(self) -> None:
        """Act on wishes. A command is appended before its wish is marked: done twice, it has one id and counts once."""
        with self._db.read() as session:
            waiting = [wish.id for wish in jobs.undelivered(session)]
        for wish_id in waiting:
            with self._db.session() as session:
                wish = session.get_one(ControlRequest, wish_id)
                command = jobs.answer_request(session, wish, now=self._clock.now())
                if command is not None:
                    attempt = jobs.attempt(session, wish.job_id, command.attempt)
                    LocalTransport(Path(attempt.run_dir)).append_control(command.model_dump())

    def _live(self) -> list[Attempt]:
        with self._db.read() as session:
            return jobs.live_attempts(session, host=self._host)

    def _plan_evaluations(self) -> None:
        with self._db.read() as session:
            is_due = evaluating.is_due(session)
        if is_due:
            with self._db.session() as session:
                evaluating.plan(session, now=self._clock.now())

    def _tidy_checkpoints(self) -> None:
        """Keep the checkpoints that something needs, and delete those of ended jobs that nothing does."""
        if time.monotonic() - self._tidied_at > _TIDY_EVERY_SECONDS:
            now = self._clock.now()
            with self._db.read() as session:
                self._untidy |= evaluating.concerned(session, self._tidy_since)
            self._tidied_at, self._tidy_since = time.monotonic(), now - _TIDY_OVERLAP
        for _ in range(min(len(self._untidy), _MAX_TIDIED)):
            job_id = self._untidy.pop()
            try:
                with self._db.session() as session:
                    gone = evaluating.tidy(session, job_id)
            except OSError as error:
                log.warning("checkpoints not tidied job=%s error=%s", job_id, error)
                continue
            for path in gone:
                checkpoints.remove(path)
                log.info("checkpoint deleted path=%s", path)

    def _reap(self) -> None:
        """Collect supervisors that have ended, so that none stays behind as a zombie."""
        for process in self._supervisors.values():
            process.poll()

    def _start_what_waits(self) -> None:
        with self._db.read() as session:
            waiting = jobs.waiting_states(session)
        if "created" in waiting:
            with self._db.session() as session:
                jobs.promote(session, now=self._clock.now())
        while waiting and self._start_next():
            pass

    def _start_next(self) -> bool:
        """Claim and start one job. Returns whether there may be another."""
        with self._db.session() as session:
            live = jobs.live_attempts(session, host=self._host)
            num_jobs, num_beside = jobs.running(session, host=self._host)
            free = Free(
                slots=self._settings.max_running_jobs - num_jobs,
                gpus=len(set(self._gpus) - jobs.held_gpus(live)),
                all_gpus=len(self._gpus),
                slots_beside=self._settings.max_running_evaluations - num_beside,
            )
            job = jobs.claim(session, worker=self._name, free=free, now=self._clock.now())
        if job is None:
            return False
        try:
            spec = parse(JobSpec, job.spec, what=f"job {job.id}")
            self._resolver.check_code(spec)
            cluster = clusters.target(job.spec, self._settings)
            inputs = self._held_checkpoints(job, spec)
            resume_from, carried = resuming.prepared(self._db, job.id)
        except FineryError as error:
            with self._db.session() as session:
                row = session.get_one(Job, job.id)
                jobs.move(row, "failed", str(error), now=self._clock.now())
                hearing.state(session, row, was_asked=False, now=self._clock.now())
                judging.moved(session, row, now=self._clock.now())
            return True
        with self._db.session() as session:
            attempt = jobs.begin_attempt(
                session,
                session.get_one(Job, job.id),
                runs=self._settings.runs,
                inputs=inputs,
                resume_from=resume_from,
                carried=carried,
                host=self._host,
                worker=self._name,
                now=self._clock.now(),
                gpus=self._gpus,
                cluster=cluster,
            )
        self._launch(attempt)
        log.info("job started id=%s attempt=%s", job.id, attempt.number)
        return True

    def _held_checkpoints(self, job: Job, spec: JobSpec) -> dict[str, ResolvedInput]:
        """The checkpoints that a job needs, held for it. Raises as `Resolver.checkpoint` does."""
        while True:
            inputs = self._resolver.checkpoint(spec, base=self._evaluated(job))
            if all(retention.hold(Path(found.path), retention.job_hold(job.id)) for found in inputs.values()):
                return inputs  # else one was deleted at this moment, and what is left is asked for again

    def _evaluated(self, job: Job) -> Path | None:
        """Where the checkpoint lies that a training job wants evaluated."""
        if job.parent_id is None:
            return None
        with self._db.read() as session:
            return Path(session.get_one(Checkpoint, job.checkpoint_id).path)

    def _launch(self, attempt: Attempt) -> None:
        """Start the supervisor of an attempt; starting it again is harmless."""
        self._launches[attempt.id] = self._launches.get(attempt.id, 0) + 1
        if self._launches[attempt.id] > _MAX_LAUNCHES:
            self._settle(attempt, _never_started(f"its supervisor did not come up; see {attempt.run_dir}/logs"))
            return
        spec = RunSpec.model_validate(attempt.run_spec)
        try:
            tokens = hub_tokens(self._settings) | job_secrets(self._settings, spec.job, allow_environment=False)
            tokens |= clusters.token(spec.job, self._settings)
            nice = _NICE if self._is_beside(attempt) else 0
            self._supervisors[attempt.id] = launch.start(Path(attempt.run_dir), spec, tokens=tokens, nice=nice)
        except OSError as error:
            self._settle(attempt, _never_started(f"the run directory could not be made: {error}"))
        except FineryError as error:
            self._settle(attempt, _never_started(str(error)))

    def _is_beside(self, attempt: Attempt) -> bool:
        """Whether it evaluates a checkpoint for a training job."""
        with self._db.read() as session:
            return session.get_one(Job, attempt.job_id).parent_id is not None

    def _follow(self, attempt: Attempt) -> None:
        """Read what an attempt has written, and settle it once it has ended and everything is read."""
        path = Path(attempt.run_dir)
        if self._is_unsupervised(attempt):
            self._launch(attempt)
            return
        exit_ = afterlife.examine(path)
        try:
            is_drained = self._drain(attempt, path)
        except StreamReplaced as error:
            if attempt.id not in self._complained:
                self._complained.add(attempt.id)
                log.exception("stream replaced job=%s attempt=%s", attempt.job_id, attempt.number)
            exit_ = exit_ and exit_.model_copy(update={"cause": f"{exit_.cause} ({error})".strip()})
            is_drained = True
        if exit_ is not None and is_drained:
            self._settle(attempt, exit_)

    def _is_unsupervised(self, attempt: Attempt) -> bool:
        """Whether no supervisor has taken the attempt, and none is on its way."""
        run_dir = RunDir(Path(attempt.run_dir))
        if run_dir.supervisor.exists() or run_dir.exit.exists():
            return False
        started = self._supervisors.get(attempt.id)
        return started is None or started.poll() is not None

    def _settle(self, attempt: Attempt, exit_: ExitRecord) -> None:
        with self._db.read() as session:
            made = expecting.foreseen(session, attempt.job_id, expecting.this_host())
        with self._db.session() as session:
            job, row = session.get_one(Job, attempt.job_id), session.get_one(Attempt, attempt.id)
            for writer in ingest.writers(session, job.id, row.number):
                ingest.pack(session, job.id, row.number, writer)
            was_asked = jobs.was_asked(session, job)
            jobs.settle(session, job, row, exit_, now=self._clock.now())
            expecting.keep(session, job, row, exit_, made, now=self._clock.now())
            hearing.state(session, job, was_asked=was_asked, now=self._clock.now())
            judging.moved(session, job, now=self._clock.now())
            if job.checkpoint_id is not None and job.state in states.ENDED:
                self._note_score(session, job, row)
        log.info("job settled id=%s attempt=%s state=%s cause=%s", job.id, row.number, job.state, job.cause)

    def _note_score(self, session: Session, job: Job, attempt: Attempt) -> None:
        """An evaluation of a checkpoint has ended: note its score."""
        try:
            outcome = scores.ended(session, job, attempt, now=self._clock.now())
        except (OSError, ValueError, NotFound):
            log.exception("score not read job=%s", job.id)
            return
        if outcome is not None:
            if outcome.is_of_plan:
                saved_by = jobs.attempt(session, outcome.job_id, outcome.attempt)
                found = {outcome.benchmark: outcome.accuracy}
                judging.scored(session, saved_by, outcome.step, found, now=self._clock.now())
            log.info(
                "checkpoint scored job=%s step=%s benchmark=%s accuracy=%.4f",
                outcome.job_id,
                outcome.step,
                outcome.benchmark,
                outcome.accuracy,
            )

    def _drain(self, attempt: Attempt, path: Path) -> bool:
        """Store what is new in the streams of an attempt, in short transactions. Returns whether nothing was left."""
        transport = LocalTransport(path)
        is_drained = True
        for writer in transport.streams():
            with self._db.read() as session:
                start = monitoring.offset(session, attempt.job_id, attempt.number, writer)
            lines, end = transport.read(writer, start)
            if not lines:
                continue
            is_drained = False
            items = parsing.parse(lines, writer=writer)
            with self._db.session() as session:
                job, row = session.get_one(Job, attempt.job_id), session.get_one(Attempt, attempt.id)
                ingest.store(session, job, row, writer, items, end, now=self._clock.now())
                hearing.events(session, job, row, writer, items, now=self._clock.now())
            time.sleep(_YIELD_SECONDS)
        return is_drained


def _never_started(cause: str) -> ExitRecord:
    return ExitRecord(
        code=None,
        signal=None,
        oom_kills=0,
        last_heartbeat=0.0,
        ended_at=time.time(),
        cause=cause,
        recorded_by="worker",
    )
