"""`python -m finery.runtime.cluster RUN_DIR`: has the child of an attempt run on its Ray cluster, and ends as that."""

import os
import signal
import sys
from pathlib import Path

from finery.core.rundir import RunDir
from finery.runtime.cluster.launcher import Launcher


def main(path: Path) -> int:
    """Run the attempt in `path`; returns the child's exit status, or ends by the signal that ended it."""
    return ended_like(Launcher(RunDir(path)).run())


def ended_like(code: int) -> int:
    """End by the signal that ended the child, which is what the supervisor records; else return its exit status."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
