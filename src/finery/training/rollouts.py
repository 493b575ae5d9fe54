"""Completions drawn for training: what is measured of them and what is recorded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from finery.core import rollouts as index_of
from finery.core.rundir import Run
from finery.models import pieces
from finery.models.generation import Completion
from finery.training import world
from finery.training.tally import Tally

_NGRAM = 4
"""Tokens that are compared as one by the diversity score."""
_MAX_EXPONENT = 700.0
"""Of what a float64 holds e to the power of."""


@dataclass(frozen=True)
class Rollout:
    """A completion of a training prompt, scored."""

    row: int
    """Number of the prompt's row in the data."""
    completion: Completion
    text: str
    rewards: tuple[float, ...]
    """Score of each part, unweighted. NaN where a part failed and its spec says to skip the completion."""

    def reward(self, weights: Sequence[float]) -> float:
        """The weighted sum; NaN if a part is."""
        return math.fsum(weight * part for weight, part in zip(weights, self.rewards, strict=True))


def is_due(step: int, num_steps: int, interval: int) -> bool:
    """Whether rollouts that serve `num_steps` steps from `step` on are recorded: one of the steps is a multiple."""
    return (step + num_steps - 1) // interval > (step - 1) // interval


def note_speed(tally: Tally, completions: Sequence[Completion], seconds: float) -> None:
    """Measure how fast completions were drawn: by all processes together, which draw at the same time."""
    num_tokens = sum(len(one.token_ids) for one in completions)
    tally.add("generation_tokens_per_second", num_tokens, seconds / world.size())


def note_scorer(tally: Tally, found: Mapping[str, float]) -> None:
    """Measure the rewards themselves: failures add up, sizes of what is held do not."""
    for name, value in found.items():
        if name == "reward_errors":
            tally.increase(name, value)
        else:
            tally.raise_to(name, value)


def note(tally: Tally, rollouts: Sequence[Rollout], weights: Sequence[float]) -> None:
    """Measure a step's rollouts, those of all processes: length, variety, reward.

    `reward_per_length` is the mean over completions of reward / tokens. A completion without a reward is in no reward.
    """
    tokens = [rollout.completion.token_ids for rollout in rollouts]
    lengths = sorted(len(one) for one in tokens)
    tally.add("response_length_mean", sum(lengths), len(lengths))
    tally.add("response_length_min", lengths[0])
    tally.add("response_length_max", lengths[-1])
    tally.add("response_length_p50", _quantile(lengths, 0.5))
    tally.add("response_length_p95", _quantile(lengths, 0.95))
    tally.add("response_truncated_fraction", sum(not one.completion.is_finished for one in rollouts), len(rollouts))
    tally.add("diversity_score", diversity(tokens))
    scored = [(rollout.reward(weights), len(rollout.completion.token_ids)) for rollout in rollouts]
    scored = [(reward, length) for reward, length in scored if math.isfinite(reward)]
    if scored:
        tally.add("reward_min", min(reward for reward, _ in scored))
        tally.add("reward_max", max(reward for reward, _ in scored))
        tally.add("reward_per_length", fmean(reward / length for reward, length in scored))


def diversity(completions: Sequence[Sequence[int]]) -> float:
    """Share of different 4-grams among all 4-grams of some completions; one shorter than that is one n-gram.

    1 if nothing is said twice; near 0 if all completions say the same.
    """
    ngrams = [
        tuple(tokens[start : start + _NGRAM])
        for tokens in completions
        for start in range(max(1, len(tokens) - _NGRAM + 1))
    ]
    return len(set(ngrams)) / len(ngrams)


def note_policy(
    tally: Tally,
    *,
    logprobs_BC: Tensor,
    old_logprobs_BC: Tensor,
    mask_BC: Tensor,
    ratio_BX: Tensor,
    ratio_mask_BX: Tensor,
) -> None:
    """Measure how far the policy is from the one that drew the completions.

    Dimensions: B completions, C tokens, X ratios of a completion: C, or 1 where a completion has one ratio.

    `approx_kl` is the mean over tokens of (r - 1) - log r with r = new / old probability, in nats, an estimate of
    KL(old || new) that is never negative (http://joschu.net/blog/kl-approx.html).
    """
    tally.add("approx_kl", _kl(old_logprobs_BC, logprobs_BC, mask_BC), mask_BC.sum().item())
    num_ratios = ratio_mask_BX.sum().item()
    if num_ratios:
        tally.add("ratio_mean", (ratio_BX * ratio_mask_BX).sum().item(), num_ratios)
        tally.raise_to("ratio_max", ratio_BX[ratio_mask_BX.bool()].max().item())


def note_kl(tally: Tally, logprobs_BC: Tensor, reference_logprobs_BC: Tensor, mask_BC: Tensor) -> None:
    """Measure how far the policy is from the reference model: the mean over tokens in nats, by the same estimator."""
    tally.add("kl_divergence", _kl(logprobs_BC, reference_logprobs_BC, mask_BC), mask_BC.sum().item())


def note_mismatch(tally: Tally, logprobs_BC: Tensor, drawn_logprobs_BC: Tensor, mask_BC: Tensor) -> None:
    """Measure the distance between the trainer's log-probabilities and those that the tokens were drawn with, in nats.

    Zero but for rounding, unless top_p or top_k cut the distribution that was drawn from.
    """
    gap_BC = (logprobs_BC - drawn_logprobs_BC).abs() * mask_BC
    tally.add("rollout_logprob_gap_mean", gap_BC.sum().item(), mask_BC.sum().item())
    tally.raise_to("rollout_logprob_gap_max", gap_BC.max().item())


def _kl(first_BC: Tensor, second_BC: Tensor, mask_BC: Tensor) -> float:
    """Sum over tokens of an estimate of KL(first || second) that is never negative."""
    log_ratio_BC = (second_BC - first_BC) * mask_BC
    return (log_ratio_BC.expm1() - log_ratio_BC).sum().item()


def divergences(logprobs: Sequence[float] | None, reference_logprobs: Sequence[float]) -> list[float] | None:
    """Estimate of KL(policy || reference) at each token, in nats, as in `kl_divergence`.

    Both have log-probabilities of the same tokens; the second may have padding behind them. None without the first.
    """
    if logprobs is None:
        return None
    log_ratios = [other - own for own, other in zip(logprobs, reference_logprobs, strict=False)]
    return [_expm1(ratio) - ratio for ratio in log_ratios]


def _expm1(value: float) -> float:
    return math.expm1(value) if value < _MAX_EXPONENT else math.inf


@dataclass(frozen=True)
class Fate:
    """What training made of a completion."""

    advantage: float
    """Of the whole; the mean over its tokens where each has its own."""
    advantages: list[float] | None
    """One for each token that is learned from; None where all have the same."""
    kl: list[float] | None
    """Estimated divergence from the reference at each token, in nats; None without a reference."""


def keep(
    run: Run,
    drawn: Sequence[tuple[Rollout, Fate]],
    rows: Sequence[dict[str, Any]],
    *,
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    weights: Sequence[float],
    group_size: int,
    step: int,
) -> None:
    """Record rollouts for people to read, and index them.

    Args:
        run: Where.
        drawn: Whole groups behind each other; the last may be cut.
        rows: All rows of the data.
        tokenizer: Gives the text of each token.
        names: Of the parts of the reward.
        weights: Of the parts.
        group_size: Completions of one prompt.
        step: Optimizer step that they are drawn for.
    """
    records = []
    for index, (rollout, fate) in enumerate(drawn):
        row, completion = rows[rollout.row], rollout.completion
        record = {
            "step": step,
            "group": index // group_size,
            "row": rollout.row,
            "prompt": _prompt_text(row["prompt"]),
            "completion": rollout.text,
            "answer": row.get("answer"),
            "reward": _or_none(rollout.reward(weights)),
            "rewards": dict(zip(names, map(_or_none, rollout.rewards), strict=True)),
            "weights": dict(zip(names, weights, strict=True)),
            "advantage": _or_none(fate.advantage),
            "length": len(completion.token_ids),
            "is_truncated": not completion.is_finished,
            "tokens": pieces.texts(tokenizer, completion.token_ids),
            "logprob": _short(completion.policy_logprobs),
            "entropy": _short(completion.entropies),
            "kl": _short(fate.kl),
            "advantages": _short(fate.advantages),
        }
        records.append(record)
    offset = run.samples("rollouts", records, step)
    if offset is None:
        return
    try:
        index_of.append(run.dir.samples / index_of.LINES, records, offset)
    except OSError as error:
        run.note(f"rollouts of step {step} are kept, but not in the index: {error}", "warning")


def _short(values: Sequence[float] | None) -> list[float | None] | None:
    """Three significant digits, which is what colours need."""
    return None if values is None else [_or_none(float(f"{value:.3g}")) for value in values]


def _or_none(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _quantile(ordered: Sequence[int], share: float) -> int:
    """The smallest number that is not below `share` of all."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _prompt_text(prompt: str | list[dict[str, Any]]) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
