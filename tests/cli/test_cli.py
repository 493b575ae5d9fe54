"""What the command line says of wrong input, and `finery check`; what its processes do is in tests/flows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from finery.cli.main import app
from tests.platform import JOB, Inside

NOWHERE = Path("/proc/nowhere")
"""Where not even root can make a folder."""


def assert_nothing_was_begun(folder: Path) -> None:
    assert list((folder / "home").glob("runs/**/*")) == []


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
    folder: Path, inside: Inside, change: tuple[str, str], message: str
) -> None:
    (folder / "job.yaml").write_text(JOB.replace(*change))

    done = inside(folder, "run", "job.yaml")

    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert_nothing_was_begun(folder)


def test_a_broken_row_is_named_by_its_line(folder: Path, inside: Inside) -> None:
    with open(folder / "train.jsonl", "a") as file:
        file.write('{"prompt": "broken\n')

    done = inside(folder, "run", "job.yaml")

    assert done.returncode == 2
    assert "21" in done.stderr
    assert_nothing_was_begun(folder)


def test_a_pickle_checkpoint_is_refused_with_the_way_out(folder: Path, inside: Inside) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "pytorch_model.bin").write_bytes(b"\x80\x04")

    done = inside(folder, "run", "job.yaml", "--set", "task.model.base=./model")

    assert done.returncode == 2
    assert "safe_serialization" in done.stderr
    assert_nothing_was_begun(folder)


def test_a_missing_job_file_and_no_job_file_are_usage_errors(folder: Path, inside: Inside) -> None:
    assert inside(folder, "run", "none.yaml").returncode == 2
    assert inside(folder, "run").returncode == 2
    assert inside(folder, "run", "--resume", "nowhere").returncode == 2


def test_check_shows_every_default_and_config_and_overrides_work(folder: Path, inside: Inside) -> None:
    override = "task.optim.steps=9"
    ways = (["job.yaml", override], ["--config", "job.yaml", override], ["--config", "job.yaml", "--set", override])
    for arguments in ways:
        done = inside(folder, "check", *arguments, "--json")
        spec = json.loads(done.stdout)["spec"]
        assert spec["task"]["optim"]["steps"] == 9, arguments
    assert spec["task"]["optim"]["beta1"] == 0.9
    assert_nothing_was_begun(folder)


def test_check_marks_what_is_a_default(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml")

    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert "task.batch_size = 4" in lines
    assert "task.optim.beta1 = 0.9   (default)" in lines
    assert lines[-1] == "job.yaml is valid: 1 job."


def test_an_argument_that_is_no_override_is_a_usage_error(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "other.yaml")

    assert done.returncode == 2
    assert "other.yaml" in done.stderr


def test_a_field_of_the_task_can_be_named_without_it(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "--set", "optim.steps=9", "--set", "seed=3", "--set", "optim.beta1=0.8")

    assert "\ntask.optim.steps = 9\n" in done.stdout
    assert "\ntask.optim.beta1 = 0.8\n" in done.stdout  # and not called a default
    assert "\nseed = 3\n" in done.stdout


def test_an_override_of_no_field_is_a_usage_error(folder: Path, inside: Inside) -> None:
    done = inside(folder, "check", "job.yaml", "--set", "task.optim.stepz=9")

    assert done.returncode == 2
    assert "stepz" in done.stderr


def test_a_wrong_variable_is_one_line_and_a_usage_error(
    folder: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINERY_RAY_CLUSTERS", "oops")

    done = inside(folder, "run", "job.yaml")

    assert done.returncode == 2
    assert done.stderr.startswith("FINERY_RAY_CLUSTERS is not right: it is not JSON")
    assert done.stderr.count("\n") == 1
    assert_nothing_was_begun(folder)


@pytest.mark.parametrize("command", [("run", "job.yaml"), ("up", "--port", "0"), ("token", "metrics")])
def test_a_home_that_cannot_be_written_is_one_line_with_the_way_out(
    folder: Path, inside: Inside, command: tuple[str, ...]
) -> None:
    done = inside(folder, *command, home=NOWHERE)

    assert done.returncode == 4
    assert done.stderr.startswith(f"cannot write {NOWHERE}: ")
    assert "FINERY_HOME" in done.stderr
    assert done.stderr.count("\n") == 1


def test_doctor_finds_a_home_that_cannot_be_written(folder: Path, inside: Inside) -> None:
    done = inside(folder, "doctor", "--json", home=NOWHERE)

    [found] = [finding for finding in json.loads(done.stdout) if finding["name"] == "home"]
    assert done.returncode == 1
    assert found["verdict"] == "problem"
    assert found["detail"].startswith(f"cannot write {NOWHERE}: ")


@pytest.mark.parametrize("given", [("optim.steps=9", "nonsense=3"), ("--set", "nonsense=3"), ("--config", "job.yaml")])
def test_resume_refuses_what_it_would_ignore(folder: Path, inside: Inside, given: tuple[str, ...]) -> None:
    done = inside(folder, "run", "--resume", "somewhere", *given)

    assert done.returncode == 2
    assert given[-1] in done.stderr
    assert "without --resume" in done.stderr


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
