"""What is recorded of rollouts: each token with what the step knows of it."""

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from finery.core import rollouts as index_of
from finery.core.spec import Spec
from finery.jobs.tables import Attempt
from finery.models import chat, loading
from finery.monitoring import rollouts as shown
from finery.training import rewards, rollouts
from tests.training import driver
from tests.training.driver import GRPO_ROWS, Bench

GROUPS: dict[str, Any] = {
    "algorithm": "grpo",
    "optim": {"steps": 3, "learning_rate": 1e-3},
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6, "temperature": 0.8},
    "rewards": [{"name": "format", "params": {"pattern": r".*[0-4].*"}}],
}
PPO = {key: value for key, value in GROUPS.items() if key != "prompts_per_step"} | {
    "algorithm": "ppo",
    "prompts_per_batch": 2,
    "mini_batch_size": 8,
    "num_iterations": 1,
}
DAPO = GROUPS | {"algorithm": "dapo", "dynamic_sampling_rounds": 3}
CUT = {"rollout": GROUPS["rollout"] | {"top_k": 20}}


def _records(run_dir: driver.RunDir, step: int) -> list[dict[str, Any]]:
    return [record for record in driver.rollouts(run_dir) if record["step"] == step]


@pytest.mark.parametrize("task", [GROUPS, GROUPS | CUT, DAPO, PPO | CUT])
def test_tokens_have_the_policy_s_log_probability_and_entropy(
    bench: Bench, talkative: Path, task: dict[str, Any]
) -> None:
    run_dir = bench.attempt(task | ({} if task is DAPO else {"kl_coef": 0.0}), GRPO_ROWS, base=talkative)
    driver.run_here(run_dir)

    model, tokenizer = loading.load_model(talkative, dtype="float32"), loading.load_tokenizer(talkative)
    records = _records(run_dir, 1)
    assert len(records) == 8
    assert [record["group"] for record in records] == [0] * 4 + [1] * 4
    for record in records:
        assert record["prompt"] == GRPO_ROWS[record["row"]]["prompt"]
        ids = tokenizer.convert_tokens_to_ids(record["tokens"])
        assert len(ids) == record["length"] == len(record["logprob"]) == len(record["entropy"])
        assert "".join(record["tokens"]).removesuffix("<eos>").startswith(record["completion"])
        assert record["kl"] is None
        prompt = chat.render_prompt(tokenizer, record["prompt"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        whole = torch.distributions.Categorical(logits=logits / 0.8)
        assert record["logprob"] == pytest.approx(whole.log_prob(torch.tensor(ids)).tolist(), rel=0.03, abs=0.02)
        assert record["entropy"] == pytest.approx(whole.entropy().tolist(), rel=0.03, abs=0.02)


@pytest.mark.parametrize("task", [GROUPS, {**GROUPS, "algorithm": "rloo"}, {**PPO, "kl_estimator": "k3"}])
def test_the_mean_of_the_tokens_divergences_is_the_step_s(bench: Bench, talkative: Path, task: dict[str, Any]) -> None:
    run_dir = bench.attempt({**task, "kl_coef": 0.1}, GRPO_ROWS, base=talkative)
    driver.run_here(run_dir)

    found = {step: [kl for record in _records(run_dir, step) for kl in record["kl"]] for step in (1, 2, 3)}
    metrics = driver.metrics(run_dir)
    assert max(found[1]) < 1e-6
    assert min(found[3]) >= 0
    for step in (2, 3):
        assert metrics[step]["kl_divergence"] > 1e-4
        assert fmean(found[step]) == pytest.approx(metrics[step]["kl_divergence"], rel=0.02)


def test_ppo_records_the_advantage_of_each_token(bench: Bench, talkative: Path) -> None:
    run_dir = bench.attempt(PPO, GRPO_ROWS, base=talkative)
    driver.run_here(run_dir)

    records = driver.rollouts(run_dir)
    assert all(len(record["advantages"]) == record["length"] for record in records)
    assert all(record["advantage"] == pytest.approx(fmean(record["advantages"]), abs=0.01) for record in records)
    assert any(len(set(record["advantages"])) > 1 for record in records)


@pytest.mark.parametrize("task", [GROUPS, PPO])
def test_recording_changes_nothing_and_is_done_at_steps_whose_turn_it_is(
    bench: Bench, talkative: Path, task: dict[str, Any]
) -> None:
    task = {**task, "kl_coef": 0.1, "model": {"lora": {"rank": 2, "dropout": 0.1}}}
    silent = bench.attempt(task, GRPO_ROWS, base=talkative, name="silent", samples_per_step=0)
    told = bench.attempt(task, GRPO_ROWS, base=talkative, name="told", samples_per_step=5, sample_interval=2)
    for run_dir in (silent, told):
        driver.run_here(run_dir)

    assert not (silent.samples / index_of.LINES).exists()
    assert [record["step"] for record in driver.rollouts(told)] == [2] * 5
    assert all(record["entropy"] and record["kl"] for record in driver.rollouts(told))
    groups = index_of.open_groups(told.samples / index_of.LINES)
    assert (groups["step"].tolist(), groups["num"].tolist()) == ([2, 2], [4, 1])
    assert driver.metrics(silent) == driver.metrics(told)
    name = "adapter_model.safetensors"
    assert (driver.checkpoint(silent, 3) / name).read_bytes() == (driver.checkpoint(told, 3) / name).read_bytes()


@pytest.mark.parametrize("task", [GROUPS, PPO])
def test_a_completion_without_a_reward_is_recorded_with_its_tokens(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, task: dict[str, Any]
) -> None:
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))

    def half(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
        """Fails for the second half."""
        return [1.0 if at % 4 < 2 else math.nan for at in range(len(rows))]

    rewards.registry.register("half", params=Spec)(half)
    run_dir = bench.attempt({**task, "rewards": [{"name": "half", "on_error": "skip"}], "kl_coef": 0.1}, GRPO_ROWS)
    driver.run_here(run_dir)

    records = _records(run_dir, 2)
    assert [record["reward"] for record in records] == [1, 1, None, None] * 2
    assert all(len(record["tokens"]) == len(record["kl"]) == record["length"] for record in records)


@pytest.mark.parametrize("task", [GROUPS, PPO])
def test_two_processes_record_the_tokens_of_both(bench: Bench, talkative: Path, task: dict[str, Any]) -> None:
    task = {**task, "kl_coef": 0.1}
    run_dir = bench.attempt(task, GRPO_ROWS, base=talkative, processes=2, samples_per_step=7)
    assert driver.run_child(run_dir) == 0, driver.log_of(run_dir)

    records = _records(run_dir, 2)
    assert [record["group"] for record in records] == [0] * 4 + [1] * 3
    for record in records:
        assert len(record["tokens"]) == len(record["kl"]) == len(record["entropy"]) == record["length"]
    groups = index_of.open_groups(run_dir.samples / index_of.LINES)
    assert groups["num"].tolist() == [4, 3] * 3


def test_a_reward_by_chance_makes_a_policy_say_the_same_and_is_found_out(
    bench: Bench, talkative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Advantages of a coin push the policy about until it has one thing to say, while the reward stays at a half."""
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))
    coin = random.Random()

    def toss(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
        """Tosses a coin."""
        return [float(coin.random() < 0.5) for _ in completions]

    rewards.registry.register("toss", params=Spec)(toss)
    group = {"completions_per_prompt": 8, "max_new_tokens": 6}
    verdicts = {}
    for rate in (1e-6, 1e-2):
        coin.seed(6)
        task = {**GROUPS, "optim": {"steps": 60, "learning_rate": rate}, "rollout": group}
        run_dir = bench.attempt({**task, "rewards": [{"name": "toss"}]}, GRPO_ROWS, base=talkative, name=f"toss-{rate}")
        driver.run_here(run_dir)
        parts = shown.history([Attempt(number=1, run_dir=str(run_dir.path), resumed_from=None)])
        verdicts[rate] = {found.name: found for found in shown.detectors(parts).detectors}

    assert {found.verdict for found in verdicts[1e-6].values()} == {"clear"}
    found = verdicts[1e-2]["shrinking_diversity"]
    assert found.verdict == "found", found
    said = [shown.one(parts, sample.step, sample.index).completion for sample in found.samples]
    assert len(set(said)) < len(said)


def test_an_index_that_the_disk_does_not_take_costs_no_step(
    bench: Bench, talkative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(rollouts.index_of, "append", full)
    run_dir = bench.attempt(GROUPS, GRPO_ROWS, base=talkative)
    driver.run_here(run_dir)

    assert len(driver.rollouts(run_dir)) == 24
    assert index_of.open_groups(run_dir.samples / index_of.LINES)["step"].tolist() == [1, 1, 2, 2, 3, 3]
    notes = [event["message"] for event in driver.events(run_dir, "log")]
    assert "rollouts of step 3 are kept, but not in the index: no space left on device" in notes


def test_a_divergence_that_is_too_large_for_a_number_is_none_on_disk() -> None:
    found = rollouts.divergences([-900.0, -1.0], [0.0, -1.0, -5.0])

    assert found == [math.inf, 0.0]
    assert rollouts._short(found) == [None, 0.0]
    assert rollouts._short([0.123456, -12.3456, 1234567.0, 1.23456e-7]) == [0.123, -12.3, 1.23e6, 1.23e-7]
    assert rollouts.divergences(None, [0.0]) is None
