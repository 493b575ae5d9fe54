"""What happens when a reward raises or gives no number: it is recorded with the completion and handled as asked."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.core.spec import Spec, parse
from finery.runtime import exits
from finery.training import rewards, scoring
from finery.training.rewards import Failed, OpenReward
from finery.training.scoring import RewardFailed, Scorer
from finery.training.specs import GrpoSpec, RewardSpec
from tests.training import driver
from tests.training.driver import GRPO_ROWS, Bench

ROWS = [{"prompt": "1+1=", "answer": "2"}, {"prompt": [{"role": "user", "content": "hi"}]}, {"prompt": "x"}]
GRPO: dict[str, Any] = {
    "algorithm": "grpo",
    "optim": {"steps": 2, "learning_rate": 1e-3, "epsilon": 1e-3},
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 5},
}
Given = Callable[[Sequence[str]], Any]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Given], None]:
    """Puts a reward `fragile` into the registry for the length of a test."""
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))

    def add(given: Given) -> None:
        def fragile(completions: Sequence[str], rows: Any, params: Any) -> Any:
            """Gives what a test wants."""
            return given(completions)

        rewards.registry.register("fragile", params=Spec)(fragile)

    return add


def failures(run_dir: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir.samples / f"{scoring.SAMPLES}.jsonl").read_text().splitlines()]


def specs(on_error: str) -> list[RewardSpec]:
    return [RewardSpec(name="exact"), RewardSpec(name="fragile", on_error=on_error)]  # type: ignore[arg-type]


def raises(_: Sequence[str]) -> Any:
    raise ValueError("it broke")


@pytest.mark.parametrize(
    ("given", "told", "failed"),
    [
        (raises, "raised ValueError: it broke", [0, 1, 2]),
        (lambda _: [0.5, math.nan, 0.5], "gave nan", [1]),
        (lambda _: [0.5, 0.5, math.inf], "gave inf", [2]),
        (lambda _: [0.5, None, 0.5], "gave 'None', which is no number", [1]),
        (lambda _: [0.5, "good", 0.5], "gave 'good', which is no number", [1]),
        (lambda _: [0.5], "gave 1 scores for 3 completions", [0, 1, 2]),
        (lambda _: None, "raised TypeError", [0, 1, 2]),
        (lambda _: [0.5, Failed("found no score"), 0.5], "found no score", [1]),
    ],
)
def test_each_failure_is_recorded_and_handled(
    run: Run, register: Callable[[Given], None], given: Given, told: str, failed: list[int]
) -> None:
    register(given)
    texts = ["2", "b", "c"]
    exact, zero = Scorer(specs("zero"), run).score(texts, [{"answer": "2", **row} for row in ROWS], step=4)
    scorer = Scorer(specs("skip"), run)
    _, skip = scorer.score(texts, [{"answer": "2", **row} for row in ROWS], step=5)

    assert exact == [1.0, 0.0, 0.0]
    assert zero == [0.0 if at in failed else 0.5 for at in range(3)]
    assert [at for at in range(3) if math.isnan(skip[at])] == failed
    assert scorer.metrics() == {"reward_errors": len(failed)}
    records = failures(run.dir)
    assert [record["completion"] for record in records] == [texts[at] for at in failed] * 2
    first = records[0]
    assert told in first["reward_error"]
    assert (first["reward_name"], first["handled"], first["step"]) == ("fragile", "zero", 4)
    assert first["prompt"] == ["1+1=", "hi", "x"][failed[0]]
    [alert, _] = driver.events(run.dir, "alert")
    assert alert["rule"] == "reward_failed"
    assert told in alert["message"]

    with pytest.raises(RewardFailed, match="on_error: skip or zero would let the job go on") as caught:
        Scorer(specs("fail"), run).score(texts, [{"answer": "2", **row} for row in ROWS], step=6)
    assert told in str(caught.value)
    assert repr(texts[failed[0]]) in str(caught.value)


def test_the_same_complaint_is_told_once_and_recorded_each_time(run: Run, register: Callable[[Given], None]) -> None:
    register(raises)
    scorer = Scorer(specs("zero")[1:], run)

    for step in (1, 2, 3):
        scorer.score(["a"], [{}], step=step)

    assert len(driver.events(run.dir, "alert")) == 1
    assert [record["step"] for record in failures(run.dir)] == [1, 2, 3]


def test_a_reward_that_is_used_twice_has_two_names() -> None:
    found = scoring.names([RewardSpec(name=name) for name in ("format", "exact", "format")])

    assert found == ["format_1", "exact", "format_2"]


def test_what_was_opened_is_closed_also_when_the_next_cannot_be_opened(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    class Held(OpenReward):
        """Holds something."""

        def __init__(self, params: Any, run: Run):
            return

        def score(self, completions: Sequence[str], rows: Any) -> list[float]:
            return [1.0] * len(completions)

        def sizes(self) -> dict[str, float]:
            return {"reward_model_bytes": 5.0}

        def close(self) -> None:
            closed.append("held")

    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))
    rewards.registry.register("held", params=Spec)(Held)
    twice = Scorer([RewardSpec(name="held"), RewardSpec(name="held")], run)
    assert twice.score(["a"], [{}], step=1) == [[1.0], [1.0]]
    assert twice.metrics() == {"reward_errors": 0.0, "reward_model_bytes": 10.0}
    twice.close()
    twice.close()
    assert closed == ["held", "held"]

    class Locked(Held):
        """Cannot be opened."""

        def __init__(self, params: Any, run: Run):
            raise InvalidSpec("no key")

    rewards.registry.register("locked", params=Spec)(Locked)
    with pytest.raises(InvalidSpec, match="no key"):
        Scorer([RewardSpec(name="held"), RewardSpec(name="locked")], run)
    assert closed == ["held"] * 3


def test_completions_that_are_skipped_are_in_no_mean_and_change_nothing(
    bench: Bench, register: Callable[[Given], None]
) -> None:
    """Two of each group of four fail: the others' advantages are those of a group of two, and a step in which all
    fail leaves the weights as they are, with a penalty for divergence and a bonus for entropy too."""
    register(lambda texts: [float(at) if at % 4 < 2 else math.nan for at in range(len(texts))])
    fragile = [{"name": "fragile", "on_error": "skip"}]
    half = bench.attempt({**GRPO, "rewards": fragile}, GRPO_ROWS, name="half")
    driver.run_here(half)

    recorded = [one for one in driver.rollouts(half) if one["step"] == 1]
    assert [one["reward"] for one in recorded] == [0, 1, None, None, 4, 5, None, None]
    signs = [math.copysign(1, one["advantage"]) if one["advantage"] else 0 for one in recorded]
    assert signs == [-1, 1, 0, 0, -1, 1, 0, 0]
    values = driver.metrics(half)[1]
    assert values["reward_mean"] == pytest.approx(2.5)
    assert values["reward_errors"] == 4
    assert all(math.isfinite(value) for value in values.values())

    rewards.registry._entries.pop("fragile")
    register(raises)
    more = {"kl_coef": 0.1, "entropy_coef": 0.1}
    none = bench.attempt({**GRPO, **more, "rewards": fragile}, GRPO_ROWS, name="none", base=driver.checkpoint(half, 2))
    driver.run_here(none)
    before, after = driver.weights(half, 2), driver.weights(none, 2)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_reward_that_scores_zero_on_errors_lets_the_run_end_well(
    bench: Bench, register: Callable[[Given], None]
) -> None:
    register(raises)
    run_dir = bench.attempt(
        {**GRPO, "rewards": [{"name": "exact"}, {"name": "fragile", "on_error": "zero"}]}, GRPO_ROWS
    )

    driver.run_here(run_dir)

    values = driver.metrics(run_dir)[2]
    assert (values["reward/fragile_mean"], values["reward_errors"]) == (0.0, 8)


def test_a_user_reward_that_fails_ends_the_job_with_one_clear_error(bench: Bench, tmp_path: Any) -> None:
    """In a real child, whose reward process ends with it."""
    file = tmp_path / "mine.py"
    file.write_text("def reward(prompts, completions, **columns):\n    print('I was asked')\n    return [1 / 0]\n")
    resolved = driver.ResolvedInput(kind="file", path=str(file), sha256=driver.checkpoints.file_sha256(file))
    task = {**GRPO, "rewards": [{"name": "python_file", "params": {"path": "./mine.py"}}]}
    run_dir = bench.attempt(task, GRPO_ROWS, more_inputs={"./mine.py": resolved})

    assert driver.run_child(run_dir) == exits.FAILED

    message = driver.events(run_dir, "status")[-1]["message"]
    assert message.startswith("the reward python_file raised ZeroDivisionError: division by zero (line 3), for 8 of 8")
    assert "I was asked" in run_dir.stdout.read_text()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"rewards": "exact, format"}, [("exact", 1.0), ("format", 1.0)]),
        ({"rewards": "exact,format", "reward_weights": "1.0,0.5"}, [("exact", 1.0), ("format", 0.5)]),
        ({"rewards": ["exact", {"name": "format"}], "reward_weights": [2, 3]}, [("exact", 2.0), ("format", 3.0)]),
        ({"rewards": "exact", "reward_weights": 0.5}, [("exact", 0.5)]),
        ({"rewards": [{"name": "exact", "weight": 3}, "format"]}, [("exact", 3.0), ("format", 1.0)]),
    ],
)
def test_rewards_may_be_written_in_short(written: dict[str, Any], expected: list[tuple[str, float]]) -> None:
    raw = {"algorithm": "grpo", "model": {"base": "tiny-char"}, "data": {"train": "sums"}}

    spec: GrpoSpec = parse(GrpoSpec, raw | written)

    assert [(reward.name, reward.weight) for reward in spec.rewards] == expected


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"rewards": "exact,format", "reward_weights": "1.0"}, "reward_weights has 1 weights for 2 rewards"),
        ({"rewards": [{"name": "exact", "weight": 3}], "reward_weights": [1]}, "gives exact a second weight"),
        ({"rewards": "exact", "reward_weights": "much"}, "number"),
        ({"rewards": []}, "at least 1"),
        ({"reward_weights": "1.0"}, "reward_weights has 1 weights for 0 rewards"),
    ],
)
def test_a_short_form_that_does_not_add_up_is_refused(written: dict[str, Any], told: str) -> None:
    raw = {"algorithm": "grpo", "model": {"base": "tiny-char"}, "data": {"train": "sums"}}

    with pytest.raises(InvalidSpec, match=told):
        parse(GrpoSpec, raw | written)
