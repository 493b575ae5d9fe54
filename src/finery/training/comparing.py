"""Runs a comparison in the child: the same prompts for every model, one model after the other beside the first.

Leaves `comparison.json` (a `PolicyTable`), the answers in samples/rollouts.jsonl, and a table in the log. The first
model stays loaded, since every other is measured against it.
"""

import functools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finery.core.errors import InvalidSpec
from finery.core.events import decode_value
from finery.core.hooks import Decision
from finery.core.rundir import RESOURCES, Run, Stopped
from finery.models import chat, loading
from finery.models.generation import Completion, Sampling, generate, left_pad
from finery.training import results, scoring
from finery.training import rows as data
from finery.training.specs.compare import CompareSpec, PolicyRow, PolicyTable, RewardMean, TrainingFacts

BASELINE: Final = "baseline"
"""What the first model is called."""
_STOPS: Final = (Decision.PAUSE, Decision.CANCEL)
_NORMAL_95: Final = 1.96
_BYTES_PER_GB: Final = 1e9


@dataclass(frozen=True)
class _Policy:
    """A model in memory."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    path: Path


@dataclass(frozen=True)
class _Answers:
    """What a model said."""

    completions: list[Completion]
    rewards: dict[str, list[float]]
    """Reward -> a score per answer; NaN where it failed and its spec says to skip."""
    kl: float


def execute(task: CompareSpec, run: Run) -> None:
    """Compare.

    Raises:
        InvalidSpec: data, rewards and models do not fit together.
        Conflict: a file has changed since the job was submitted.
        Stopped: a pause or cancel was asked for before the last model was done. It starts again.
    """
    prompts = data.read_rows(run, task.data)[: task.limit]
    refs = {BASELINE: task.model.base, **task.candidates}
    if len(refs) == len(task.candidates):
        raise InvalidSpec(f"task.candidates: {BASELINE!r} is the name of task.model; choose another one")
    found: dict[str, tuple[PolicyRow, _Answers]] = {}
    with closing(scoring.Scorer(task.rewards, run)) as scorer:
        first = _load(task, run, task.model.base)
        run.status("running", "answering", step=0, total=len(refs))
        for step, (name, ref) in enumerate(refs.items(), start=1):
            if run.stop_requested in _STOPS:
                raise Stopped(run.stop_requested)
            policy = first if name == BASELINE else _load(task, run, ref)
            answers = _answer(task, run, policy, first, prompts, scorer, name, step)
            base = found[BASELINE] if found else None
            row = _row(task, name, ref, policy, answers, base)
            found[name] = (row, answers)
            run.log(_metrics(row), step)
            run.note(f"{name} ({ref}): {_line(row)}")
            del policy  # or two candidates would be in memory while the next one is loaded
    table = PolicyTable(
        data=task.data,
        num_prompts=len(prompts),
        sampling=task.rollout.model_dump(mode="json"),
        rows=[row for row, _ in found.values()],
    )
    run.artifact("comparison", results.write_table(run.dir.path, table))


def _load(task: CompareSpec, run: Run, ref: str) -> _Policy:
    path = loading.materialize(run.input(ref), ref)
    model = loading.load_model(path, dtype=task.model.dtype).to(loading.device()).eval()
    return _Policy(model, loading.load_tokenizer(path, task.model.template), path)


def _answer(
    task: CompareSpec,
    run: Run,
    policy: _Policy,
    first: _Policy,
    rows: Sequence[dict[str, Any]],
    scorer: scoring.Scorer,
    name: str,
    step: int,
) -> _Answers:
    """Answers of one model to all prompts, scored and recorded."""
    asked = [row for row in rows for _ in range(task.rollout.completions_per_prompt)]
    render = functools.partial(data.prompts, rows, max_tokens=task.max_prompt_tokens, ref=task.data)
    rendered = render(policy.tokenizer)
    if policy is not first and rendered != render(first.tokenizer):
        raise InvalidSpec(
            f"{name} is given other tokens for the same prompts than {BASELINE} (another tokenizer or chat template), "
            "so their answers cannot be compared; set model.template to what the candidates were trained with"
        )
    prompts = [prompt for prompt in rendered for _ in range(task.rollout.completions_per_prompt)]
    sampling = Sampling(
        max_new_tokens=task.rollout.max_new_tokens,
        stop_ids=chat.stop_ids(policy.tokenizer),
        temperature=task.rollout.temperature,
        top_p=task.rollout.top_p,
        top_k=task.rollout.top_k,
    )
    stream = torch.Generator(device=policy.model.device).manual_seed(run.seed)
    completions: list[Completion] = []
    for start in range(0, len(prompts), task.batch_size):
        if run.stop_requested in _STOPS:
            raise Stopped(run.stop_requested)
        batch = prompts[start : start + task.batch_size]
        completions += generate(policy.model, batch, sampling, generator=stream)
    ids = [completion.token_ids for completion in completions]
    texts = policy.tokenizer.batch_decode(ids, skip_special_tokens=True)
    columns = scorer.score(texts, asked, step=step)
    rewards = dict(zip(scoring.names(task.rewards), columns, strict=True))
    records = [
        {
            "model": name,
            "prompt": asked[index]["prompt"],
            "completion": text,
            "rewards": {reward: _or_none(scores[index]) for reward, scores in rewards.items()},
            "reward": _or_none(columns[0][index]),
            "length": len(ids[index]),
            "is_truncated": not completions[index].is_finished,
            "step": step,
        }
        for index, text in enumerate(texts)
    ]
    run.samples("rollouts", records, step)
    kl = 0.0 if policy is first else _divergence(policy.model, first.model, prompts, ids, task)
    return _Answers(completions, rewards, kl)


@torch.inference_mode()
def _divergence(
    model: PreTrainedModel,
    first: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    task: CompareSpec,
) -> float:
    """KL(model || first) in nats, mean over all tokens of the answers, at the temperature that they were drawn at."""
    total, num_tokens = 0.0, 0
    order = sorted(range(len(answers)), key=lambda index: len(answers[index]))
    for start in range(0, len(order), task.micro_batch_size):
        batch = order[start : start + task.micro_batch_size]
        pair = ([prompts[index] for index in batch], [answers[index] for index in batch])
        logp_BCV, mask_BC = _log_distributions(model, *pair, task.rollout.temperature)
        logq_BCV, _ = _log_distributions(first, *pair, task.rollout.temperature)
        total += ((logp_BCV.exp() * (logp_BCV - logq_BCV)).sum(dim=-1) * mask_BC).sum().item()
        num_tokens += int(mask_BC.sum().item())
    return total / num_tokens


def _log_distributions(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, C, V) of every token where each of the answers' was drawn, and which of these count."""
    device = model.device
    ids_BP, mask_BP = left_pad(prompts, device)
    answers_BC = pad_sequence([torch.tensor(answer, device=device) for answer in answers], batch_first=True)
    mask_BC = pad_sequence([torch.ones(len(answer), device=device) for answer in answers], batch_first=True)
    mask_BT = torch.cat([mask_BP, mask_BC.long()], dim=1)
    logits_BCV = model(
        input_ids=torch.cat([ids_BP, answers_BC], dim=1),
        attention_mask=mask_BT,
        position_ids=(mask_BT.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
        logits_to_keep=answers_BC.shape[1] + 1,
    ).logits[:, :-1]
    return (logits_BCV.float() / temperature).log_softmax(dim=-1), mask_BC


def _row(
    task: CompareSpec,
    name: str,
    ref: str,
    policy: _Policy,
    answers: _Answers,
    base: tuple[PolicyRow, _Answers] | None,
) -> PolicyRow:
    group = task.rollout.completions_per_prompt
    rewards = {}
    for reward, scores in answers.rewards.items():
        others = _prompt_means(base[1].rewards[reward], group) if base else None
        means = _prompt_means(scores, group)
        if all(map(math.isnan, means)):
            raise InvalidSpec(f"the reward {reward} gave no score to any answer of {name}")
        rewards[reward] = _mean(means, others)
    training = _training(policy.path)
    gain = None if base is None else next(iter(rewards.values())).mean - next(iter(base[0].rewards.values())).mean
    peak = training.peak_memory_bytes if training else None
    lengths = [len(completion.token_ids) for completion in answers.completions]
    return PolicyRow(
        name=name,
        model=ref,
        num_answers=len(lengths),
        rewards=rewards,
        kl=_or_none(answers.kl),
        response_length_mean=statistics.fmean(lengths),
        model_bytes=sum(file.stat().st_size for file in policy.path.glob("*.safetensors")),
        training=training,
        reward_per_gigabyte=gain / (peak / _BYTES_PER_GB) if gain is not None and peak else None,
    )


def _prompt_means(scores: Sequence[float], group: int) -> list[float]:
    """Mean score of each prompt's answers; NaN where none has one."""
    groups = [scores[start : start + group] for start in range(0, len(scores), group)]
    finite = [[score for score in one if math.isfinite(score)] for one in groups]
    return [statistics.fmean(one) if one else math.nan for one in finite]


def _mean(scores: Sequence[float], others: Sequence[float] | None) -> RewardMean:
    """What a model's prompts got, beside what the first model's got."""
    finite = [score for score in scores if math.isfinite(score)]
    mean, interval = statistics.fmean(finite), None
    if len(finite) > 1:
        half = _NORMAL_95 * statistics.stdev(finite) / math.sqrt(len(finite))
        interval = (mean - half, mean + half)
    change = win_rate = None
    pairs = [pair for pair in zip(scores, others or (), strict=False) if all(map(math.isfinite, pair))]
    if pairs:
        own, base = (statistics.fmean(side) for side in zip(*pairs, strict=True))
        change = own / base - 1 if base > 0 else None
        win_rate = statistics.fmean((score > other) + (score == other) / 2 for score, other in pairs)
    return RewardMean(mean=mean, interval=interval, change=change, win_rate=win_rate)


def _training(path: Path) -> TrainingFacts | None:
    """What the run directory around a checkpoint says; None where there is none."""
    attempt = path.parent.parent
    if path.parent.name != "checkpoints" or not (attempt / "events").is_dir():
        return None
    seconds: dict[int, float] = {}
    reward_model = peak = None
    for folder in sorted(attempt.parent.glob("attempt-*/"), key=lambda one: int(one.name.partition("-")[2])):
        for event in _events(folder / "events" / "rank0.jsonl"):
            values = event.get("values", {})
            if event["type"] == "metrics" and "seconds_per_step" in values:
                seconds[event["step"]] = decode_value(values["seconds_per_step"])
                reward_model = values.get("reward_model_bytes", reward_model)
        for event in _events(folder / "events" / f"{RESOURCES}.jsonl"):
            if event["type"] == "resource" and "memory_bytes" in event["values"]:
                peak = max(peak or 0.0, decode_value(event["values"]["memory_bytes"]))
    return TrainingFacts(
        steps=len(seconds),
        seconds=math.fsum(seconds.values()),
        peak_memory_bytes=peak,
        reward_model_bytes=reward_model,
    )


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield orjson.loads(line)


def _metrics(row: PolicyRow) -> dict[str, float]:
    return {
        **{f"reward/{name}": found.mean for name, found in row.rewards.items()},
        "reward_mean": next(iter(row.rewards.values())).mean,
        "kl_divergence": math.nan if row.kl is None else row.kl,
        "response_length_mean": row.response_length_mean,
    }


def _line(row: PolicyRow) -> str:
    rewards = ", ".join(f"{name} {found.mean:.3f}" for name, found in row.rewards.items())
    kl = "is not finite" if row.kl is None else f"{row.kl:.3f} nats per token"
    return f"{rewards}, KL {kl}"


def _or_none(number: float) -> float | None:
    return number if math.isfinite(number) else None
