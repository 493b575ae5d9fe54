"""The run directory: the only channel between a job's processes and the platform.

    <runs>/<job>/attempt-<n>/
      spec.json              RunSpec: fully resolved, never changes
      events/<writer>.jsonl  append-only, one write(2) per line, one stream per writer
      control.jsonl          append-only, written by the platform, read by the child between steps
      samples/ gradients/ checkpoints/ logs/stdout.log
      lease                  rewritten while a child on a configured cluster is followed
      supervisor.json        who supervises: identity of the supervisor and of the child
      carried.json           what the next attempt has to know, written by the child
      exit.json              how the child ended: written once, by the supervisor (or by who found it dead)

Owns the layout, the writing and reading of streams and the handle `Run` that job code gets. It never opens a socket
and never touches the database.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict

from finery.core import checkpoints, retention
from finery.core.carried import CARRIED, Carried
from finery.core.clusters import ClusterTarget
from finery.core.errors import Conflict, FineryError
from finery.core.events import Phase, encode_value
from finery.core.hooks import Decision, LiveControls, StepHooks
from finery.core.retention import Retention

RUNDIR_VERSION = 1
RESOURCES = "resources"
"""Writer of the stream that holds what a run uses, sampled by its supervisor, and nothing else."""
CLUSTER = "ray"
"""Writer of the stream in which the launcher tells of the Ray cluster under a run."""
LEASE = "lease"
"""File of an attempt that is rewritten while somebody follows a child on a cluster that others run."""
_LOCK = "lock"


class Stopped(Exception):
    """Raised by a runner that ended early because it was asked to. Not a failure."""

    def __init__(self, decision: Decision):
        super().__init__(decision.value)
        self.decision = decision


class StreamReplaced(FineryError):
    """A stream is shorter than what was already read of it."""

    code = "stream_replaced"


class ResolvedInput(BaseModel):
    """What a reference of the job file stands for on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["file", "folder", "checkpoint", "builtin", "hub", "modelscope"]
    path: str
    """Absolute path. For `builtin` the folder to build into, for `hub` and `modelscope` the cache to download into."""
    sha256: str
    """Of the file's bytes, or of a list of the folder's files; for `hub` and `modelscope` the pinned revision."""


class RunSpec(BaseModel):
    """spec.json: all that a child is told."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    version: Literal[1] = 1
    job_id: str
    attempt: int
    job: dict[str, Any]
    """The job file, validated and complete (`finery.jobs.specs.JobSpec`)."""
    inputs: dict[str, ResolvedInput]
    """Reference as written in the job file -> what it was resolved to."""
    seed: int
    resume_from: str | None = None
    """Absolute path of the checkpoint to go on from."""
    gpus: tuple[str, ...] | None = None
    """The GPUs of the machine that are this attempt's alone, as CUDA_VISIBLE_DEVICES names them: `("0", "3")`. Empty is
    a run on the CPU; None leaves it to the environment."""
    grace_seconds: float = 60.0
    """Time a child has to save and stop before its process group is killed."""
    code: dict[str, Any] | None = None
    """Git state of the folder from which the job was submitted."""
    cluster: ClusterTarget | None = None
    """The Ray cluster on which the child runs; None runs it beside its supervisor."""
    carried: Carried = Carried()
    """What the attempts before this one have handed on."""


class ExitRecord(BaseModel):
    """exit.json."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    version: Literal[1] = 1
    code: int | None
    """Exit status, None when a signal ended the child or nobody saw it end."""
    signal: str | None
    """Name of the signal that ended the child, such as SIGKILL."""
    oom_kills: int
    """How many processes the kernel killed for memory in the child's control group while it ran."""
    last_heartbeat: float
    """When the child last wrote an event; 0 if never."""
    ended_at: float
    cause: str
    """In words."""
    recorded_by: Literal["supervisor", "worker", "script"]
    peak_memory_bytes: int | None = None
    """Most resident memory that the child, or one of the processes that it waited for, had at a time; None where nobody
    saw it end."""


class SupervisorRecord(BaseModel):
    """supervisor.json."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    version: Literal[1] = 1
    supervisor: "ProcessIdentity"
    child: "ProcessIdentity | None"


class ProcessIdentity(BaseModel):
    """A process that cannot be mistaken for a later one with the same pid."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    host: str
    boot_id: str
    pid: int
    start_time: float
    """As the kernel counts it; compared for equality only."""


class Command(BaseModel):
    """One line of control.jsonl."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    id: str
    attempt: int
    time: float
    command: Literal["pause", "cancel", "checkpoint", "set"]
    values: dict[str, float] = {}
    """For `set`: control name -> value."""


@dataclass(frozen=True)
class RunDir:
    """Names within one attempt's directory."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def control(self) -> Path:
        return self.path / "control.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def gradients(self) -> Path:
        """Laid out by `core.gradients`; made when a step has been probed."""
        return self.path / "gradients"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def stdout(self) -> Path:
        return self.path / "logs" / "stdout.log"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def supervisor(self) -> Path:
        return self.path / "supervisor.json"

    @property
    def carried(self) -> Path:
        return self.path / CARRIED

    @classmethod
    def create(cls, path: Path, spec: RunSpec) -> "RunDir":
        """Make the directory of a new attempt. Doing it again with the same spec changes nothing.

        Raises:
            Conflict: the directory holds another spec.
            OSError: the disk is full.
        """
        run_dir = cls(path)
        encoded = orjson.dumps(spec.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
        if run_dir.spec.exists():
            if run_dir.spec.read_bytes() != encoded:
                raise Conflict(f"{path} already holds a run of another spec; choose another directory")
            return run_dir
        for folder in (run_dir.events, run_dir.samples, run_dir.checkpoints, run_dir.stdout.parent):
            folder.mkdir(parents=True, exist_ok=True)
        run_dir.control.touch()
        checkpoints.write_atomically(run_dir.spec, encoded)
        return run_dir

    def read_spec(self) -> RunSpec:
        """The spec of this attempt."""
        return RunSpec.model_validate_json(self.spec.read_bytes())

    def read_exit(self) -> ExitRecord | None:
        """How the child ended, or None while nobody has recorded an end."""
        try:
            return ExitRecord.model_validate_json(self.exit.read_bytes())
        except FileNotFoundError:
            return None

    def read_supervisor(self) -> SupervisorRecord | None:
        """Who supervises, or None before a supervisor has started."""
        try:
            return SupervisorRecord.model_validate_json(self.supervisor.read_bytes())
        except FileNotFoundError:
            return None

    def read_carried(self) -> Carried:
        """What this attempt hands on; what it was handed itself where it has written nothing."""
        try:
            return Carried.model_validate_json(self.carried.read_bytes())
        except FileNotFoundError:
            return self.read_spec().carried

    def write_carried(self, carried: Carried) -> None:
        """Replace what this attempt hands on. Raises `OSError`."""
        checkpoints.write_atomically(self.carried, orjson.dumps(carried.model_dump(mode="json")))

    def write_exit(self, record: ExitRecord, *, patience_seconds: float = 600.0) -> None:
        """Write exit.json; waits for a full disk to have room again.

        Raises:
            OSError: the disk did not take it for `patience_seconds`.
        """
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                checkpoints.write_atomically(self.exit, orjson.dumps(record.model_dump()))
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def lock(self, name: str = _LOCK) -> int | None:
        """Take an exclusive flock of this attempt; None when another process holds it. Released by exit."""
        handle = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle


class EventWriter:
    """Appends events to one stream. A failed write is cut back, kept and tried again with the next one."""

    MAX_KEPT = 10_000

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._kept: list[bytes] = []
        self._dropped = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._seq = self._close_torn_line()

    def emit(self, type_: str, **fields: Any) -> None:
        """Append one event. Never raises for the disk: training goes on without the platform."""
        with self._lock:
            line = orjson.dumps(
                {"type": type_, "seq": self._seq, "time": time.time(), **fields}, option=orjson.OPT_SERIALIZE_NUMPY
            )
            self._seq += 1
            self._kept.append(line + b"\n")
            if len(self._kept) > self.MAX_KEPT:
                del self._kept[0]
                self._dropped += 1
            self._flush()

    @property
    def num_unwritten(self) -> int:
        """Events that wait for the disk."""
        return len(self._kept)

    def close(self) -> None:
        """Write what is left and close the file."""
        with self._lock:
            self._flush()
            os.close(self._file)

    def _flush(self) -> None:
        while self._kept:
            line = self._kept[0]
            size = os.fstat(self._file).st_size
            try:
                written = os.write(self._file, line)
            except OSError:
                written = 0
            if written != len(line):
                os.ftruncate(self._file, size)
                return
            del self._kept[0]

    def _close_torn_line(self) -> int:
        """End a line that a crash tore, and return the next seq."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")
        last = -1
        with open(self._path, "rb") as file:
            for line in file:
                try:
                    last = max(last, int(orjson.loads(line)["seq"]))
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    last += 1
        return last + 1


@dataclass
class Run:
    """The handle that job code gets: where it works, what it was told, and how it reports."""

    dir: RunDir
    spec: RunSpec
    events: EventWriter
    hooks: list[StepHooks] = field(default_factory=list)
    _stop: Decision = Decision.CONTINUE

    @classmethod
    def open(cls, path: Path, writer: str = "rank0") -> "Run":
        """Open an attempt as its child."""
        run_dir = RunDir(path)
        return cls(run_dir, run_dir.read_spec(), EventWriter(run_dir.events / f"{writer}.jsonl"))

    @property
    def seed(self) -> int:
        return self.spec.seed

    @property
    def resume_from(self) -> Path | None:
        """The checkpoint to go on from, or None for a start from nothing."""
        return Path(self.spec.resume_from) if self.spec.resume_from else None

    def input(self, ref: str) -> ResolvedInput:
        """What a reference of the job file was resolved to."""
        return self.spec.inputs[ref]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics of a step. One write(2); not a number and infinity are kept as such."""
        self.events.emit("metrics", step=step, values={name: encode_value(float(v)) for name, v in values.items()})

    def status(self, status: Phase, message: str = "", *, step: int | None = None, total: int | None = None) -> None:
        """Record a change of phase."""
        self.events.emit("status", status=status, message=message, step=step, total_steps=total)

    def alert(
        self, rule: str, message: str, *, severity: Literal["info", "warning", "error"], step: int | None
    ) -> None:
        """Record something that a person should know."""
        self.events.emit("alert", rule=rule, severity=severity, message=message, step=step)

    def note(self, message: str, level: Literal["debug", "info", "warning", "error"] = "info") -> None:
        """Record one line of the run's story."""
        self.events.emit("log", level=level, message=message)

    def samples(self, name: str, records: Sequence[Mapping[str, Any]], step: int) -> int | None:
        """Append records to samples/<name>.jsonl and point an event at them.

        A full disk loses the records of this step, never the run; what was half written is cut off.

        Returns:
            Byte offset of the first of them; None when they were lost.
        """
        path = self.dir.samples / f"{name}.jsonl"
        encoded = b"".join(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for record in records)
        with open(path, "ab") as file:
            offset = file.tell()
            try:
                file.write(encoded)
                file.flush()
            except OSError as error:
                os.ftruncate(file.fileno(), offset)
                self.note(f"samples of step {step} were not kept: {error}", "warning")
                return None
        self.events.emit("sample", step=step, path=self._relative(path), offset=offset, num_records=len(records))
        return offset

    def gradients(self, path: Path, offset: int, step: int) -> None:
        """Point at statistics of gradients that were appended to a file."""
        self.events.emit("gradients", step=step, path=self._relative(path), offset=offset)

    def artifact(self, name: str, path: Path) -> None:
        """Point at a file of this attempt that others may want."""
        self.events.emit("artifact", name=name, path=self._relative(path))

    def checkpoint(
        self,
        path: Path,
        *,
        engine: str,
        format: str,
        step: int,
        keep: Retention | None,
        world_size: int = 1,
        kind: checkpoints.Kind = "policy",
        evaluate: bool = False,
    ) -> bool:
        """Seal the files under `path` as the checkpoint of `step` and drop those that are not kept.

        Args:
            path: Where the files lie.
            engine: Who wrote them.
            format: Their layout.
            step: Optimizer steps done.
            keep: What is kept of those that nobody holds; None drops none.
            world_size: Processes that train.
            kind: What was trained.
            evaluate: It is due for its evaluation, and held until that is over.

        Returns:
            False when the disk did not take it: an alert is raised, the debris is removed, the ones before remain.
        """
        try:
            manifest = checkpoints.seal(
                path,
                engine=engine,
                format=format,
                kind=kind,
                step=step,
                attempt=self.spec.attempt,
                world_size=world_size,
                now=time.time(),
            )
        except OSError as error:
            self.checkpoint_failed(path, step, error)
            return False
        self.events.emit(
            "checkpoint",
            step=step,
            path=self._relative(path),
            num_bytes=manifest.num_bytes,
            evaluate=evaluate and self._held(path, retention.EVALUATION),
        )
        if keep is not None:
            self._prune(keep)
        return True

    def _held(self, path: Path, name: str) -> bool:
        """Hold a checkpoint; a full disk is no reason to stop."""
        try:
            return retention.hold(path, name)
        except OSError as error:
            self.note(f"{path.name} is not evaluated: {error}", "warning")
            return False

    def _prune(self, keep: Retention) -> None:
        try:
            retention.prune(self.dir.checkpoints, keep)
        except OSError as error:
            self.note(f"older checkpoints were not deleted: {error}", "warning")

    def checkpoint_failed(self, path: Path, step: int, error: Exception) -> None:
        """Remove what a failed save left and say so; training goes on."""
        checkpoints.remove(path)
        self.alert(
            "checkpoint_failed",
            f"the checkpoint of step {step} was not saved: {error}; training goes on, the one before it is kept",
            severity="error",
            step=step,
        )

    def before_training(self, step: int, controls: LiveControls) -> None:
        """Call every hook before the first step."""
        for hook in self.hooks:
            hook.before_training(step, controls)

    def after_step(self, step: int, values: Mapping[str, float], controls: LiveControls) -> Decision:
        """Call every hook; the strongest decision wins, and a request to stop outlasts the step it came in."""
        order = list(Decision)
        decision = self._stop
        for hook in self.hooks:
            decision = max(decision, hook.after_step(step, values, controls), key=order.index)
        return max(decision, self._stop, key=order.index)

    def request_stop(self, decision: Decision) -> None:
        """Ask for a stop at the next step boundary; safe to call from a signal handler."""
        self._stop = decision

    @property
    def stop_requested(self) -> Decision:
        """What work without steps (an evaluation) looks at between its batches."""
        return self._stop

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.dir.path))


def read_new_lines(path: Path, offset: int, *, max_bytes: int = 1 << 22) -> tuple[list[bytes], int]:
    """Whole lines after byte `offset`, and the offset after the last of them.

    A line that is still being written has no newline yet and is left for the next call. At most about `max_bytes`
    are read; one longer line is still returned whole.

    Raises:
        StreamReplaced: the file is shorter than `offset`; somebody truncated or replaced it.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; reopened each time, since NFS shows appends on open
    except FileNotFoundError:
        if offset:
            raise StreamReplaced(f"{path} is gone, and {offset} bytes of it were read before") from None
        return [], 0
    with file:
        size = file.seek(0, os.SEEK_END)
        if size < offset:
            raise StreamReplaced(f"{path} has {size} bytes, and {offset} were read before")
        while True:
            file.seek(offset)
            chunk = file.read(max_bytes)
            end = chunk.rfind(b"\n") + 1
            if end or len(chunk) < max_bytes:
                return chunk[:end].splitlines(), offset + end
            max_bytes *= 2


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line with one write(2), after closing a line that a crash tore."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(handle).st_size
        is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        line = (b"\n" if is_torn else b"") + orjson.dumps(record) + b"\n"
        if os.write(handle, line) != len(line):
            os.ftruncate(handle, size)
            raise OSError(f"{path}: the disk took only part of a line")
    finally:
        os.close(handle)


def read_commands(path: Path, offset: int, attempt: int) -> tuple[list[Command], int]:
    """Commands for `attempt` after byte `offset` of control.jsonl. Lines that are no command are skipped."""
    lines, end = read_new_lines(path, offset)
    found = []
    for line in lines:
        try:
            command = Command.model_validate_json(line)
        except ValueError:
            continue
        if command.attempt == attempt:
            found.append(command)
    return found, end


def last_event_time(run_dir: RunDir, writers: Iterable[str] = ("rank0",)) -> float:
    """When one of the child's streams last grew, in seconds since the epoch; 0 if never."""
    times = [0.0]
    for writer in writers:
        try:
            stat = (run_dir.events / f"{writer}.jsonl").stat()
        except FileNotFoundError:
            continue
        if stat.st_size:
            times.append(stat.st_mtime)
    return max(times)
