"""`finery run`: one job without a server. The same supervisor, child and run directory as under `finery up`."""

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import orjson
import typer

from finery import migrations
from finery.cli import exits, verl
from finery.cli.check import ConfigOption, FileArgument, OverridesArgument, SetOption, read
from finery.core import console, processes, refs
from finery.core.clock import SystemClock
from finery.core.console import JsonOption
from finery.core.db import Database
from finery.core.errors import Conflict, InvalidSpec, NotFound, Unavailable
from finery.core.git import git_state
from finery.core.objects import ObjectStore
from finery.core.rundir import CLUSTER, Command, ExitRecord, RunDir, RunSpec, append_line, read_new_lines
from finery.core.settings import Settings
from finery.jobs import checking, clusters, references, states
from finery.jobs.resolving import Resolver, hub_tokens, job_secrets
from finery.jobs.specs import JobSpec, PipelineSpec
from finery.notifying.alone import Teller
from finery.rules import defaults
from finery.worker import afterlife, gpus, launch, resuming

_POLL_SECONDS = 0.2
_LINE_SECONDS = 10.0
"""Between two lines of progress when nobody watches on a terminal."""
Hear = Callable[[RunSpec, str, Mapping[str, Any]], None]
"""Is told of each event of a run: its spec, the writer, and the event as plain data."""

ResumeOption = Annotated[
    Path | None, typer.Option("--resume", help="Go on with this run directory from its last good checkpoint.")
]


def run(
    file: FileArgument = None,
    overrides: OverridesArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Resolve everything, print the run's spec, start nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run one job here, without a server. The exit code is the job's.

    Ctrl-C saves a checkpoint and stops; a second one kills.
    """
    settings = Settings()
    changes = [*(overrides or []), *(set_ or [])]
    if resume is not None:
        _refuse_changes([str(given) for given in (file, config) if given is not None] + changes)
        if _told_that_it_is_complete(resume, as_json):
            return
    path, spec = _resumed(resume, settings) if resume is not None else _fresh(file, config, changes, settings)
    if dry_run:
        console.emit(spec.model_dump(mode="json"))
        return
    if spec.cluster is not None and not spec.cluster.name:
        verl.refuse_unusable(settings)
    _refuse_full_disk(settings)
    teller = Teller(lambda: open_database(settings), settings, SystemClock(), warn=console.warn)
    while True:
        follower, exit_ = attempted(path, spec, settings, quiet=quiet or as_json, hear=teller.hear)
        end = states.outcome(
            exit_, phase=follower.phase, message=follower.message, stop_verb=follower.stop_verb, step=follower.step
        )
        if follower.killed_by and exit_.signal == "SIGKILL":
            at = f" at step {follower.step}" if follower.step else ""
            end = replace(end, cause=f"killed by {follower.killed_by}{at}")
        if end.state != "queued":
            break
        path, spec = _resumed(path, settings)
    teller.end(spec, end.state, end.cause, step=follower.step, was_asked=follower.stop_verb is not None)
    result = _result(end, path, follower)
    if as_json:
        console.emit(result)
    else:
        _tell(result, path)
    raise typer.Exit(_exit_code(end.state, exit_))


def attempted(
    path: Path, spec: RunSpec, settings: Settings, *, quiet: bool, hear: Hear
) -> "tuple[Follower, ExitRecord]":
    """Run one attempt to its end."""
    try:
        tokens = hub_tokens(settings) | job_secrets(settings, spec.job, allow_environment=True)
        tokens |= clusters.token(spec.job, settings)
        launch.start(path, spec, tokens=tokens, parent=os.getpid())
    except OSError as error:
        raise Unavailable(f"the run directory {path} could not be made: {error.strerror}") from error
    follower = Follower(RunDir(path), spec, quiet=quiet, hear=hear)
    return follower, follower.follow()


@dataclass
class Follower:
    """Follows the streams of a running attempt and shows them."""

    run_dir: RunDir
    spec: RunSpec
    quiet: bool
    hear: Hear
    phase: str | None = None
    message: str = ""
    step: int | None = None
    total: int | None = None
    stop_verb: str | None = None
    killed_by: str = ""
    """What the user has ended the child with, in words; empty where it was left to end by itself."""
    values: dict[str, Any] = field(default_factory=dict)
    _offsets: dict[str, int] = field(default_factory=dict)
    _interrupts: int = 0

    def follow(self) -> ExitRecord:
        """Show progress until the end."""
        before = signal.signal(signal.SIGINT, self._interrupted)
        signal.signal(signal.SIGTERM, self._interrupted)
        signal.signal(signal.SIGHUP, self._interrupted)
        try:
            if self.quiet or not console.is_terminal():
                return self._follow_until_end(self._line)
            with console.progress() as progress:
                task = progress.add_task(self.spec.job["name"], total=1, note="starting")

                def draw() -> None:
                    progress.update(task, completed=self.step or 0, total=self.total or 1, note=self._summary())

                return self._follow_until_end(draw)
        finally:
            signal.signal(signal.SIGINT, before)

    def _follow_until_end(self, draw: Callable[[], None]) -> ExitRecord:
        while True:
            exit_ = afterlife.examine(self.run_dir.path)
            self.catch_up()
            draw()
            if exit_ is not None:
                return exit_
            time.sleep(_POLL_SECONDS)

    def catch_up(self) -> None:
        """Take in what has been said since the last call."""
        for writer in ("rank0", CLUSTER, "supervisor"):
            stream = self.run_dir.events / f"{writer}.jsonl"
            while True:
                lines, self._offsets[writer] = read_new_lines(stream, self._offsets.get(writer, 0))
                if not lines:
                    break
                for line in lines:
                    self._take(writer, line)

    def _take(self, writer: str, line: bytes) -> None:
        try:
            event = orjson.loads(line)
            kind = event["type"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return
        self.hear(self.spec, writer, event)
        if kind == "metrics":
            self.step = event["step"]
            self.values.update(event["values"])
        elif kind == "status":
            self.phase, self.message = event["status"], event["message"]
            self.total = event.get("total_steps") or self.total
        elif kind == "alert" and not self.quiet:
            console.warn(event["message"])
        elif kind == "action" and not self.quiet:
            console.warn(f"{event['rule']}: {event['action']} {event['outcome']}: {event['message']}")

    _shown_at: float = 0.0
    _shown_step: int | None = None

    def _line(self) -> None:
        now = time.monotonic()
        if self.quiet or self.step == self._shown_step or now - self._shown_at < _LINE_SECONDS:
            return
        self._shown_at, self._shown_step = now, self.step
        console.say(f"step {self.step} of {self.total or '?'}  {self._summary()}")

    def _summary(self) -> str:
        names = ("reward_mean", "loss", "accuracy", "grad_norm", "seconds_per_step")
        shown = [f"{name} {_number(self.values[name])}" for name in names if name in self.values]
        return "  ".join(shown) or self.message

    def _interrupted(self, number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self.stop_verb = "pause"
            command = Command(id="interrupt", attempt=self.spec.attempt, time=time.time(), command="pause")
            append_line(self.run_dir.control, command.model_dump())
            console.warn("saving a checkpoint and stopping; once more to kill")
            return
        record = self.run_dir.read_supervisor()
        if record is not None and record.child is not None:
            self.killed_by = "a second Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            processes.kill_group(record.child, signal.SIGKILL)


def _fresh(file: Path | None, config: Path | None, overrides: list[str], settings: Settings) -> tuple[Path, RunSpec]:
    document, name = read(file, config, overrides)
    spec = checking.read(document, name=name)
    if isinstance(spec, PipelineSpec):
        raise InvalidSpec(f"{name} is a pipeline; `finery up` and `finery jobs submit {name}` run one")
    if spec.after or references.checkpoints(spec.model_dump(mode="json")):
        raise InvalidSpec("a run without a server cannot wait for or start from other jobs; use `finery jobs submit`")
    base = (file or config or Path()).resolve().parent
    spec = with_absolute_paths(spec, base)
    inputs = local_resolver(settings).inputs(spec, allow_paths=True)
    job = defaults.filled(spec.model_dump(mode="json"))
    if spec.monitoring.evaluation is not None:
        console.warn("monitoring.evaluation needs a server (`finery jobs submit`); here no checkpoint is evaluated")
        job["monitoring"] |= {"evaluation": None, "keep_best": 0}
    job_id = f"{_slug(spec.name)}-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    made = RunSpec(
        job_id=job_id,
        attempt=1,
        job=job,
        inputs=inputs,
        seed=spec.seed if spec.seed is not None else int.from_bytes(os.urandom(3)),
        gpus=gpus_of(job),
        cluster=clusters.target(job, settings),
        grace_seconds=spec.grace_seconds,
        code=git_state(base) or None,
    )
    return settings.runs / job_id / "attempt-1", made


def _resumed(path: Path, settings: Settings) -> tuple[Path, RunSpec]:
    """The next attempt of a run directory, given as the job's folder or one of its attempts."""
    tries = _tries(path)
    folder = tries[-1].parent
    if afterlife.examine(tries[-1]) is None and RunDir(tries[-1]).supervisor.exists():
        raise Conflict(f"{tries[-1]} is still running; stop it first")
    before = RunDir(tries[-1]).read_spec()
    good, carried, complaints = resuming.prepared_locally(tries)
    for complaint in complaints:
        console.warn(complaint)
    if good is None:
        console.warn(f"{folder} has no good checkpoint; the run starts from the beginning")
    attempt = before.attempt + 1
    changes = {
        "attempt": attempt,
        "resume_from": str(good) if good else None,
        "carried": carried,
        "gpus": gpus_of(before.job),
        "cluster": clusters.target(before.job, settings),
    }
    made = before.model_copy(update=changes)
    return folder / f"attempt-{attempt}", made


def _tries(path: Path) -> list[Path]:
    """The attempts of a run directory, oldest first. Raises `NotFound` where there are none."""
    folder = path.resolve()
    if folder.name.startswith("attempt-"):
        folder = folder.parent
    tries = [entry for entry in folder.glob("attempt-*") if RunDir(entry).spec.is_file()]
    if not tries:
        raise NotFound(f"{path} is no run directory: there is no attempt-1/spec.json in it")
    return sorted(tries, key=lambda entry: int(entry.name.removeprefix("attempt-")))


def _refuse_changes(given: list[str]) -> None:
    """What is gone on with is the job as it was begun."""
    if given:
        raise InvalidSpec(
            f"--resume goes on with the job as it was begun, so {' '.join(given)} would have no effect; leave it out, "
            "or start a new run of the job file with the changes, without --resume"
        )


def _told_that_it_is_complete(path: Path, as_json: bool) -> bool:
    """Whether the newest attempt has done its job, which is then said: nothing is left to go on with."""
    newest = _tries(path)[-1]
    exit_ = afterlife.examine(newest)
    if exit_ is None:
        return False
    follower = Follower(RunDir(newest), RunDir(newest).read_spec(), quiet=True, hear=lambda *_: None)
    follower.catch_up()
    end = states.outcome(exit_, phase=follower.phase, message=follower.message, stop_verb=None, step=follower.step)
    if end.state != "completed":
        return False
    if as_json:
        console.emit(_result(end, newest, follower))
    else:
        console.say(f"nothing to do: completed{f' at step {follower.step}' if follower.step else ''}")
        console.say(f"run directory: {newest}")
    return True


def _result(end: states.Outcome, path: Path, follower: "Follower") -> dict[str, Any]:
    return {"state": end.state, "cause": end.cause, "run_dir": str(path), "last_values": follower.values}


def gpus_of(job: Mapping[str, Any]) -> tuple[str, ...] | None:
    """GPUs of this machine that an attempt of a job takes. Raises as `gpus.first` does."""
    if clusters.is_elsewhere(job):
        return ()
    return gpus.first(job.get("resources", {}).get("gpus"), gpus.visible(os.environ))


def local_resolver(settings: Settings) -> Resolver:
    """Resolves references against this machine's home, whose database is made where there is none."""
    return Resolver(open_database(settings), ObjectStore(settings.objects), settings)


def open_database(settings: Settings) -> Database:
    """The database of this machine's home, made where there is none."""
    settings.make_home()
    db = Database(settings.url)
    migrations.upgrade(db, lock=settings.home / "migrate.lock")
    return db


def with_absolute_paths(spec: JobSpec, base: Path) -> JobSpec:
    """Paths in a job file are relative to the file."""

    def absolute(found: references.Reference) -> str:
        is_path = found.kind != "secret" and refs.is_local_path(found.text)
        return str((base / Path(found.text).expanduser()).resolve()) if is_path else found.text

    return type(spec).model_validate(references.replaced(spec.model_dump(mode="json"), absolute))


def _refuse_full_disk(settings: Settings) -> None:
    settings.make_home()
    home = settings.home
    stat = os.statvfs(home)
    free = stat.f_bavail * stat.f_frsize
    if free < 50 * 2**20:
        raise Unavailable(
            f"{home} has {free / 2**20:.0f} MiB free; a run needs at least 50 MiB. Free some, or set FINERY_HOME"
        )


def _tell(result: dict[str, Any], path: Path) -> None:
    cause = f": {result['cause']}" if result["cause"] else ""
    console.say(f"{result['state']}{cause}")
    console.say(f"run directory: {path}")
    if result["state"] != "completed":
        console.say(f"go on with: finery run --resume {path.parent}")
        console.say(f"output: {RunDir(path).stdout}")


def _exit_code(state: str, exit_: ExitRecord) -> int:
    if state == "completed":
        return exits.OK
    if state in ("paused", "cancelled"):
        return exits.KILLED if exit_.signal == "SIGKILL" else exits.STOPPED
    return exits.FAILED


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
