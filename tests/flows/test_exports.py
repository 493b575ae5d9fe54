"""Exports of real runs with the real packages: while they run, when they are killed, and afterwards on demand."""

import json
import os
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from finery.importing import service
from tests.conftest import need
from tests.flows.test_cli import finery
from tests.platform import FINERY, JOB, Inside, Server, wait_for

EXPORTS = JOB + "monitoring: {exports: [tensorboard, {name: wandb, params: {project: sums}}]}\n"


def logged(run_dir: Path) -> dict[int, dict[str, float]]:
    lines = (run_dir / "events" / "rank0.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["type"] == "metrics"]
    return {event["step"]: {name: float(value) for name, value in event["values"].items()} for event in events}


def exported(folder: Path, format_: str) -> dict[int, dict[str, float]]:
    [run] = service.read(folder, format_)
    return {row.step: dict(row.values) for row in run.rows}


def assert_same(found: dict[int, dict[str, float]], expected: dict[int, dict[str, float]]) -> None:
    assert set(found) == set(expected)
    for step, values in expected.items():
        assert found[step] == pytest.approx(values, rel=1e-6), step


def test_a_run_tells_tensorboard_and_wandb_what_it_logs(folder: Path) -> None:
    need("wandb", find_spec("wandb") is not None)
    (folder / "job.yaml").write_text(EXPORTS)

    done = finery(folder, "run", "job.yaml", "--json")

    result = json.loads(done.stdout)
    run_dir = Path(result["run_dir"])
    assert result["state"] == "completed", (run_dir / "logs" / "stdout.log").read_text()
    expected = logged(run_dir)
    assert set(expected) == set(range(1, 7))
    for format_ in ("tensorboard", "wandb"):
        assert_same(exported(run_dir / "exports" / format_, format_), expected)
    assert [process for process in psutil.process_iter(["cmdline"]) if is_core_of(process, run_dir)] == []


def is_core_of(process: psutil.Process, run_dir: Path) -> bool:
    try:
        is_core = any("wandb-core" in part for part in process.info["cmdline"] or ())
        return is_core and process.environ().get("WANDB_CACHE_DIR", "").startswith(str(run_dir))
    except psutil.Error:
        return False


def test_wandbs_process_ends_with_a_child_that_is_killed_and_keeps_what_it_was_told(folder: Path) -> None:
    need("wandb", find_spec("wandb") is not None)
    (folder / "job.yaml").write_text(EXPORTS.replace("steps: 6", "steps: 100000"))
    environment = {**os.environ, "FINERY_HOME": str(folder / "home"), "NO_COLOR": "1"}
    with open(folder / "run.log", "wb") as log:
        run = subprocess.Popen([*FINERY, "run", "job.yaml"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        run_dir = wait_for("a run", lambda: next(iter((folder / "home" / "runs").glob("*/attempt-*")), None))
        wait_for("ten steps", lambda: (run_dir / "events/rank0.jsonl").is_file() and len(logged(run_dir)) > 10)
        wait_for("ten steps on the disk", lambda: len(exported(run_dir / "exports" / "wandb", "wandb")) > 10)
        [core] = [one for one in psutil.process_iter(["cmdline"]) if is_core_of(one, run_dir)]
        child = json.loads((run_dir / "supervisor.json").read_text())["child"]["pid"]
        os.kill(child, signal.SIGKILL)
        wait_for("the end of wandb's process", lambda: not core.is_running() or core.status() == "zombie", 20)
        run.wait(timeout=30)
    finally:
        run.kill()
        run.wait()

    expected = logged(run_dir)
    for format_ in ("tensorboard", "wandb"):
        found = exported(run_dir / "exports" / format_, format_)
        assert len(found) > 10
        assert_same(found, {step: values for step, values in expected.items() if step in found})


def test_a_job_is_exported_on_demand_point_for_point(shared: Server, folder: Path, inside: Inside) -> None:
    need("wandb", find_spec("wandb") is not None)
    spec = {"name": "sums more", "kind": "external", "task": {"config": {"lr": 0.1}}, "tags": ["x"]}
    script = f"""
import finery
run = finery.init(name={spec["name"]!r}, config={{"lr": 0.1}}, tags=["x"])
for step in range(500):
    finery.log({{"loss": 1 / (step + 1), "odd": float("nan") if step == 3 else step}})
finery.finish()
print(run.id)
"""
    done = subprocess.run(["python", "-c", script], env=with_python(shared), capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    job_id = int(done.stdout.split()[-1])
    shared.await_state(job_id, "completed")

    def export(*more: str) -> Any:
        return inside(folder, "jobs", "export", str(job_id), *more, "--json", home=shared.home)

    for format_, params in (("tensorboard", ()), ("wandb", ("--param", "project=sums"))):
        out = folder / format_
        told = json.loads(export("--to", str(out), "--format", format_, *params).stdout)["attempts"]
        assert [(one["attempt"], one["num_steps"]) for one in told] == [(1, 500)]
        assert Path(told[0]["folder"]) == out / f"sums-more-{job_id}" / "attempt-1"
        found = exported(Path(told[0]["folder"]), format_)
        assert [found[step]["loss"] for step in range(500)] == pytest.approx(
            [1 / (n + 1) for n in range(500)], rel=1e-6
        )
        assert str(found[3]["odd"]) == "nan"
    again = export("--to", str(folder / "wandb"), "--format", "wandb")
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert "unknown exporter" in export("--to", "x", "--format", "csv").stderr
    assert "write project=sums" in export("--to", "x", "--param", "project").stderr


def with_python(server: Server) -> dict[str, str]:
    """The server's environment, with this interpreter first in the path."""
    return {**server.environment, "PATH": f"{Path(FINERY[0]).parent}:{os.environ['PATH']}"}
