"""Brings an attempt's child onto a Ray cluster, follows it to its end and says truly how it ended.

The child is the same as everywhere: `python -m finery.runtime RUN_DIR`, here the entrypoint of a Ray job on a node that
sees the run directory. It takes its commands from control.jsonl and writes its own events and its own log, so that all
that crosses the Jobs API is the job's begin and end.
"""

import fcntl
import os
import secrets
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import orjson

from finery.core import processes
from finery.core.clusters import TOKEN_VARIABLE, ClusterTarget
from finery.core.environment import for_other_hosts
from finery.core.errors import FineryError, Unavailable
from finery.core.events import Phase
from finery.core.rundir import CLUSTER, LEASE, Command, Run, RunDir, append_line, read_commands
from finery.runtime import exits
from finery.runtime.cluster import causes
from finery.runtime.cluster.api import CLAIM, JobInfo, NotReached, RayApi
from finery.runtime.cluster.local import LocalCluster
from finery.runtime.cluster.watch import ClusterWatch

_POLL_SECONDS: Final = 1.0
_ROOM_POLL_SECONDS: Final = 5.0
_SUBMIT_SECONDS: Final = 60.0
_DEAD_SECONDS: Final = 15.0
"""A cluster that cannot be asked for so long has ended, where it is ours; else contact with it is lost."""
_SLOW_SECONDS: Final = 60.0
"""The same for one of ours that takes the question and does not answer: it may have no processor time left."""
_LOSS_SECONDS: Final = 20.0
"""For Ray to see that a machine is gone: it asks each five times, 3 s apart."""
_GIVE_UP_SECONDS: Final = 300.0
"""A configured cluster that does not answer for so long is given up."""
_STOP_SECONDS: Final = 3.5
"""For Ray to take note that a job is to stop; the supervisor kills the launcher 5 s after its first SIGTERM."""
_SECOND_TERM_SECONDS: Final = 0.5
"""A SIGTERM asks the child to save and stop; one that comes so much later ends it."""
_ENDS: Final[dict[str, int]] = {
    "completed": exits.COMPLETED,
    "paused": exits.PAUSED,
    "cancelled": exits.CANCELLED,
    "rolling_back": exits.ROLLED_BACK,
}
_TAIL_BYTES: Final = 1 << 18


class _Ended(Exception):
    """The launcher was told to end at once."""


class _NodeLost(Unavailable):
    """A machine that the run is on has left the cluster; what waits for it may wait for ever."""


class Launcher:
    """One attempt on one cluster."""

    def __init__(self, run_dir: RunDir, module: str = "finery.runtime"):
        """Prepare to run an attempt.

        Args:
            run_dir: The attempt. Its spec has a `cluster`.
            module: What the cluster's interpreter runs with the run directory as its argument.

        Raises:
            ValueError: the spec has no cluster.
        """
        self._run = Run.open(run_dir.path, CLUSTER)
        self._dir = run_dir
        if self._run.spec.cluster is None:
            raise ValueError(f"{run_dir.path} is not to run on a cluster")
        self._target: ClusterTarget = self._run.spec.cluster
        self._module = module
        self._submission = f"finery-{self._run.spec.job_id}-{self._run.spec.attempt}-{secrets.token_hex(3)}"
        self._parent = os.getppid()
        self._own: LocalCluster | None = None
        self._watch: ClusterWatch | None = None
        self._control_offset = 0
        self._term_at: float | None = None
        self._end_at: float | None = None
        self._oom_kills = processes.oom_kills()
        self._log_began = run_dir.stdout.stat().st_size if run_dir.stdout.exists() else 0

    def run(self) -> int:
        """Run the attempt to its end.

        Returns:
            Exit status of the child; negative where a signal ended it.
        """
        signal.signal(signal.SIGTERM, self._terminated)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with self._cluster() as api:
                return self._run_on(api)
        except _Ended:
            return -signal.SIGTERM
        except FineryError as error:
            self._fail(str(error))
            return exits.FAILED
        finally:
            self._run.events.close()

    @contextmanager
    def _cluster(self) -> Iterator[RayApi]:
        if self._target.address:
            api = RayApi(self._target.address, os.environ.get(TOKEN_VARIABLE, ""))
            self._reach(api)
            yield api
            return
        gpus = self._run.spec.gpus
        processes.adopt_orphans()  # those of a keeper that is killed
        try:
            self._own = LocalCluster.start(
                self._target.python,
                num_accelerators=self._target.num_accelerators,
                accelerator=self._target.accelerator,
                log=self._own_log,
                env=os.environ,
                has_devices=bool(gpus) or self._target.accelerator != "GPU",
            )
            yield self._own.api
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if self._own is not None:
                self._own.stop()
            processes.end_descendants()

    def _reach(self, api: RayApi) -> None:
        """Wait for a configured cluster's first answer."""
        deadline = time.monotonic() + _DEAD_SECONDS
        while True:
            try:
                api.version()
                return
            except NotReached as error:
                if time.monotonic() > deadline or "token" in str(error):
                    raise Unavailable(
                        f"cluster {self._target.name} cannot be reached: {error}; asked for {_DEAD_SECONDS:g} s"
                    ) from None
            time.sleep(_POLL_SECONDS)

    def _run_on(self, api: RayApi) -> int:
        self._watch = ClusterWatch(api, self._submission, self._target, self._run.events)
        if not self._target.address:
            self._submit(api)
        elif (stopped := self._submit_when_there_is_room(api)) is not None:
            return stopped
        self._run.note(f"submitted to Ray as {self._submission} at {api.address}")
        try:
            end = self._follow(api)
        except (_Ended, _NodeLost):
            self._stop(api)
            raise
        return self._conclude(api, end)

    def _submit(self, api: RayApi) -> None:
        child = [self._target.python, "-P", "-m", self._module, str(self._dir.path)]
        # The child writes its log itself: the directory is shared, and Ray would keep a copy of all that it prints.
        entrypoint = f"exec {shlex.join(child)} >> {shlex.quote(str(self._dir.stdout))} 2>&1"
        spec = self._run.spec
        metadata = {
            "finery_job": spec.job_id,
            "finery_attempt": str(spec.attempt),
            "name": str(spec.job.get("name")),
            CLAIM: f"{self._target.num_accelerators} {self._target.accelerator}",
        }
        env = for_other_hosts(os.environ) if self._target.address else {}
        api.submit(self._submission, entrypoint, env=env, metadata=metadata, seconds=_SUBMIT_SECONDS)

    def _submit_when_there_is_room(self, api: RayApi) -> int | None:
        """Submit as soon as enough is free; the exit status where the job is to stop instead."""
        said = ""
        unreached_at: float | None = None
        needed, kind, name = self._target.num_accelerators, self._target.accelerator, self._target.name
        while True:
            with self._turn() as is_ours:
                free = total = 0
                try:
                    if is_ours:
                        free, total = api.room(kind)
                        unreached_at = None
                except NotReached as error:
                    unreached_at = unreached_at or time.monotonic()
                    if time.monotonic() - unreached_at > _GIVE_UP_SECONDS:
                        raise Unavailable(f"cluster {name} was lost before the job began: {error}") from None
                if free >= needed:
                    self._touch_lease()
                    self._submit(api)
                    return None
            message = f"waits for {needed} {kind}s on cluster {name}; {free} of {total} are free"
            if is_ours and unreached_at is None and message != said:
                said = message
                self._run.status("running", message)
            deadline = time.monotonic() + (_ROOM_POLL_SECONDS if is_ours else _POLL_SECONDS)
            while time.monotonic() < deadline:
                asked = self._asked_to_stop()
                if asked is not None:
                    self._run.status(*asked[0])
                    return asked[1]
                time.sleep(_POLL_SECONDS / 2)

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether it is this launcher's turn to look for room and take it. Two at once would take the same."""
        with open(self._dir.path.parents[1] / f"cluster-{self._target.name}.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _asked_to_stop(self) -> "tuple[tuple[Phase, str], int] | None":
        self._look_after_parent()
        commands, self._control_offset = read_commands(self._dir.control, self._control_offset, self._run.spec.attempt)
        asked = {command.command for command in commands}
        if "cancel" in asked:
            return ("cancelled", ""), exits.CANCELLED
        return (("paused", ""), exits.PAUSED) if "pause" in asked else None

    def _follow(self, api: RayApi) -> JobInfo | None:
        """Watch the job until it is over; None where contact was lost and the child's own words must do.

        Raises:
            Unavailable: the cluster has ended, has lost a machine of the run, or was given up.
        """
        heard_at = time.monotonic()
        is_lost = False
        while True:
            self._touch_lease()
            self._look_after_parent()
            if self._end_at is not None and time.monotonic() > self._end_at:
                raise _Ended
            try:
                info = api.job(self._submission)
            except NotReached as error:
                silence = time.monotonic() - heard_at
                if self._own is not None:
                    self._judge_own(silence, error)
                elif silence > _DEAD_SECONDS and not is_lost:
                    is_lost = True
                    self._lost(str(error))
                elif silence > _GIVE_UP_SECONDS:
                    self._give_up(error)
                    return None
            else:
                if is_lost:
                    is_lost = False
                    self._alert(f"cluster {self._target.name} answers again", "info")
                heard_at = time.monotonic()
                if info.is_over:
                    return info
                self._look()
            time.sleep(_POLL_SECONDS)

    def _look(self) -> None:
        assert self._watch is not None
        self._watch.look()
        if self._own is None and self._watch.lost():
            raise _NodeLost(self._told_loss("what the others wait for will not come"))

    def _judge_own(self, silence: float, error: NotReached) -> None:
        assert self._own is not None
        if not self._own.is_alive:
            found = causes.of_ended_cluster(_read_tail(self._own_log))
            raise Unavailable(f"the Ray cluster of this job has ended: {found or 'its processes are gone'}")
        if silence > (_SLOW_SECONDS if "timed out" in str(error) else _DEAD_SECONDS):
            raise Unavailable(f"the Ray cluster of this job does not answer since {silence:.0f} s ({error})")

    def _lost(self, why: str) -> None:
        assert self._watch is not None
        self._watch.unreachable()
        self._alert(
            f"contact with cluster {self._target.name} is lost ({why}); the run may go on there, and is followed again "
            f"when the cluster answers within {_GIVE_UP_SECONDS / 60:g} minutes",
            "error",
        )

    def _give_up(self, error: NotReached) -> None:
        """Fail, unless the child has told how it ended."""
        if self._last_words()[0] in (*_ENDS, "failed"):
            return
        raise Unavailable(
            f"no contact with cluster {self._target.name} for {_GIVE_UP_SECONDS / 60:g} minutes ({error}); a child "
            "that still runs there saves and stops by itself"
        )

    def _conclude(self, api: RayApi, end: JobInfo | None) -> int:
        """The child's exit status, with the true cause told where its own words do not say it."""
        if self._watch is not None and end is not None:
            with suppress(NotReached):
                self._watch.look(now=True)
        phase, message = self._last_words()
        if end is None:
            return _ENDS.get(phase, exits.FAILED)
        code = end.exit_code
        if code is None and end.status == "SUCCEEDED":
            code = exits.COMPLETED
        if code == exits.COMPLETED or phase in _ENDS:
            return _ENDS[phase] if code is None else code
        if phase != "failed" or causes.is_of_ray(message):
            cause = self._cause(end, is_silent=phase != "failed")
            if not cause or causes.is_of_loss(cause):
                cause = self._loss(cause or causes.one_line(message)) or cause
            if cause:
                self._fail(cause)
        return exits.FAILED if code is None else code

    def _loss(self, seen: str) -> str | None:
        """Which machines the run has lost; None where all are there, or where Ray tells of a single process."""
        if self._own is not None or self._watch is None:
            return None
        deadline = time.monotonic() + _LOSS_SECONDS
        while True:
            with suppress(NotReached):
                self._watch.look(now=True)
            if self._watch.lost():
                return self._told_loss(seen)
            is_told = any(actor.state == "DEAD" and actor.cause for actor in self._watch.actors)
            if is_told or time.monotonic() > deadline:
                return None
            time.sleep(_POLL_SECONDS)

    def _told_loss(self, seen: str) -> str:
        assert self._watch is not None
        lost = ", ".join(self._watch.lost())
        return causes.one_line(f"cluster {self._target.name} has lost node {lost} of this run; {seen}")

    def _cause(self, end: JobInfo, *, is_silent: bool) -> str:
        logs = self._own.logs if self._own is not None else None
        actors = self._watch.actors if self._watch is not None else ()
        found = causes.root_cause(_read_tail(self._dir.stdout, self._log_began), logs=logs, actors=actors)
        num_killed = processes.oom_kills() - self._oom_kills if self._own is not None else 0
        if found and num_killed and causes.is_kill(found):
            return f"out of memory: the kernel killed {num_killed} of this machine's processes; {found}"
        if found or not is_silent:
            return found or ""
        if end.status == "STOPPED":
            return "the Ray job was stopped by somebody else"
        if end.exit_code is None:
            return f"Ray ended the job: {causes.one_line(end.message) or 'it does not say why'}"
        return ""

    def _stop(self, api: RayApi) -> None:
        """End the Ray job. A cluster of ours is taken down at once instead."""
        if self._own is not None:
            return
        deadline = time.monotonic() + _STOP_SECONDS
        with suppress(NotReached):
            api.stop(self._submission)
            while time.monotonic() < deadline and not api.job(self._submission).is_over:
                time.sleep(_POLL_SECONDS / 4)

    def _look_after_parent(self) -> None:
        """Without a supervisor nobody would see the run: it saves, stops, and is ended when it cannot."""
        if os.getppid() != self._parent:
            self._parent = os.getppid()
            self._run.note("the supervisor is gone; the run is asked to save and stop", "error")
            self._ask_for_pause("launcher-orphaned")

    def _ask_for_pause(self, id_: str) -> None:
        command = Command(id=id_, attempt=self._run.spec.attempt, time=time.time(), command="pause")
        append_line(self._dir.control, command.model_dump())
        self._end_at = min(self._end_at or float("inf"), time.monotonic() + self._run.spec.grace_seconds)

    def _terminated(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._term_at is None:
            self._term_at = now
            self._ask_for_pause("launcher-terminated")
        elif now - self._term_at > _SECOND_TERM_SECONDS:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise _Ended

    def _touch_lease(self) -> None:
        if self._target.address:
            with suppress(OSError):
                (self._dir.path / LEASE).write_text(str(time.time()))

    @property
    def _own_log(self) -> Path:
        return self._dir.stdout.with_name("ray.log")

    def _last_words(self) -> tuple[str, str]:
        """The child's newest status and its message; empty when it has told none."""
        lines = _read_tail(self._dir.events / "rank0.jsonl").splitlines()
        for line in reversed(lines):
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if event.get("type") == "status":
                return event["status"], event["message"]
        return "", ""

    def _fail(self, message: str) -> None:
        self._run.status("failed", message)

    def _alert(self, message: str, severity: str) -> None:
        self._run.events.emit("alert", rule="cluster", severity=severity, message=message, step=None)


def _read_tail(path: Path, began: int = 0) -> str:
    """The end of a file, after byte `began`; empty where there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(began, size - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
