"""Proximal policy optimization through the engine; its formulas are in tests/numerics/test_ppo.py."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finery.core.errors import InvalidSpec
from finery.core.rundir import ResolvedInput
from finery.core.spec import Spec, parse
from finery.models import loading
from finery.training import rewards
from finery.training.specs import PpoSpec
from tests.training import driver
from tests.training.driver import GRPO_ROWS, Bench

FORM = {"name": "format", "params": {"pattern": r".*[0-4].*"}}
# A large epsilon keeps AdamW from blowing the rounding of gradients near zero up to whole steps.
TASK: dict[str, Any] = {
    "algorithm": "ppo",
    "optim": {"steps": 5, "learning_rate": 1e-3, "epsilon": 1e-3},
    "prompts_per_batch": 4,
    "rollout": {"completions_per_prompt": 2, "max_new_tokens": 6},
    "mini_batch_size": 4,
    "num_iterations": 2,
    "rewards": [FORM],
}
SPEC = {"model": {"base": "tiny-char"}, "data": {"train": "sums"}, **TASK}
LORA = {"model": {"lora": {"rank": 4}}}
SEPARATE = {"critic": {"kind": "separate", "learning_rate": 3e-3}}


@pytest.fixture
def add_reward(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Sequence[str]], list[float]]], None]:
    """Register a reward for the length of one test."""
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))

    def add(name: str, score: Callable[[Sequence[str]], list[float]]) -> None:
        def reward(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
            """For one test."""
            return score(completions)

        rewards.registry.register(name, params=Spec)(reward)

    return add


def _critic(run_dir: driver.RunDir, step: int) -> dict[str, torch.Tensor]:
    return load_file(driver.checkpoint(run_dir, step) / "critic" / "trained.safetensors")


@pytest.mark.parametrize("more", [{}, SEPARATE, {"whiten_rewards": True, "kl_estimator": "k3", "entropy_coef": 0.01}])
def test_micro_batches_change_neither_training_nor_metrics(bench: Bench, talkative: Path, more: dict[str, Any]) -> None:
    runs = []
    for size in (None, 1):
        task = {**TASK, **more, "micro_batch_size": size}
        runs.append(bench.attempt(task, GRPO_ROWS, name=f"micro-{size}", base=talkative))
        driver.run_here(runs[-1])

    expected, found = (driver.metrics(run_dir) for run_dir in runs)
    assert sorted(found) == [1, 2, 3, 4, 5]
    lengths = {record["length"] for record in driver.rollouts(runs[0])}
    assert len(lengths) > 2  # otherwise no padding was part of this
    for step, values in expected.items():
        assert values["grad_norm"] > 0
        assert found[step] == pytest.approx(values, rel=1e-4, abs=1e-5), step
    before, after = (driver.weights(run_dir, 5) | _critic(run_dir, 5) for run_dir in runs)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "more", [{"kl_target": 0.01, "kl_horizon": 50}, {**LORA, **SEPARATE}], ids=["full-shared", "lora-separate"]
)
def test_a_run_resumed_between_two_passes_ends_in_the_same_bytes(bench: Bench, more: dict[str, Any]) -> None:
    """A batch serves four steps: the checkpoint of step 6 lies within the second one."""
    optim = {"steps": 10, "learning_rate": 1e-3, "warmup_steps": 3, "schedule": "cosine", "weight_decay": 0.1}
    task = {**TASK, **more, "optim": optim, "micro_batch_size": 2}
    straight = bench.attempt(task, GRPO_ROWS, name="straight", checkpoint_interval=6)
    driver.run_here(straight)
    start = driver.checkpoint(straight, 6)
    resumed = bench.attempt(task, GRPO_ROWS, name="resumed", resume_from=start, checkpoint_interval=6)

    assert driver.run_child(resumed) == 0, driver.log_of(resumed)

    after = {step: values for step, values in driver.metrics(straight).items() if step > 6}
    assert driver.metrics(resumed) == after
    assert sorted(after) == [7, 8, 9, 10]
    assert all(values["grad_norm"] > 0 for values in after.values())
    ends = [driver.checkpoint(run_dir, 10) for run_dir in (resumed, straight)]
    names = [path.relative_to(ends[0]) for path in ends[0].rglob("*.safetensors")]
    assert len(names) == 2
    for name in names:
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes(), name
    assert any(not torch.equal(_critic(straight, 6)[name], tensor) for name, tensor in _critic(straight, 10).items())


def test_every_metric_is_there_at_its_step(bench: Bench, talkative: Path) -> None:
    run_dir = bench.attempt(TASK, GRPO_ROWS, base=talkative)

    driver.run_here(run_dir)

    steps = {event["step"]: event["values"] for event in driver.events(run_dir, "metrics")}
    of_steps = {
        *("loss", "grad_norm", "learning_rate", "policy_loss", "value_loss", "entropy", "approx_kl", "ratio_mean"),
        *("ratio_max", "clip_fraction", "value_clip_fraction", "tokens_seen", "seconds_per_step"),
        *("seconds_forward", "seconds_backward", "seconds_optimizer"),
    }
    of_batches = {
        *("reward_mean", "reward_std", "reward/format_mean", "reward/format_std", "reward_per_length", "kl_divergence"),
        *("kl_coef", "advantage_mean", "advantage_std", "value_mean", "value_std", "explained_variance"),
        *("response_length_mean", "response_length_p95", "response_truncated_fraction", "diversity_score"),
        *("generation_tokens_per_second", "rollout_logprob_gap_mean", "rollout_logprob_gap_max"),
        *("seconds_generating", "seconds_rewarding", "seconds_reference"),
    }
    assert of_steps | of_batches <= set(steps[1])
    assert of_steps <= set(steps[2])
    assert not of_batches & set(steps[2])
    assert of_batches <= set(steps[5])
    for step, values in steps.items():
        assert not [name for name in values if name.startswith("native/")]
        assert all(math.isfinite(value) for value in values.values()), step
    # The first pass over new rollouts is of the policy that drew them, and starts at the reference.
    assert steps[1]["kl_divergence"] == pytest.approx(0, abs=1e-5)
    assert steps[1]["ratio_mean"] == pytest.approx(1, abs=1e-5)
    assert steps[1]["clip_fraction"] == 0
    assert steps[1]["rollout_logprob_gap_max"] < 1e-4
    assert steps[4]["approx_kl"] > 1e-5
    assert steps[5]["kl_divergence"] != 0
    seconds = [value for name, value in steps[1].items() if name.startswith("seconds_") and name != "seconds_per_step"]
    assert sum(seconds) == pytest.approx(steps[1]["seconds_per_step"], rel=0.1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("lora", [True, False])
def test_actor_and_critic_learn_and_the_checkpoint_is_a_plain_policy(bench: Bench, lora: bool, shared: bool) -> None:
    task = {**TASK, **(LORA if lora else {}), **({} if shared else SEPARATE)}
    run_dir = bench.attempt(task, GRPO_ROWS, checkpoint_interval=1)

    driver.run_here(run_dir)

    first, last = _critic(run_dir, 1), _critic(run_dir, 5)
    assert (set(first) == {"head.weight"}) == shared
    assert lora == (not shared and any("lora" in name for name in first)) or shared
    assert all(not torch.equal(first[name], last[name]) for name in ("head.weight",))
    actors = [loading.load_model(driver.checkpoint(run_dir, step), dtype="float32").state_dict() for step in (1, 5)]
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(actors[0][name], actors[1][name])
    again = bench.attempt({**task, "optim": {"steps": 1}}, GRPO_ROWS, name="again", base=driver.checkpoint(run_dir, 5))
    driver.run_here(again)
    assert driver.metrics(again)[1]["kl_divergence"] == pytest.approx(0, abs=1e-5)


def test_actor_reference_and_generator_compute_in_the_same_numbers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mixed precision, as on hardware that computes in bfloat16: what is rounded in one place is rounded in all."""
    plain = loading.resolve_dtype
    monkeypatch.setattr(loading, "resolve_dtype", lambda name: torch.bfloat16 if name == "auto" else plain(name))
    run_dir = bench.attempt({**TASK, "optim": {"steps": 1}}, GRPO_ROWS)

    driver.run_here(run_dir)

    [values] = driver.metrics(run_dir).values()
    assert values["kl_divergence"] == pytest.approx(0, abs=1e-7)
    assert values["rollout_logprob_gap_max"] < 1e-4
    assert {tensor.dtype for tensor in driver.weights(run_dir, 1).values()} == {torch.float32}


def test_completions_that_stop_at_once_are_learned_from(bench: Bench) -> None:
    """The start has learned to say nothing: each completion is the stop token alone."""
    silent = bench.attempt(
        {"algorithm": "sft", "optim": {"steps": 30, "learning_rate": 3e-3}, "batch_size": 6},
        [{"prompt": row["prompt"], "response": ""} for row in GRPO_ROWS],
        name="silent",
    )
    driver.run_here(silent)
    run_dir = bench.attempt({**TASK, "rewards": [{"name": "exact"}]}, GRPO_ROWS, base=driver.checkpoint(silent, 30))

    driver.run_here(run_dir)

    steps = driver.metrics(run_dir)
    assert steps[1]["response_length_min"] == 1
    assert steps[1]["response_truncated_fraction"] == 0
    assert all(math.isfinite(value) for values in steps.values() for value in values.values())
    assert min(record["length"] for record in driver.rollouts(run_dir)) == 1


@pytest.mark.parametrize(("target", "is_higher"), [(1e-6, True), (1e3, False)])
def test_the_price_of_divergence_moves_towards_its_target(bench: Bench, target: float, is_higher: bool) -> None:
    """The first batch is of the reference itself: its divergence is below any target."""
    optim = {"steps": 12, "learning_rate": 1e-3}
    task = {**TASK, "optim": optim, "kl_estimator": "k2", "kl_target": target, "kl_horizon": 100, "kl_coef": 0.1}
    run_dir = bench.attempt(task, GRPO_ROWS)

    driver.run_here(run_dir)

    found = [values for values in driver.metrics(run_dir).values() if "kl_coef" in values]
    coefs = [values["kl_coef"] for values in found]
    factor = 0.2 * 8 / 100
    assert coefs[:2] == pytest.approx([0.1, 0.1 * (1 - factor)])
    assert found[1]["kl_divergence"] > 1e-5
    assert coefs[2] == pytest.approx(coefs[1] * (1 + factor if is_higher else 1 - factor))


def test_without_a_price_there_is_no_reference_and_none_can_be_set(bench: Bench) -> None:
    run_dir = bench.attempt({**TASK, "kl_coef": 0}, GRPO_ROWS)
    driver.order(run_dir, "set", kl_coef=0.1)

    driver.run_here(run_dir)

    [told] = driver.events(run_dir, "control_ack")
    assert told["outcome"] == "rejected"
    values = driver.events(run_dir, "metrics")[0]["values"]
    assert not {"kl_divergence", "kl_coef", "seconds_reference"} & set(values)


@pytest.mark.parametrize(
    ("name", "value"), [("kl_coef", 3.0), ("clip_low", 1e-6), ("clip_high", 1e-6), ("entropy_coef", 5.0)]
)
def test_a_live_setting_holds_from_the_next_step_on(bench: Bench, name: str, value: float) -> None:
    runs = [bench.attempt({**TASK, "optim": {"steps": 5, "learning_rate": 1e-3}}, GRPO_ROWS, name=one) for one in "ab"]
    driver.order(runs[1], "set", **{name: value})

    for run_dir in runs:
        driver.run_here(run_dir)

    [told] = driver.events(runs[1], "control_ack")
    assert told["outcome"] == "applied", told
    without, changed = (driver.metrics(run_dir) for run_dir in runs)
    assert changed[1] == without[1]
    if name == "kl_coef":
        assert changed[4] == without[4]  # the rewards of the present batch are there
        assert (without[5]["kl_coef"], changed[5]["kl_coef"]) == (0.05, 3.0)
    else:
        assert changed[2] != without[2]
        assert changed[2]["clip_fraction"] > without[2]["clip_fraction"] or name == "entropy_coef"


def test_a_completion_that_was_cut_off_pays_for_it(bench: Bench, talkative: Path) -> None:
    found = {}
    for penalty in (0.0, 2.0):
        task = {**TASK, "missing_eos_penalty": penalty, "whiten_advantages": False, "gae_lambda": 1.0, "kl_coef": 0.0}
        run_dir = bench.attempt(task, GRPO_ROWS, name=f"penalty-{penalty}", base=talkative)
        driver.run_here(run_dir)
        found[penalty] = [record for record in driver.rollouts(run_dir) if record["step"] == 1]

    assert {record["is_truncated"] for record in found[2.0]} == {True, False}
    for record in found[0.0]:
        assert record["advantage"] == pytest.approx(record["reward"])  # values start at 0
    for record in found[2.0]:
        assert record["advantage"] == pytest.approx(record["reward"] - 2.0 * record["is_truncated"])


def test_a_completion_without_a_reward_gets_no_gradient_and_is_in_no_mean(
    bench: Bench, talkative: Path, add_reward: Any
) -> None:
    add_reward("patchy", lambda completions: [math.nan, *[0.0, 1.0] * 3, 5.0])
    task = {**TASK, "rewards": [{"name": "patchy", "on_error": "skip"}], "mini_batch_size": None, "gae_lambda": 1.0}
    run_dir = bench.attempt(task, GRPO_ROWS, base=talkative)

    driver.run_here(run_dir)

    steps = driver.metrics(run_dir)
    assert steps[1]["reward_mean"] == pytest.approx(8 / 7)
    assert all(math.isfinite(value) for values in steps.values() for value in values.values())
    records = driver.rollouts(run_dir)
    assert (records[0]["reward"], records[0]["advantage"]) == (None, 0)
    assert records[7]["advantage"] > 0


def test_no_reward_at_all_leaves_the_weights_alone(bench: Bench, add_reward: Any) -> None:
    add_reward("broken", lambda completions: [math.nan] * len(completions))
    task = {**TASK, "optim": {"steps": 2}, "rewards": [{"name": "broken", "on_error": "skip"}]}
    run_dir = bench.attempt(task, GRPO_ROWS)

    driver.run_here(run_dir)

    assert [values["grad_norm"] for values in driver.metrics(run_dir).values()] == [0, 0]
    start = loading.load_model(loading.materialize(bench.model, driver.MODEL), dtype="float32").state_dict()
    for name, tensor in driver.weights(run_dir, 2).items():
        assert torch.equal(start[name], tensor), name


def test_rollouts_are_recorded_though_the_interval_falls_between_two_batches(bench: Bench) -> None:
    run_dir = bench.attempt({**TASK, "optim": {"steps": 8}}, GRPO_ROWS, sample_interval=6, samples_per_step=3)

    driver.run_here(run_dir)

    assert [record["step"] for record in driver.rollouts(run_dir)] == [5, 5, 5]


def test_a_critic_may_start_from_the_reward_model(bench: Bench) -> None:
    pairs = [{"prompt": row["prompt"], "chosen": row["answer"], "rejected": "?"} for row in GRPO_ROWS]
    scorer = bench.attempt({"algorithm": "reward", "optim": {"steps": 5, "learning_rate": 1e-3}}, pairs, name="scorer")
    driver.run_here(scorer)
    model = driver.checkpoint(scorer, 5)
    task = {
        **TASK,
        "optim": {"steps": 1, "learning_rate": 1e-9},
        "critic": {"kind": "separate", "start": "reward_model"},
        "rewards": [{"name": "reward_model", "params": {"model": "job:9/last", "dtype": "float32"}}],
    }
    scored_by = {"job:9/last": ResolvedInput(kind="checkpoint", path=str(model), sha256="")}
    run_dir = bench.attempt(task, GRPO_ROWS, more_inputs=scored_by)

    driver.run_here(run_dir)

    scores = loading.load_reward_model(model, dtype="float32").state_dict()
    found = _critic(run_dir, 1)
    torch.testing.assert_close(found["head.weight"], scores["score.weight"])
    for name, tensor in found.items():
        if name.startswith("trunk."):
            torch.testing.assert_close(tensor, scores[name.replace("trunk", "model", 1)])
    assert driver.metrics(run_dir)[1]["value_std"] > 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mini_batch_size": 3}, r"prompts_per_batch \* rollout.completions_per_prompt \(8\) must be a multiple of"),
        ({"micro_batch_size": 3}, r"mini_batch_size \(4\) must be a multiple of micro_batch_size \(3\)"),
        ({"kl_target": 0.1, "kl_coef": 0}, "kl_coef must start above 0"),
        ({"critic": {"start": "reward_model"}}, "needs critic.kind: separate"),
        ({"critic": {"kind": "separate", "start": "reward_model"}}, "needs a reward of that name"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_would(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        parse(PpoSpec, SPEC | settings)


def test_steps_and_completions_of_a_batch_are_counted() -> None:
    spec: PpoSpec = parse(PpoSpec, SPEC)

    assert (spec.num_completions, spec.steps_per_batch) == (8, 4)


@pytest.mark.parametrize("is_told", [True, False], ids=["true", "shuffled"])
def test_the_wanted_form_is_learned_and_nothing_is_from_shuffled_rewards(
    bench: Bench, talkative: Path, add_reward: Any, is_told: bool
) -> None:
    """One seed and seconds of training. The control hands the same rewards to other completions of the batch."""
    stream = random.Random(5)

    def form(completions: Sequence[str]) -> list[float]:
        scores = [float(text.isdigit()) for text in completions]
        return scores if is_told else stream.sample(scores, len(scores))

    add_reward("form", form)
    task = {
        "algorithm": "ppo",
        "optim": {"steps": 40, "learning_rate": 1e-3},
        "critic": {"learning_rate": 3e-3},
        "prompts_per_batch": 48,
        "mini_batch_size": 24,
        "num_iterations": 1,
        "rollout": {"max_new_tokens": 6},
        "kl_coef": 0.01,
        "rewards": [{"name": "form"}],
    }
    run_dir = bench.attempt(task, GRPO_ROWS, base=talkative, samples_per_step=0)

    driver.run_here(run_dir)

    found = [values["reward_mean"] for _, values in sorted(driver.metrics(run_dir).items()) if "reward_mean" in values]
    gain = fmean(found[-4:]) - fmean(found[:4])
    assert gain > 0.2 if is_told else gain < 0.1, found
