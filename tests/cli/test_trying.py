"""The pre-flight of a job: two real steps."""

import json
from pathlib import Path

import pytest

from finery.cli import trying
from finery.cli.trying import try_job
from finery.core.errors import InvalidSpec
from finery.core.settings import Settings

RECIPES = Path(__file__).parents[2] / "recipes"
SUMS = [{"prompt": f"{a}+{b}=", "response": str(a + b)} for a in range(20) for b in range(5)]


def rows(folder: Path, made: list[dict[str, str]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def test_two_steps_of_sft_are_measured_on_the_longest_rows(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    longest = {"prompt": "9" * 40 + "=", "response": "8" * 30}
    path = rows(tmp_path, [*SUMS, longest])

    trial = try_job(RECIPES / "tiny_sft.yaml", overrides=[f"data.train={path}"], settings=settings)

    assert (trial.state, trial.cause) == ("completed", "")
    assert trial.lengths.total == 41 + 30 + 3  # with the template's marks of both turns and the end
    assert trial.measured_bytes is not None
    assert trial.estimate is not None
    assert trial.estimate.peak_bytes is not None
    assert trial.measured_bytes == pytest.approx(trial.estimate.peak_bytes, rel=0.25)
    assert trial.seconds_per_step is not None
    assert trial.fits is True
    assert list(settings.runs.glob("*")) == []
    trying.show(trial)
    told = capsys.readouterr().out
    assert "of the estimate" in told
    assert "the job fits" in told


def test_two_steps_of_grpo_are_measured(tmp_path: Path, settings: Settings) -> None:
    path = rows(tmp_path, [{"prompt": row["prompt"], "answer": row["response"]} for row in SUMS])

    trial = try_job(RECIPES / "tiny_grpo.yaml", overrides=[f"data.train={path}"], settings=settings)

    assert trial.state == "completed"
    assert trial.truncated is not None
    assert trial.fits is True
    assert trial.measured_bytes is not None
    assert trial.estimate is not None
    assert trial.estimate.peak_bytes is not None
    assert trial.measured_bytes == pytest.approx(trial.estimate.peak_bytes, rel=0.25)


def test_a_trial_that_runs_out_of_memory_says_what_would_fit(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine of 590 MiB, on which the child says that memory is out."""
    before = trying.running.attempted

    def out_of_memory(*args: object, **more: object) -> object:
        follower, exit_ = before(*args, **more)  # type: ignore[arg-type]
        follower.phase, follower.message = "failed", "out of memory while training (peak 0.6 GiB of 0.6 GiB)"
        return follower, exit_.model_copy(update={"code": 1})

    monkeypatch.setattr(trying.running, "attempted", out_of_memory)
    monkeypatch.setattr(trying.expecting, "this_host", lambda: trying.expecting.Host((), 590 * 2**20))
    path = rows(tmp_path, [{"prompt": "9" * 60, "response": "8" * 60}])

    trial = try_job(RECIPES / "tiny_sft.yaml", overrides=[f"data.train={path}"], settings=settings)

    assert (trial.is_oom, trial.fits, trial.measured_bytes) == (True, False, None)
    assert trial.advice
    assert "micro_batch_size" in trial.advice[0]
    trying.show(trial)
    told = capsys.readouterr().out
    assert "the job does not fit: out of memory" in told
    assert f"would fit: {trial.advice[0]}" in told


def test_only_training_can_be_tried(settings: Settings) -> None:
    with pytest.raises(InvalidSpec, match="only a single job of kind train can be tried"):
        try_job(RECIPES / "tiny_evaluate.yaml", settings=settings)
