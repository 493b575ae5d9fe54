"""`finery up`: API and worker as one foreground command, each a process of its own that is restarted when it dies."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Annotated

import httpx
import orjson
import typer

from finery import migrations
from finery.api.auth import ensure_token
from finery.core import console
from finery.core.checkpoints import write_atomically
from finery.core.client import Client, connect
from finery.core.console import JsonOption
from finery.core.db import Database
from finery.core.errors import Unavailable
from finery.core.settings import Settings

_START_SECONDS = 30.0
_RESTART_SECONDS = 1.0

PortOption = Annotated[
    int | None, typer.Option("--port", help="Port to listen on; 0 takes a free one.", min=0, max=65535)
]


class Server:
    """API and worker of one home, as child processes."""

    def __init__(self, settings: Settings, port: int):
        self.settings = settings
        self.port = port
        self.url = f"http://{settings.host}:{port}"
        self._environment = {**os.environ, "FINERY_HOME": str(settings.home), "FINERY_PORT": str(port)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Migrate, start both, wait until the API answers.

        Raises:
            Unavailable: the port is taken, the home cannot be written, or the API does not come up.
        """
        self.settings.make_home()
        migrations.upgrade(Database(self.settings.url), lock=self.settings.home / "migrate.lock")
        ensure_token(self.settings.token_file)
        ensure_token(self.settings.metrics_token_file)
        for name in ("api", "worker"):
            self._spawn(name)
        self._await_api()
        write_atomically(self.settings.server_file, orjson.dumps({"url": self.url, "pid": os.getpid()}))

    def watch(self) -> None:
        """Start again what has died."""
        for name, process in list(self._processes.items()):
            if process.poll() is not None:
                console.warn(f"the {name} process ended ({process.returncode}); it is started again")
                time.sleep(_RESTART_SECONDS)
                self._spawn(name)

    def stop(self) -> None:
        """End both. Jobs go on under their supervisors."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.settings.server_file.unlink(missing_ok=True)

    def login_link(self) -> str:
        """A fresh one-time link."""
        client = Client(self.url, ensure_token(self.settings.token_file))
        try:
            return str(client.post("/login-codes")["link"])
        finally:
            client.close()

    def _spawn(self, name: str) -> None:
        argv = [sys.executable, "-m", "finery.cli.main", name, "--parent", str(os.getpid())]
        logs = self.settings.home / "logs"
        logs.mkdir(exist_ok=True)
        with open(logs / f"{name}.log", "ab") as output:
            self._processes[name] = subprocess.Popen(
                argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _await_api(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._processes["api"].poll() is not None:
                break
            try:
                if (
                    httpx.get(f"{self.url}/api/server", trust_env=False, timeout=2).status_code
                    == httpx.codes.UNAUTHORIZED
                ):
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        tail = (self.settings.home / "logs" / "api.log").read_text(errors="replace").splitlines()[-3:]
        self.stop()
        raise Unavailable(f"the API did not come up; the end of {self.settings.home}/logs/api.log: {' | '.join(tail)}")


def up(port: PortOption = None) -> None:
    """Start the server (API, worker, web UI) in the foreground. Ctrl-C ends it; running jobs go on."""
    settings = Settings()
    server = Server(settings, free_port(settings, port))
    server.start()
    console.say(f"Finery runs at {server.url}; its state lies in {settings.home}")
    console.say(f"Open once, within 15 minutes: {server.login_link()}")
    console.say("Another link: `finery login-link`. Stop with Ctrl-C; running jobs go on and are found again.")
    serve(server)


def serve(server: Server) -> None:
    """Keep the server up until SIGINT or SIGTERM."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    while not ended.wait(0.5):
        server.watch()
    server.stop()


def login_link(as_json: JsonOption = False) -> None:
    """Print a one-time link that logs a browser in."""
    with connect() as client:
        made = client.post("/login-codes")
    console.emit(made) if as_json else console.say(str(made["link"]))


def free_port(settings: Settings, port: int | None) -> int:
    """The port to listen on.

    Raises:
        Unavailable: it is taken.
    """
    wanted = settings.port if port is None else port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, wanted))
        except OSError as error:
            raise Unavailable(
                f"port {wanted} of {settings.host} cannot be used ({error.strerror}); end what listens there, or take "
                "another with --port"
            ) from error
        return int(probe.getsockname()[1])
