"""Each online algorithm raises the reward, and only when the reward says something: three seeds, each with a control.

Minutes of real training, hence behind the marker `learning`. The start is middling on purpose: a model that is never
right gets no signal, and one that is always right has nothing to learn.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from finery.models import chat, exporting, loading
from finery.models.generation import Sampling, generate
from tests.training import driver
from tests.training.driver import Bench

SEEDS = (1, 2, 3)
NUM_SFT_STEPS = 140
NUM_SFT_SEEN = 900
"""Of 1,000 sums, those that the test of SFT trains on; it is judged by the others."""
NUM_BATCHES = 80
NUM_PROMPTS = 100
"""Few enough to come back a dozen times: with prompts that come once the reward rose by 0.04 to 0.08 in 60 steps."""
SFT = {
    "algorithm": "sft",
    "optim": {"steps": NUM_SFT_STEPS, "learning_rate": 1e-3, "warmup_steps": 10},
    "batch_size": 64,
}
TASK: dict[str, Any] = {
    "optim": {"learning_rate": 1e-4, "warmup_steps": 10},
    "prompts_per_step": 16,
    "rollout": {"completions_per_prompt": 16, "max_new_tokens": 5},
    "rewards": [{"name": "exact"}],
}
COMPARED: dict[str, Any] = {
    "optim": {"learning_rate": 1e-4, "warmup_steps": 10},
    "rollout": {"completions_per_prompt": 8, "max_new_tokens": 5},
}
"""Of the job files that run on both engines. Half the completions, since verl on a CPU moves each by itself; and few
steps at a small rate, which leave little room for luck: three runs of one job file on trl, with other streams, ended
within 0.04 of each other."""
NUM_COMPARED = 60
"""Batches of rollouts of these."""
ALGORITHMS: dict[str, dict[str, Any]] = {
    "grpo": {},
    # On rollouts used once every ratio is 1, whatever the clipping; twice lets the ratio of whole completions matter.
    "gspo": {"num_iterations": 2},
    "dapo": {"dynamic_sampling_rounds": 2},
    "rloo": {"kl_coef": 0.01},
}
PPO = {"prompts_per_batch": 16, "num_iterations": 2, "critic": {"learning_rate": 1e-3}, "kl_coef": 0.01}


def _sums(seed: int) -> list[tuple[str, str]]:
    """Sums of a number of up to two digits and one of one, in an order of the seed."""
    sums = [(f"{a}+{b}=", str(a + b)) for a in range(100) for b in range(10)]
    random.Random(seed).shuffle(sums)
    return sums


def _visits(seed: int) -> list[tuple[str, str]]:
    """One row for each prompt that is drawn for. Shuffled answers then differ from visit to visit of a prompt; with
    one wrong answer per prompt the control learned it by heart (0.02 to 0.12)."""
    num = NUM_BATCHES * TASK["prompts_per_step"]
    prompts = _sums(seed)[:NUM_PROMPTS]
    return (prompts * (num // NUM_PROMPTS + 1))[:num]


@dataclass(frozen=True)
class _Result:
    """What training came to."""

    first: float
    """Mean reward of the first ten batches of rollouts."""
    last: float
    """Mean reward of the last ten."""
    unseen_before: float
    """Share of right answers, drawn at temperature 1, to prompts that no rollout was drawn for."""
    unseen_after: float


def _trained(
    starts: "_Starts",
    algorithm: str,
    name: str,
    rows: list[dict[str, Any]],
    seed: int,
    *,
    engine: str = "trl",
    more: dict[str, Any] | None = None,
) -> _Result:
    changes = PPO if algorithm == "ppo" else ALGORITHMS[algorithm]
    num_batches = NUM_COMPARED if more else NUM_BATCHES
    steps = num_batches * changes.get("num_iterations", 1)
    common = {**TASK, **changes, **(more or {}), "algorithm": algorithm, "engine": engine}
    task = {**common, "optim": {**common["optim"], "steps": steps}}
    if algorithm == "ppo":
        del task["prompts_per_step"]
    start = starts.started(seed)
    run_name = f"{engine}-{algorithm}-{name}-{seed}{'-compared' if more else ''}"
    run_dir = starts.attempt(task, rows, name=run_name, base=start, seed=seed, samples_per_step=0, gradient_interval=0)
    if engine == "trl":
        driver.run_here(run_dir)
    else:
        driver.run_verl(run_dir)
    found = sorted(driver.metrics(run_dir).items())
    # Of all that was drawn: dynamic sampling trains on groups that it chose for having a right answer among them.
    rewards = [values.get("drawn_reward_mean", values["reward_mean"]) for _, values in found if "reward_mean" in values]
    assert len(rewards) == num_batches
    return _Result(
        first=fmean(rewards[:10]),
        last=fmean(rewards[-10:]),
        unseen_before=_share_right(start, seed),
        unseen_after=_share_right(_policy(run_dir, steps), seed),
    )


def _policy(run_dir: driver.RunDir, step: int) -> Path:
    """The trained model in Hugging Face's form."""
    path = driver.checkpoint(run_dir, step)
    return exporting.exported(path) if exporting.needs_export(path) else path


def _share_right(path: Path, seed: int, *, num_seen: int = NUM_PROMPTS) -> float:
    """Share of right answers, drawn twice at temperature 1, to the sums behind the first ones of the seed's order."""
    model, tokenizer = loading.load_model(path, dtype="float32"), loading.load_tokenizer(path)
    sampling = Sampling(max_new_tokens=5, stop_ids=chat.stop_ids(tokenizer), temperature=1.0)
    unseen = _sums(seed)[num_seen:] * 2
    prompts = [chat.render_prompt(tokenizer, prompt) for prompt, _ in unseen]
    found = generate(model, prompts, sampling, generator=torch.Generator().manual_seed(seed))
    texts = tokenizer.batch_decode([one.token_ids for one in found], skip_special_tokens=True)
    return fmean(text.strip() == answer for text, (_, answer) in zip(texts, unseen, strict=True))


class _Starts(Bench):
    """A bench that also has the supervised start of each seed."""

    def started(self, seed: int) -> Path:
        rows = [{"prompt": prompt, "response": answer} for prompt, answer in _sums(seed)]
        if not (self.folder / f"sft-{seed}").exists():
            driver.run_here(self.attempt(SFT, rows, name=f"sft-{seed}", seed=seed))
        return driver.checkpoint(driver.RunDir(self.folder / f"sft-{seed}"), NUM_SFT_STEPS)


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory, models_home: Path) -> _Starts:
    return _Starts(tmp_path_factory.mktemp("starts"), models_home)


def _loss(path: Path, seed: int, *, num_seen: int) -> float:
    """Mean negative log-probability of a token of the right answers, in nats, for the sums behind the first ones."""
    model, tokenizer = loading.load_model(path, dtype="float32"), loading.load_tokenizer(path)
    total, count = 0.0, 0
    for prompt, answer in _sums(seed)[num_seen:]:
        prompt_ids, answer_ids = chat.render_completion(tokenizer, prompt, answer)
        ids = torch.tensor([prompt_ids + answer_ids])
        with torch.no_grad():
            logprobs = model(ids).logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None])
        total -= logprobs[len(prompt_ids) - 1 :].sum().item()
        count += len(answer_ids)
    return total / count


@pytest.mark.learning
def test_sft_learns_sums_it_never_saw_and_none_from_shuffled_answers(bench: Bench) -> None:
    """The loss of right answers falls further than the form of answers alone can bring it."""
    task = {**SFT, "optim": {"steps": 300, "learning_rate": 1e-3, "warmup_steps": 10}}
    found: dict[tuple[str, int], tuple[float, float]] = {}
    print(f"\nsft\n{'seed':>4}  {'answers':<8}  {'unseen loss':>11}  {'unseen right':>12}")
    for seed in SEEDS:
        seen = _sums(seed)[:NUM_SFT_SEEN]
        shuffled = [answer for _, answer in seen]
        random.Random(seed + 1000).shuffle(shuffled)
        for name, answers in (("true", [answer for _, answer in seen]), ("shuffled", shuffled)):
            rows = [{"prompt": prompt, "response": answer} for (prompt, _), answer in zip(seen, answers, strict=True)]
            run_dir = bench.attempt(task, rows, name=f"sft-{name}-{seed}", seed=seed)
            driver.run_here(run_dir)
            path = driver.checkpoint(run_dir, 300)
            loss, right = (measure(path, seed, num_seen=NUM_SFT_SEEN) for measure in (_loss, _share_right))
            found[name, seed] = loss, right
            print(f"{seed:>4}  {name:<8}  {loss:11.3f}  {right:12.3f}", flush=True)

    for seed in SEEDS:
        (loss, right), (control_loss, control_right) = found["true", seed], found["shuffled", seed]
        assert loss < 0.6 * control_loss, seed
        assert right > 0.3, seed
        assert control_right < 0.05, seed


@pytest.mark.learning
@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "ppo"])
def test_sums_are_learned_and_nothing_is_from_shuffled_answers(starts: _Starts, algorithm: str) -> None:
    found: dict[tuple[str, int], _Result] = {}
    print(f"\n{algorithm}\n{'seed':>4}  {'answers':<8}  {'first 10':>8}  {'last 10':>8}  {'unseen before':>13}   after")
    for seed in SEEDS:
        sums = _visits(seed)
        shuffled = [answer for _, answer in sums]
        random.Random(seed + 1000).shuffle(shuffled)
        for name, answers in (("true", [answer for _, answer in sums]), ("shuffled", shuffled)):
            rows = [{"prompt": prompt, "answer": answer} for (prompt, _), answer in zip(sums, answers, strict=True)]
            one = found[name, seed] = _trained(starts, algorithm, name, rows, seed)
            print(
                f"{seed:>4}  {name:<8}  {one.first:8.3f}  {one.last:8.3f}"
                f"  {one.unseen_before:13.3f}  {one.unseen_after:6.3f}",
                flush=True,
            )

    for (name, seed), one in found.items():
        gain, unseen_gain = one.last - one.first, one.unseen_after - one.unseen_before
        assert (gain > 0.1) if name == "true" else (gain < 0.03), (name, seed)
        assert (unseen_gain > 0.03) if name == "true" else (unseen_gain < 0.03), (name, seed)


@pytest.mark.learning
def test_policy_gradients_of_verl_learn_as_much_as_those_of_trl(starts: _Starts) -> None:
    """The same job files, engine by engine; with verl also on shuffled answers."""
    found: dict[tuple[str, str, int], _Result] = {}
    print(f"\ngrpo\n{'engine':<6}  {'seed':>4}  {'answers':<8}  {'first 10':>8}  {'last 10':>8}")
    for seed in SEEDS:
        sums = _visits(seed)
        shuffled = [answer for _, answer in sums]
        random.Random(seed + 1000).shuffle(shuffled)
        true = [answer for _, answer in sums]
        for engine, name, answers in (("trl", "true", true), ("verl", "true", true), ("verl", "shuffled", shuffled)):
            rows = [{"prompt": prompt, "answer": answer} for (prompt, _), answer in zip(sums, answers, strict=True)]
            one = found[engine, name, seed] = _trained(starts, "grpo", name, rows, seed, engine=engine, more=COMPARED)
            print(f"{engine:<6}  {seed:>4}  {name:<8}  {one.first:8.3f}  {one.last:8.3f}", flush=True)

    for (engine, name, seed), one in found.items():
        gain = one.last - one.first
        assert (gain > 0.1) if name == "true" else (gain < 0.03), (engine, name, seed)
    last = {engine: fmean(found[engine, "true", seed].last for seed in SEEDS) for engine in ("trl", "verl")}
    print(f"final means: trl {last['trl']:.3f}, verl {last['verl']:.3f}")
    assert abs(last["trl"] - last["verl"]) < 0.05


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_answers_come_to_have_the_wanted_form(bench: Bench, talkative: Path, algorithm: str) -> None:
    """One seed and seconds of training: digits and nothing else, which the start writes now and then."""
    task = {
        **{"algorithm": algorithm, "optim": {"steps": 24, "learning_rate": 1e-3}, "prompts_per_step": 6},
        "rollout": {"completions_per_prompt": 8, "max_new_tokens": 6},
        "rewards": [{"name": "format", "params": {"pattern": r"\d+"}}],
    }
    run_dir = bench.attempt(task, driver.GRPO_ROWS, base=talkative, samples_per_step=0)

    driver.run_here(run_dir)

    rewards = [values["reward_mean"] for _, values in sorted(driver.metrics(run_dir).items())]
    assert fmean(rewards[-4:]) - fmean(rewards[:4]) > 0.2
