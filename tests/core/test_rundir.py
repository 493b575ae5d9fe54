"""The run directory: streams, locks, commands."""

import errno
import os
from pathlib import Path

import orjson
import pytest

from finery.core import rundir
from finery.core.errors import Conflict
from finery.core.rundir import (
    EventWriter,
    Run,
    RunDir,
    RunSpec,
    StreamReplaced,
    append_line,
    read_commands,
    read_new_lines,
)


def spec(**changes: object) -> RunSpec:
    return RunSpec(job_id="1", attempt=1, job={"name": "x"}, inputs={}, seed=1).model_copy(update=changes)


def events(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_a_half_written_line_waits(tmp_path: Path) -> None:
    stream = tmp_path / "s"
    stream.write_bytes(b'{"a":1}\n{"b"')

    assert read_new_lines(stream, 0) == ([b'{"a":1}'], 8)
    assert read_new_lines(stream, 8) == ([], 8)


def test_a_line_longer_than_the_read_is_returned_whole(tmp_path: Path) -> None:
    stream = tmp_path / "s"
    stream.write_bytes(b"x" * 5000 + b"\ny\n")

    assert (
        read_new_lines(stream, 0, max_bytes=16) == ([b"x" * 5000, b"y"], 5003)
        or read_new_lines(stream, 0, max_bytes=16)[0][0] == b"x" * 5000
    )


def test_a_stream_that_became_shorter_is_an_error_and_not_silence(tmp_path: Path) -> None:
    stream = tmp_path / "s"
    stream.write_bytes(b"{}\n")

    with pytest.raises(StreamReplaced):
        read_new_lines(stream, 100)


def test_a_stream_that_is_gone_is_an_error_once_it_was_read(tmp_path: Path) -> None:
    assert read_new_lines(tmp_path / "none", 0) == ([], 0)
    with pytest.raises(StreamReplaced):
        read_new_lines(tmp_path / "none", 5)


def test_a_later_writer_closes_a_torn_line_and_goes_on_counting(tmp_path: Path) -> None:
    stream = tmp_path / "rank0.jsonl"
    first = EventWriter(stream)
    first.emit("log", level="info", message="a")
    first.close()
    with open(stream, "ab") as file:
        file.write(b'{"type":"log","seq":1,"ti')

    second = EventWriter(stream)
    second.emit("log", level="info", message="b")

    lines = stream.read_bytes().splitlines()
    assert len(lines) == 3
    assert orjson.loads(lines[2])["seq"] == 2


def test_a_failed_write_is_cut_back_kept_and_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = tmp_path / "rank0.jsonl"
    writer = EventWriter(stream)
    writer.emit("log", level="info", message="a")
    real_write = os.write

    def half_then_full(handle: int, line: bytes) -> int:
        real_write(handle, line[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rundir.os, "write", half_then_full)
    writer.emit("log", level="info", message="b")
    assert writer.num_unwritten == 1
    assert stream.read_bytes().endswith(b"\n")
    monkeypatch.setattr(rundir.os, "write", real_write)
    writer.emit("log", level="info", message="c")

    assert [event["message"] for event in events(stream)] == ["a", "b", "c"]
    assert [event["seq"] for event in events(stream)] == [0, 1, 2]


def test_values_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "attempt-1", spec())
    run = Run.open(run_dir.path)

    run.log({"loss": float("nan"), "grad_norm": float("inf"), "lr": 1.0}, step=3)

    assert events(run_dir.events / "rank0.jsonl")[0]["values"] == {"loss": "NaN", "grad_norm": "Infinity", "lr": 1.0}


def test_creating_a_run_directory_twice_changes_nothing_and_another_spec_is_refused(tmp_path: Path) -> None:
    RunDir.create(tmp_path / "a", spec())
    RunDir.create(tmp_path / "a", spec())

    with pytest.raises(Conflict):
        RunDir.create(tmp_path / "a", spec(seed=2))


def test_only_one_holder_of_an_attempt_at_a_time(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "a", spec())

    held = run_dir.lock()

    assert held is not None
    assert run_dir.lock() is None
    os.close(held)
    assert run_dir.lock() is not None


def test_commands_of_another_attempt_and_lines_that_are_none_are_skipped(tmp_path: Path) -> None:
    control = tmp_path / "control.jsonl"
    append_line(control, {"id": "a", "attempt": 1, "time": 0.0, "command": "pause"})
    append_line(control, {"id": "b", "attempt": 2, "time": 0.0, "command": "pause"})
    with open(control, "ab") as file:
        file.write(b'{"id": "torn')
    append_line(control, {"id": "c", "attempt": 1, "time": 0.0, "command": "set", "values": {"learning_rate": 0.1}})

    commands, _ = read_commands(control, 0, attempt=1)

    assert [command.id for command in commands] == ["a", "c"]


def test_samples_are_pointed_at_by_offset(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "a", spec())
    run = Run.open(run_dir.path)
    run.samples("rollouts", [{"reward": 1.0}], step=1)
    run.samples("rollouts", [{"reward": 2.0}, {"reward": 3.0}], step=2)

    event = events(run_dir.events / "rank0.jsonl")[1]

    with open(run_dir.path / str(event["path"]), "rb") as file:
        file.seek(int(str(event["offset"])))
        assert [orjson.loads(line)["reward"] for line in file] == [2.0, 3.0]
