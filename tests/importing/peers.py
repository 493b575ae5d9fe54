"""The other trackers themselves, where `benchmarks/.peers` has them: they write the stores that the readers read."""

import os
import subprocess
from pathlib import Path

import pytest

_PEERS = Path(__file__).parents[2] / "benchmarks" / ".peers"


def python_of(peer: str) -> Path:
    return _PEERS / peer / "bin" / "python"


def needs(peer: str) -> pytest.MarkDecorator:
    """Run the test only where the peer is installed; hand-made stores cover the same reader everywhere."""
    return pytest.mark.skipif(not python_of(peer).exists(), reason=f"{peer} is not in benchmarks/.peers")


def write(peer: str, script: str, folder: Path, **environment: str) -> None:
    """Run a script with the peer's Python in a folder, offline."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run(
        [python_of(peer), "-c", script], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
