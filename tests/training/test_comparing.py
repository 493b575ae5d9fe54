"""A comparison answers the same prompts with every model, and its figures are what an independent count gives."""

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from finery.core.errors import Conflict, InvalidSpec, NotFound  # noqa: E402
from finery.core.rundir import ResolvedInput, Run, RunDir, RunSpec  # noqa: E402
from finery.core.spec import parse  # noqa: E402
from finery.jobs.specs import JobSpec  # noqa: E402
from finery.models import loading  # noqa: E402
from finery.training import comparing, results  # noqa: E402
from finery.training.specs import PolicyTable  # noqa: E402
from tests.training import driver  # noqa: E402

SFT = {"algorithm": "sft", "optim": {"steps": 12, "learning_rate": 3e-3}, "batch_size": 6}
REWARDS = [{"name": "exact"}, {"name": "length", "params": {"max": 3}}]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A short SFT from `tiny-char`, in a run directory as the platform lays it out."""
    folder = tmp_path_factory.mktemp("trained")
    bench = driver.Bench(folder / "runs" / "3", folder / "home")
    run_dir = bench.attempt(SFT, driver.SFT_ROWS)
    driver.run_here(run_dir)
    return run_dir


def compare(folder: Path, trained: RunDir, **changes: Any) -> PolicyTable:
    bench = driver.Bench(folder, trained.path.parents[2] / "home")
    prepared = bench.attempt({"algorithm": "sft"}, driver.GRPO_ROWS, name="rows")
    step = SFT["optim"]["steps"]  # type: ignore[index]
    path = driver.checkpoint(trained, step)
    inputs = {
        **prepared.read_spec().inputs,
        "job:3/last": ResolvedInput(kind="checkpoint", path=str(path), sha256=""),
    }
    task = {
        "model": {"base": driver.MODEL, "dtype": "float32"},
        "candidates": {"trained": "job:3/last"},
        "data": driver.DATA,
        "rewards": REWARDS,
        "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
        "micro_batch_size": 5,
        **changes,
    }
    job = parse(JobSpec, {"kind": "compare", "name": "table", "task": task})
    spec = RunSpec(job_id="4", attempt=1, job=job.model_dump(mode="json"), inputs=inputs, seed=5)
    run = Run.open(RunDir.create(folder / "attempt-1", spec).path)
    comparing.execute(job.task, run)
    run.events.close()
    return results.read_table(run.dir.path)


def test_each_model_answers_every_prompt_and_its_rewards_are_their_means(tmp_path: Path, trained: RunDir) -> None:
    table = compare(tmp_path, trained)
    records = driver.rollouts(RunDir(tmp_path / "attempt-1"))

    assert [row.name for row in table.rows] == ["baseline", "trained"]
    assert [row.num_answers for row in table.rows] == [24, 24]
    for row in table.rows:
        own = [record for record in records if record["model"] == row.name]
        assert [record["prompt"] for record in own] == [r["prompt"] for r in driver.GRPO_ROWS for _ in range(4)]
        for reward in ("exact", "length"):
            assert row.rewards[reward].mean == pytest.approx(sum(r["rewards"][reward] for r in own) / 24)
        assert row.response_length_mean == pytest.approx(sum(r["length"] for r in own) / 24)


def test_the_first_model_is_at_distance_zero_and_the_divergence_is_that_of_whole_distributions(
    tmp_path: Path, trained: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[list[int], list[int]]] = []
    plain = comparing._divergence

    def watched(model: Any, first: Any, prompts: Any, answers: Any, task: Any) -> float:
        drawn.extend(zip(prompts, answers, strict=True))
        return plain(model, first, prompts, answers, task)

    monkeypatch.setattr(comparing, "_divergence", watched)
    table = compare(tmp_path, trained)
    base, candidate = table.rows
    assert (base.kl, base.rewards["exact"].change, base.rewards["exact"].win_rate) == (0.0, None, None)

    paths = driver.checkpoint(trained, 12), Path(driver.Bench(tmp_path, trained.path.parents[2] / "home").model.path)
    models = [loading.load_model(path, dtype="float32").eval() for path in paths]
    total = 0.0
    for prompt, answer in drawn:
        ids = torch.tensor([[*prompt, *answer]])
        with torch.inference_mode():
            p, q = (model(ids).logits[0, -len(answer) - 1 : -1].double().softmax(dim=-1) for model in models)
        total += (p * (p / q).log()).sum().item()
    assert len(drawn) == 24
    assert candidate.kl == pytest.approx(total / sum(len(answer) for _, answer in drawn), rel=1e-3)
    assert candidate.kl > 0.05


def test_what_the_training_took_is_read_from_its_run(tmp_path: Path, trained: RunDir) -> None:
    candidate = compare(tmp_path, trained).rows[1]
    seconds = [event["values"]["seconds_per_step"] for event in driver.events(trained, "metrics")]
    assert candidate.training is not None
    assert candidate.training.steps == 12
    assert candidate.training.seconds == pytest.approx(sum(seconds))
    assert candidate.training.peak_memory_bytes is None  # nobody sampled it
    assert candidate.reward_per_gigabyte is None
    assert candidate.model_bytes == (driver.checkpoint(trained, 12) / "model.safetensors").stat().st_size


def test_a_model_against_itself_wins_half(tmp_path: Path, trained: RunDir) -> None:
    found = compare(tmp_path, trained, candidates={"same": driver.MODEL}).rows[1]
    assert found.kl == pytest.approx(0.0, abs=1e-9)
    assert found.rewards["length"].win_rate == 0.5
    assert found.training is None


def test_the_name_of_the_first_model_is_taken(tmp_path: Path, trained: RunDir) -> None:
    with pytest.raises(InvalidSpec, match="'baseline' is the name of task.model"):
        compare(tmp_path, trained, candidates={"baseline": driver.MODEL})


def test_a_comparison_that_is_not_done_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no table yet"):
        results.read_table(tmp_path)


def test_a_divergence_that_is_no_number_leaves_a_table_that_can_be_read(
    tmp_path: Path, trained: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_divergence", lambda *_: math.nan)

    assert [row.kl for row in compare(tmp_path, trained).rows] == [0.0, None]

    logged = driver.events(RunDir(tmp_path / "attempt-1"), "metrics")
    assert [event["values"]["kl_divergence"] for event in logged] == [0.0, "NaN"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rows": 3}'])
def test_a_table_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / results.RESULT).write_text(content)

    with pytest.raises(Conflict, match="comparison.json of this comparison cannot be read.*run the comparison again"):
        results.read_table(tmp_path)
