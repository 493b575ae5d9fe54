"""`python -m tests.verl.cluster.standin RUN_DIR`: stands in for a job's child on Ray: the same directory, commands,
two real actors as ranks, and steps without a model.

What is asked of it is in the job's name: a method of `Rank` that fails, `silent`, or anything else, which trains.
"""

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import ray

from finery.core.hooks import Decision
from finery.core.rundir import Run, RunDir, read_commands
from finery.runtime import __main__ as child
from finery.runtime import exits


@ray.remote(num_gpus=1, num_cpus=1)
class Rank:
    """One of two processes that train."""

    def pid(self) -> int:
        return os.getpid()

    def step(self, number: int) -> float:
        time.sleep(0.1)
        return number * 0.5

    def raise_(self) -> None:
        raise ValueError("no column named answer")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def exit(self) -> None:
        sys.exit(7)

    def segfault(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def left(self) -> None:
        os._exit(9)

    def chained(self) -> None:
        try:
            self.raise_()
        except ValueError as error:
            raise RuntimeError("the batch could not be made") from error

    def memory(self) -> None:
        raise MemoryError

    def nested(self, other: Any) -> None:
        ray.get(other.raise_.remote())


def main(path: Path) -> int:
    """Train until told otherwise; returns the exit status."""
    lock = RunDir(path).lock()
    if lock is None:
        return exits.BUSY
    run = Run.open(path)
    signal.signal(signal.SIGTERM, lambda *_: run.request_stop(Decision.PAUSE))
    run.status("running", "starting")
    if run.spec.cluster is not None and run.spec.cluster.address:
        child._LEASE_SECONDS = 3.0
        threading.Thread(target=child._watch_lease, args=(run,), daemon=True).start()
    wanted = str(run.spec.job["name"])
    if wanted == "silent":
        os.kill(os.getpid(), signal.SIGKILL)
    print("environment", sorted(os.environ), flush=True)
    try:
        ray.init()
        ranks = [Rank.options(name=f"rank{index}").remote() for index in range(2)]  # type: ignore[attr-defined]
        pids = ray.get([rank.pid.remote() for rank in ranks])
        run.note(f"ranks {pids[0]} {pids[1]}")
        return _train(run, ranks, wanted)
    except Exception as error:  # noqa: BLE001 - as the child does
        traceback.print_exc()
        run.status("failed", f"{type(error).__name__}: {error}")
        return exits.FAILED


def _train(run: Run, ranks: list[Any], wanted: str) -> int:
    if wanted in ("raise_", "die", "exit", "segfault", "left", "chained", "memory"):
        ray.get(getattr(ranks[1], wanted).remote())
    if wanted == "refused":
        from finery.core.errors import InvalidSpec

        raise InvalidSpec("task.batch_size (3) must be a multiple of the number of processes (2)")
    if wanted == "nested":
        ray.get(ranks[0].nested.remote(ranks[1]))
    offset = 0
    for step in range(1, int(run.spec.job["steps"]) + 1):
        values = ray.get([rank.step.remote(step) for rank in ranks])
        run.log({"loss": sum(values)}, step)
        commands, offset = read_commands(run.dir.control, offset, run.spec.attempt)
        asked = {command.command for command in commands}
        if "cancel" in asked:
            run.status("cancelled", step=step)
            return exits.CANCELLED
        if "pause" in asked or run.stop_requested is Decision.PAUSE:
            run.status("paused", step=step)
            return exits.PAUSED
    run.status("completed")
    return exits.COMPLETED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
