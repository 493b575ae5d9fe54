"""A comparison answers the same prompts with every model, and its figures are what an independent count gives."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from finery.core.errors import InvalidSpec, NotFound  # noqa: E402
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
    tmp_path: Path, trained: RunDir
) -> None:
    table = compare(tmp_path, trained)
    base, candidate = table.rows
    assert (base.kl, base.rewards["exact"].change, base.rewards["exact"].win_rate) == (0.0, None, None)

    path = driver.checkpoint(trained, 12)
    tokenizer = loading.load_tokenizer(path)
    models = [loading.load_model(path, dtype="float32").eval()]
    models.append(loading.load_model(Path(driver.Bench(tmp_path, tmp_path).model.path), dtype="float32").eval())
    total, count = 0.0, 0
    for record in driver.rollouts(RunDir(tmp_path / "attempt-1")):
        if record["model"] != "trained":
            continue
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": record["prompt"]}], tokenize=False)
        text = prompt + record["completion"] + (tokenizer.eos_token if not record["is_truncated"] else "")
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            p, q = (model(ids).logits[0, -record["length"] - 1 : -1].double().softmax(dim=-1) for model in models)
        total += (p * (p / q).log()).sum().item()
        count += record["length"]
    assert candidate.kl == pytest.approx(total / count, rel=1e-3)
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
