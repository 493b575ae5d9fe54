"""`python -m tests.verl.cluster.supervising RUN_DIR`: the supervisor, with a launcher whose child is the stand-in."""

import sys
from pathlib import Path

from finery.core.rundir import RunDir
from finery.runtime.supervisor import Supervisor


class StandInSupervisor(Supervisor):
    _module = "tests.verl.cluster.launching"


if __name__ == "__main__":
    sys.exit(StandInSupervisor(RunDir(Path(sys.argv[1])), sys.executable, None).run())
