"""RLOO against values worked by hand and against REINFORCE on a plain forward pass (arXiv:2402.14740)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from finery.core.spec import Spec
from finery.models import loading
from finery.training import rewards
from finery.training.trl.rloo import FineryRlooTrainer
from tests.training import driver
from tests.training.driver import GRPO_ROWS, Bench

SCORES = [0, 1, 2, 5, 1, 1, 1, 1]
KL_COEF = 0.5
RLOO = {
    "algorithm": "rloo",
    "optim": {"steps": 2, "learning_rate": 1e-3, "max_grad_norm": 0},
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "rewards": [{"name": "known"}],
}


@pytest.fixture(autouse=True)
def _known_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))

    @rewards.registry.register("known", params=Spec)
    def known(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
        """Known scores, whatever was written."""
        return [float(score) for score in SCORES]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """What the loss of each step was computed from."""
    found: list[dict[str, torch.Tensor]] = []
    compute = FineryRlooTrainer._compute_loss

    def spied(self: Any, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        found.append(dict(inputs))
        return compute(self, model, inputs)

    monkeypatch.setattr(FineryRlooTrainer, "_compute_loss", spied)
    return found


def _plain_logprobs(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Log-probability of each completion, one row at a time and without padding."""
    sums = []
    for row in range(len(inputs["advantages"])):
        prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()]
        completion = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()]
        ids = torch.cat([prompt, completion])
        logprobs = model(ids[None]).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        sums.append(logprobs.gather(1, completion[:, None]).sum())
    return torch.stack(sums)


def _start(bench: Bench) -> torch.nn.Module:
    return loading.load_model(loading.materialize(bench.model, driver.MODEL), dtype="float32")


def test_the_baseline_is_the_mean_of_the_others(bench: Bench) -> None:
    run_dir = bench.attempt(RLOO, GRPO_ROWS)

    driver.run_here(run_dir)

    # Of 0 1 2 5 the others' means are 8/3, 7/3, 2 and 1.
    first = [record["advantage"] for record in driver.rollouts(run_dir) if record["step"] == 1]
    assert first == pytest.approx([-8 / 3, -4 / 3, 0, 4, 0, 0, 0, 0])


def test_normalized_advantages_have_mean_0_and_deviation_1(bench: Bench) -> None:
    run_dir = bench.attempt({**RLOO, "normalize_advantages": True}, GRPO_ROWS)

    driver.run_here(run_dir)

    # Squares 64/9 + 16/9 + 16 = 224/9; over 7, deviation 1.885618. TRL adds 1e-4 to it.
    first = [record["advantage"] for record in driver.rollouts(run_dir) if record["step"] == 1]
    assert first == pytest.approx([-1.414214, -0.707107, 0, 2.121320, 0, 0, 0, 0], rel=1e-3)


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_the_gradient_is_that_of_reinforce_on_whole_completions(
    bench: Bench, seen: list[dict[str, torch.Tensor]], micro_batch_size: int | None
) -> None:
    run_dir = bench.attempt({**RLOO, "micro_batch_size": micro_batch_size}, GRPO_ROWS)
    driver.run_here(run_dir)
    num_parts = 1 if micro_batch_size is None else 4
    model = _start(bench)

    for inputs in seen[:num_parts]:
        loss = -(inputs["advantages"] * _plain_logprobs(model, inputs)).sum() / len(SCORES)
        loss.backward()

    norm = torch.stack([weight.grad.norm() for weight in model.parameters() if weight.grad is not None]).norm()
    assert norm > 1
    assert driver.metrics(run_dir)[1]["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_the_log_ratio_to_the_start_is_taken_off_the_reward(bench: Bench, seen: list[dict[str, torch.Tensor]]) -> None:
    """At the second step the policy has left the start. TRL shuffles a batch, so rows are found by advantage."""
    run_dir = bench.attempt({**RLOO, "kl_coef": KL_COEF}, GRPO_ROWS, checkpoint_interval=1)
    driver.run_here(run_dir)
    inputs = seen[1]
    after = loading.load_model(driver.checkpoint(run_dir, 1), dtype="float32")

    with torch.no_grad():
        log_ratio = _plain_logprobs(after, inputs) - _plain_logprobs(_start(bench), inputs)

    order = _order_of_scores(run_dir, inputs)
    scores = torch.tensor([SCORES[at] for at in order]) - KL_COEF * log_ratio
    expected = []
    for row in range(len(SCORES)):
        others = [other for other in range(len(SCORES)) if other != row and order[other] // 4 == order[row] // 4]
        expected.append(scores[row] - scores[others].mean())
    assert log_ratio.abs().max() > 0.1
    torch.testing.assert_close(inputs["advantages"], torch.stack(expected), rtol=1e-3, atol=1e-3)


def _order_of_scores(run_dir: driver.RunDir, inputs: dict[str, torch.Tensor]) -> list[int]:
    """Place of each shuffled row in the order of drawing, by its advantage."""
    drawn = [record["advantage"] for record in driver.rollouts(run_dir) if record["step"] == 2]
    assert len(set(drawn)) == len(drawn) == 8
    return [drawn.index(advantage) for advantage in inputs["advantages"].tolist()]
