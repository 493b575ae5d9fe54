"""Identity of processes: which one is meant, does it still live, and how to end it with its children.

A pid alone lies: it is given to another process later. Boot id + pid + start time do not.
"""

import ctypes
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from finery.core.rundir import ProcessIdentity

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def boot_id() -> str:
    """An id that changes with each start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return _output("sysctl", "-n", "kern.boottime") or platform.node()


def identify(pid: int | None = None) -> ProcessIdentity:
    """The identity of a living process, of this one by default.

    Raises:
        ProcessLookupError: no such process.
    """
    pid = os.getpid() if pid is None else pid
    started = _start_time(pid)
    if started is None:
        raise ProcessLookupError(f"no process {pid}")
    return ProcessIdentity(host=socket.gethostname(), boot_id=boot_id(), pid=pid, start_time=started)


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process runs on this machine. A zombie does not."""
    return identity.boot_id == boot_id() and _start_time(identity.pid) == identity.start_time


def kill_group(identity: ProcessIdentity, number: signal.Signals) -> None:
    """Send a signal to the process group that `identity` leads, when it still lives."""
    if is_alive(identity):
        try:
            os.killpg(identity.pid, number)
        except ProcessLookupError:
            return


def oom_kills() -> int:
    """Processes that the kernel killed for memory: of this control group where it counts them, else of the machine."""
    for path, key in ((_cgroup_events(), "oom_kill"), (Path("/proc/vmstat"), "oom_kill")):
        if path is None:
            continue
        try:
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == key:
                    return int(count)
        except (FileNotFoundError, PermissionError):
            continue
    return 0


def spawn_detached(argv: list[str], *, stdout: Path, env: dict[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start a process in its own session with its output in a file. The caller polls it now and then to reap it."""
    stdout.parent.mkdir(parents=True, exist_ok=True)
    with open(stdout, "ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def adopt_orphans() -> bool:
    """From now on a descendant whose parent dies becomes a child of this process, which reaps it.

    Returns:
        Whether the system can do that: Linux.
    """
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, on Linux. For `preexec_fn`."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants(pid: int | None = None) -> list[int]:
    """Living processes below a process, by default this one; zombies are none. Empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    zombies = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        number = int(entry.parent.name)
        children.setdefault(int(fields[1]), []).append(number)
        if fields[0] == "Z":
            zombies.add(number)
    found: list[int] = []
    open_ = [os.getpid() if pid is None else pid]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return [number for number in found if number not in zombies]


def reap_orphans(keep: int | None = None) -> None:
    """Reap the children of this process that have ended; stops at `keep`, for which somebody else waits."""
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == keep:
                return
            os.waitpid(ended.si_pid, 0)


def end_descendants(patience_seconds: float = 0.0, limit_seconds: float = 30.0) -> list[int]:
    """Kill every process below this one, which has adopted its orphans.

    Args:
        patience_seconds: How long they may take to end by themselves.
        limit_seconds: When to give up on what cannot be killed, such as a process that waits for a device.

    Returns:
        What is left: nothing, as a rule.
    """
    began = time.monotonic()
    while True:
        reap_orphans()
        left = descendants()
        passed = time.monotonic() - began
        if not left or passed > limit_seconds:
            return left
        if passed >= patience_seconds:
            for number in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(number, signal.SIGKILL)
        time.sleep(0.05)


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0  # type: ignore[no-any-return]


def _start_time(pid: int) -> float | None:
    """When a living process started, as the kernel counts it; None for none and for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else float(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    state, _, started = _output("ps", "-o", "state=,lstart=", "-p", str(pid)).strip().partition(" ")
    if not started or state.startswith("Z"):
        return None
    return time.mktime(time.strptime(" ".join(started.split()), "%a %b %d %H:%M:%S %Y"))


def _output(*argv: str) -> str:
    """What a program prints; empty when there is none or it fails."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.SubprocessError):
        return ""


def _cgroup_events() -> Path | None:
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                path = Path("/sys/fs/cgroup") / line.removeprefix("0::").strip().lstrip("/") / "memory.events"
                return path if path.is_file() else None
    except FileNotFoundError:
        return None
    return None
