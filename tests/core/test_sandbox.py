"""What a program that nobody has looked at can and cannot do."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from finery.core.errors import Unavailable
from finery.core.sandbox import LEVELS, Level, Limits, Sandbox
from tests.conftest import ABSENT

LIMITS = Limits(wall_seconds=2.0, cpu_seconds=1, memory_bytes=256 << 20, file_bytes=4 << 20, output_bytes=10_000)
SECRET = "this-must-not-be-seen"


@pytest.fixture(scope="module", params=LEVELS)
def box(request: pytest.FixtureRequest) -> Sandbox:
    """A sandbox of each level that this machine allows."""
    return _box(request.param)


@pytest.fixture(scope="module")
def full() -> Sandbox:
    return _box("full")


def _box(level: Level) -> Sandbox:
    try:
        return Sandbox(LIMITS, level)
    except Unavailable as error:
        pytest.skip(f"level {level} of the sandbox ({error}){ABSENT}")


def printed(box: Sandbox, program: str, stdin: bytes = b"") -> str:
    outcome = box.run(program, stdin)
    return outcome.output.decode() + outcome.complaint


def test_a_program_reads_and_prints(box: Sandbox) -> None:
    outcome = box.run("print(input()[::-1])", "stra\u00dfe\n".encode())

    assert (outcome.output.decode(), outcome.exit_code, outcome.complaint) == ("e\u00dfarts\n", 0, "")
    assert not outcome.is_late
    assert not outcome.is_flood


def test_the_exit_code_is_the_programs_own(box: Sandbox) -> None:
    assert box.run("raise SystemExit(3)").exit_code == 3
    assert box.run("import os; os.kill(os.getpid(), 9)").exit_code == 128 + 9
    assert box.run("def broken(:").exit_code == 1


def test_no_program_can_pretend_that_its_walls_could_not_be_put_up(box: Sandbox) -> None:
    program = """
import os
for number in range(2, 64):
    try:
        os.write(number, b"the sandbox could not be made: no")
    except OSError:
        pass
os._exit(125)
"""
    outcome = box.run(program)

    assert (outcome.exit_code, outcome.complaint) == (125, "the sandbox could not be made: no")


def test_walls_that_cannot_be_put_up_are_told_as_such() -> None:
    made = _box("full")
    made.limits = replace(LIMITS, file_bytes=-1)

    with pytest.raises(Unavailable, match="the sandbox could not be made: .*mount: Invalid argument"):
        made.run("print('here')")


def test_a_program_may_be_long(box: Sandbox) -> None:
    assert printed(box, f"text = '{'x' * (3 << 20)}'\nprint(len(text))") == f"{3 << 20}\n"


def test_the_strongest_level_is_taken() -> None:
    found = [level for level in LEVELS if _works(level)]

    assert Sandbox(LIMITS).level == found[0]


def _works(level: Level) -> bool:
    try:
        return bool(Sandbox(LIMITS, level).level)
    except Unavailable:
        return False


def test_the_environment_is_empty(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)

    assert printed(box, "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}), os.listdir('.'))") == "[] []\n"


def test_the_environment_of_other_processes_cannot_be_read(box: Sandbox) -> None:
    """The kernel shows what a process was started with, so a process with a secret is started."""
    if box.level == "limits":
        pytest.skip("where no namespace is given, programs of the same user can be read")
    keeper = os.posix_spawn("/bin/sleep", ["sleep", "30"], {"HF_TOKEN": SECRET})
    program = f"""
import os
for number in (os.getppid(), {keeper}, {os.getpid()}, 1, 2):
    try:
        print(open(f"/proc/{{number}}/environ").read())
    except OSError as error:
        print(error.strerror)
"""
    try:
        deadline = time.monotonic() + 10
        while SECRET not in Path(f"/proc/{keeper}/environ").read_text():
            assert time.monotonic() < deadline
        found = printed(box, program)
    finally:
        os.kill(keeper, 9)
        os.waitpid(keeper, 0)

    assert SECRET not in found
    assert "Traceback" not in found


def test_an_endless_loop_is_ended(box: Sandbox) -> None:
    started = time.monotonic()

    outcome = box.run("while True: pass")

    assert outcome.exit_code == 128 + 9
    assert time.monotonic() - started < 10


def test_a_program_that_sleeps_is_ended_in_time(box: Sandbox) -> None:
    outcome = box.run("import time; print('here', flush=True); time.sleep(60)")

    assert outcome.is_late
    assert outcome.output == b"here\n"


def test_memory_has_an_end(box: Sandbox) -> None:
    assert "MemoryError" in printed(box, "x = bytearray(1 << 30)")


def test_a_flood_of_output_is_cut_and_ended(box: Sandbox) -> None:
    outcome = box.run("while True: print('x' * 1000)")

    assert outcome.is_flood
    assert len(outcome.output) <= LIMITS.output_bytes


def test_one_file_has_an_end(box: Sandbox) -> None:
    program = "try: open('f', 'wb').write(bytes(1 << 24))\nexcept OSError as error: print(type(error).__name__)"

    assert printed(box, program) == "OSError\n"


def test_there_is_no_network(box: Sandbox) -> None:
    if box.level == "limits":
        assert "network" in box.gaps
        return
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        program = f"""
import socket
for address in (("127.0.0.1", {port}), ("192.0.2.1", 80)):
    try:
        socket.create_connection(address, timeout=1)
        print("connected")
    except OSError as error:
        print(type(error).__name__)
"""
        assert "connected" not in printed(box, program)


def test_all_files_together_have_an_end(full: Sandbox) -> None:
    program = """
number = 0
try:
    while True:
        open(f"f{number}", "wb").write(bytes(1 << 20))
        number += 1
except OSError as error:
    print(number)
"""
    assert int(printed(full, program)) <= 4


def test_a_fork_bomb_goes_out(full: Sandbox) -> None:
    program = """
import os
number = 0
try:
    while True:
        if os.fork() == 0:
            while True: pass
        number += 1
except OSError:
    print(number, flush=True)
"""
    outcome = full.run(program)

    assert 0 < int(outcome.output) < LIMITS.num_processes
    assert full.run("print('still here')").output == b"still here\n"


def test_nothing_outlives_its_program(full: Sandbox, tmp_path: Path) -> None:
    """A process of a session of its own would outlive a signal to the group."""
    mark = f"left-behind-{os.getpid()}-{tmp_path.name}"
    program = f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    else:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", {mark!r}])
time.sleep(1.5)
print("done")
"""
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(full.run, program)
        was_running = False
        while not ending.done():
            was_running = was_running or _is_running(mark)
            time.sleep(0.02)

    assert ending.result().output == b"done\n"
    assert was_running
    assert not _is_running(mark)


def _is_running(mark: str) -> bool:
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


def test_files_of_the_machine_are_not_there_and_nothing_can_be_changed(full: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    tmp_path.chmod(0o777)
    program = f"""
import os
for what in ("open({str(tmp_path / "token")!r}).read()", "os.remove({str(tmp_path / "token")!r})",
             "open('/usr/new', 'w')", "os.listdir('/proc')", "os.listdir('/home')", "open('/program.py', 'w')"):
    try:
        print("did", what, eval(what))
    except OSError as error:
        print("no")
"""
    found = printed(full, program)

    assert found == "no\n" * 6
    assert (tmp_path / "token").read_text() == SECRET


def test_a_program_has_no_rights_to_give_itself_more(full: Sandbox) -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None)
print(libc.unshare(0x10000000), libc.mount(b"tmpfs", b"/work", b"tmpfs", 0, None), libc.chroot(b"/usr"))
print(os.getuid() != 0)
"""
    assert printed(full, program) == "-1 -1 -1\nTrue\n"
