"""Several processes that train one task. The child that was started is rank 0; it starts the others and ends with them.

The others run the same task with a `Run` that says nothing twice. They find each other through a store that rank 0
keeps on a port of the loopback interface; what they then tell each other is `torch.distributed`'s, over NCCL with a
GPU each, else over gloo. A rank that fails sends its last words to rank 0, which would else wait for it for ever.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Literal

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore
from torch.distributed.distributed_c10d import Store

from finery.core import processes
from finery.core.errors import FineryError, InvalidSpec
from finery.core.rundir import EventWriter, Run, RunDir, Stopped
from finery.core.spec import parse
from finery.training import memory
from finery.training.specs import TrainTask

_TIMEOUT = timedelta(hours=12)
"""One rank may score rewards for long while others wait; a dead one is noticed by its process, not by the time."""
_START_SECONDS = 600.0
_END_SECONDS = 60.0
_WORDS_SECONDS = 5.0
"""How long to wait for another rank's error that would explain this one's."""
_STUCK_SECONDS = 15.0
"""How long rank 0 may take to notice that another rank is gone, before it is ended from outside."""
_LOOPBACK: Final = "127.0.0.1"
_ECHOES: Final = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out", "store")
"""What torch.distributed's errors say when another process has gone."""


class RankFailed(FineryError):
    """One of the processes that train together has failed."""

    code = "rank_failed"


@dataclass(frozen=True)
class _Words:
    """Why a rank has ended."""

    text: str
    is_echo: bool
    """Another rank's end was noticed."""


@dataclass(frozen=True)
class _RankDir(RunDir):
    """A run directory in which a rank other than 0 keeps its samples apart."""

    rank: int

    @property
    def samples(self) -> Path:
        return self.path / "samples" / f"rank{self.rank}"


class RankRun(Run):
    """What ranks other than 0 get: failed rewards and alerts are theirs to tell, all else is told by rank 0."""

    @classmethod
    def of_rank(cls, path: Path, rank: int) -> "RankRun":
        """Open the attempt in `path`."""
        found = _RankDir(path, rank)
        found.samples.mkdir(exist_ok=True)
        return cls(found, found.read_spec(), EventWriter(found.events / f"rank{rank}.jsonl"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Nothing: rank 0 has the metrics of all."""

    def status(self, status: Any, message: str = "", *, step: int | None = None, total: int | None = None) -> None:
        """Nothing."""

    def note(self, message: str, level: Literal["debug", "info", "warning", "error"] = "info") -> None:
        """Nothing."""


@contextmanager
def started(run: Run, num: int, engine: str, *, modules: Sequence[str]) -> Iterator[None]:
    """Be rank 0 of `num` processes while the body trains; with one process, just the body.

    Args:
        run: The attempt.
        num: Processes in all.
        engine: Module whose `execute(task, run)` the others call.
        modules: What they import for it.

    Raises:
        RankFailed: another rank has failed; says which and with what words.
        InvalidSpec: there are fewer GPUs than processes.
    """
    if num == 1:
        yield
        return
    group = _Group(run, num)
    patience = 0.0
    try:
        group.start(engine, modules)
        yield
        patience = _END_SECONDS
    except Stopped:
        patience = _END_SECONDS
        raise
    except Exception as error:
        cause = group.explanation(error)
        if cause is None:
            raise
        raise cause from error
    finally:
        group.end(patience)


class _Group:
    """The other ranks, as rank 0 sees them."""

    def __init__(self, run: Run, num: int):
        self._run = run
        self._num = num
        self._oom_kills = processes.oom_kills()
        self._is_over = threading.Event()
        self._known: dict[int, _Words] = {}
        self._looking = threading.Lock()
        self._ranks: dict[int, Any] = {}
        self._hear: dict[int, Connection] = {}

    def start(self, engine: str, modules: Sequence[str]) -> None:
        """Start the others, and meet them."""
        num = self._num
        on_gpu = torch.cuda.is_available()
        if on_gpu and torch.cuda.device_count() < num:
            raise InvalidSpec(
                f"resources.processes: {num} processes need a GPU each, and {torch.cuda.device_count()} can be used "
                f"here; set resources.gpus: {torch.cuda.device_count()}"
            )
        # A process that was forked after CUDA was touched cannot use it; on a CPU a fork saves each its imports.
        context: Any = multiprocessing.get_context("spawn" if on_gpu else "forkserver")
        if not on_gpu:
            multiprocessing.set_forkserver_preload([*modules])
        listener = socket.create_server((_LOOPBACK, 0))
        port = listener.getsockname()[1]
        store = TCPStore(
            _LOOPBACK,
            port,
            num,
            is_master=True,
            timeout=timedelta(seconds=_START_SECONDS),
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
        threads = max(1, torch.get_num_threads() // num)
        _use_threads(threads)
        for rank in range(1, num):
            self._hear[rank], say = context.Pipe(duplex=False)
            environment = {**os.environ, **_variables(rank, num, port)}
            arguments = (str(self._run.dir.path), rank, num, engine, environment, threads, say)
            self._ranks[rank] = context.Process(target=_be_rank, args=arguments, name=f"rank{rank}")
            self._ranks[rank].start()
            say.close()
        os.environ.update(_variables(0, num, port))
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()
        _join(0, num, store)

    def explanation(self, error: Exception) -> RankFailed | None:
        """The failure of another rank that an error of this one is the consequence of."""
        if isinstance(error, Stopped | FineryError) or not _is_echo(error):
            return None
        deadline = time.monotonic() + _WORDS_SECONDS
        while time.monotonic() < deadline:
            self._look()
            if any(not words.is_echo for words in self._known.values()):
                break
            time.sleep(0.05)
        return self._failure()

    def end(self, seconds: float) -> None:
        """Let the others finish within some seconds; then they are killed. A group that failed is not left in form,
        which would wait for the dead."""
        self._is_over.set()
        deadline = time.monotonic() + seconds
        for process in self._ranks.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        if seconds and dist.is_initialized():
            dist.destroy_process_group()

    def _watch(self) -> None:
        """End this process if another rank has failed and nobody here notices."""
        while not self._is_over.wait(0.2):
            self._look()
            if not self._known:
                continue
            if self._is_over.wait(_STUCK_SECONDS):
                return
            failure = self._failure()
            self._run.status("failed", str(failure))
            self._run.events.close()
            print(failure, file=sys.stderr, flush=True)  # noqa: T201 - the attempt's own log
            os._exit(1)

    def _look(self) -> None:
        """Take note of ranks that have ended otherwise than in peace."""
        with self._looking:
            running = {self._ranks[rank].sentinel: rank for rank in self._ranks if rank not in self._known}
            for sentinel in connection.wait(list(running), timeout=0):
                rank = running[sentinel]
                self._ranks[rank].join()
                if self._ranks[rank].exitcode:
                    self._known[rank] = self._last_words(rank)

    def _last_words(self, rank: int) -> _Words:
        try:
            if self._hear[rank].poll():
                words: _Words = self._hear[rank].recv()
                return words
        except (EOFError, OSError):
            pass
        code = self._ranks[rank].exitcode
        if code >= 0:
            return _Words(f"ended with exit code {code}", is_echo=False)
        text = f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL and processes.oom_kills() > self._oom_kills:
            advice = memory.advice(self._run.spec.job["task"], self._num)
            text = f"was killed by the kernel, out of memory; {advice}"
        return _Words(text, is_echo=False)

    def _failure(self) -> RankFailed | None:
        """What to say: of the ranks that have failed, the first that did so by itself."""
        known = sorted(self._known.items(), key=lambda item: (item[1].is_echo, item[0]))
        if not known:
            return None
        rank, words = known[0]
        return RankFailed(f"rank {rank} of {self._num} processes {words.text}")


def _be_rank(
    path: str, rank: int, num: int, engine: str, environment: Mapping[str, str], threads: int, say: Connection
) -> None:
    """A process other than rank 0, from its beginning to its end."""
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGTERM, signal.SIGINT):  # rank 0 is told to stop, and tells
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    _write_to(RunDir(Path(path)).stdout)
    warnings.simplefilter("ignore")
    _use_threads(threads)
    run = RankRun.of_rank(Path(path), rank)
    try:
        port = int(environment["MASTER_PORT"])
        store = TCPStore(_LOOPBACK, port, num, is_master=False, timeout=timedelta(seconds=_START_SECONDS))
        _join(rank, num, store)
        execute: Callable[[TrainTask, Run], None] = import_module(engine).execute
        execute(parse(TrainTask, run.spec.job["task"]), run)
    except Stopped:
        pass
    except Exception as error:  # noqa: BLE001 - the only witness: printed to the log, and sent to rank 0
        traceback.print_exc()
        told = str(error) if isinstance(error, FineryError) else f"{type(error).__name__}: {error}"
        say.send(_Words(f"failed: {told}", is_echo=not isinstance(error, FineryError) and _is_echo(error)))
        run.events.close()
        sys.stderr.flush()
        os._exit(1)
    run.events.close()
    dist.destroy_process_group()


def _join(rank: int, num: int, store: Store) -> None:
    """Become one of the group."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=num, timeout=_TIMEOUT)


def _variables(rank: int, num: int, port: int) -> dict[str, str]:
    """What torch.distributed and accelerate read of a process's place in the group."""
    interfaces = {name for _, name in socket.if_nameindex()}
    loopback = next((name for name in ("lo", "lo0") if name in interfaces), None)
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num),
        "LOCAL_WORLD_SIZE": str(num),
        "MASTER_ADDR": _LOOPBACK,
        "MASTER_PORT": str(port),
        **({"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback} if loopback else {}),
    }


def _use_threads(num: int) -> None:
    torch.set_num_threads(num)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(num)


def _write_to(log: Path) -> None:
    """Send what this process prints to the attempt's log."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(handle, number)
    os.close(handle)


def _end_with_rank_0() -> None:
    """Nobody would see an orphan train."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _is_echo(error: Exception) -> bool:
    """Whether an error says that another process has gone, rather than that something is wrong here."""
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _ECHOES)
