"""A Ray cluster of this machine that belongs to one attempt: started for it, and gone with it.

It has ports, a token and a folder of its own, so that it meets no other Ray of the host: neither its processes nor
`~/.ray`. The folder lies in the system's temporary one, since a Unix socket's path may have 107 bytes only.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from finery.core.errors import Unavailable
from finery.core.rundir import RunDir
from finery.runtime.cluster import keeper
from finery.runtime.cluster.api import NotReached, RayApi

_PREFIX = "finery-ray-"
_TEMPORARY: Final = "t"
"""Folder for what the processes of the job leave lying about, such as verl's lock files; it goes with the cluster."""
_START_SECONDS = 180.0
_STOP_SECONDS = 20.0
_NUM_STARTS = 3
_PASSING: Final = ("in use", "timed out during startup")
"""Why a start fails that may succeed the next time: a port that was free has been taken before Ray listened on it, or
the machine had no time for Ray, which waits no longer than 30 s for its own processes."""
_NUM_CPUS: Final = 32
"""At least, as Ray counts: actors of verl ask for one each and mostly wait."""
_OBJECT_STORE_BYTES: Final = 500_000_000
_HEAD_ADDRESS: Final = "127.0.0.2"
"""Ray replaces 127.0.0.1 by the host's address, and would then listen on the network."""


class LocalCluster:
    """A running cluster."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], api: RayApi):
        self.folder = folder
        self.api = api
        self._process = process

    @classmethod
    def start(
        cls,
        python: str,
        *,
        num_accelerators: int,
        accelerator: str,
        log: Path,
        env: Mapping[str, str],
        has_devices: bool,
    ) -> "LocalCluster":
        """Start one and wait until it answers.

        Args:
            python: Interpreter that has Ray.
            num_accelerators: GPUs or NPUs that it counts.
            accelerator: What Ray calls them.
            log: File for what the start prints.
            env: What its processes inherit.
            has_devices: They are real ones, of which Ray gives each worker its own.

        Raises:
            Unavailable: it did not come up; says what it printed.
        """
        remove_debris()
        if not Path(python).is_file():
            raise Unavailable(
                f"there is no interpreter with verl at {python}; `make verl` builds one, or set FINERY_VERL_PYTHON"
            )
        for num_left in reversed(range(_NUM_STARTS)):
            started_at = log.stat().st_size if log.exists() else 0
            cluster = cls._spawn(python, num_accelerators, accelerator, log, env, has_devices=has_devices)
            try:
                cluster._wait(log, started_at)
                return cluster
            except Unavailable as error:
                cluster.stop()
                if num_left == 0 or not any(passing in str(error) for passing in _PASSING):
                    raise
        raise AssertionError("the last start has returned or raised")

    @classmethod
    def _spawn(
        cls,
        python: str,
        num_accelerators: int,
        accelerator: str,
        log: Path,
        env: Mapping[str, str],
        *,
        has_devices: bool,
    ) -> "LocalCluster":
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        token = secrets.token_hex(32)
        token_file = folder / "token"
        with open(os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        (folder / _TEMPORARY).mkdir()
        gcs, dashboard, agent, client = _free_ports(4)
        counted = ["--num-gpus", str(num_accelerators)] if accelerator == "GPU" else []
        counted += (
            [] if accelerator == "GPU" or has_devices else ["--resources", f'{{"{accelerator}": {num_accelerators}}}']
        )
        argv = [
            *(python, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--port", str(gcs), "--dashboard-port", str(dashboard), "--dashboard-host", "127.0.0.1"),
            *("--dashboard-agent-listen-port", str(agent), "--ray-client-server-port", str(client)),
            *(("--node-ip-address", _HEAD_ADDRESS) if sys.platform.startswith("linux") else ()),
            *("--include-dashboard", "true", "--disable-usage-stats", "--temp-dir", str(folder / "r")),
            *("--num-cpus", str(max(_NUM_CPUS, os.cpu_count() or 1)), *counted),
            *("--object-store-memory", str(_OBJECT_STORE_BYTES)),
        ]
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "finery.runtime.cluster.keeper", str(folder), *argv],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(env, token_file, num_pretended=0 if has_devices else num_accelerators),
                start_new_session=True,
            )
        return cls(folder, process, RayApi(f"http://127.0.0.1:{dashboard}", token))

    @property
    def is_alive(self) -> bool:
        """Whether the process that holds it together is there. What it holds may still be ill."""
        return self._process.poll() is None

    @property
    def logs(self) -> Path:
        """Where Ray's own processes and the workers write."""
        return self.folder / "r" / "session_latest" / "logs"

    def stop(self) -> None:
        """End all that has come from it and remove its folder."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _kill_marked(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self, log: Path, started_at: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if not self.is_alive:
                raise Unavailable(f"the Ray cluster of this job did not start: {_last_words(log, started_at)}")
            try:
                # The dashboard answers before the machine is part of the cluster, which may yet fail.
                if any(node.is_alive for node in self.api.nodes()):
                    return
                why = "no machine has joined it"
            except (NotReached, KeyError, TypeError) as error:
                why = str(error)
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the Ray cluster of this job did not answer within {_START_SECONDS:g} s ({why}); see {log}"
                )
            time.sleep(0.2)


def remove_debris() -> None:
    """End what is left of clusters whose keeper was killed together with all that would have ended them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid() or time.time() - folder.stat().st_mtime < _START_SECONDS:
                continue
            handle = RunDir(folder).lock(keeper.LOCK)
        except OSError:
            continue
        if handle is None:
            continue
        os.close(handle)
        _kill_marked(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _kill_marked(folder: Path) -> None:
    """Kill the processes that were started with the token of this folder's cluster."""
    marker = f"RAY_AUTH_TOKEN_PATH={folder / 'token'}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            continue


def _environment(base: Mapping[str, str], token_file: Path, *, num_pretended: int) -> dict[str, str]:
    """What Ray's processes inherit: nothing that points at another Ray."""
    kept = {name: value for name, value in base.items() if not name.startswith("RAY_")}
    if num_pretended:
        # Ray wants as many names as it is to count, and hands them on to workers; to CUDA this name is no device.
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(["-1"] * num_pretended)
    # Compiled kernels are kept from run to run, where torch looks for them without a word.
    kernels = kept.get("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"torchinductor_{os.getuid()}"))
    return {
        **kept,
        "TMPDIR": str(token_file.with_name(_TEMPORARY)),
        **({} if num_pretended else {"TORCHINDUCTOR_CACHE_DIR": kernels}),
        "RAY_COLOR_PREFIX": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # 15 by default: ranks would step back for everything else on the machine
        "RAY_enable_metrics_collection": "0",
        "AUTOSCALER_METRIC_PORT": "-1",  # no port: it would listen on the network, without a token
        "DASHBOARD_METRIC_PORT": "-1",
        "PYTHONUNBUFFERED": "1",
    }


def _free_ports(num: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(num)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _last_words(log: Path, started_at: int) -> str:
    with open(log, "rb") as file:
        file.seek(started_at)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
