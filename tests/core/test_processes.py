"""Processes below one that adopts its orphans are found, reaped and ended, wherever they went."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from finery.core import processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux adopts orphans")

ADOPTER = """
import os, subprocess, sys, time
from finery.core import processes
assert processes.adopt_orphans()
# A child that leaves behind a grandchild in a session of its own, with its pid in a file.
leaves = "import subprocess as s; print(s.Popen(['sleep', '600'], start_new_session=True, stdout=-3, stderr=-3).pid)"
pid = int(subprocess.run([sys.executable, "-c", leaves], stdout=subprocess.PIPE, check=True).stdout)
assert processes.descendants() == [pid], processes.descendants()
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", ADOPTER + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_orphan_in_a_session_of_its_own_is_ended() -> None:
    said = run("assert processes.end_descendants() == []; print(pid)")
    assert not Path(f"/proc/{said}").exists()


def test_what_ends_by_itself_is_given_time() -> None:
    said = run(
        "os.kill(pid, 9); began = time.monotonic(); assert processes.end_descendants(20) == []\n"
        "print(time.monotonic() - began < 5)"
    )
    assert said == "True"


def test_reaping_leaves_the_child_that_somebody_waits_for() -> None:
    said = run(
        "child = subprocess.Popen([sys.executable, '-c', 'raise SystemExit(7)'])\n"
        "time.sleep(1); processes.reap_orphans(keep=child.pid); print(child.wait())\n"
        "processes.end_descendants()"
    )
    assert said == "7"


def test_a_process_dies_with_its_parent() -> None:
    code = (
        "import subprocess, os; from finery.core import processes\n"
        "made = subprocess.Popen(['sleep', '600'], preexec_fn=processes.die_with_parent, stdout=-3, stderr=-3)\n"
        "print(made.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20  # the kernel sends the signal at once; a busy machine delivers it later
    while pid in processes.descendants(1) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert pid not in processes.descendants(1)
