"""`python -m finery.runtime.cluster.keeper FOLDER PROGRAM ...`: parent of a cluster that one launcher has started.

Runs the program and ends with all that has come from it: when the program ends, on SIGTERM, and when its own standard
input is closed, which is what becomes of a launcher that is killed. Then it removes the folder. Holds the lock
`keeper.lock` in it, so that a folder without a keeper is known to be debris.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from finery.core import processes
from finery.core.rundir import RunDir

LOCK = "keeper.lock"


def main(folder: Path, argv: list[str]) -> int:
    """Run the program until one of the three ends comes; returns its exit status."""
    lock = RunDir(folder).lock(LOCK)
    if lock is None:
        return 1
    processes.adopt_orphans()
    over = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        preexec_fn=processes.die_with_parent,
    )
    threading.Thread(target=_listen, args=(over,), daemon=True).start()
    while not over.wait(0.2):
        processes.reap_orphans(keep=program.pid)
        if program.poll() is not None:
            break
    code = program.poll()
    processes.end_descendants()
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if code is None else abs(code)


def _listen(over: threading.Event) -> None:
    while os.read(0, 1024):
        continue
    over.set()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
