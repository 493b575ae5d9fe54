"""`finery jobs watch` as a process, against a real server and a script that reports."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.platform import FINERY, Server, wait_for

SCRIPT = """
import finery, os, sys, time
run = finery.init(name="a script")
print("\\x1b]0;title\\x07\\x1b[31mhello\\x1b[0m from [bold]the script")
step = 0
while not os.path.exists("end"):
    finery.log({"loss": 1 / (step + 1), "[red]odd\\x1b[2J": step})
    step += 1
    time.sleep(0.02)
sys.exit(int(open("end").read()))
"""


class Script:
    """A running script, and what ends it."""

    def __init__(self, server: Server, folder: Path):
        self.folder = folder
        self.process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=folder, env=server.environment)
        wait_for("the script's metrics", lambda: self._job(server))
        self.id = int(self._job(server)["id"])

    def _job(self, server: Server) -> dict[str, Any] | None:
        found = server.client.get("/jobs", query="loss>0 state:running", sort="-id")["jobs"]
        return found[0] if found else None

    def end(self, code: int) -> None:
        temporary = self.folder / "end.tmp"
        temporary.write_text(str(code))
        temporary.rename(self.folder / "end")
        self.process.wait(timeout=30)


@contextmanager
def running(server: Server, folder: Path) -> Iterator[Script]:
    made = Script(server, folder)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


@pytest.fixture
def script(shared: Server, tmp_path: Path) -> Iterator[Script]:
    with running(shared, tmp_path) as made:
        yield made
    shared.await_state(made.id, "completed", "failed")


Watch = Callable[..., subprocess.Popen[str]]


def _takes_interrupts() -> None:
    """Undo what a shell does to commands in the background: they and their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def watch(shared: Server, tmp_path: Path) -> Iterator[Watch]:
    """Starts a watching process whose output goes to files `out` and `err`."""
    with ExitStack() as stack:

        def start(*arguments: object, at: Server = shared) -> subprocess.Popen[str]:
            out, err = (stack.enter_context(open(tmp_path / name, "w")) for name in ("out", "err"))
            argv = [*FINERY, "jobs", "watch", "--interval", "0.1", *map(str, arguments)]
            made = subprocess.Popen(
                argv, env=at.environment, stdout=out, stderr=err, text=True, preexec_fn=_takes_interrupts
            )
            stack.callback(made.wait)
            stack.callback(made.kill)
            return made

        yield start


def test_without_a_terminal_it_prints_lines_on_change_and_ends_with_the_jobs_exit_code(
    watch: Watch, script: Script, tmp_path: Path
) -> None:
    watching = watch(script.id)
    wait_for("some lines", lambda: (tmp_path / "out").read_text().count("\n") > 2)
    script.end(3)

    assert watching.wait(timeout=30) == 1
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[0].startswith(f"job {script.id} (a script) running step ")
    assert "loss " in lines[0]
    assert lines[-1].startswith(f"job {script.id} (a script) failed (the script exited with 3")
    assert len(lines) == len(set(lines))
    assert "\x1b" not in "".join(lines)


def test_json_is_one_object_a_line_and_named_jobs_are_waited_for(watch: Watch, script: Script, tmp_path: Path) -> None:
    watching = watch("--json", script.id, script.id)
    wait_for("some lines", lambda: (tmp_path / "out").read_text().count("\n") > 2)
    script.end(0)

    assert watching.wait(timeout=30) == 0
    shown = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [job["id"] for job in shown[0]["jobs"]] == [script.id]
    assert shown[0]["jobs"][0]["state"] == "running"
    assert shown[-1]["jobs"][0]["state"] == "completed"
    assert shown[-1]["jobs"][0]["step"] > shown[0]["jobs"][0]["step"]
    assert all(before["jobs"] != after["jobs"] for before, after in zip(shown, shown[1:], strict=False))


def test_it_waits_for_a_server_that_restarts_elsewhere_and_says_what_cannot_be_watched(
    watch: Watch, server: Server, tmp_path: Path
) -> None:
    assert watch("--until-done", at=server).wait(timeout=30) == 0  # there is no job
    with running(server, tmp_path) as script:
        watching = watch("--until-done", at=server)
        wait_for("a first line", lambda: (tmp_path / "out").read_text())

        server.stop()
        wait_for("the loss to be said", lambda: "connection lost since " in (tmp_path / "err").read_text())
        assert watching.poll() is None
        server.start()
        wait_for("the return to be said", lambda: "the server is back" in (tmp_path / "err").read_text())
        script.end(0)

        assert watching.wait(timeout=30) == 0
        assert "completed" in (tmp_path / "out").read_text().splitlines()[-1]
    assert watch(99, at=server).wait(timeout=30) == 2
    assert "there is no job 99" in (tmp_path / "err").read_text()
    server.stop()
    assert watch(at=server).wait(timeout=30) == 4
    assert "no Finery server answers" in (tmp_path / "err").read_text()


def test_ctrl_c_leaves_the_job_alone(watch: Watch, shared: Server, script: Script, tmp_path: Path) -> None:
    watching = watch(script.id)
    wait_for("a first line", lambda: (tmp_path / "out").read_text())

    watching.send_signal(signal.SIGINT)

    assert watching.wait(timeout=30) == 130
    assert "Traceback" not in (tmp_path / "err").read_text()
    assert shared.job(script.id)["state"] == "running"
    assert shared.job(script.id)["requests"] == []


@pytest.mark.parametrize("has_colour", [True, False])
def test_on_a_terminal_it_draws_curves_and_shows_what_the_run_wrote_as_text(
    shared: Server, script: Script, has_colour: bool
) -> None:
    terminal, end = pty.openpty()
    environment = {**shared.environment, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24"}
    environment.pop("NO_COLOR", None)
    if not has_colour:
        environment["NO_COLOR"] = "1"
    argv = [*FINERY, "jobs", "watch", "--interval", "0.1", str(script.id)]
    watching = subprocess.Popen(argv, env=environment, stdin=end, stdout=end, stderr=end)
    os.close(end)
    shown = b""

    def read() -> bytes:
        nonlocal shown
        try:
            while select.select([terminal], [], [], 0)[0]:
                shown += os.read(terminal, 65_536)
        except OSError:  # Linux says so when the last process has closed the other end
            pass
        return shown

    wait_for("a curve and the output", lambda: "█".encode() in read() and b"hello from [bold]the script" in read())
    script.end(0)
    wait_for("the end", lambda: read() and watching.poll() is not None)
    text = read().decode()
    os.close(terminal)

    assert watching.returncode == 0
    after = text.rpartition("\x1b[?1049l")[2]
    assert "completed" in after
    assert "[red]odd" in after
    assert "\x1b]" not in text
    assert "\x1b[2Jodd" not in text
    assert "odd\x1b[2J" not in text
    assert ("\x1b[32m" in text) is has_colour
