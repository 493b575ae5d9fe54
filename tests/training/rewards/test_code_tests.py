"""Code is right when the tests of its row say so, and nothing that it does to itself makes it pass."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finery.core import sandbox
from finery.core.errors import Unavailable
from finery.core.rundir import Run
from finery.core.sandbox import Limits, Outcome, Sandbox
from finery.training import rewards
from finery.training.rewards import Failed
from finery.training.rewards.code_tests import CodeTests, CodeTestsParams, extract_code
from tests.conftest import ABSENT
from tests.training import driver

ADD = "def add(a, b):\n    return a + b\n"
TESTS = ["assert add(1, 2) == 3", "assert add(-1, 1) == 0", "assert add(2, 2) == 4", "assert add('a', 'b') == 'ab'"]


def scores(run: Run, completions: list[str], row: dict[str, Any], **params: Any) -> list[float | Failed]:
    reward = CodeTests(CodeTestsParams(**{"seconds": 3.0, "sandbox": "any", **params}), run)
    return reward.score(completions, [row] * len(completions))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Here:\n```python\nx = 1\n```\nand better:\n```py\nx = 2\n```\nDone.", "x = 2\n"),
        ("```\nx = 3\n```", "x = 3\n"),
        ("cut off\n```python\nx = 4\ny = 5", "x = 4\ny = 5"),
        ("x = 6", "x = 6"),
        ("", ""),
    ],
)
def test_the_last_block_is_the_code_and_else_the_whole_text(text: str, code: str) -> None:
    assert extract_code(text) == code


def test_the_score_is_the_share_of_tests_that_pass(run: Run) -> None:
    half = "def add(a, b):\n    return abs(a) + abs(b) if a != 'a' else None\n"
    texts = [f"Sure.\n```python\n{ADD}```", half, "I cannot do that.", "", "def add(a, b): return a - b"]

    assert scores(run, texts, {"tests": TESTS}) == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert scores(run, texts, {"tests": TESTS}, score="all") == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_tests_may_be_one_text_of_another_column(run: Run) -> None:
    assert scores(run, [ADD], {"checks": "\n".join(TESTS)}, tests="checks") == [1.0]


def test_programs_are_tried_with_inputs_and_what_they_print(run: Run) -> None:
    row = {"inputs": ["1 2\n", "3 4\n", "5 x\n"], "outputs": ["3", "7\n", "wrong"]}
    right = "a, b = map(int, input().split())\nprint(a + b, ' ')"

    assert scores(run, [right, "print(3)"], row) == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert scores(run, [right], {"inputs": row["inputs"][:2], "outputs": row["outputs"][:2]}, score="all") == [1.0]


def test_what_was_printed_before_a_crash_does_not_count(run: Run) -> None:
    row = {"inputs": [""], "outputs": ["3"]}

    assert scores(run, ["print(3); raise SystemExit(1)", "print(3)"], row) == [0.0, 1.0]


@pytest.mark.parametrize(
    "trick",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "import atexit, os; atexit.register(os._exit, 0); import sys; sys.exit()",
        "import os; os.kill(os.getpid(), 9)",
        "print('passed'); print(0); print('nonce 0')",
        "import sys; sys.stdout.write('0\\n' * 100); sys.stdout.flush(); sys.exit(0)",
        "import threading, os; threading.Timer(0, os._exit, [0]).start(); import time; time.sleep(1)",
        "while True: pass",
        "import time; time.sleep(100)",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "while True: print('x' * 10000)",
    ],
)
def test_no_trick_passes_a_test(run: Run, trick: str) -> None:
    assert scores(run, [trick], {"tests": ["assert add(1, 2) == 3"]}, seconds=2.0) == [0.0]


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", number), timeout=5).close()
        yield number


@pytest.mark.parametrize(
    "deed",
    [
        "x = bytearray(1 << 33)",
        "import os, time\nfor _ in range(40):\n    if os.fork() == 0: time.sleep(1), os._exit(0)",
        "import threading, time\nfor _ in range(40): threading.Thread(target=time.sleep, args=(0.5,)).start()",
        "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)",
        "open('/etc/passwd').read()",
        "open('much', 'wb').write(bytes(20 << 20))",
    ],
)
def test_code_that_needs_what_is_forbidden_gets_no_further(run: Run, deed: str, port: int) -> None:
    """It would pass, had it got what it asks for."""
    _need_full_walls()
    harmless = "import os, socket, threading, time; open('little', 'wb').write(bytes(1 << 20)); os.getpid()"
    code = [f"{line}\n{ADD}" for line in (deed.format(port=port), harmless)]

    assert scores(run, code, {"tests": TESTS}, sandbox="full") == [0.0, 1.0]


def _need_full_walls() -> None:
    try:
        Sandbox(Limits(), "full")
    except Unavailable as error:
        pytest.skip(f"level full of the sandbox ({error}){ABSENT}")


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that gives no namespaces: its jail refuses the level that needs them."""
    jail = tmp_path / "jail.py"
    jail.write_text(
        "import json, os, sys\n"
        "settings = json.loads(sys.argv[1])\n"
        "if settings['level'] == 'limits':\n"
        f"    os.execv(sys.executable, [sys.executable, '-I', '-S', {str(sandbox._JAIL)!r}, *sys.argv[1:]])\n"
        "os.write(settings['report'], b'the sandbox could not be made: unshare: Operation not permitted')\n"
        "os._exit(1)\n"
    )
    monkeypatch.setattr(sandbox, "_JAIL", jail)


@pytest.mark.usefixtures("_bare")
def test_where_walls_have_gaps_it_does_not_open_unless_that_is_allowed(run: Run) -> None:
    with pytest.raises(Unavailable, match=r"full: the sandbox could not be made: unshare.*`params: {sandbox: any}`"):
        CodeTests(CodeTestsParams(), run)

    assert scores(run, [ADD], {"tests": TESTS}) == [1.0]
    [note] = driver.events(run.dir, "log")
    assert "code of the model can reach the network, files that the user" in note["message"]


def test_tests_that_were_passed_before_the_code_hangs_or_ends_count(run: Run) -> None:
    hangs = "def add(a, b):\n    while a == 2: pass\n    return a + b\n"
    ends = "import os\ndef add(a, b):\n    return os._exit(0) if a == 2 else a + b\n"

    assert scores(run, [hangs, ends], {"tests": TESTS}, seconds=2.0) == [0.5, 0.5]


def test_the_secrets_of_the_run_are_out_of_reach(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "this-must-not-be-seen")
    code = "import os\ndef names(): return sorted(set(os.environ) - {'LC_CTYPE'})"

    assert scores(run, [code], {"tests": ["assert names() == []", "assert os.listdir('.') == []"]}) == [1.0]


def test_completions_are_scored_side_by_side_and_in_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import time\nprint(time.time(), flush=True)\ntime.sleep(1.5)\nprint(time.time())"
    printed: list[list[float]] = []
    plain = Sandbox.run

    def watched(box: Sandbox, program: str, stdin: bytes = b"") -> Outcome:
        outcome = plain(box, program, stdin)
        if program == slow:
            printed.append([float(line) for line in outcome.output.split()])
        return outcome

    monkeypatch.setattr(Sandbox, "run", watched)

    found = scores(run, [slow, "print(7)", slow, slow], {"inputs": [""], "outputs": ["7"]}, workers=4, seconds=20.0)

    assert found == [0.0, 1.0, 0.0, 0.0]
    assert max(began for began, _ in printed) < min(ended for _, ended in printed)
    assert len(printed) == 3


@pytest.mark.parametrize("row", [{"answer": "3"}, {"inputs": ["1"], "outputs": []}, {"tests": []}])
def test_a_row_without_tests_is_a_failure_that_names_the_columns(run: Run, row: dict[str, Any]) -> None:
    [found] = scores(run, [ADD], row)

    assert isinstance(found, Failed)
    assert "the row needs 'tests', or 'inputs' and 'outputs' of the same length" in found.reason


def test_it_is_registered_as_a_reward_that_is_opened() -> None:
    assert rewards.registry.get("code_tests").target is CodeTests
