"""Locks one Python program up and waits for it: run by its path, `python -I -S jail.py SETTINGS FOLDER`.

Owns the walls; `core.sandbox` starts it and reads what comes out. Imports nothing of Finery, so that the process that
holds untrusted code never held anything else. `FOLDER/program.py` runs in an empty directory with an empty
environment. What stands around it is the level:

    full      own users or none, mounts, processes, network and IPC: sees an interpreter, system libraries and its own
              small memory disk, all else is not there; ends with everything that it started
    network   own network without any interface; files and processes as anybody's
    limits    resource limits alone

Why a program could not be begun goes into a pipe of its own, SETTINGS["report"], which the program does not inherit:
what it prints and how it ends never counts as a word of its jail.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_BIND, _REC, _NOSUID, _NODEV = 4096, 16384, 2, 4
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY, _PRIVATE = 442, -100, 0x8000, 1, 1 << 18
_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38
_FIRST_UID, _NUM_UIDS = 60_000, 5_000
"""Users that root hands programs to: a number of its own for each that runs, so that each has its own process limit."""
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/ld.so.conf", "/nix/store", "/gnu/store")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_ROOT_BYTES = 1 << 20
"""Of the memory disk that holds folders and links of the program's root, besides the program."""
_PERIOD_SECONDS = 0.05

_libc = ctypes.CDLL(None, use_errno=True)
_interpreter = os.path.realpath(sys.executable)


class _MountAttributes(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def main(settings: dict[str, Any], folder: Path) -> int:
    """Run the program and return its exit status, or 128 + the signal that ended it."""
    is_full = settings["level"] == "full"
    uid = _FIRST_UID + os.getpid() % _NUM_UIDS if os.geteuid() == 0 else None
    os.set_inheritable(settings["report"], False)
    _separate(settings["level"])
    inner = os.fork()
    if inner == 0:
        os.setpgid(0, 0)
        _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL)
        if is_full:
            _enter(folder, settings["file_bytes"])
            _be_init(settings, uid)
        _become(settings, uid if _is_readable_by_all() else None, folder / "program.py", folder / "work")
    os.close(settings["report"])
    return _wait(inner, settings["wall_seconds"])


def _wait(inner: int, seconds: float) -> int:
    """Wait for the program; kill it and its group when its time is up or when this process is told to end."""

    def kill(*_: Any) -> None:
        for end in (os.kill, os.killpg):
            try:
                end(inner, signal.SIGKILL)
            except ProcessLookupError:
                continue

    signal.signal(signal.SIGALRM, kill)
    signal.signal(signal.SIGTERM, kill)
    # A period, since a signal may arrive just before the wait begins.
    signal.setitimer(signal.ITIMER_REAL, seconds, _PERIOD_SECONDS)
    _, status = os.waitpid(inner, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    kill()
    return _code(status)


def _separate(level: str) -> None:
    """Leave the namespaces of everybody else."""
    if level == "limits":
        return
    uid, gid, is_root = os.getuid(), os.getgid(), os.geteuid() == 0
    flags = _NEWNET if level == "network" else _NEWNET | _NEWNS | _NEWPID | _NEWIPC
    needs_user = not is_root or (level == "network" and not _is_readable_by_all())
    _call("unshare", flags | (_NEWUSER if needs_user else 0))
    if needs_user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _enter(folder: Path, file_bytes: int) -> None:
    """Make a root of what a Python program needs, read-only but for `/work`, and go there."""
    program = (folder / "program.py").read_bytes()
    _set_mounts(b"/", 0, _PRIVATE)
    options = f"size={_ROOT_BYTES + len(program)},nr_inodes=4096,mode=755"
    _call("mount", b"tmpfs", bytes(folder), b"tmpfs", _NOSUID | _NODEV, options.encode())
    (folder / "program.py").write_bytes(program)
    (folder / "program.py").chmod(0o644)
    prefix = os.path.realpath(sys.base_prefix)
    for path in (*_SYSTEM, *_DEVICES, prefix):
        _show(path, folder)
    work = folder / "work"
    work.mkdir()
    os.chdir(folder)
    os.chroot(".")
    _set_mounts(b"/", _ATTR_RDONLY, 0)
    _call("mount", b"tmpfs", b"/work", b"tmpfs", _NOSUID | _NODEV, f"size={file_bytes},nr_inodes=256,mode=777".encode())
    os.chdir("/work")


def _show(path: str, root: Path) -> None:
    """Let a file or folder of the system, if it is there, appear under `root` at the same place."""
    place = root / path.lstrip("/")
    if not os.path.exists(path) or os.path.exists(place):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if os.path.islink(path):
        place.symlink_to(os.readlink(path))
        return
    if os.path.isdir(path):
        place.mkdir()
    else:
        place.touch()
    _call("mount", path.encode(), bytes(place), None, _BIND | _REC, None)


def _set_mounts(path: bytes, attributes: int, propagation: int) -> None:
    """Set attributes of a mount and all below it."""
    wanted = _MountAttributes(attributes, 0, propagation, 0)
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, ctypes.byref(wanted), ctypes.sizeof(wanted))


def _be_init(settings: dict[str, Any], uid: int | None) -> None:
    """Be process 1, whose end is the end of all others: start the program, collect what ends, leave with it."""
    program = os.fork()
    if program == 0:
        _become(settings, uid, Path("/program.py"), Path("/work"))
    os.close(settings["report"])
    while True:
        pid, status = os.wait()
        if pid == program:
            os._exit(_code(status))


def _become(settings: dict[str, Any], uid: int | None, program: Path, work: Path) -> None:
    """Turn into the program."""
    try:
        work.mkdir(exist_ok=True)
        if uid is not None:
            if settings["level"] != "full":
                os.chown(work, uid, uid)
            os.setgroups([])
        for name in ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_CORE"):
            _limit(getattr(resource, name), settings[name])
        if uid is not None:
            os.setgid(uid)
            os.setuid(uid)
        os.chdir(work)
        _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.execve(_interpreter, [_interpreter, "-I", "-S", "-B", "-X", "utf8", str(program)], {})
    except (OSError, ValueError) as error:
        _refuse(settings, f"the sandbox could not be entered: {error}")


def _refuse(settings: dict[str, Any], why: str) -> NoReturn:
    os.write(settings["report"], why.encode())
    os._exit(1)


def _limit(which: int, wanted: int) -> None:
    _, hard = resource.getrlimit(which)
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (value, value))


def _is_readable_by_all() -> bool:
    """Whether another user could run this interpreter."""
    prefix = Path(os.path.realpath(sys.base_prefix))
    return all(path.stat().st_mode & 0o005 == 0o005 for path in (prefix, *prefix.parents))


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    _settings = json.loads(sys.argv[1])
    try:
        sys.exit(main(_settings, Path(sys.argv[2])))
    except OSError as _error:
        _refuse(_settings, f"the sandbox could not be made: {_error}")
