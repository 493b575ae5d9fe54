"""The algorithms that compare the completions of one prompt: what is drawn, measured and timed."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from finery.core.errors import InvalidSpec
from finery.core.spec import Spec, parse
from finery.models.generation import Completion
from finery.training import rewards, rollouts
from finery.training.rollouts import Rollout
from finery.training.specs import DapoSpec, GrpoSpec, RlooSpec
from finery.training.tally import Tally
from finery.training.trl.dapo import overlong_punishment, teaches_nothing
from finery.training.trl.phases import Phases
from tests.training import driver
from tests.training.driver import GRPO_ROWS, Bench

OPTIM = {"steps": 2, "learning_rate": 1e-3, "epsilon": 1e-3}
TASK: dict[str, Any] = {
    "optim": OPTIM,
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "num_iterations": 2,
    "rewards": [{"name": "format", "params": {"pattern": r".*[0-4].*"}}],
}
MEASURED = (
    *("loss", "grad_norm", "policy_loss", "entropy", "approx_kl", "ratio_mean", "ratio_max", "clip_fraction"),
    *("kl_divergence", "reward_mean", "advantage_std", "response_truncated_fraction", "diversity_score"),
)
SPEC = {"model": {"base": "tiny-char"}, "data": {"train": "sums"}, "rewards": [{"name": "exact"}]}


@pytest.fixture
def add_reward(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., list[float]]], None]:
    """Register a reward for the length of one test."""
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))

    def add(name: str, score: Callable[..., list[float]]) -> None:
        def reward(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
            """For one test."""
            return score(completions, rows)

        rewards.registry.register(name, params=Spec)(reward)

    return add


def _rollout(num_tokens: int, *scores: float, is_finished: bool = True, row: int = 0) -> Rollout:
    return Rollout(row, Completion(list(range(num_tokens)), [], is_finished), "x" * num_tokens, scores)


@pytest.mark.parametrize(
    "task",
    [
        {"algorithm": "gspo", "clip_low": 0.01, "clip_high": 0.01, "kl_coef": 0.1},
        {"algorithm": "dapo", "overlong": "mask"},
        {"algorithm": "dapo", "overlong": "soft", "overlong_buffer": 3},
        {"algorithm": "rloo", "kl_coef": 0.1, "mask_truncated": True, "normalize_advantages": True},
    ],
)
def test_micro_batches_change_neither_training_nor_metrics(bench: Bench, talkative: Path, task: dict[str, Any]) -> None:
    runs = []
    for name, size in (("whole", None), ("split", 2)):
        run_dir = bench.attempt({**TASK, **task, "micro_batch_size": size}, GRPO_ROWS, name=name, base=talkative)
        driver.run_here(run_dir)
        runs.append(run_dir)
    expected, found = (driver.metrics(run_dir) for run_dir in runs)

    assert any(values["grad_norm"] > 0 for values in expected.values())
    assert 0 < expected[1]["response_truncated_fraction"] < 1
    for step, values in expected.items():
        for name in set(MEASURED) & set(values):
            assert found[step][name] == pytest.approx(values[name], rel=1e-4, abs=1e-5), (step, name)
    before, after = (driver.weights(run_dir, 2) for run_dir in runs)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["grpo", "gspo", "rloo"])
def test_every_metric_of_the_policy_is_there_at_its_step(bench: Bench, talkative: Path, algorithm: str) -> None:
    run_dir = bench.attempt({"algorithm": algorithm, **TASK, "kl_coef": 0.1}, GRPO_ROWS, base=talkative)

    driver.run_here(run_dir)

    steps = {event["step"]: event["values"] for event in driver.events(run_dir, "metrics")}
    drawn = {
        *("reward_mean", "reward_std", "reward_min", "reward_max", "reward_per_length", "reward/format_mean"),
        *("advantage_mean", "advantage_std", "diversity_score", "generation_tokens_per_second", "tokens_per_second"),
        *(f"response_length_{name}" for name in ("mean", "min", "max", "p50", "p95")),
        *("response_truncated_fraction", "zero_std_fraction", "seconds_generating", "seconds_rewarding"),
        *("rollout_logprob_gap_mean", "rollout_logprob_gap_max"),
    }
    learned = {
        *("policy_loss", "entropy_loss", "entropy", "approx_kl", "clip_fraction", "ratio_mean", "ratio_max"),
        *("seconds_forward", "seconds_backward", "seconds_optimizer", "seconds_per_step", "kl_divergence"),
    }
    assert drawn | learned <= set(steps[1])
    assert learned <= set(steps[2])
    # The first pass over fresh rollouts is on-policy; the second is not.
    assert steps[1]["approx_kl"] == 0
    assert steps[1]["ratio_mean"] == 1
    assert steps[2]["approx_kl"] > 0
    assert steps[2]["ratio_max"] > 1
    assert steps[1]["rollout_logprob_gap_max"] < 1e-4
    assert "rollout_logprob_gap_max" not in steps[2]


def test_the_bonus_of_entropy_is_the_part_of_the_loss_that_it_is_said_to_be(bench: Bench) -> None:
    run_dir = bench.attempt({"algorithm": "grpo", **TASK, "entropy_coef": 0.02}, GRPO_ROWS)

    driver.run_here(run_dir)

    for values in driver.metrics(run_dir).values():
        assert values["loss"] == pytest.approx(values["policy_loss"] + values["entropy_loss"], abs=1e-6)
        assert values["entropy_loss"] == pytest.approx(-0.02 * values["entropy"], rel=0.05)
        assert values["entropy_loss"] < 0


@pytest.mark.parametrize("algorithm", ["sft", "rloo"])
def test_the_phases_of_a_step_add_up_to_the_step(bench: Bench, algorithm: str) -> None:
    sft = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4, "micro_batch_size": 2}
    rows = driver.SFT_ROWS if algorithm == "sft" else GRPO_ROWS
    run_dir = bench.attempt(sft if algorithm == "sft" else {"algorithm": "rloo", "kl_coef": 0.1, **TASK}, rows)

    driver.run_here(run_dir)

    for event in driver.events(run_dir, "metrics"):
        phases = {name: value for name, value in event["values"].items() if name.startswith("seconds_")}
        total = phases.pop("seconds_per_step")
        assert sum(phases.values()) == pytest.approx(total, abs=1e-3)
        expected = {"seconds_data", "seconds_forward", "seconds_backward", "seconds_optimizer"}
        if algorithm == "rloo" and event["step"] % 2:
            expected |= {"seconds_generating", "seconds_rewarding", "seconds_reference"}
        if event["step"] == 1:
            expected |= {"seconds_probing"}
        assert set(phases) == expected
        assert min(phases.values()) > 0


def test_a_phase_within_another_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 3.5, 7.0, 7.0])
    monkeypatch.setattr("finery.training.trl.phases.time.perf_counter", lambda: next(clock))
    phases = Phases()
    phases._on_cuda = False

    phases.enter("forward")
    with phases.during("generating"):
        pass
    phases.enter("backward")
    phases.enter(None)

    assert phases.take() == {"forward": 1.5, "generating": 2.0, "backward": 3.5}


def test_the_policy_is_measured_per_token_that_counts() -> None:
    """Two completions of 2 and 1 tokens; the fourth position is padding and must not matter."""
    logprobs, old = torch.tensor([[-1.0, -2.0], [-3.0, 9.0]]), torch.tensor([[-1.0, -2.5], [-2.0, -9.0]])
    mask = torch.tensor([[1, 1], [1, 0]])
    tally = Tally()

    rollouts.note_policy(
        tally,
        logprobs_BC=logprobs,
        old_logprobs_BC=old,
        mask_BC=mask,
        ratio_BX=(logprobs - old).exp(),
        ratio_mask_BX=mask,
    )
    rollouts.note_mismatch(tally, logprobs, old, mask)

    found = tally.take()
    assert found["approx_kl"] == pytest.approx((0 + math.expm1(0.5) - 0.5 + math.expm1(-1) + 1) / 3)
    assert found["ratio_mean"] == pytest.approx((1 + math.exp(0.5) + math.exp(-1)) / 3)
    assert found["ratio_max"] == pytest.approx(math.exp(0.5))
    assert found["rollout_logprob_gap_mean"] == pytest.approx(0.5)
    assert found["rollout_logprob_gap_max"] == 1
    assert tally.take() == {}


def test_rollouts_are_measured_and_one_without_a_reward_is_in_no_reward() -> None:
    drawn = [_rollout(length, float(length)) for length in (1, 2, 3, 4)]
    drawn.append(_rollout(8, math.nan, is_finished=False))
    tally = Tally()

    rollouts.note(tally, drawn, [2.0])

    found = tally.take()
    assert {name.removeprefix("response_length_"): found[name] for name in found if "response_length" in name} == {
        **{"mean": 3.6, "min": 1, "max": 8, "p50": 3, "p95": 8},
    }
    assert found["response_truncated_fraction"] == 0.2
    assert (found["reward_min"], found["reward_max"], found["reward_per_length"]) == (2, 8, 2)


@pytest.mark.parametrize(
    ("completions", "expected"),
    [
        ([[1, 2], [1, 2], [1], [2]], 3 / 4),  # shorter than four tokens: whole completions are compared
        ([[1, 2, 3, 4, 5], [9, 2, 3, 4, 5]], 3 / 4),  # 1234 2345 and 9234 2345
        ([[1] * 7], 1 / 4),
    ],
)
def test_diversity_is_the_share_of_different_ngrams(completions: list[list[int]], expected: float) -> None:
    assert rollouts.diversity(completions) == expected


def test_groups_of_equal_rewards_give_way_to_other_prompts(bench: Bench, add_reward: Any) -> None:
    """Only prompts that begin with 4 have a reward that tells completions apart: 1 of 6 rows."""

    def telling(completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        return [float(index % 2) if row["prompt"][0] == "4" else 1.0 for index, row in enumerate(rows)]

    add_reward("telling", telling)
    task = {**TASK, "algorithm": "dapo", "overlong": "keep", "num_iterations": 1, "rewards": [{"name": "telling"}]}
    runs = {}
    for rounds in (1, 40):
        run_dir = bench.attempt({**task, "dynamic_sampling_rounds": rounds}, GRPO_ROWS, name=f"rounds-{rounds}")
        driver.run_here(run_dir)
        runs[rounds] = driver.metrics(run_dir), driver.rollouts(run_dir)

    assert all(values["generation_rounds"] == 1 and values["groups_resampled"] == 0 for values in runs[1][0].values())
    assert max(values["zero_std_fraction"] for values in runs[1][0].values()) == 1
    for values in runs[40][0].values():
        assert values["zero_std_fraction"] == 0
        assert values["groups_resampled"] >= values["generation_rounds"] - 1
    assert max(values["generation_rounds"] for values in runs[40][0].values()) > 2
    assert {record["prompt"] for record in runs[40][1]} == {"40+8="}
    assert all(record["advantage"] != 0 for record in runs[40][1])


def test_rounds_end_and_what_is_still_equal_stays(bench: Bench) -> None:
    always = [{"name": "format", "params": {"pattern": "(?s).*"}}]
    task = {**TASK, "algorithm": "dapo", "rewards": always, "dynamic_sampling_rounds": 3, "num_iterations": 1}
    run_dir = bench.attempt({**task, "overlong": "keep"}, GRPO_ROWS)

    driver.run_here(run_dir)

    for values in driver.metrics(run_dir).values():
        assert (values["generation_rounds"], values["groups_resampled"], values["grad_norm"]) == (3, 4, 0)
        assert values["zero_std_fraction"] == 1


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 1, 1], True),
        ([1, 0, 1], False),
        ([1, math.nan, 1], True),
        ([0, math.nan, 1], False),
        ([math.nan] * 2, True),
    ],
)
def test_a_group_teaches_nothing_if_the_rewards_that_it_has_are_equal(scores: list[float], expected: bool) -> None:
    assert teaches_nothing([_rollout(3, score) for score in scores], [2.0]) is expected


@pytest.mark.parametrize(("length", "expected"), [(1, 0), (16, 0), (17, -0.25), (18, -0.5), (20, -1)])
def test_the_punishment_grows_over_the_buffer(length: int, expected: float) -> None:
    """A limit of 20 tokens and a buffer of 4: free up to 16."""
    assert overlong_punishment(length, limit=20, buffer=4) == expected


def test_the_punishment_is_a_part_of_the_reward_with_a_name(bench: Bench, talkative: Path) -> None:
    task = {**TASK, "algorithm": "dapo", "overlong": "soft", "overlong_buffer": 3, "num_iterations": 1}
    run_dir = bench.attempt(task, GRPO_ROWS, base=talkative)

    driver.run_here(run_dir)

    records = driver.rollouts(run_dir)
    assert {record["length"] > 3 for record in records} == {True, False}
    for record in records:
        assert record["rewards"]["overlong"] == -max(0, record["length"] - 3) / 3
        assert record["reward"] == record["rewards"]["format"] + record["rewards"]["overlong"]


def test_a_truncated_completion_that_carries_no_loss_is_recorded_all_the_same(bench: Bench, talkative: Path) -> None:
    run_dir = bench.attempt({**TASK, "algorithm": "rloo", "mask_truncated": True}, GRPO_ROWS, base=talkative)

    driver.run_here(run_dir)

    cut = [record for record in driver.rollouts(run_dir) if record["is_truncated"]]
    assert cut
    assert {record["length"] for record in cut} == {6}
    assert all(record["completion"] for record in cut)


def test_completions_without_a_reward_do_not_move_the_policy(bench: Bench, add_reward: Any) -> None:
    """The second half of each group fails; with its tokens out of the loss it might as well have said anything."""

    def half(completions: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        return [float(at % 2) if at % 4 < 2 else math.nan for at in range(len(rows))]

    add_reward("half", half)
    task = {**TASK, "algorithm": "grpo", "kl_coef": 0.1, "rewards": [{"name": "half", "on_error": "skip"}]}
    run_dir = bench.attempt(task, GRPO_ROWS)

    driver.run_here(run_dir)

    steps = driver.metrics(run_dir)
    assert steps[1]["reward_mean"] == 0.5
    assert steps[1]["grad_norm"] > 0
    records = [record for record in driver.rollouts(run_dir) if record["step"] == 1]
    assert [record["reward"] for record in records[:4]] == [0, 1, None, None]
    assert [record["advantage"] for record in records[2:4]] == [0, 0]
    # Rewards 0 and 1 have deviation sqrt(1/2).
    assert [record["advantage"] for record in records[:2]] == pytest.approx([-0.7071, 0.7071], rel=1e-3)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_a_long_completion_without_a_reward_makes_nothing_infinite(
    bench: Bench, add_reward: Any, algorithm: str
) -> None:
    """Forty tokens of an untrained model are worth some 140 nats: a ratio of that is more than float32 holds."""
    add_reward("half", lambda completions, rows: [float(at % 2) if at % 4 < 2 else math.nan for at in range(len(rows))])
    task = {
        **{**TASK, "algorithm": algorithm, "kl_coef": 0.1, "rewards": [{"name": "half", "on_error": "skip"}]},
        "rollout": {"completions_per_prompt": 4, "max_new_tokens": 40},
        "num_iterations": 1,
    }
    run_dir = bench.attempt(task, GRPO_ROWS)

    driver.run_here(run_dir)

    for values in driver.metrics(run_dir).values():
        assert values["response_length_max"] == 40
        assert values["grad_norm"] > 0
        assert all(math.isfinite(value) for value in values.values())
    assert all(tensor.isfinite().all() for tensor in driver.weights(run_dir, 2).values())


def test_training_all_weights_from_an_adapter_begins_at_its_own_reference(bench: Bench) -> None:
    """The reference is what the adapter was folded into, and not the model before it."""
    sft = {"algorithm": "sft", "optim": {"steps": 8, "learning_rate": 1e-2}, "batch_size": 6}
    adapter = bench.attempt({**sft, "model": {"lora": {"rank": 8}}}, driver.SFT_ROWS, name="adapter")
    driver.run_here(adapter)
    task = {**TASK, "algorithm": "grpo", "kl_coef": 0.1, "num_iterations": 1, "optim": {**OPTIM, "steps": 4}}
    run_dir = bench.attempt(task, GRPO_ROWS, base=driver.checkpoint(adapter, 8))

    driver.run_here(run_dir)

    kl = [values["kl_divergence"] for _, values in sorted(driver.metrics(run_dir).items())]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[-1] > 1e-4


def test_the_reference_model_moves_after_the_policy(bench: Bench) -> None:
    """With the policy itself as the new reference after each step, every step begins at distance zero."""
    task = {**TASK, "algorithm": "grpo", "kl_coef": 0.1, "num_iterations": 1, "optim": {**OPTIM, "steps": 3}}
    kl = {}
    for name, more in (
        ("fixed", {}),
        ("synced", {"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 1.0}),
    ):
        run_dir = bench.attempt({**task, **more}, GRPO_ROWS, name=name)
        driver.run_here(run_dir)
        kl[name] = [values["kl_divergence"] for _, values in sorted(driver.metrics(run_dir).items())]

    assert kl["fixed"][0] == 0
    assert min(kl["fixed"][1:]) > 1e-3
    assert kl["synced"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        (GrpoSpec, {"algorithm": "grpo", "sync_ref_model": True}, "set kl_coef"),
        (
            RlooSpec,
            {
                **{"algorithm": "rloo", "sync_ref_model": True, "kl_coef": 0.1},
                "model": {"base": "tiny-char", "lora": {"rank": 4}},
            },
            "with its adapter switched off; remove one of the two",
        ),
        (GrpoSpec, {"algorithm": "grpo", "max_ratio": 1.1}, "must be above 1 . clip_high"),
        (GrpoSpec, {"algorithm": "grpo", "max_ratio": 5, "loss_type": "cispo"}, "remove max_ratio"),
        (DapoSpec, {"algorithm": "dapo", "overlong_buffer": 3}, "is for overlong: soft"),
        (DapoSpec, {"algorithm": "dapo", "overlong": "soft", "overlong_buffer": 97}, "at most rollout.max_new_tokens"),
        (DapoSpec, {"algorithm": "dapo", "kl_coef": 0.1}, "kl_coef"),
        (RlooSpec, {"algorithm": "rloo", "loss_type": "grpo"}, "loss_type"),
    ],
)
def test_a_form_takes_only_what_its_algorithm_has(kind: type[Spec], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        parse(kind, SPEC | settings)


@pytest.mark.parametrize(("step", "num_steps", "is_due"), [(10, 1, True), (9, 1, False), (9, 2, True), (11, 2, False)])
def test_rollouts_are_recorded_when_one_of_their_steps_is_due(step: int, num_steps: int, is_due: bool) -> None:
    assert rollouts.is_due(step, num_steps, 10) is is_due
