"""A run to open rewards with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from finery.core.rundir import Run, RunDir, RunSpec


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run without a job; its inputs are what a test puts into `run.spec.inputs`."""
    spec = RunSpec(job_id="1", attempt=1, job={}, inputs={}, seed=7)
    opened = Run.open(RunDir.create(tmp_path / "attempt-1", spec).path)
    yield opened
    opened.events.close()
