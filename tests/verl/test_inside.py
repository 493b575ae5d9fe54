"""The tests in `inside`, each file under verl's own interpreter."""

import subprocess
from pathlib import Path

import pytest

from tests.training.driver import VERL_PYTHON
from tests.verl.cluster.conftest import verl_python  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"


@pytest.mark.usefixtures("verl_python")
@pytest.mark.parametrize("name", sorted(path.stem for path in INSIDE.glob("test_*.py")))
def test_all_pass_under_the_interpreter_of_verl(name: str) -> None:
    words = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".", "--confcutdir", str(INSIDE)]
    done = subprocess.run(
        [str(VERL_PYTHON), "-m", "pytest", *words, str(INSIDE / f"{name}.py")], cwd=ROOT, text=True, capture_output=True
    )

    print(done.stdout[-20_000:], done.stderr[-5000:])
    assert done.returncode == 0
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
