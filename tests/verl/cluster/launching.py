"""`python -m tests.verl.cluster.launching RUN_DIR`: the launcher, with the stand-in as its child."""

import sys
from pathlib import Path

from finery.core.rundir import RunDir
from finery.runtime.cluster.__main__ import ended_like
from finery.runtime.cluster.launcher import Launcher

if __name__ == "__main__":
    sys.exit(ended_like(Launcher(RunDir(Path(sys.argv[1])), module="tests.verl.cluster.standin").run()))
