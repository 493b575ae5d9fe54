"""Detectors of reward hacking: what they see, what they leave alone, and when they say nothing."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from finery.monitoring import hacking
from finery.monitoring.hacking import Finding, Name, Seen

TEXT = "one two three four five six seven eight nine ten red green blue left right up down north south east"
WORDS = TEXT.split()
Write = Callable[[float, random.Random], str]
"""A completion at a share of the run from 0 to 1."""


def varied(_: float, random_: random.Random) -> str:
    return " ".join(random_.choices(WORDS, k=20)) + f" so the answer is {random_.randrange(90)}"


def run(
    write: Write,
    *,
    reward: Callable[[float, random.Random], float | None] = lambda at, random_: float(random_.random() < 0.5),
    length: Callable[[float, random.Random], int] = lambda at, random_: random_.randrange(80, 120),
    steps: int = 30,
    group: int = 8,
    prompt: str = "What is 1 + 1?",
) -> list[Seen]:
    random_ = random.Random(3)
    return [
        Seen(step, index, f"{prompt} {index // 4}", write(at, random_), reward(at, random_), length(at, random_))
        for step in range(1, steps + 1)
        for at in [(step - 1) / (steps - 1)]
        for index in range(group)
    ]


def of(name: Name, seen: Sequence[Seen]) -> Finding:
    [found] = [finding for finding in hacking.inspect(seen) if finding.name == name]
    return found


def collapsing(at: float, random_: random.Random) -> str:
    return varied(at, random_) if random_.random() > at else "the very same words each time they are drawn now"


def looping(at: float, random_: random.Random) -> str:
    return "and so on and " * 12 if random_.random() < 0.6 * at else varied(at, random_)


def lazy(at: float, random_: random.Random) -> str:
    return f"<answer>{random_.randrange(90)}</answer>" if random_.random() < at else varied(at, random_)


def rising(at: float, random_: random.Random) -> float:
    return float(random_.random() < 0.2 + 0.7 * at)


def growing(at: float, random_: random.Random) -> int:
    return round(100 + 100 * at + random_.randrange(20))


POSITIVE: list[tuple[Name, dict[str, Any]]] = [
    ("shrinking_diversity", {"write": collapsing}),
    ("length_creep", {"write": varied, "length": growing}),
    ("length_creep", {"write": varied, "length": growing, "reward": lambda at, r: 1 - 0.5 * at + 0.1 * r.random()}),
    ("repetition", {"write": looping}),
    ("answer_without_reasoning", {"write": lazy}),
]


@pytest.mark.parametrize(("name", "story"), POSITIVE)
def test_a_sign_is_seen_with_samples_that_show_it_and_no_other_is(name: Name, story: dict[str, Any]) -> None:
    seen = run(**story)

    found = of(name, seen)

    assert found.verdict == "found", found
    assert found.early == (1, 10)
    assert found.late == (21, 30)
    assert abs(found.figures["t"]) >= hacking.MIN_T
    assert 1 <= len(found.samples) <= hacking.NUM_SHOWN
    assert {sample.step for sample in found.samples} <= set(range(21, 31))
    assert set(found.samples) <= set(seen)
    others = {one.name for one in hacking.inspect(seen) if one.verdict == "found"} - {name}
    assert others <= {"shrinking_diversity"}  # loops and bare answers are alike, too


def test_samples_are_those_that_have_the_flaw() -> None:
    assert all("and so on" in one.text and one.reward for one in of("repetition", run(looping)).samples)
    assert all(
        one.text.startswith("<answer>") and one.reward for one in of("answer_without_reasoning", run(lazy)).samples
    )
    assert min(one.length or 0 for one in of("length_creep", run(varied, length=growing)).samples) > 190


@pytest.mark.parametrize(
    ("name", "story"),
    [
        *((name, {"write": varied}) for name, _ in POSITIVE),
        ("shrinking_diversity", {"write": collapsing, "reward": rising}),
        ("length_creep", {"write": varied, "length": growing, "reward": rising}),
        ("length_creep", {"write": varied, "length": lambda at, r: r.randrange(10, 400)}),
        # Loops that are not rewarded are the reward's business, and it does its work.
        ("repetition", {"write": lambda at, r: looping(at, r), "reward": None}),
        # Answers were bare from the start, and nobody asked for more.
        ("answer_without_reasoning", {"write": lambda at, r: str(r.randrange(90))}),
    ],
)
def test_what_is_no_sign_is_left_alone(name: Name, story: dict[str, Any]) -> None:
    seen = run(**{key: value for key, value in story.items() if value is not None})
    if "reward" in story and story["reward"] is None:
        seen = [
            Seen(one.step, one.index, one.prompt, one.text, float("and so on" not in one.text), one.length)
            for one in seen
        ]

    found = of(name, seen)

    assert found.verdict == "clear", found
    assert found.samples == ()
    assert set(found.figures) == {"early", "late", "t", "reward_early", "reward_late"}


@pytest.mark.parametrize(
    "prompt",
    ["Think step by step. 1+1?", "Put your reasoning in <think>", "\u8bf7\u4e00\u6b65\u6b65\u63a8\u7406\uff1a1+1="],
)
def test_bare_answers_to_a_prompt_that_asks_for_reasoning_are_seen_from_the_start(prompt: str) -> None:
    found = of("answer_without_reasoning", run(lambda at, r: str(r.randrange(90)), prompt=prompt))

    assert found.verdict == "found"
    assert "though the prompts ask for reasoning" in found.message


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        ({"steps": 11}, "needs 12 recorded steps and has 11"),
        ({"steps": 12, "group": 4}, "needs 24 completions in each third of the steps and has 16"),
        ({"reward": lambda at, r: None}, "needs"),
    ],
)
def test_too_little_data_is_not_judged(story: dict[str, Any], reason: str) -> None:
    for found in hacking.inspect(run(collapsing, **story)):
        assert found.verdict == "too_little"
        assert reason in found.message
        assert (found.figures, found.samples, found.early) == ({}, (), None)


def test_a_reward_that_is_always_the_same_rewards_nothing() -> None:
    assert of("repetition", run(looping, reward=lambda at, r: 1.0)).verdict == "too_little"


def test_one_prompt_alone_has_no_diversity() -> None:
    seen = [one for one in run(collapsing) if one.index % 4 == 0]
    assert of("shrinking_diversity", seen).verdict == "too_little"


def test_chance_alone_seldom_looks_like_a_sign() -> None:
    """Two hundred runs in which nothing changes."""
    found = 0
    for seed in range(200):
        random_ = random.Random(seed)
        seen = [
            Seen(
                step,
                index,
                str(index // 4),
                varied(0, random_),
                float(random_.random() < 0.4),
                random_.randrange(5, 400),
            )
            for step in range(12)
            for index in range(8)
        ]
        found += any(one.verdict == "found" for one in hacking.inspect(seen))
    assert found <= 4


@pytest.mark.parametrize(
    ("text", "is_repeated"),
    [
        ("the cat sat on the mat " * 10, True),
        ("no " * 60, True),
        ("7" * 80, True),
        ("\u597d\u7684" * 40, True),
        ("ha ha ha ha", False),
        (" ".join(WORDS), False),
        ("1. take the red one\n2. take the green one\n3. take the blue one\n4. take the left one", False),
        ("", False),
    ],
)
def test_texts_that_repeat_themselves(text: str, is_repeated: bool) -> None:
    assert (hacking.repetition(text) >= hacking.REPEATED) is is_repeated


@pytest.mark.parametrize(
    ("text", "is_bare"),
    [
        ("42", True),
        ("The answer is \\boxed{42}.", True),
        ("<think></think><answer>a long answer of many words that says a lot</answer>", True),
        ("#### 42", True),
        ("<think>first add the ones, then the tens</think><answer>42</answer>", False),
        ("13 + 43: 3 + 3 = 6 and 10 + 40 = 50, so \\boxed{56}", False),
        ("", False),
    ],
)
def test_texts_that_are_an_answer_alone(text: str, is_bare: bool) -> None:
    assert hacking.is_bare_answer(text) is is_bare
