"""`finery run` and `finery up` as a stranger meets them: real processes, real exit codes, one clear error each."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform import Server, wait_for


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "FINERY_HOME": str(folder / "home"), "FINERY_PORT": "9", "NO_COLOR": "1"}


def finery(folder: Path, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "finery.cli.main", *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def runs(folder: Path) -> list[Path]:
    return sorted((folder / "home" / "runs").glob("*/attempt-*"))


def test_a_run_without_a_server_ends_with_the_jobs_exit_code_and_leaves_a_complete_directory(folder: Path) -> None:
    done = finery(folder, "run", "job.yaml", "--json")

    result = json.loads(done.stdout)
    assert (done.returncode, result["state"]) == (0, "completed"), done.stderr
    run_dir = Path(result["run_dir"])
    assert run_dir.is_relative_to(folder / "home")
    for name in ("spec.json", "provenance.json", "exit.json", "events/rank0.jsonl", "logs/stdout.log"):
        assert (run_dir / name).is_file(), name
    assert (run_dir / "checkpoints" / "step-6" / "MANIFEST.json").is_file()
    assert result["last_values"]["loss"] > 0


def test_a_completed_run_is_not_begun_again(folder: Path) -> None:
    assert finery(folder, "run", "job.yaml").returncode == 0
    [made] = runs(folder)

    for place in (made, made.parent):
        done = finery(folder, "run", "--resume", str(place))

        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "nothing to do: completed at step 6")
    told = json.loads(finery(folder, "run", "--resume", str(made), "--json").stdout)
    assert (told["state"], told["run_dir"]) == ("completed", str(made))
    assert runs(folder) == [made]


def test_a_failing_run_exits_with_1_and_says_why(folder: Path) -> None:
    done = finery(folder, "run", "job.yaml", "--set", "task.native.no_such_option=1")

    assert done.returncode == 1
    assert "no_such_option" in done.stdout


def test_without_a_server_the_error_names_the_command_that_starts_one(folder: Path) -> None:
    done = finery(folder, "jobs", "list")

    assert done.returncode == 4
    assert "finery up" in done.stderr


def test_a_port_in_use_is_one_clear_error(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = finery(folder, "up", "--port", str(other.getsockname()[1]))

    assert done.returncode == 4
    assert "--port" in done.stderr


def test_a_database_that_does_not_answer_is_one_line_without_its_password(folder: Path) -> None:
    url = "postgresql+psycopg://user:hidden-word@127.0.0.1:9/finery"
    done = subprocess.run(
        [sys.executable, "-m", "finery.cli.main", "up", "--port", "0"],
        cwd=folder,
        env={**environment(folder), "FINERY_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 4, done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "hidden-word" not in done.stderr + done.stdout


@pytest.fixture
def long_run(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that lasts, with some steps behind it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "finery.cli.main", "run", "job.yaml", "--json", "--set", "task.optim.steps=3000"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def has_steps() -> bool:
        return any(
            b'"step":5,' in p.read_bytes() for p in (folder / "home").glob("runs/*/attempt-1/events/rank0.jsonl")
        )

    wait_for("some steps", has_steps)
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_saves_a_checkpoint_and_resume_goes_on_from_it(folder: Path, long_run: subprocess.Popen[str]) -> None:
    long_run.send_signal(signal.SIGINT)
    output, _ = long_run.communicate(timeout=60)

    result = json.loads(output)
    assert (long_run.returncode, result["state"]) == (3, "paused")
    [saved] = (Path(result["run_dir"]) / "checkpoints").glob("step-*/MANIFEST.json")
    step = int(saved.parent.name.removeprefix("step-"))
    spec = Path(result["run_dir"]) / "spec.json"
    changed = spec.read_text().replace('"steps": 3000', f'"steps": {step + 3}')
    spec.write_text(changed)
    done = finery(folder, "run", "--resume", str(spec.parent.parent), "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "completed"), done.stderr
    assert len(runs(folder)) == 2
    events = (runs(folder)[1] / "events" / "rank0.jsonl").read_text()
    assert f'"step":{step + 1},' in events
    assert '"step":1,' not in events


def test_a_second_ctrl_c_kills(folder: Path, long_run: subprocess.Popen[str]) -> None:
    [events] = (folder / "home").glob("runs/*/attempt-1/events/rank0.jsonl")
    record = json.loads((events.parents[1] / "supervisor.json").read_text())
    os.kill(record["child"]["pid"], signal.SIGSTOP)
    long_run.send_signal(signal.SIGINT)
    wait_for("the first to be taken", lambda: "interrupt" in (events.parents[1] / "control.jsonl").read_text())
    long_run.send_signal(signal.SIGINT)
    output, _ = long_run.communicate(timeout=60)

    assert long_run.returncode == 130
    assert json.loads(output)["cause"].startswith("killed by a second Ctrl-C at step ")


def test_a_run_whose_foreground_process_is_killed_saves_and_stops(
    folder: Path, long_run: subprocess.Popen[str]
) -> None:
    long_run.kill()
    [attempt] = runs(folder)

    wait_for("exit.json", lambda: (attempt / "exit.json").exists())

    assert json.loads((attempt / "exit.json").read_text())["code"] == 3
    assert list(attempt.glob("checkpoints/step-*/MANIFEST.json"))


def test_a_submitted_local_file_is_stored_by_content_and_its_path_is_nowhere(folder: Path, shared: Server) -> None:
    told = {**environment(folder), "FINERY_HOME": str(shared.home)}
    argv = [sys.executable, "-m", "finery.cli.main", "jobs", "submit", "job.yaml", "--wait", "--json"]
    done = subprocess.run(argv, cwd=folder, env=told, capture_output=True, text=True, timeout=120)

    [job] = json.loads(done.stdout)
    assert (done.returncode, job["state"]) == (0, "completed"), done.stderr
    digest = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    assert job["data"] == f"object:{digest}"
    path = str(folder / "train.jsonl").encode()
    stored = [file for file in shared.home.rglob("*") if file.is_file()]
    assert len(stored) > 10
    assert [file for file in stored if path in file.read_bytes()] == []


def test_doctor_says_what_each_missing_thing_costs(folder: Path) -> None:
    done = finery(folder, "doctor", "--json")

    found = json.loads(done.stdout)
    assert {"torch", "disk", "database", "cuda", "npu", "mps", "verl"} <= {finding["name"] for finding in found}
    assert all(finding["costs"] for finding in found if finding["verdict"] == "missing")
