"""The command line as a stranger meets it: real processes, real exit codes, one clear error each."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from finery.cli.main import app
from tests.flows.conftest import Server, server, wait_for  # noqa: F401 - the fixture

JOB = """name: tiny
kind: train
task:
  algorithm: sft
  model: {base: tiny-char}
  data: {train: ./train.jsonl, max_tokens: 64}
  optim: {learning_rate: 1.0e-3, steps: 6}
  batch_size: 4
resources: {cpu_threads: 1}
seed: 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job file and its data."""
    rows = [{"prompt": f"{i}+1=", "response": str(i + 1)} for i in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path


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


def assert_nothing_was_begun(folder: Path) -> None:
    assert list((folder / "home").glob("runs/**/*")) == []


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


def test_a_failing_run_exits_with_1_and_says_why(folder: Path) -> None:
    done = finery(folder, "run", "job.yaml", "--set", "task.native.no_such_option=1")

    assert done.returncode == 1
    assert "no_such_option" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps: 6", "stepz: 6"), "line 7"),
        (("learning_rate: 1.0e-3", "learning_rate: fast"), "line 7"),
        (("kind: train", "kind: trian"), "kind"),
        (("./train.jsonl", "./none.jsonl"), "none.jsonl"),
        (("base: tiny-char", "base: tiny-chat"), "tiny-char"),
        (("name: tiny", "name: ../../etc"), "name"),
        (("seed: 3", "seed: !!python/object/apply:os.getpid []"), "tag"),
        (("seed: 3", "a: &a [1, 1]\nb: *a"), "anchors"),
        (("seed: 3", "seed: 3\nseed: 4"), "twice"),
        (("algorithm: sft", "algorithm: alchemy"), "sft"),
        (("batch_size: 4", "batch_size: 0"), "line 8"),
        (("base: tiny-char", "base: ../../nowhere"), "no folder"),
        (("base: tiny-char", "base: org/.."), "org/name"),
        (("./train.jsonl", "../../nowhere.jsonl"), "nowhere.jsonl"),
        (("name: tiny", "name: [tiny"), "line 2"),
    ],
)
def test_a_job_file_that_is_wrong_exits_with_2_says_where_and_writes_nothing(
    folder: Path, change: tuple[str, str], message: str
) -> None:
    (folder / "job.yaml").write_text(JOB.replace(*change))

    done = finery(folder, "run", "job.yaml")

    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert_nothing_was_begun(folder)


def test_a_broken_row_is_named_by_its_line(folder: Path) -> None:
    with open(folder / "train.jsonl", "a") as file:
        file.write('{"prompt": "broken\n')

    done = finery(folder, "run", "job.yaml")

    assert done.returncode == 2
    assert "21" in done.stderr
    assert_nothing_was_begun(folder)


def test_a_pickle_checkpoint_is_refused_with_the_way_out(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "pytorch_model.bin").write_bytes(b"\x80\x04")

    done = finery(folder, "run", "job.yaml", "--set", "task.model.base=./model")

    assert done.returncode == 2
    assert "safe_serialization" in done.stderr
    assert_nothing_was_begun(folder)


def test_a_missing_job_file_and_no_job_file_are_usage_errors(folder: Path) -> None:
    assert finery(folder, "run", "none.yaml").returncode == 2
    assert finery(folder, "run").returncode == 2
    assert finery(folder, "run", "--resume", "nowhere").returncode == 2


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


def test_check_shows_every_default_and_config_and_overrides_work(folder: Path) -> None:
    override = "task.optim.steps=9"
    ways = (["job.yaml", override], ["--config", "job.yaml", override], ["--config", "job.yaml", "--set", override])
    for arguments in ways:
        done = finery(folder, "check", *arguments, "--json")
        spec = json.loads(done.stdout)["spec"]
        assert spec["task"]["optim"]["steps"] == 9, arguments
    assert spec["task"]["optim"]["beta1"] == 0.9
    assert_nothing_was_begun(folder)


def test_check_marks_what_is_a_default(folder: Path) -> None:
    done = finery(folder, "check", "job.yaml")

    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert "task.batch_size = 4" in lines
    assert "task.optim.beta1 = 0.9   (default)" in lines
    assert lines[-1] == "job.yaml is valid: 1 job."


def test_an_argument_that_is_no_override_is_a_usage_error(folder: Path) -> None:
    done = finery(folder, "check", "job.yaml", "other.yaml")

    assert done.returncode == 2
    assert "other.yaml" in done.stderr


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


def test_a_field_of_the_task_can_be_named_without_it(folder: Path) -> None:
    done = finery(folder, "check", "job.yaml", "--set", "optim.steps=9", "--set", "seed=3", "--set", "optim.beta1=0.8")

    assert "\ntask.optim.steps = 9\n" in done.stdout
    assert "\ntask.optim.beta1 = 0.8\n" in done.stdout  # and not called a default
    assert "\nseed = 3\n" in done.stdout


def test_an_override_of_no_field_is_a_usage_error(folder: Path) -> None:
    done = finery(folder, "check", "job.yaml", "--set", "task.optim.stepz=9")

    assert done.returncode == 2
    assert "stepz" in done.stderr


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
    long_run.communicate(timeout=60)

    assert long_run.returncode == 130


def test_a_run_whose_foreground_process_is_killed_saves_and_stops(
    folder: Path, long_run: subprocess.Popen[str]
) -> None:
    long_run.kill()
    [attempt] = runs(folder)

    wait_for("exit.json", lambda: (attempt / "exit.json").exists())

    assert json.loads((attempt / "exit.json").read_text())["code"] == 3
    assert list(attempt.glob("checkpoints/step-*/MANIFEST.json"))


def test_a_submitted_local_file_is_stored_by_content_and_its_path_is_nowhere(folder: Path, server: Server) -> None:  # noqa: F811
    told = {**environment(folder), "FINERY_HOME": str(server.home)}
    argv = [sys.executable, "-m", "finery.cli.main", "jobs", "submit", "job.yaml", "--wait", "--json"]
    done = subprocess.run(argv, cwd=folder, env=told, capture_output=True, text=True, timeout=120)

    [job] = json.loads(done.stdout)
    assert (done.returncode, job["state"]) == (0, "completed"), done.stderr
    digest = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    assert job["data"] == f"object:{digest}"
    path = str(folder / "train.jsonl").encode()
    stored = [file for file in server.home.rglob("*") if file.is_file()]
    assert len(stored) > 10
    assert [file for file in stored if path in file.read_bytes()] == []


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in group.list_commands(None):
        command: Any = group.get_command(None, name)
        if isinstance(command, click.Group) or hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_has_help() -> None:
    root: Any = typer.main.get_command(app)

    assert [" ".join(path) for path, command in commands(root) if not command.help] == []


@pytest.mark.parametrize("group", ["", "jobs", "data", "eval"], ids=lambda g: g or "root")
def test_every_option_and_argument_has_help(group: str) -> None:
    root: Any = typer.main.get_command(app)

    silent = [
        f"{' '.join(path)} {parameter.opts[0]}"
        for path, command in commands(root)
        if (path[0] if len(path) > 1 else "") == group
        for parameter in command.params
        if not parameter.help
    ]
    assert silent == []


def test_doctor_says_what_each_missing_thing_costs(folder: Path) -> None:
    done = finery(folder, "doctor", "--json")

    found = json.loads(done.stdout)
    assert {"torch", "disk", "database", "cuda", "npu", "mps", "verl"} <= {finding["name"] for finding in found}
    assert all(finding["costs"] for finding in found if finding["verdict"] == "missing")
