"""Which rules fire when, and what they ask for together."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.core.hooks import Decision
from finery.core.spec import parse
from finery.rules import actions, defaults, specs
from finery.rules.actions import Decide, Impossible, Notify, Rollback, SetControl
from finery.rules.specs import RuleSpec
from finery.rules.watch import MAX_ACTING, Watch, decision, dry_run, is_of_steps

CONTROLS = {"learning_rate": 1e-3, "entropy_coef": 0.0, "kl_coef": 0.1}


def rule(name: str, when: str, *then: Any, **fields: Any) -> RuleSpec:
    made: RuleSpec = parse(RuleSpec, {"name": name, "when": when, "then": list(then), **fields}, what="rule")
    return made


def fired(watch: Watch, *losses: float, start: int = 1) -> list[int]:
    """Steps at which anything fires."""
    found = []
    for step, loss in enumerate(losses, start=start):
        found += [firing.step for firing in watch.step(step, {"loss": loss}, CONTROLS)]
    return found


def test_a_rule_rests_after_it_has_fired_and_fires_again_where_it_still_holds() -> None:
    watch = Watch([rule("high", "loss > 1", "notify", cooldown_steps=3, max_count=3)])

    assert fired(watch, *[2.0] * 20) == [1, 4, 7]


def test_what_was_counted_is_carried_into_the_next_attempt_and_a_loop_comes_to_an_end() -> None:
    rules = [rule("bad", "isnan(loss)", "rollback_checkpoint", cooldown_steps=1, max_count=3)]
    kept: dict[str, Any] = {}
    found = []
    for _ in range(5):  # each attempt begins at step 4 and meets the same bad batch at step 5
        watch = Watch(rules, json.loads(json.dumps(kept)))
        for step, loss in ((4, 1.0), (5, math.nan)):
            found += watch.step(step, {"loss": loss}, CONTROLS)
        kept = watch.dump()

    assert [(firing.step, firing.is_exhausted, len(firing.asked)) for firing in found] == [
        *[(5, False, 1)] * 3,
        *[(5, True, 0)] * 2,
    ]


def test_a_changed_condition_begins_to_remember_anew_but_its_count_stays() -> None:
    before = Watch([rule("low", "loss < 1 for 3 steps", cooldown_steps=1, max_count=2)])
    assert fired(before, 0, 0, 0) == [3]

    after = Watch([rule("low", "loss < 0.5 for 3 steps", cooldown_steps=1, max_count=2)], before.dump())

    assert fired(after, 0, 0, 0, 0, start=4) == [6]


def test_going_back_ends_the_rest() -> None:
    watch = Watch([rule("high", "loss > 1", cooldown_steps=100)])
    assert fired(watch, 0, 0, 2) == [3]

    assert fired(watch, 0, 2, start=1) == [2]


@pytest.mark.parametrize(
    ("action", "effect"),
    [
        ("notify", Notify(())),
        ({"name": "notify", "params": {"channels": ["night"]}}, Notify(("night",))),
        ("pause_training", Decide(Decision.PAUSE)),
        ("stop", Decide(Decision.CANCEL)),
        ("checkpoint_now", Decide(Decision.CHECKPOINT)),
        ("rollback_checkpoint", Rollback(True, 1.0)),
        ("reduce_lr", SetControl("learning_rate", 5e-4)),
        ({"name": "reduce_lr", "params": {"factor": 0.1, "floor": 2e-4}}, SetControl("learning_rate", 2e-4)),
        ({"name": "reduce_lr", "params": {"floor": 1e-3}}, Impossible("learning_rate is 0.001 already")),
        ({"name": "reduce_lr", "params": {"floor": 1e-2}}, Impossible("learning_rate is 0.001 already")),
        ("increase_entropy_coef", SetControl("entropy_coef", 1e-3)),
        ({"name": "set", "params": {"control": "kl_coef", "value": 0.5}}, SetControl("kl_coef", 0.5)),
        ({"name": "set", "params": {"control": "kl_coef", "value": 0.1}}, Impossible("kl_coef is 0.1 already")),
        (
            {"name": "set", "params": {"control": "moon", "value": 1}},
            Impossible("this run has no live setting moon; it has entropy_coef, kl_coef, learning_rate"),
        ),
    ],
)
def test_what_each_action_asks_for(action: Any, effect: actions.Effect) -> None:
    [firing] = Watch([rule("always", "1 > 0", action)]).step(1, {}, CONTROLS)

    assert [asked.effect for asked in firing.asked] == [effect]


def test_every_action_is_asked_for_in_the_test_above() -> None:
    assert [entry.name for entry in actions.registry.all()] == [
        "checkpoint_now",
        "increase_entropy_coef",
        "notify",
        "pause_training",
        "reduce_lr",
        "rollback_checkpoint",
        "set",
        "stop",
    ]


@pytest.mark.parametrize(("now", "then"), [(0.0, 1e-3), (0.01, 0.02), (0.08, 0.1)])
def test_the_weight_of_the_entropy_grows_to_its_cap(now: float, then: float) -> None:
    watch = Watch([rule("low", "1 > 0", "increase_entropy_coef")])

    [firing] = watch.step(1, {}, {"entropy_coef": now})

    assert firing.asked[0].effect == SetControl("entropy_coef", then)


def test_of_two_rules_that_change_one_setting_the_first_does_and_the_other_is_told() -> None:
    up = {"name": "set", "params": {"control": "learning_rate", "value": 1.0}}
    watch = Watch([rule("down", "loss > 1", "reduce_lr"), rule("up", "loss > 1", up, "notify")])

    first, second = watch.step(1, {"loss": 2.0}, CONTROLS)

    assert first.asked[0].effect == SetControl("learning_rate", 5e-4)
    assert [asked.effect for asked in second.asked] == [
        Impossible("rule down has changed learning_rate in this step"),
        Notify(()),
    ]


def test_what_happens_to_the_run_is_the_strongest_of_what_is_asked_for() -> None:
    names = ("checkpoint_now", "pause_training", "stop", "rollback_checkpoint")
    expected = (Decision.CHECKPOINT, Decision.PAUSE, Decision.CANCEL, Rollback(True, 1.0))
    for number in range(1, 5):
        rules = [rule(f"r{index}", "1 > 0", name) for index, name in enumerate(names[:number])]
        assert decision(Watch(rules).step(1, {}, {})) == expected[number - 1]
    assert decision([]) is Decision.CONTINUE


def test_of_a_storm_of_alerts_a_few_act_and_all_are_recorded() -> None:
    watch = Watch([rule(f"r{number}", "loss > 1", "checkpoint_now") for number in range(20)])

    firings = watch.step(1, {"loss": 2.0}, CONTROLS)

    assert len(firings) == 20
    assert sum(bool(firing.asked) for firing in firings) == MAX_ACTING


def test_a_firing_says_what_was_seen() -> None:
    [firing] = Watch([rule("both", "loss > 1 and grad_norm > 5")]).step(3, {"loss": 2.5, "grad_norm": 7.0}, {})

    assert firing.message == "loss > 1 and grad_norm > 5 (grad_norm = 7, loss = 2.5)"


def test_the_rules_of_a_job_without_any_are_the_five() -> None:
    assert {found.name: [action.name for action in found.then] for found in defaults.rules()} == {
        "loss_nan": ["rollback_checkpoint"],
        "grad_explosion": ["pause_training"],
        "kl_divergence_high": ["reduce_lr"],
        "entropy_collapse": ["increase_entropy_coef"],
        "reward_collapse": ["notify"],
    }


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"name": "Loud", "when": "x > 1"}, "name"),
        ({"name": "a", "when": "x >"}, "a metric was expected"),
        ({"name": "a", "when": "x > 1", "then": ["shout"]}, "unknown action 'shout'; known: checkpoint_now"),
        ({"name": "a", "when": "x > 1", "then": [{"name": "reduce_lr", "params": {"factor": 2}}]}, "less than 1"),
        ({"name": "a", "when": "x > 1", "cooldown_steps": 0}, "cooldown_steps"),
    ],
)
def test_what_is_no_rule_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        parse(RuleSpec, raw, what="rule")


def test_rules_need_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="there are several of a"):
        specs.distinct((rule("a", "x > 1"), rule("b", "x > 1"), rule("a", "x > 2")))


def test_silence_is_judged_from_outside() -> None:
    quiet = rule("quiet", "stale for 10m", "notify")

    assert not is_of_steps(quiet)
    assert is_of_steps(rule("loud", "loss > 1"))
    assert not is_of_steps(rule("scores", "eval/gsm8k < 0.3"))
    assert Watch([quiet]).step(1, {"loss": 1.0}, {}) == []
    assert len(Watch([quiet]).step(1, {}, {}, silence=lambda _: 700.0)) == 1


# recorded runs


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _steps(rows: list[dict[str, Any]], key: str) -> list[tuple[int, dict[str, float]]]:
    return [
        (row[key], {name: value for name, value in row.items() if isinstance(value, int | float) and name != key})
        for row in rows
    ]


def test_a_recorded_run_of_verl_is_judged_as_by_hand(data_dir: Path) -> None:
    rows = _rows(data_dir / "logs" / "verl_grpo_700_steps.metrics.jsonl")
    low = [row["step"] for row in rows if row["actor/entropy"] < 0.15]
    threes = [step for step in low if {step - 1, step - 2} <= set(low)]
    slow = [
        row["step"]
        for number, row in enumerate(rows)
        if number >= 20 and row["timing_s/step"] > 1.05 * sum(before["timing_s/step"] for before in rows[:20]) / 20
    ]
    often = {"cooldown_steps": 1, "max_count": 1000}

    found = dry_run(
        [
            rule("low", "actor/entropy < 0.15 for 3 steps", **often),
            rule("slow", "timing_s/step > 1.05 * baseline(timing_s/step, 20)", **often),
            rule("never", "isnan(actor/pg_loss) or actor/grad_norm > 100", **often),
        ],
        _steps(rows, "step"),
    )

    assert len(threes) > 5
    assert len(slow) > 5
    assert [firing.step for firing in found if firing.rule.name == "low"] == threes
    assert [firing.step for firing in found if firing.rule.name == "slow"] == slow
    assert {firing.rule.name for firing in found} == {"low", "slow"}


def test_a_recorded_run_of_llamafactory_that_says_steps_twice_and_goes_back_is_read(data_dir: Path) -> None:
    steps = _steps(_rows(data_dir / "logs" / "llamafactory_sft_1360.jsonl"), "current_steps")
    losses = [
        (step, [piece["loss"] for _, piece in pieces if "loss" in piece])
        for step, pieces in itertools.groupby(steps, key=lambda piece: piece[0])
    ]
    half = 0.5 * losses[0][1][-1]
    low = [step for step, found in losses if found and found[-1] < half]

    found = dry_run([rule("half", "loss < 0.5 * baseline(loss, 1)", cooldown_steps=1, max_count=1000)], steps)

    assert len(low) > 100
    assert low != sorted(low)  # it went back
    assert [firing.step for firing in found] == low


def test_the_default_rules_are_silent_on_healthy_runs(data_dir: Path) -> None:
    for name, key in (
        ("verl_grpo_700_steps.metrics", "step"),
        ("llamafactory_sft_1360", "current_steps"),
        ("deepspeed_chat_sft.metrics", "step"),
    ):
        assert dry_run(defaults.rules(), _steps(_rows(data_dir / "logs" / f"{name}.jsonl"), key)) == []
