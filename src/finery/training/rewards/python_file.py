"""The reward `python_file`."""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from finery.core import checkpoints
from finery.core.environment import without_secrets
from finery.core.errors import Conflict, FineryError
from finery.core.refs import CodeRef
from finery.core.rundir import Run
from finery.core.spec import Spec
from finery.training.rewards import Failed, OpenReward, prompt_text, registry

_HOST: Final = Path(__file__).parents[1] / "reward_host.py"
_TAKEN: Final = frozenset({"prompt", "prompts", "completions"})
"""Columns that are no further arguments of the function."""
_CHUNK_BYTES = 1 << 16
_END_SECONDS = 2.0


class PythonFileParams(Spec):
    path: CodeRef = Field(min_length=1, max_length=500, pattern=r"^(\./|\.\./|/|~|object:[0-9a-f]{64}$)")
    """File with `def reward(prompts, completions, **columns) -> list[float]`, relative to the job file (`./reward.py`).
    Prompts and completions are texts; columns are the other columns of the rows, None where a row has none. It runs
    with your rights in a process of its own, without your secrets; what it prints goes to the run's log."""
    seconds: float = Field(60.0, gt=0, le=3600)
    """Longest call, and longest start. The process is ended after it and started anew for the next call."""


class _HostFailed(FineryError):
    """The user's code could not be asked, or did not answer."""

    code = "reward_failed"


@registry.register("python_file", params=PythonFileParams)
class PythonFile(OpenReward):
    """Whatever a function of yours gives, in a Python file that is kept with the run."""

    def __init__(self, params: PythonFileParams, run: Run):
        self._params = params
        resolved = run.input(params.path)
        if checkpoints.file_sha256(Path(resolved.path)) != resolved.sha256:
            raise Conflict(f"{params.path} has changed since the job was submitted; submit it again")
        self._file = run.dir.path / "code" / f"reward-{resolved.sha256[:16]}.py"
        self._file.parent.mkdir(exist_ok=True)
        shutil.copyfile(resolved.path, self._file)
        run.artifact("reward code", self._file)
        self._host: _Host | None = None
        self._ready()

    def score(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | Failed]:
        names = list(dict.fromkeys(name for row in rows for name in row if name not in _TAKEN))
        question = {
            "prompts": [prompt_text(row.get("prompt", "")) for row in rows],
            "completions": list(completions),
            "columns": {name: [row.get(name) for row in rows] for name in names},
        }
        try:
            answer = self._ready().ask(question, self._params.seconds)
        except _HostFailed:
            self.close()
            raise
        if "error" in answer:
            raise _HostFailed(f"raised {answer['error']}")
        found: list[float | Failed] = answer["scores"]
        return found

    def close(self) -> None:
        if self._host is not None:
            self._host.end()
            self._host = None

    def _ready(self) -> "_Host":
        """The process, started where none is there."""
        if self._host is None:
            self._host = _Host(self._file)
            try:
                answer = self._host.ask({"load": str(self._file)}, self._params.seconds)
            except _HostFailed:
                self.close()
                raise
            if "error" in answer:
                self.close()
                raise _HostFailed(f"{self._params.path} cannot be used: {answer['error']}")
        return self._host


class _Host:
    """A process that holds the user's code: a line of JSON goes in, a line of JSON comes out."""

    def __init__(self, file: Path):
        told, self._to = os.pipe()
        self._from, answers = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-P", str(_HOST), str(told), str(answers)],
                stdin=subprocess.DEVNULL,
                pass_fds=(told, answers),
                env=without_secrets(os.environ) | {"PYTHONUNBUFFERED": "1"},
                cwd=file.parent,
                start_new_session=True,
            )
        finally:
            os.close(told)
            os.close(answers)
        os.set_blocking(self._to, False)

    def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send a question and wait for the answer.

        Raises:
            _HostFailed: there is none in time, or the process has ended.
        """
        unsent = memoryview(json.dumps(question).encode() + b"\n")
        found, deadline = bytearray(), time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            selector.register(self._to, selectors.EVENT_WRITE)
            while not found.endswith(b"\n"):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise _HostFailed(f"did not answer within {seconds:g} s; it was ended, and starts anew")
                for key, _ in ready:
                    if key.fd == self._from:
                        chunk = os.read(self._from, _CHUNK_BYTES)
                        if not chunk:
                            raise _HostFailed(self._death())
                        found += chunk
                        continue
                    try:
                        unsent = unsent[os.write(self._to, unsent) :]
                    except BrokenPipeError:
                        raise _HostFailed(self._death()) from None
                    if not unsent:
                        selector.unregister(self._to)
        try:
            answer: dict[str, Any] = json.loads(found)
        except ValueError as error:
            raise _HostFailed(
                "wrote into the pipe of its answers, which is not for it; print goes to the log"
            ) from error
        return answer

    def end(self) -> None:
        """End it with all that it started in its process group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _death(self) -> str:
        try:
            code = self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed the pipe of its answers; it was ended, and starts anew"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{how} while it was asked; it starts anew"
