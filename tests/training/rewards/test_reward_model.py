"""A reward model scores as it was trained to, in each number format, and trains a policy by what it says."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from finery.core.errors import InvalidSpec
from finery.core.rundir import ResolvedInput, Run
from finery.models import chat, loading
from finery.training.rewards.reward_model import RewardModel, RewardModelParams
from tests.training import driver
from tests.training.driver import Bench

REF = "job:rm/last"
NUM_STEPS = 20
REWARD = {"algorithm": "reward", "optim": {"steps": NUM_STEPS, "learning_rate": 3e-3}, "batch_size": 16}
GRPO: dict[str, Any] = {
    "algorithm": "grpo",
    "optim": {"steps": 2, "learning_rate": 1e-3},
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 5},
    "rewards": [{"name": "reward_model", "params": {"model": REF, "dtype": "float32"}}],
}


@pytest.fixture(scope="module", params=["full", "lora"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that prefers answers that end with an even digit."""
    stream = random.Random(3)
    rows = [
        {"prompt": f"{stream.randrange(100)}?", "chosen": stream.choice("02468"), "rejected": stream.choice("13579")}
        for _ in range(200)
    ]
    bench = Bench(tmp_path_factory.mktemp("reward-model"), tmp_path_factory.mktemp("home"))
    torch.set_num_threads(1)
    model = {"lora": {"rank": 8}} if request.param == "lora" else {}
    run_dir = bench.attempt({**REWARD, "model": model}, rows)
    driver.run_here(run_dir)
    return driver.checkpoint(run_dir, NUM_STEPS)


def opened(run: Run, path: Path, **params: Any) -> RewardModel:
    run.spec.inputs[REF] = ResolvedInput(kind="checkpoint", path=str(path), sha256="")
    return RewardModel(RewardModelParams(model=REF, **params), run)


def score(reward: RewardModel, answers: list[str], prompt: str = "7?") -> list[float]:
    return [float(one) for one in reward.score(answers, [{"prompt": prompt}] * len(answers))]  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "nf4"])
def test_it_prefers_what_it_was_trained_to(run: Run, trained: Path, dtype: str) -> None:
    found = score(opened(run, trained, dtype=dtype), list("0123456789"))

    assert min(found[0::2]) > max(found[1::2])


def test_fewer_bits_take_less_memory_and_it_is_measured(run: Run, trained: Path) -> None:
    sizes = [
        opened(run, trained, dtype=dtype).sizes()["reward_model_bytes"]
        for dtype in ("float32", "bfloat16", "int8", "nf4")
    ]

    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)


def test_the_score_is_that_of_the_row_alone_whatever_its_batch(run: Run, trained: Path) -> None:
    """Against the model by hand, without padding: the score lies at the last token that is no padding."""
    model, tokenizer = loading.load_reward_model(trained, dtype="float32").eval(), loading.load_tokenizer(trained)
    answers = ["4", "13 and more", "", "22222", "5"]

    def alone(answer: str) -> float:
        start, rest = chat.render_completion(tokenizer, "7?", answer)
        with torch.no_grad():
            return float(model(torch.tensor([start + rest])).logits[0, 0])

    expected = [alone(answer) for answer in answers]

    assert score(opened(run, trained, dtype="float32", batch_size=5), answers) == pytest.approx(expected, abs=1e-5)
    assert score(opened(run, trained, dtype="float32", batch_size=2), answers) == pytest.approx(expected, abs=1e-5)
    scaled = score(opened(run, trained, dtype="float32", scale=2.0, shift=1.0), answers)
    assert scaled == pytest.approx([2 * one + 1 for one in expected], abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_padding_is_what_it_was_in_training_whatever_the_base_says(bench: Bench, tmp_path: Path, dtype: str) -> None:
    """The base calls a digit padding; an adapter's checkpoint has no config of its own that would correct it."""
    path = loading.materialize(bench.model, driver.MODEL)
    base, tokenizer = loading.load_model(path, dtype="float32"), loading.load_tokenizer(path)
    base.config.pad_token_id = tokenizer.convert_tokens_to_ids("4")
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    bench.model = ResolvedInput(
        kind="folder", path=str(tmp_path / "base"), sha256=loading.resolving.folder_sha256(tmp_path / "base")
    )
    rows = [{"prompt": f"{number}?", "chosen": "4" * (number + 1), "rejected": "5"} for number in range(4)]
    task = {**REWARD, "optim": {"steps": 2}, "batch_size": 4, "model": {"lora": {"rank": 4}}}
    run_dir = bench.attempt(task, rows)
    driver.run_here(run_dir)

    model = loading.load_reward_model(driver.checkpoint(run_dir, 2), dtype=dtype)

    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_a_conversation_that_is_too_long_loses_its_beginning(run: Run, trained: Path) -> None:
    reward = opened(run, trained, dtype="float32", max_tokens=8)

    assert score(reward, ["4"], "1" * 500) == score(reward, ["4"], "1" * 600)


def test_a_language_model_is_refused(run: Run, bench: Bench) -> None:
    path = loading.materialize(bench.model, driver.MODEL)
    run.spec.inputs[REF] = ResolvedInput(kind="folder", path=str(path), sha256=loading.resolving.folder_sha256(path))

    with pytest.raises(InvalidSpec, match="is a language model, which has no head that scores"):
        RewardModel(RewardModelParams(model=REF), run)


def test_a_policy_is_trained_by_it(bench: Bench, trained: Path) -> None:
    """Its size and its scores are in the run's metrics and rollouts."""
    scorer = ResolvedInput(kind="checkpoint", path=str(trained), sha256="")
    rows = [{"prompt": f"{number}?", "answer": ""} for number in range(4)]
    run_dir = bench.attempt(GRPO, rows, more_inputs={REF: scorer})

    driver.run_here(run_dir)

    values = driver.metrics(run_dir)[2]
    assert math.isfinite(values["reward/reward_model_mean"])
    assert values["reward_model_bytes"] > 1e6
    assert values["reward_errors"] == 0
    direct = loading.load_reward_model(trained, dtype="float32").eval()
    tokenizer = loading.load_tokenizer(trained)
    rollout = driver.rollouts(run_dir)[0]
    start, rest = chat.render_completion(tokenizer, rollout["prompt"], rollout["completion"])
    with torch.no_grad():
        expected = float(direct(torch.tensor([start + rest])).logits[0, 0])
    assert rollout["rewards"]["reward_model"] == pytest.approx(expected, abs=1e-4)
