"""What is expected of jobs on a machine, and what is kept of it, on SQLite and PostgreSQL."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finery.core.db import Database
from finery.core.nvml import Gpu
from finery.core.rundir import ExitRecord, ResolvedInput
from finery.core.spec import parse
from finery.jobs import expecting, service, submitting, views, words
from finery.jobs.estimating import Lengths
from finery.jobs.expecting import Host
from finery.jobs.scheduling import Free
from finery.jobs.specs import JobSpec, TrainJob
from finery.jobs.tables import Attempt, Job, JobEstimate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOM = Free(slots=1, gpus=8, all_gpus=8)
GIB = 2**30
LAPTOP = Host((), 16 * GIB)
CARDS = Host(tuple(Gpu(i, "NVIDIA GeForce RTX 4090", None, 0, 24 * GIB, None, None) for i in range(2)), 64 * GIB)
BIG = "Qwen/Qwen2.5-7B"


def spec(base: str = "tiny-char", *, resources: Any = None, **task: Any) -> TrainJob:
    raw = {"algorithm": "sft", "model": {"base": base}, "data": {"train": "rows", "max_tokens": 256}, **task}
    return parse(TrainJob, {"name": "a", "kind": "train", "task": raw, "resources": resources or {}})


def ended(*, code: int | None = 0, peak: int | None = None, signal: str | None = None, ooms: int = 0) -> ExitRecord:
    return ExitRecord(
        code=code,
        signal=signal,
        oom_kills=ooms,
        last_heartbeat=0,
        ended_at=0,
        cause="",
        recorded_by="supervisor",
        peak_memory_bytes=peak,
    )


def finish(
    db: Database,
    folder: Path,
    exit_: ExitRecord,
    *,
    made: TrainJob | None = None,
    phase: str = "completed",
    said: str = "",
) -> int:
    """A job that was claimed, has begun, and has ended."""
    with db.session() as session:
        submitting.submit(session, made or spec(), inputs={}, code=None, now=NOW)
        job = service.claim(session, worker="w", free=ROOM, now=NOW)
        assert job is not None
        attempt = service.begin_attempt(
            session, job, runs=folder, inputs={}, resume_from=None, host="h", worker="w", now=NOW
        )
        service.move(job, "running", "", now=NOW)
        attempt.phase, attempt.phase_message = phase, said
        job.last_values = {"tokens_per_second": 120.0}
        job_id, attempt_id = job.id, attempt.id
    with db.read() as session:
        found = expecting.foreseen(session, job_id, LAPTOP)
    with db.session() as session:
        job, attempt = session.get_one(Job, job_id), session.get_one(Attempt, attempt_id)
        service.settle(session, job, attempt, exit_, now=NOW)
        expecting.keep(session, job, attempt, exit_, found, now=NOW)
    return job_id


def kept(db: Database, job_id: int) -> JobEstimate | None:
    with db.read() as session:
        return expecting.of_job(session, job_id)


def test_a_completed_job_keeps_what_was_expected_beside_what_it_took(db: Database, tmp_path: Path) -> None:
    job_id = finish(db, tmp_path, ended(peak=700 * 2**20))

    row = kept(db, job_id)

    assert row is not None
    assert (row.device, row.engine, row.algorithm, row.outcome) == ("cpu-generic", "trl", "sft", "completed")
    assert row.measured_bytes == 700 * 2**20
    assert row.predicted_bytes is not None
    assert 545 * 2**20 < row.predicted_bytes < 900 * 2**20
    assert row.measured_speed == 120.0
    assert row.predicted_speed is not None
    assert row.predicted_speed > 0
    assert row.usable_bytes == pytest.approx(0.94 * 16 * GIB, abs=1)
    shown = views.estimate_view(row).model_dump()
    assert words.estimate(shown).endswith("0.68 GiB measured")


def test_a_job_that_runs_out_of_memory_is_kept_without_a_measured_peak(db: Database, tmp_path: Path) -> None:
    told = finish(db, tmp_path, ended(code=1), phase="failed", said="out of memory while training (peak 15.2 GiB)")
    killed = finish(db, tmp_path, ended(code=None, signal="SIGKILL", ooms=1, peak=GIB), phase="running")

    for job_id in (told, killed):
        row = kept(db, job_id)
        assert row is not None
        assert (row.outcome, row.measured_bytes, row.measured_speed) == ("oom", None, None)
        assert "out of memory at" in words.estimate(views.estimate_view(row).model_dump())


def test_a_job_that_fails_otherwise_keeps_nothing(db: Database, tmp_path: Path) -> None:
    assert kept(db, finish(db, tmp_path, ended(code=1), phase="failed", said="a row is broken")) is None


def test_a_model_that_nobody_knows_is_kept_with_the_reason(db: Database, tmp_path: Path) -> None:
    row = kept(db, finish(db, tmp_path, ended(peak=GIB), made=spec("nobody/knows-this-model")))
    assert row is not None
    assert row.predicted_bytes is None
    assert "nobody/knows-this-model" in row.reason
    assert "no estimate" in words.estimate(views.estimate_view(row).model_dump())


def test_three_ended_jobs_make_a_correction(db: Database, tmp_path: Path) -> None:
    for number in range(3):
        finish(db, tmp_path, ended(peak=(600 + 100 * number) * 2**20))
        with db.read() as session:
            found = expecting.correction(session, device="cpu-generic", engine="trl", algorithm="sft")
        assert (found is None) == (number < 2)
    finish(db, tmp_path, ended(code=1), phase="failed", said="out of memory while training")

    with db.read() as session:
        found = expecting.correction(session, device="cpu-generic", engine="trl", algorithm="sft")
        row = session.get_one(JobEstimate, 1)
        other = expecting.correction(session, device="cpu-generic", engine="trl", algorithm="dpo")

    assert found is not None
    assert row.predicted_bytes is not None
    assert found.ratio == pytest.approx(700 * 2**20 / row.predicted_bytes)
    assert (found.num, found.scope) == (3, "device, engine and algorithm")
    assert other is not None
    assert other.scope == "device and engine"


def test_a_job_on_a_cpu_has_the_memory_of_the_host() -> None:
    place = expecting.device_of(spec(resources={"gpus": 0}), CARDS)
    assert place is not None
    assert (place[0].vendor, place[0].total_bytes) == ("cpu", 64 * GIB)


def test_a_job_on_gpus_has_those_of_the_host_and_their_memory() -> None:
    place = expecting.device_of(spec(resources={"gpus": 2}), CARDS)
    assert place is not None
    device, num = place
    assert (num, device.total_bytes, device.vendor) == (2, 24 * GIB, "nvidia")
    assert device.bf16


def test_a_gpu_that_the_table_lacks_has_its_memory_and_no_speed() -> None:
    place = expecting.device_of(spec(), Host((Gpu(0, "Thing X9000", None, 0, 40 * GIB, None, None),), GIB))
    assert place is not None
    assert (place[0].id, place[0].total_bytes, place[0].fp32) == ("thing-x9000", 40 * GIB, None)


@pytest.mark.parametrize(
    ("resources", "engine"),
    [
        ({"gpus": 4}, "trl"),
        ({"cluster": "big"}, "verl"),
        ({"nodes": 2, "gpus": 1}, "verl"),
        ({"device": "npu"}, "verl"),
    ],
)
def test_of_what_is_not_known_nothing_is_said(resources: dict[str, Any], engine: str) -> None:
    made = spec(BIG, resources=resources, engine=engine)
    assert expecting.device_of(made, CARDS) is None
    assert expecting.warnings(None, made, {}, CARDS) == []
    assert expecting.warnings(None, spec("nobody/knows-this-model"), {}, LAPTOP) == []


def test_a_job_that_will_not_fit_is_warned_of_with_what_would() -> None:
    [told] = expecting.warnings(None, spec(BIG), {}, CARDS)
    assert "GiB are needed" in told
    assert "would fit: " in told
    assert "model.lora" in told
    assert expecting.warnings(None, spec(), {}, CARDS) == []


def test_a_checkpoint_has_the_shape_of_what_its_job_started_from(db: Database) -> None:
    with db.session() as session:
        first = submitting.submit(session, spec(BIG), inputs={}, code=None, now=NOW)
        second = submitting.submit(session, spec(f"job:{first.id}/last"), inputs={}, code=None, now=NOW)
    with db.read() as session:
        made: JobSpec = spec(f"job:{second.id}/last")
        assert isinstance(made, TrainJob)
        assert expecting.model_shape(session, made, {}).parameters == pytest.approx(7.6e9, rel=0.01)
        assert "would fit" in expecting.warnings(session, made, {}, LAPTOP)[0]


def test_lengths_are_guessed_from_the_longest_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "a" * 30, "response": "b" * 60}, {"prompt": "a" * 90, "response": "b" * 300}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert expecting.lengths_of(path, 50_000) == Lengths(prompt=30 + 40, total=130 + 40)
    assert expecting.lengths_of(path, 102) == Lengths(prompt=90 + 40, total=390 + 40)
    path.write_text("no JSON\n")
    assert expecting.lengths_of(path, 102) == Lengths()
    assert expecting.lengths_of(tmp_path / "none", 102) == Lengths()


def test_short_rows_raise_no_false_alarm(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "1+1=", "response": "2"}) + "\n")
    inputs = {"rows": ResolvedInput(kind="file", path=str(path), sha256="")}
    made = spec("smollm2-135m-instruct", batch_size=64, data={"train": "rows", "max_tokens": 2048})
    assert expecting.warnings(None, made, {}, LAPTOP)
    assert expecting.warnings(None, made, inputs, LAPTOP) == []
