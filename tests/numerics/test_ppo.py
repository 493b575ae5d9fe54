"""PPO: each formula against an example worked by hand, and a whole update against TRL 1.12.0.

TRL's numbers are made by reference/ppo_trl_1_12.py. Its conventions differ from ours in these points, and the tests
say how they are bridged:

* After a completion that ended early TRL counts one more step, behind the stop token, which carries the score and has a
  value of its own; here the score belongs to the stop token. Completions of full length have no such step, so a whole
  update agrees on them; on the others the formulas agree under TRL's own masks.
* TRL divides by a temperature that is larger by 1e-7, and does not clip gradients.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

from finery.core import checkpoints
from finery.core.spec import Spec
from finery.models import loading
from finery.models.generation import Completion
from finery.training import rewards
from finery.training.trl import ppo, ppo_math, ppo_model
from tests.training import driver
from tests.training.driver import Bench

TRL = json.loads((Path(__file__).parent / "reference" / "ppo_trl_1_12.json").read_text())
NUM_STEPS = 4
OFF = 1e9
"""Stands at masked places: were it looked at, everything would be wrong."""


def _tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _assert_close(found: torch.Tensor, expected: Any, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found.double(), _tensor(expected), rtol=tolerance, atol=tolerance)


def test_the_divergence_of_a_token_matches_the_worked_example() -> None:
    """p = 0.5 and p_reference = 0.25, so r = 0.5: log 2, (log 2)^2 / 2, and 0.5 - 1 + log 2."""
    own, reference = _tensor([[0.5]]).log(), _tensor([[0.25]]).log()

    _assert_close(ppo_math.kl_estimates(own, reference, "k1"), [[0.6931471806]])
    _assert_close(ppo_math.kl_estimates(own, reference, "k2"), [[0.2402265070]])
    _assert_close(ppo_math.kl_estimates(own, reference, "k3"), [[0.1931471806]])


def test_two_estimators_have_the_divergence_as_their_mean() -> None:
    """KL((1/2, 1/2) | (1/4, 3/4)) = (log 2 + log 2/3) / 2 = 0.1438410362; both tokens are drawn half of the time."""
    own, reference = _tensor([[0.5, 0.5]]).log(), _tensor([[0.25, 0.75]]).log()

    assert ppo_math.kl_estimates(own, reference, "k1").mean().item() == pytest.approx(0.1438410362)
    assert ppo_math.kl_estimates(own, reference, "k3").mean().item() == pytest.approx(0.1438410362)
    assert ppo_math.kl_estimates(own, reference, "k2").mean().item() != pytest.approx(0.1438410362, rel=0.01)


def test_the_score_is_paid_at_the_last_token_and_the_divergence_at_each() -> None:
    mask_BC = _tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    kl_BC = _tensor([[0.1, 0.2, 0.3], [0.4, OFF, OFF], [OFF, OFF, OFF]])

    found = ppo_math.token_rewards(_tensor([1.0, 2.0, 5.0]), kl_BC, mask_BC, 0.5)

    _assert_close(found, [[-0.05, -0.1, 0.85], [1.8, 0, 0], [0, 0, 0]])


def test_advantages_match_the_worked_example() -> None:
    """gamma = lambda = 1/2, so that advantages are handed on by 1/4.

    From the end of the first row: delta 2 - 1.5 = 0.5; 0 + 0.75 - 1 = -0.25; 1 + 0.5 - 0.5 = 1. Advantages 0.5;
    -0.25 + 0.125 = -0.125; 1 - 0.03125 = 0.96875. The second row has one token: 3 - 1 = 2.
    """
    rewards_BC = _tensor([[1, 0, 2], [3, OFF, OFF]])
    values_BC = _tensor([[0.5, 1, 1.5], [1, OFF, OFF]])
    mask_BC = _tensor([[1, 1, 1], [1, 0, 0]])

    advantages_BC, returns_BC = ppo_math.gae(rewards_BC, values_BC, mask_BC, gamma=0.5, gae_lambda=0.5)

    _assert_close(advantages_BC, [[0.96875, -0.125, 0.5], [2, 0, 0]])
    _assert_close(returns_BC, [[1.46875, 0.875, 2], [3, 0, 0]])


def test_with_lambda_one_the_returns_are_the_rewards_to_come_whatever_the_critic_says() -> None:
    """gamma = 0.9: 1 + 0.9 * 2 + 0.81 * 4 = 6.04; 2 + 0.9 * 4 = 5.6; 4."""
    rewards_BC, mask_BC = _tensor([[1, 2, 4]]), torch.ones(1, 3)

    for values in ([[0.0, 0.0, 0.0]], [[3.0, -1.0, 7.0]]):
        _, returns_BC = ppo_math.gae(rewards_BC, _tensor(values), mask_BC, gamma=0.9, gae_lambda=1.0)
        _assert_close(returns_BC, [[6.04, 5.6, 4]])


def test_whitening_matches_the_worked_example() -> None:
    """1, 2, 3, 6 have mean 3 and squared deviations 4 + 1 + 0 + 9 = 14, so a deviation of sqrt(14 / 3) = 2.160247."""
    values_BC, mask_BC = _tensor([[1, 2, 3], [6, OFF, OFF]]), _tensor([[1, 1, 1], [1, 0, 0]])
    expected = _tensor([[-0.9258201, -0.4629100, 0], [1.3887301, 0, 0]])

    _assert_close(ppo_math.whiten(values_BC, mask_BC), expected.tolist(), 1e-7)
    _assert_close(ppo_math.whiten(values_BC, mask_BC, shift_mean=False), ((expected + 3) * mask_BC).tolist(), 1e-7)


@pytest.mark.parametrize("mask", [[[1, 1]], [[1, 0]], [[0, 0]]])
def test_whitening_equal_values_gives_no_nan(mask: list[list[int]]) -> None:
    found = ppo_math.whiten(_tensor([[0.7, 0.7]]), _tensor(mask))

    _assert_close(found, [[0, 0]], 1e-6)


def test_the_policy_loss_matches_the_worked_example_and_clipped_tokens_get_no_gradient() -> None:
    """Ratios 1.5 and 0.5 with advantages 2 and -2; clipped to 1.3 and 0.8.

    max(-3, -2.6) = -2.6 clipped; max(3, 2.6) = 3; max(-1, -1.6) = -1; max(1, 1.6) = 1.6 clipped.
    """
    logprobs_BC = _tensor([[1.5, 1.5, 0.5, 0.5]]).log().requires_grad_()

    losses_BC, is_clipped_BC = ppo_math.policy_losses(
        logprobs_BC, torch.zeros(1, 4), _tensor([[2, -2, 2, -2]]), clip_low=0.2, clip_high=0.3
    )
    losses_BC.sum().backward()

    _assert_close(losses_BC.detach(), [[-2.6, 3, -1, 1.6]])
    assert is_clipped_BC.tolist() == [[True, False, False, True]]
    assert logprobs_BC.grad is not None
    _assert_close(logprobs_BC.grad, [[0, 3, -1, 0]])  # -A * ratio


def test_the_value_loss_matches_the_worked_example_and_clipped_values_get_no_gradient() -> None:
    """Value 2, before 1, may move by 0.5: to 1.5.

    Return 3: max(1, 2.25) / 2 = 1.125, clipped. Return 0: max(4, 2.25) / 2 = 2.
    """
    values_BC = _tensor([[2, 2]]).requires_grad_()

    losses_BC, is_clipped_BC = ppo_math.value_losses(values_BC, torch.ones(1, 2), _tensor([[3, 0]]), 0.5)
    losses_BC.sum().backward()

    _assert_close(losses_BC.detach(), [[1.125, 2]])
    assert is_clipped_BC.tolist() == [[True, False]]
    assert values_BC.grad is not None
    _assert_close(values_BC.grad, [[0, 2]])
    plain_BC, is_clipped_BC = ppo_math.value_losses(values_BC.detach(), torch.ones(1, 2), _tensor([[3, 0]]), None)
    _assert_close(plain_BC, [[0.5, 2]])
    assert not is_clipped_BC.any()


def test_the_coefficient_of_the_divergence_matches_the_worked_example() -> None:
    """64 of 640 completions are a gain of 0.1. 0.3 against 0.1 is +200 %, cut to 20 %; 0.09 is -10 %."""
    settings = {"target": 0.1, "horizon": 640, "num_completions": 64}

    assert ppo_math.adapted_kl_coef(0.1, 0.3, **settings) == pytest.approx(0.1 * 1.02)
    assert ppo_math.adapted_kl_coef(0.1, 0.09, **settings) == pytest.approx(0.1 * 0.99)
    assert ppo_math.adapted_kl_coef(0.1, -1.0, **settings) == pytest.approx(0.1 * 0.98)
    assert ppo_math.adapted_kl_coef(0.1, 0.1, **settings) == pytest.approx(0.1)


def test_explained_variance_matches_the_worked_example() -> None:
    """Returns 1..4 have variance 1.25; what is left, 0 0 0 2, has 0.75: 1 - 0.6 = 0.4."""
    mask_BC = _tensor([[1, 1, 1, 1, 0]])
    returns_BC = _tensor([[1, 2, 3, 4, OFF]])

    assert ppo_math.explained_variance(_tensor([[1, 2, 3, 2, 0]]), returns_BC, mask_BC) == pytest.approx(0.4)
    assert ppo_math.explained_variance(returns_BC - 7, returns_BC, mask_BC) == pytest.approx(1)


def test_formulas_agree_with_trl_on_completions_of_mixed_length() -> None:
    """With k3 and whitened rewards. TRL's masks have its step behind the stop token; see above."""
    found, settings = TRL["mixed"], TRL["settings"]
    own, reference = _tensor(found["logprobs"]), _tensor(found["ref_logprobs"])
    tokens_BC, steps_BC = (1 - _tensor(found[name]) for name in ("padding_mask", "padding_mask_p1"))
    assert (steps_BC - tokens_BC).sum() == 12  # of 16 completions 4 have full length

    kl_BC = ppo_math.kl_estimates(own, reference, "k3")
    rewards_BC = ppo_math.token_rewards(_tensor(found["scores"]), kl_BC, steps_BC, settings["kl_coef"])
    whitened_BC = ppo_math.whiten(rewards_BC, steps_BC, shift_mean=False)
    advantages_BC, returns_BC = ppo_math.gae(
        whitened_BC, _tensor(found["values"]), steps_BC, gamma=settings["gamma"], gae_lambda=settings["lam"]
    )

    of_rewards, of_advantages = found["whitened"]
    _assert_close(kl_BC, found["kl"], 1e-6)
    _assert_close(rewards_BC, of_rewards["before"], 1e-6)
    _assert_close(whitened_BC, (_tensor(of_rewards["after"]) * steps_BC).tolist(), 1e-5)
    _assert_close(advantages_BC, of_advantages["before"], 1e-5)
    _assert_close(returns_BC, found["returns"], 1e-5)
    after_BC = _tensor(of_advantages["after"]) * tokens_BC
    _assert_close(ppo_math.whiten(advantages_BC, tokens_BC), after_BC.tolist(), 1e-5)


def _waved(model: PreTrainedModel, phase: float) -> PreTrainedModel:
    """The weights of the reference script."""
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
            if parameter.dim() > 1:
                steps = torch.arange(parameter.numel(), dtype=torch.float64)
                parameter.copy_((0.4 * torch.sin(steps * 1.7 + number + phase)).view_as(parameter))
    return model


def _as_checkpoint(model: PreTrainedModel, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    checkpoints.seal(folder, engine="trl", format="hf-trainer", step=1, attempt=1, world_size=1, now=0.0)
    return folder


@pytest.fixture
def as_trl(monkeypatch: pytest.MonkeyPatch) -> list[ppo.Batch]:
    """TRL's rollouts, scores, orders, models; gives the batches that the trainer made."""
    given, config = TRL["full"], TRL["shape"]
    completions = [Completion(token_ids=ids, logprobs=[0.0] * len(ids)) for ids in given["completions"]]
    scores = [score + TRL["settings"]["missing_eos_penalty"] for score in given["scores"]]

    def known(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
        """The reward model's scores."""
        return scores

    critic = _waved(Qwen3ForSequenceClassification(Qwen3Config(**config, num_labels=1)), 1.1)
    reference = _waved(Qwen3ForCausalLM(Qwen3Config(**config)), 0.3)
    build: Callable[..., Any] = ppo_model.actor_critic
    orders, batches = iter(given["orders"]), []
    make = ppo.FineryPpoTrainer._draw_batch
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))
    rewards.registry.register("known", params=Spec)(known)
    monkeypatch.setattr(ppo, "generate", lambda *_, **__: completions)
    monkeypatch.setattr(ppo.data, "prompts", lambda *_, **__: given["prompts"])
    monkeypatch.setattr(
        ppo, "actor_critic", lambda model, lora, **_: build(model, lora, is_separate=True, reward_model=critic)
    )
    monkeypatch.setattr(ppo, "Reference", lambda model: _Frozen(reference))
    monkeypatch.setattr(ppo.FineryPpoTrainer, "_shuffled", lambda self: torch.tensor(next(orders)))
    monkeypatch.setattr(
        ppo.FineryPpoTrainer, "_draw_batch", lambda self, step: batches.append(make(self, step)) or batches[-1]
    )
    return batches


class _Frozen(ppo_model.Reference):
    """TRL's reference, which is not the start of its actor."""

    def __init__(self, model: PreTrainedModel):
        self._copy = model


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_a_whole_update_agrees_with_trl(
    bench: Bench, tmp_path: Path, as_trl: list[ppo.Batch], micro_batch_size: int | None
) -> None:
    """Two passes over sixteen completions in mini batches of eight: advantages, losses, gradients, weights."""
    expected, settings = TRL["full"], TRL["settings"]
    actor = _waved(Qwen3ForCausalLM(Qwen3Config(**TRL["shape"])), 0.0)
    tokenizer = AutoTokenizer.from_pretrained(loading.materialize(bench.model, driver.MODEL))
    task = {
        "algorithm": "ppo",
        "optim": {
            "steps": NUM_STEPS,
            "learning_rate": settings["learning_rate"],
            "epsilon": settings["adam_epsilon"],
            "max_grad_norm": 0,
        },
        "data": {"shuffle": False},
        "rewards": [{"name": "known"}],
        "rollout": {"max_new_tokens": 5, "temperature": settings["temperature"]},
        "prompts_per_batch": 16,
        "mini_batch_size": 8,
        "micro_batch_size": micro_batch_size,
        "num_iterations": settings["num_ppo_epochs"],
        "gamma": settings["gamma"],
        "gae_lambda": settings["lam"],
        "clip_low": settings["cliprange"],
        "clip_high": settings["cliprange"],
        "value_clip": settings["cliprange_value"],
        "value_coef": settings["vf_coef"],
        "kl_coef": settings["kl_coef"],
        "missing_eos_penalty": settings["missing_eos_penalty"],
    }
    rows = [{"prompt": f"{number}"} for number in range(16)]
    base = _as_checkpoint(actor, tokenizer, tmp_path / "base")
    run_dir = bench.attempt(task, rows, base=base)

    driver.run_here(run_dir)

    [batch] = as_trl
    _assert_close(batch.old_BC, expected["logprobs"], 1e-5)
    _assert_close(batch.values_BC, expected["values"], 1e-5)
    _assert_close(batch.returns_BC, expected["returns"], 1e-5)
    _assert_close(batch.advantages_BC, expected["whitened"][0]["after"], 1e-5)
    steps = driver.metrics(run_dir)
    assert steps[1]["kl_divergence"] == pytest.approx(_tensor(expected["kl"]).mean().item(), rel=1e-5)
    names = {
        "policy_loss": "pg_loss",
        "value_loss": "vf_loss",
        "clip_fraction": "pg_clipfrac",
        "value_clip_fraction": "vf_clipfrac",
        "entropy": "entropy",
    }
    assert max(expected["steps"]["pg_clipfrac"]) > 0.5
    for step in range(NUM_STEPS):
        found = steps[step + 1]
        assert found["grad_norm"] == pytest.approx(expected["grad_norms"][step], rel=1e-3), step
        for name, theirs in names.items():
            assert found[name] == pytest.approx(expected["steps"][theirs][step], rel=1e-3, abs=1e-4), (step, name)
    _assert_same_weights(driver.checkpoint(run_dir, NUM_STEPS), expected["weights"])


def _assert_same_weights(folder: Path, expected: dict[str, Any]) -> None:
    found = {f"policy.{name}": tensor for name, tensor in driver.load_file(folder / "model.safetensors").items()}
    for name, tensor in driver.load_file(folder / "critic" / "trained.safetensors").items():
        theirs = "score.weight" if name == "head.weight" else name.replace("trunk", "model", 1)
        found[f"value_model.{theirs}"] = tensor
    assert sorted(found) == sorted(expected)
    for name, tensor in found.items():
        _assert_close(tensor, expected[name], 2e-4)
