"""The language of alert rules: what is read, what it says at each step, and what is refused."""

import json
import math
import random

import pytest

from finery.core import conditions
from finery.core.conditions import Memory, holds, parse, remember, render
from finery.core.errors import InvalidSpec

NAN = math.nan


def verdicts(text: str, *steps: dict[str, float]) -> list[bool | None]:
    """What a condition says at each step, from step 1."""
    condition, memory = parse(text), Memory()
    found = []
    for step, values in enumerate(steps, start=1):
        remember(condition, memory, step, values)
        found.append(holds(condition, memory, step, values))
    return found


def of(name: str, *values: float) -> list[dict[str, float]]:
    return [{name: value} for value in values]


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("loss > 2", [1, 3, 2], [False, True, False]),
        ("loss >= 2 and loss != 3", [1, 3, 2], [False, False, True]),
        ("2 < loss or loss == 1", [1, 3, 2], [True, True, False]),
        ("not loss > 2", [1, 3], [True, False]),
        ("not (loss > 2 or loss < 1)", [0, 1.5, 3], [False, True, False]),
        ("isnan(loss)", [1, NAN, math.inf], [False, True, False]),
        ("isinf(loss)", [1, NAN, -math.inf], [False, False, True]),
        ("isnan(loss - loss)", [1, math.inf], [False, True]),
        ("loss > 2", [NAN], [False]),
        ("loss > -2e-1 * 10 + 1", [-1, -0.5], [False, True]),
        ("1 + 2 * 3 == 7", [0], [True]),
        ("(1 + 2) * 3 == 9", [0], [True]),
        ("10 - 2 - 3 == 5", [0], [True]),
        ("8 / 4 / 2 == 1", [0], [True]),
        ("-loss < -1", [0, 2], [False, True]),
        ("1 / loss > 5", [0, 1], [True, False]),
        ("0 / loss > 5", [0], [False]),
    ],
)
def test_a_condition_is_what_it_says(text: str, values: list[float], expected: list[bool]) -> None:
    assert verdicts(text, *of("loss", *values)) == expected


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("mean(x, 3) > 2", [1, 2, 3, 4, 9], [None, None, False, True, True]),
        ("min(x, 2) >= 2", [1, 2, 3], [None, False, True]),
        ("max(x, 2) >= 3", [1, 2, 3, 1, 1], [None, False, True, True, False]),
        ("std(x, 2) == 0.5", [1, 2, 2], [None, True, False]),
        ("slope(x, 3) > 1.9", [5, 7, 9, 9], [None, None, True, False]),
        ("zscore(x, 4) > 3", [1, 2, 1, 2, 1.5, 4], [None, None, None, None, False, True]),
        ("zscore(x, 2) > 100", [1, 1, 1, 1.5], [None, None, False, True]),
        ("x / baseline(x, 2) > 2", [1, 3, 4, 5], [None, False, False, True]),
    ],
)
def test_figures_of_windows_against_worked_examples(
    text: str, values: list[float], expected: list[bool | None]
) -> None:
    assert verdicts(text, *of("x", *values)) == expected


def test_windows_leave_out_what_is_no_number() -> None:
    assert verdicts("mean(x, 2) == 2", *of("x", 1, NAN, 3)) == [None, None, True]


def test_for_counts_steps_without_a_break() -> None:
    assert verdicts("x < 1 for 3 steps", *of("x", 0, 0, 2, 0, 0, 0, 0)) == [False] * 5 + [True, True]


def test_a_step_that_does_not_speak_of_a_metric_ends_nothing() -> None:
    said = [{"x": 0.0}, {}, {"y": 1.0}, {"x": 0.0}, {"x": 2.0}, {}]

    assert verdicts("x < 1 for 3 steps", *said) == [False, None, None, True, False, None]


def test_unknown_is_neither_true_nor_false_but_does_not_hide_what_decides() -> None:
    step = {"x": 1.0}

    assert verdicts("x > 0 or y > 0", step) == [True]
    assert verdicts("x > 0 and y > 0", step) == [None]
    assert verdicts("x > 2 and y > 0", step) == [False]
    assert verdicts("not y > 0", step) == [None]


def test_silence_is_known_from_outside_only() -> None:
    condition, memory = parse("stale for 10m or stale(eval.loss) for 2 h"), Memory()
    heard = {"": 30.0, "eval.loss": 7200.0}

    assert holds(condition, memory, 1, {}) is None
    assert holds(condition, memory, 1, {}, silence=heard.get) is True
    assert holds(condition, memory, 1, {}, silence={"": 599.0, "eval.loss": 1.0}.get) is False
    assert conditions.metrics(condition) == {"eval.loss"}


@pytest.mark.parametrize(
    "text",
    [
        "loss > 1 and reward/format_mean < 0.5 or not isnan(kl)",
        '"odd name!" > 1 for 7 steps',
        '"for" > 1',
        "(loss > 1 for 2 steps and x < 1) for 9 steps",
        "mean(loss, 20) > 2 * baseline(loss, 100) - 1e-05",
        "stale for 1.5h",
        "stale(loss) for 10m or -x > 1",
    ],
)
def test_what_is_rendered_is_read_as_the_same(text: str) -> None:
    assert parse(render(parse(text))) == parse(text)


def test_what_is_remembered_survives_being_written_down() -> None:
    condition = parse("mean(x, 3) > 1 and zscore(x, 5) < 9 and x / baseline(x, 4) > 0 for 10 steps")
    stream = random.Random(1)
    steps = [{"x": stream.uniform(0.5, 3)} for _ in range(60)]
    whole, part = Memory(), Memory()
    for step, values in enumerate(steps, start=1):
        part = Memory(**json.loads(json.dumps(part.dump())))
        for memory in (whole, part):
            remember(condition, memory, step, values)

        assert holds(condition, part, step, values) == holds(condition, whole, step, values)


def test_a_run_that_goes_back_is_judged_by_the_way_it_takes_then() -> None:
    condition, memory = parse("mean(x, 2) > 5 for 2 steps"), Memory()
    for step, value in enumerate([1.0, 9.0, 9.0, 9.0], start=1):
        remember(condition, memory, step, {"x": value})
        holds(condition, memory, step, {"x": value})

    found = []
    for step in (2, 3, 4):
        remember(condition, memory, step, {"x": 1.0})
        found.append(holds(condition, memory, step, {"x": 1.0}))

    assert found == [None, False, False]  # what was before the steps that are undone is forgotten
    assert memory.values == {"x": [(3, 1.0), (4, 1.0)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: a metric was expected, not the end"),
        ("loss", "character 5: a comparison such as `> 1` was expected, not the end"),
        ("loss >", "character 7: a metric was expected, not the end"),
        ("loss > 1 2", "character 10: the end, `and` or `or` was expected, not `2`"),
        ("loss > > 1", "a metric was expected, not `>`"),
        ("loss = 1", "'=' has no meaning here"),
        ("(loss > 1", "`)` was expected, not the end"),
        ("loss > 1 for steps", "a number of steps from 1 to 1000000 was expected"),
        ("loss > 1 for 5", "`steps` was expected, not the end"),
        ("loss > 1 for 0 steps", "from 1 to"),
        ("loss > 1 for 1.5 steps", "from 1 to"),
        ("stale for 10", "`s`, `m`, `h` or `d` was expected"),
        ("stale > 1", "`for` was expected"),
        ("median(loss, 3) > 1", "one of the functions isnan, isinf, mean, std"),
        ("mean(loss) > 1", "`,` was expected"),
        ("mean(1, 2) > 1", "a metric was expected, not `1`"),
        ("slope(loss, 1) > 1", "a number of values from 2 to 20000"),
        ("loss > 1 > 0", "the end, `and` or `or`"),
        ("(loss > 1) > 0", "a number or metric, not a condition"),
        ("1 + (loss > 1) > 0", "a number or metric, not a condition"),
        ("not loss", "a comparison such as"),
        ("loss > 1 and", "a metric was expected, not the end"),
        ("__import__('os')", "has no meaning here"),
        ("loss > 1; x", "';' has no meaning here"),
        ("x > " + "(" * 30 + "1" + ")" * 30, "less nesting, at most 20 deep"),
        ("not " * 30 + "x > 1", "less nesting"),
        ("x > " + "-" * 30 + "1", "less nesting"),
        ("x > 1 or " * 40 + "x > 2", "at most 64 parts"),
        ("mean(x, 15000) > 1 and mean(y, 15000) > 1", "hold at most 20000 values"),
        ("x > 1 or " * 80 + "x > 2", "at most 500 characters"),
    ],
)
def test_what_is_no_condition_is_refused_at_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse(text)

    assert message in str(refused.value)
