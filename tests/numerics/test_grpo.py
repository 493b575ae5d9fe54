"""GRPO against values worked by hand and against a plain forward pass."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

from finery.core.spec import Spec
from finery.models import loading
from finery.training import rewards
from finery.training.trl.logprobs import completion_logprobs
from tests.training import driver
from tests.training.driver import GRPO_ROWS, Bench

GRPO = {
    "algorithm": "grpo",
    "optim": {"steps": 2, "learning_rate": 1e-3},
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
}
RESPONSE_LENGTHS = (5, 1, 3, 5, 4, 2)
PROMPT_OF_ROW = (0, 0, 1, 0, 2, 2)
PROMPTS = ([9, 10, 11, 12, 13], [20, 21], [30, 31, 32])


def _reward(scores: Sequence[float]) -> Callable[..., list[float]]:
    def fixed(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
        """Known scores, whatever was written."""
        assert len(completions) == len(scores)
        return list(scores)

    return fixed


@pytest.fixture
def add_reward(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Sequence[float]], None]:
    """Register a reward for the length of one test."""
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))
    return lambda name, scores: rewards.registry.register(name, params=Spec)(_reward(scores))


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
@pytest.mark.parametrize("num_iterations", [1, 2])
def test_groups_of_equal_rewards_give_no_gradient(bench: Bench, scale_rewards: str, num_iterations: int) -> None:
    task = {**GRPO, "scale_rewards": scale_rewards, "num_iterations": num_iterations}
    always = [{"name": "format", "params": {"pattern": r"(?s).*"}}]
    run_dir = bench.attempt({**task, "rewards": always}, GRPO_ROWS)

    driver.run_here(run_dir)

    steps = driver.metrics(run_dir)
    assert steps[1]["reward_mean"] == 1
    assert steps[1]["zero_std_fraction"] == 1
    assert [values["grad_norm"] for values in steps.values()] == [0, 0]
    start = loading.load_model(loading.materialize(bench.model, driver.MODEL), dtype="float32").state_dict()
    for name, tensor in driver.weights(run_dir, 2).items():
        assert torch.equal(start[name], tensor), name


@pytest.mark.parametrize(
    ("scale_rewards", "expected"),
    [
        # Rewards 0 1 2 5 have mean 2, squared deviations 4+1+0+9 = 14, deviation sqrt(14/3) = 2.160247.
        ("group", [-0.925820, -0.462910, 0, 1.388730, 0, 0, 0, 0]),
        # All eight have mean 1.5, squared deviations 2.25+0.25+0.25+12.25+4*0.25 = 16, deviation sqrt(16/7) = 1.511858.
        ("batch", [-1.322876, -0.661438, 0, 1.984313, 0, 0, 0, 0]),
        ("none", [-2, -1, 0, 3, 0, 0, 0, 0]),
    ],
)
def test_advantages_match_the_worked_example(
    bench: Bench, add_reward: Any, scale_rewards: str, expected: list[float]
) -> None:
    add_reward("known", [0, 1, 2, 5, 1, 1, 1, 1])
    task = {**GRPO, "scale_rewards": scale_rewards, "rewards": [{"name": "known"}]}
    run_dir = bench.attempt(task, GRPO_ROWS)

    driver.run_here(run_dir)

    records = [record for record in driver.rollouts(run_dir) if record["step"] == 1]
    assert [record["reward"] for record in records] == [0, 1, 2, 5, 1, 1, 1, 1]
    assert [record["group"] for record in records] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len({record["prompt"] for record in records[:4]}) == len({record["prompt"] for record in records[4:]}) == 1
    # TRL adds 1e-4 to the deviation.
    assert [record["advantage"] for record in records] == pytest.approx(expected, rel=1e-4)


def test_rewards_are_summed_with_their_weights(bench: Bench, add_reward: Any) -> None:
    add_reward("first", [1, 0, 0, 1, 0, 0, 0, 0])
    add_reward("second", [0, 0, 2, 2, 0, 0, 0, 0])
    weighted = [{"name": "first", "weight": 3.0}, {"name": "second", "weight": -0.5}]
    run_dir = bench.attempt({**GRPO, "scale_rewards": "none", "rewards": weighted}, GRPO_ROWS)

    driver.run_here(run_dir)

    records = [record for record in driver.rollouts(run_dir) if record["step"] == 1]
    assert [record["reward"] for record in records[:4]] == [3, 0, -1, 2]
    assert [record["advantage"] for record in records[:4]] == [2, -1, -2, 1]
    assert records[3]["rewards"] == {"first": 1, "second": 2}
    assert driver.metrics(run_dir)[1]["reward_mean"] == 0.5


def _batch() -> tuple[list[list[int]], list[list[int]], torch.Tensor, torch.Tensor]:
    """Prompts and completions of mixed lengths, alone and padded; two rows are equal."""
    stream = torch.Generator().manual_seed(3)
    prompts = [PROMPTS[number] for number in PROMPT_OF_ROW]
    completions = [torch.randint(6, 100, (length,), generator=stream).tolist() for length in RESPONSE_LENGTHS]
    completions[3] = completions[0]
    ids, mask = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        left, right = max(map(len, prompts)) - len(prompt), max(map(len, completions)) - len(completion)
        ids.append([0] * left + prompt + completion + [0] * right)
        mask.append([0] * left + [1] * (len(prompt) + len(completion)) + [0] * right)
    return prompts, completions, torch.tensor(ids), torch.tensor(mask)


@pytest.mark.parametrize("entropy_has_grad", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_shared_prompts_give_what_a_plain_forward_pass_of_each_row_gives(
    bench: Bench, temperature: float, entropy_has_grad: bool
) -> None:
    model = loading.load_model(loading.materialize(bench.model, driver.MODEL), dtype="float32")
    prompts, completions, ids_BT, mask_BT = _batch()
    num = max(RESPONSE_LENGTHS)
    weights_BC = torch.rand(len(prompts), num, generator=torch.Generator().manual_seed(5))
    plain_loss = torch.zeros(())
    plain: list[tuple[torch.Tensor, torch.Tensor]] = []
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        logits_CV = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / temperature
        logprobs_CV = logits_CV.log_softmax(dim=-1)
        entropy_C = -(logprobs_CV.exp() * logprobs_CV).sum(dim=-1)
        logprob_C = logprobs_CV.gather(1, torch.tensor(completion)[:, None])[:, 0]
        plain.append((logprob_C.detach(), entropy_C.detach()))
        per_token_C = logprob_C + (entropy_C if entropy_has_grad else 0)
        plain_loss = plain_loss + (per_token_C * weights_BC[row, : len(completion)]).sum()
    plain_loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    logprobs_BC, entropies_BC = completion_logprobs(model, ids_BT, mask_BT, num, temperature, entropy_has_grad)

    assert logprobs_BC.shape == entropies_BC.shape == (len(prompts), num)
    for row, (logprob_C, entropy_C) in enumerate(plain):
        torch.testing.assert_close(logprobs_BC[row, : len(logprob_C)].detach(), logprob_C, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(entropies_BC[row, : len(entropy_C)].detach(), entropy_C, rtol=1e-5, atol=1e-5)
    per_token_BC = logprobs_BC + (entropies_BC if entropy_has_grad else 0)
    (per_token_BC * weights_BC * mask_BT[:, -num:]).sum().backward()
    for name, parameter in model.named_parameters():
        assert expected[name].abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-5, msg=name)
