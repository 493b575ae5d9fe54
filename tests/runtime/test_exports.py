"""Exports while a run goes on: what fails there ends the export and never the run."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.core.spec import parse
from finery.exporting import exporters
from finery.exporting.exporters import Exporter
from finery.importing import tensorboard
from finery.jobs.specs import JobSpec
from finery.runtime import exports
from tests.runtime.test_bottleneck import TASK, Controls
from tests.training import driver
from tests.training.driver import SFT_ROWS, Bench


class Faulty:
    """Takes two steps, then does what it is told."""

    def __init__(self, fault: str):
        self.fault = fault
        self.steps: list[int] = []
        self.may_go_on = threading.Event()
        self.ended: list[bool] = []

    def write(self, step: int, values: Mapping[str, float], *, time: float) -> None:
        if len(self.steps) == 2 and self.fault == "raises":
            raise OSError("no space left")
        if self.fault == "hangs":
            self.may_go_on.wait(30)
        self.steps.append(step)

    def close(self, *, is_ok: bool) -> None:
        self.ended.append(is_ok)
        if self.fault == "ends badly":
            raise ConnectionResetError("lost")


def exported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, exporter: Exporter | Exception, num_steps: int = 5
) -> tuple[list[dict[str, Any]], float]:
    """Steps through the hooks of a run with one exporter; the alerts, and the longest step."""

    def open_(folder: Path, facts: Any, params: Any) -> Exporter:
        if isinstance(exporter, Exception):
            raise exporter
        return exporter

    entry = exporters.registry.get("tensorboard")
    monkeypatch.setitem(exporters.registry._entries, "tensorboard", type(entry)(entry.name, open_, entry.params, ""))
    run_dir = bench.attempt(TASK, SFT_ROWS, exports=["tensorboard"])
    run = Run.open(run_dir.path)
    longest = 0.0
    with exports.started(run, parse(JobSpec, run.spec.job)):
        for step in range(1, num_steps + 1):
            began = time.perf_counter()
            run.after_step(step, {"loss": 1.0}, Controls())
            longest = max(longest, time.perf_counter() - began)
    run.events.close()
    return driver.events(run_dir, "alert"), longest


def test_every_step_reaches_an_exporter_and_its_end_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Faulty("")

    assert exported(bench, monkeypatch, exporter)[0] == []
    assert (exporter.steps, exporter.ended) == ([1, 2, 3, 4, 5], [True])


@pytest.mark.parametrize(("fault", "cause"), [("raises", "OSError: no space left"), ("ends badly", "lost")])
def test_one_that_fails_is_said_once_and_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: str, cause: str
) -> None:
    [alert], _ = exported(bench, monkeypatch, Faulty(fault), num_steps=50)

    assert (alert["rule"], alert["severity"]) == ("export_failed", "warning")
    assert cause in alert["message"]
    assert "training goes on" in alert["message"]


def test_one_that_cannot_be_opened_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    [alert], _ = exported(bench, monkeypatch, InvalidSpec("no such thing"))

    assert alert["message"].startswith("metrics go to tensorboard no more: no such thing")


def test_one_that_hangs_holds_up_no_step_and_not_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_MAX_WAITING", 10)
    monkeypatch.setattr(exports, "_CLOSE_SECONDS", 0.2)
    exporter = Faulty("hangs")

    [alert], longest = exported(bench, monkeypatch, exporter, num_steps=100)
    exporter.may_go_on.set()

    assert longest < 1
    assert "10 steps wait for it" in alert["message"]


def test_one_that_does_not_end_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_CLOSE_SECONDS", 0.2)
    exporter = Faulty("hangs")

    [alert], _ = exported(bench, monkeypatch, exporter)
    exporter.may_go_on.set()

    assert "has not ended within 0.2 s" in alert["message"]


def test_a_run_writes_event_files_beside_its_own(bench: Bench) -> None:
    run_dir = bench.attempt({**TASK, "optim": {"steps": 3}}, SFT_ROWS, exports=["tensorboard"])

    assert driver.run_child(run_dir) == 0, driver.log_of(run_dir)

    [run] = tensorboard.read(run_dir.path / "exports" / "tensorboard")
    logged = {event["step"]: event["values"] for event in driver.events(run_dir, "metrics")}
    found = {row.step: row.values for row in run.rows}
    assert set(found) == set(logged) == {1, 2, 3}
    for step, values in logged.items():
        assert found[step] == pytest.approx(values, rel=1e-6)
    assert driver.events(run_dir, "alert") == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["tensorbord"], "unknown exporter 'tensorbord'; known: tensorboard, wandb"),
        (["wandb", {"name": "wandb", "params": {"project": "a"}}], "each exporter is named once.*wandb"),
        ([{"name": "wandb", "params": {"project": "a/b"}}], "exporter 'wandb' is not valid at project"),
    ],
)
def test_a_job_file_with_a_wrong_export_says_what_is_wrong(bench: Bench, given: list[Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        bench.attempt(TASK, SFT_ROWS, exports=given)
