"""The user's own reward runs in a process of its own, and what it does there harms only its scores."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from finery.core import checkpoints
from finery.core.errors import Conflict, FineryError, InvalidSpec
from finery.core.rundir import ResolvedInput, Run
from finery.core.spec import parse
from finery.training.rewards.python_file import PythonFile, PythonFileParams
from tests.training import driver

Opener = Callable[..., PythonFile]


@pytest.fixture
def opened(run: Run, tmp_path: Path) -> Iterator[Opener]:
    """Opens a reward on code; what is still open after the test is closed."""
    made: list[PythonFile] = []

    def open_(code: str, **params: Any) -> PythonFile:
        file = tmp_path / "reward.py"
        file.write_text(code)
        run.spec.inputs["./reward.py"] = ResolvedInput(
            kind="file", path=str(file), sha256=checkpoints.file_sha256(file)
        )
        made.append(PythonFile(PythonFileParams(path="./reward.py", **params), run))
        return made[-1]

    yield open_
    for reward in made:
        reward.close()


def test_it_is_given_prompts_completions_and_the_other_columns(opened: Opener) -> None:
    reward = opened(
        "def reward(prompts, completions, answer, level):\n"
        "    return [len(p) + (c == a) + (l or 0) for p, c, a, l in zip(prompts, completions, answer, level)]\n"
    )
    rows = [
        {"prompt": "1+1=", "answer": "2", "level": 0.5},
        {"prompt": [{"role": "user", "content": "hi"}], "answer": "x"},
    ]

    assert reward.score(["2", "y"], rows) == [5.5, 2.0]


def test_the_file_is_kept_with_the_run(opened: Opener, run: Run) -> None:
    code = "def reward(prompts, completions, **columns):\n    return [0.0] * len(completions)\n"
    opened(code)

    [artifact] = driver.events(run.dir, "artifact")

    assert (run.dir.path / artifact["path"]).read_text() == code


def test_a_file_that_changed_since_it_was_submitted_is_refused(opened: Opener, run: Run, tmp_path: Path) -> None:
    opened("def reward(prompts, completions): return [0] * len(completions)")
    (tmp_path / "reward.py").write_text("def reward(prompts, completions): return [1] * len(completions)")

    with pytest.raises(Conflict, match=r"\./reward\.py has changed since the job was submitted"):
        PythonFile(PythonFileParams(path="./reward.py"), run)


def test_it_keeps_its_process_from_call_to_call(opened: Opener) -> None:
    reward = opened(
        "import os\ncalls = 0\n"
        "def reward(prompts, completions):\n    global calls\n    calls += 1\n    return [calls, os.getpid()]"
    )

    first, second = reward.score(["a", "b"], [{}, {}]), reward.score(["a", "b"], [{}, {}])

    assert (first[0], second[0]) == (1, 2)
    assert first[1] == second[1] != os.getpid()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("reward = 3", "defines no function `reward`"),
        ("def reward(:", "SyntaxError"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("import time; time.sleep(60)", "did not answer within 1 s"),
        ("import os; os._exit(3)", "ended with exit code 3"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_told_at_the_start(opened: Opener, code: str, told: str) -> None:
    with pytest.raises(FineryError, match=told):
        opened(code, seconds=1.0 if "sleep" in code else 60.0)


def test_what_it_raises_is_told_with_its_line_and_the_process_goes_on(opened: Opener) -> None:
    reward = opened(
        "import os\ndef reward(prompts, completions):\n"
        "    if completions == ['bad']:\n        raise ValueError('no')\n    return [os.getpid()]"
    )
    before = reward.score(["good"], [{}])

    with pytest.raises(FineryError, match=r"raised ValueError: no \(line 4\)"):
        reward.score(["bad"], [{}])

    assert reward.score(["good"], [{}]) == before


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("os._exit(7)", "ended with exit code 7"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("time.sleep(60)", "did not answer within 1 s"),
        ("write_everywhere()", "wrote into the pipe of its answers"),
        ("os.closerange(3, 4000); time.sleep(60)", "closed the pipe of its answers"),
    ],
)
def test_a_process_that_died_or_hangs_is_started_anew(opened: Opener, deed: str, told: str) -> None:
    reward = opened(
        "import os, time\n"
        "def write_everywhere():\n"
        "    for number in range(3, 4000):\n"
        "        try: os.write(number, b'junk\\n')\n"
        "        except OSError: pass\n"
        "def reward(prompts, completions):\n"
        f"    if completions == ['bad']: {deed}\n"
        "    return [os.getpid()]"
    )
    [before] = reward.score(["good"], [{}])
    patient = reward._params
    if deed == "time.sleep(60)":
        reward._params = patient.model_copy(update={"seconds": 1.0})

    with pytest.raises(FineryError, match=told):
        reward.score(["bad"], [{}])

    reward._params = patient
    [after] = reward.score(["good"], [{}])
    assert isinstance(after, float)
    assert after != before
    assert not _is_alive(int(before))  # type: ignore[arg-type]


def test_more_than_a_pipe_holds_goes_through_both_ways(opened: Opener) -> None:
    reward = opened("def reward(prompts, completions, **columns):\n    return [len(c) for c in completions]")
    texts = ["x" * 1000] * 3000

    assert reward.score(texts, [{"prompt": "y" * 300}] * 3000) == [1000.0] * 3000


def test_it_imports_what_is_installed_and_not_what_lies_beside_the_platforms_own_files(opened: Opener) -> None:
    installed = find_spec("trl")
    assert installed is not None
    reward = opened(
        "from importlib.util import find_spec\n"
        "def reward(prompts, completions):\n"
        f"    return [float(find_spec('trl').origin == {installed.origin!r}), float(find_spec('scoring') is None)]"
    )

    assert reward.score(["a", "b"], [{}, {}]) == [1.0, 1.0]


def test_it_sees_no_secret(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "JOB_SECRET_JUDGE_KEY", "FINERY_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "this-must-not-be-seen")
    reward = opened(
        "import os\ndef reward(prompts, completions):\n"
        "    return [sum('not-be-seen' in v for v in os.environ.values())]"
    )

    assert reward.score(["a"], [{}]) == [0.0]


def test_what_it_prints_goes_to_the_log(opened: Opener, capfd: pytest.CaptureFixture[str]) -> None:
    reward = opened("def reward(prompts, completions):\n    print('looking at', completions)\n    return [0]")

    reward.score(["this"], [{}])

    assert "looking at ['this']" in capfd.readouterr().out


def test_closing_ends_the_process_and_what_it_started(opened: Opener) -> None:
    reward = opened(
        "import os, subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
        "def reward(prompts, completions):\n    return [os.getpid(), child.pid]"
    )
    with closing(reward):
        found = [int(number) for number in reward.score(["a", "b"], [{}, {}]) if isinstance(number, float)]

    assert len(found) == 2
    _wait_for(lambda: not any(map(_is_alive, found)))


def test_it_ends_when_the_one_that_asks_is_killed(opened: Opener, run: Run) -> None:
    """Even in the middle of a call that never ends."""
    reward = opened(
        "import os\ndef reward(prompts, completions):\n    print('pid', os.getpid(), flush=True)\n    while True: pass"
    )
    told, tell = os.pipe()
    asker = os.fork()
    if asker == 0:
        os.dup2(tell, 1)
        inner = PythonFile(reward._params, run)
        inner.score(["a"], [{}])
        os._exit(0)
    with os.fdopen(told) as lines:
        host = int(lines.readline().split()[1])
        os.kill(asker, signal.SIGKILL)
        os.waitpid(asker, 0)
        _wait_for(lambda: not _is_alive(host))
        os.close(tell)


@pytest.mark.parametrize("path", ["reward.py", "object:abc", "secret"])
def test_a_path_is_written_as_one(path: str) -> None:
    with pytest.raises(InvalidSpec, match="path"):
        parse(PythonFileParams, {"path": path})


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    """A process that has ended and was not yet collected does not live."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
