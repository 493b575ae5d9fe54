"""The reward `code_tests`."""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from finery.core.errors import Unavailable
from finery.core.rundir import Run
from finery.core.sandbox import Limits, Sandbox
from finery.core.spec import ADVANCED, Spec
from finery.training.rewards import Failed, OpenReward, registry

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_HARNESS = """
import json, os, sys

given = json.load(sys.stdin)
told = os.dup(1)
nothing = os.open("/dev/null", os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(nothing, number)
words = {"__name__": "solution"}
try:
    exec(compile(given["code"], "solution", "exec"), words)
except BaseException:
    os._exit(1)
for number, test in enumerate(given["tests"]):
    try:
        exec(compile(test, "test", "exec"), words)
    except BaseException:
        continue
    os.write(told, f"{given['nonce']} {number}\\n".encode())
os._exit(0)
"""
"""Runs in the sandbox: a test has passed once its line was written, so that code that ends the process passes none of
those that are left."""


class CodeTestsParams(Spec):
    """The row's tests, in columns: `tests`, or `inputs` with `outputs`. The standard library is all that can be
    imported."""

    score: Literal["share", "all"] = "share"
    """Share of the tests that pass, or 1 only when all of them do."""
    tests: str = "tests"
    """Column with Python statements, a list or one text, that run after the code and raise where it is wrong."""
    inputs: str = "inputs"
    """Column with lists of texts that the code reads, used where a row has no `tests`."""
    outputs: str = "outputs"
    """Column with what it is to print for each of them; white space at the ends of lines and of the text aside."""
    seconds: float = Field(10.0, gt=0, le=600)
    """Longest run of one completion (all its tests), or of one input."""
    memory_mib: int = Field(512, ge=64, json_schema_extra=ADVANCED)
    """Address space of each process."""
    disk_mib: int = Field(16, ge=1, json_schema_extra=ADVANCED)
    """Files that the code may write, all together, into a folder that is gone afterwards."""
    processes: int = Field(16, ge=1, json_schema_extra=ADVANCED)
    """Processes and threads of one run."""
    output_kib: int = Field(1024, ge=1, json_schema_extra=ADVANCED)
    """Code that prints more is ended."""
    workers: int = Field(2, ge=1, le=256)
    """Completions that run at once."""
    sandbox: Literal["full", "any"] = Field("full", json_schema_extra=ADVANCED)
    """`full` runs code only where the sandbox closes everything off: files, network and other processes. `any` takes
    the strongest walls that the machine has; code of the model may then reach what you can reach."""


@dataclass(frozen=True)
class _Case:
    """What one completion is tried with."""

    code: str
    tests: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


@registry.register("code_tests", params=CodeTestsParams)
class CodeTests(OpenReward):
    """Share of the row's tests that the code in the completion passes, run in a sandbox."""

    def __init__(self, params: CodeTestsParams, run: Run):
        self._params = params
        limits = Limits(
            wall_seconds=params.seconds,
            cpu_seconds=max(1, round(params.seconds)),
            memory_bytes=params.memory_mib << 20,
            file_bytes=params.disk_mib << 20,
            num_processes=params.processes,
            output_bytes=params.output_kib << 10,
        )
        self._sandbox = _sandbox(limits, params.sandbox)
        if self._sandbox.gaps:
            run.note(
                f"code_tests: this machine does not let the sandbox close everything: code of the model can reach "
                f"{self._sandbox.gaps}",
                "warning",
            )

    def score(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float | Failed]:
        cases = [self._case(text, row) for text, row in zip(completions, rows, strict=True)]
        with ThreadPoolExecutor(self._params.workers) as pool:
            return list(pool.map(self._score, cases))

    def _score(self, case: _Case | Failed) -> float | Failed:
        if isinstance(case, Failed):
            return case
        if not case.code.strip():
            return 0.0
        total = len(case.tests) or len(case.pairs)
        passed = self._num_passed(case) if case.tests else self._num_right(case)
        return passed / total if self._params.score == "share" else float(passed == total)

    def _num_passed(self, case: _Case) -> int:
        nonce = secrets.token_hex(16)
        given = json.dumps({"code": case.code, "tests": case.tests, "nonce": nonce})
        told = self._sandbox.run(_HARNESS, given.encode()).output.decode("utf-8", "replace").splitlines()
        return sum(f"{nonce} {number}" in told for number in range(len(case.tests)))

    def _num_right(self, case: _Case) -> int:
        num = 0
        for given, wanted in case.pairs:
            outcome = self._sandbox.run(case.code, given.encode("utf-8", "replace"))
            is_whole = outcome.exit_code == 0 and not outcome.is_flood
            if is_whole and _lines(outcome.output.decode("utf-8", "replace")) == _lines(wanted):
                num += 1
            elif self._params.score == "all":
                break
        return num

    def _case(self, text: str, row: Mapping[str, Any]) -> _Case | Failed:
        code = extract_code(text)
        tests = row.get(self._params.tests)
        if tests:
            listed = (tests,) if isinstance(tests, str) else tuple(map(str, tests))
            return _Case(code, listed, ())
        inputs, outputs = row.get(self._params.inputs), row.get(self._params.outputs)
        if not inputs or not outputs or len(inputs) != len(outputs):
            return Failed(
                f"found no tests: the row needs {self._params.tests!r}, or {self._params.inputs!r} and "
                f"{self._params.outputs!r} of the same length; its columns are {', '.join(row)}"
            )
        return _Case(code, (), tuple(zip(map(str, inputs), map(str, outputs), strict=True)))


def _sandbox(limits: Limits, wanted: Literal["full", "any"]) -> Sandbox:
    if wanted == "any":
        return Sandbox(limits)
    try:
        return Sandbox(limits, "full")
    except Unavailable as error:
        raise Unavailable(
            f"code_tests runs code of the model behind full walls only, and this machine does not allow them: {error}. "
            "They need Linux with user, mount, process and network namespaces, or root. `params: {sandbox: any}` runs "
            "it behind what walls there are: it may then reach files, processes or the network as you can"
        ) from error


def extract_code(text: str) -> str:
    """The last fenced block of a text, also one that was cut before its end; the whole text where it has none."""
    blocks: list[str] = _FENCE.findall(text)
    return blocks[-1] if blocks else text


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
