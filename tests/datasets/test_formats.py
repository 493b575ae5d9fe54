"""Rows come in many shapes and are written down in one."""

import json
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.datasets import formats
from finery.datasets.reading import RawRow, read_rows

SHAPES = [
    ("sft", {"prompt": "p", "response": "r"}, {"prompt": "p", "response": "r"}),
    ("sft", {"instruction": "p", "response": "r"}, {"prompt": "p", "response": "r"}),
    ("sft", {"prompt": "p", "completion": "r", "id": 7}, {"prompt": "p", "response": "r", "id": 7}),
    ("sft", {"instruction": "p", "input": "", "output": "r"}, {"prompt": "p", "response": "r"}),
    ("sft", {"instruction": "p", "input": "i", "output": "r"}, {"prompt": "p\ni", "response": "r"}),
    (
        "sft",
        {"instruction": "p", "output": "r", "system": "s", "history": [["q", "a"]]},
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "p"},
                {"role": "assistant", "content": "r"},
            ]
        },
    ),
    (
        "sft",
        {"messages": [{"role": "user", "content": "p", "name": "x"}, {"role": "assistant", "content": "r"}]},
        {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]},
    ),
    (
        "sft",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "p"}]},
                {"role": "assistant", "content": "r"},
            ]
        },
        {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]},
    ),
    (
        "sft",
        {"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "r"}]},
        {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]},
    ),
    (
        "sft",
        {
            "conversations": [
                {"from": "human", "value": "p"},
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "o"},
                {"from": "gpt", "value": "r"},
            ],
            "system": "s",
            "tools": "[]",
        },
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "p"},
                {"role": "assistant", "content": "{}"},
                {"role": "tool", "content": "o"},
                {"role": "assistant", "content": "r"},
            ],
            "tools": "[]",
        },
    ),
    ("verifiable", {"prompt": "p", "answer": "4"}, {"prompt": "p", "answer": "4"}),
    ("verifiable", {"prompt": "p", "answer": 204}, {"prompt": "p", "answer": "204"}),
    ("verifiable", {"prompt": "p", "answer": 0.5}, {"prompt": "p", "answer": "0.5"}),
    (
        "verifiable",
        {"level": 1, "problem": "p", "answer": "4", "reward_func": "exact"},
        {"prompt": "p", "answer": "4", "level": 1, "reward_func": "exact"},
    ),
    ("verifiable", {"problem": "p", "solution": "\\boxed{4}"}, {"prompt": "p", "answer": "\\boxed{4}"}),
    (
        "verifiable",
        {"question": "p", "answer": "2+2\n#### 4"},
        {"prompt": "p", "answer": "4", "solution": "2+2\n#### 4"},
    ),
    (
        "verifiable",
        {"prompt": [{"role": "user", "content": "p"}], "reward_model": {"style": "rule", "ground_truth": "4"}},
        {"prompt": [{"role": "user", "content": "p"}], "answer": "4"},
    ),
    (
        "preference",
        {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 0.5, "id": 7},
        {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 0.5, "id": 7},
    ),
    (
        "preference",
        {"instruction": "p", "input": "i", "chosen": "a", "rejected": "b"},
        {"prompt": "p\ni", "chosen": "a", "rejected": "b"},
    ),
    (
        "preference",
        {
            "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
            "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "b"}],
        },
        {"prompt": [{"role": "user", "content": "p"}], "chosen": "a", "rejected": "b"},
    ),
    (
        "preference",
        {
            "conversations": [{"from": "human", "value": "p"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        {"prompt": [{"role": "user", "content": "p"}], "chosen": "a", "rejected": "b"},
    ),
    (
        "preference",
        {"system": "s", "question": "p", "chosen": "a", "rejected": "b"},
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
            "chosen": "a",
            "rejected": "b",
        },
    ),
    (
        "preference",
        {
            "system": "s",
            "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
            "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "b"}],
        },
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
            "chosen": "a",
            "rejected": "b",
        },
    ),
    (
        "unpaired",
        {
            "system": "s",
            "completion": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
            "label": True,
        },
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
            "completion": "a",
            "label": True,
        },
    ),
    (
        "unpaired",
        {
            "system": "s",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "p"},
                {"role": "assistant", "content": "a"},
            ],
            "label": True,
        },
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
            "completion": "a",
            "label": True,
        },
    ),
    (
        "unpaired",
        {"prompt": "p", "completion": "a", "label": False, "id": 7},
        {"prompt": "p", "completion": "a", "label": False, "id": 7},
    ),
    (
        "unpaired",
        {"instruction": "p", "output": "a", "kto_tag": True},
        {"prompt": "p", "completion": "a", "label": True},
    ),
    (
        "unpaired",
        {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}], "label": 1},
        {"prompt": [{"role": "user", "content": "p"}], "completion": "a", "label": True},
    ),
]

BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("sft", {"prompt": "p"}, "has no response"),
    ("sft", {"response": "r"}, "has no prompt"),
    ("sft", {"prompt": "p", "response": " "}, "'response' is empty"),
    ("sft", {"prompt": 1, "response": "r"}, "'prompt' must be text"),
    ("sft", {"prompt": "p", "response": None}, "has no response"),
    ("sft", {"instruction": "p", "input": 3, "output": "r"}, "'input' must be text"),
    ("sft", {"instruction": "p", "output": "r", "history": [["q"]]}, "pairs"),
    ("sft", {"messages": []}, "not empty"),
    ("sft", {"messages": "text"}, "list of messages"),
    ("sft", {"messages": [{"role": "user", "content": "p"}]}, "must be of role assistant, it is user"),
    ("sft", {"messages": [{"role": "robot", "content": "p"}]}, "role 'robot'"),
    ("sft", {"messages": ["p"]}, "messages[0] is no message"),
    ("sft", {"messages": [{"role": "assistant", "content": ""}]}, "is empty"),
    ("sft", {"messages": [{"role": "assistant"}]}, "no text in 'content'"),
    (
        "sft",
        {"messages": [{"role": "user", "content": "p"}, {"role": "system", "content": "s"}]},
        "only the first can be one",
    ),
    ("sft", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "part that is not text"),
    ("sft", {"conversations": [{"from": "martian", "value": "p"}]}, "from 'martian'"),
    ("sft", {"conversations": [{"from": ["gpt"], "value": "p"}]}, "from ['gpt']"),
    ("sft", {"conversations": "x"}, "must be a list"),
    ("sft", {"prompt": "p", "chosen": "a", "rejected": "b"}, "preference pair"),
    ("verifiable", {"prompt": "p"}, "has no answer"),
    ("verifiable", {"answer": "4"}, "has no prompt"),
    ("verifiable", {"prompt": "p", "answer": ""}, "'answer' is empty"),
    ("verifiable", {"prompt": "p", "answer": True}, "must be text"),
    ("verifiable", {"prompt": "p", "answer": ["4"]}, "must be text"),
    ("verifiable", {"prompt": [{"role": "assistant", "content": "p"}], "answer": "4"}, "must be of role user"),
    ("verifiable", {"question": "p", "answer": "2+2 ####"}, "nothing behind ####"),
    ("verifiable", {"prompt": "p", "answer": "4", "reward_func": 3}, "name of a reward"),
    ("preference", {"prompt": "p", "chosen": "a"}, "has no rejected answer"),
    ("preference", {"chosen": "a", "rejected": "b"}, "has no prompt"),
    ("preference", {"prompt": "p", "chosen": " ", "rejected": "b"}, "'chosen' is empty"),
    ("preference", {"prompt": "p", "chosen": "a", "rejected": "b", "margin": "much"}, "'margin' must be a number"),
    (
        "preference",
        {
            "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
        },
        "different conversations",
    ),
    (
        "preference",
        {
            "system": "s",
            "chosen": [{"role": r, "content": "p"} for r in ("system", "user", "assistant")],
            "rejected": [{"role": r, "content": "p"} for r in ("system", "user", "assistant")],
        },
        "only the first can be one",
    ),
    ("preference", {"prompt": "p", "chosen": ["a"], "rejected": ["b"]}, "is no turn"),
    ("preference", {"conversations": "x", "chosen": "a", "rejected": "b"}, "must be a list"),
    ("unpaired", {"prompt": "p", "completion": "a"}, "'label' must be true or false"),
    ("unpaired", {"prompt": "p", "completion": "a", "label": "good"}, "it is 'good'"),
    ("unpaired", {"prompt": "p", "label": True}, "has no completion answer"),
    ("unpaired", {"messages": [{"role": "assistant", "content": "a"}], "label": True}, "not empty"),
]


@pytest.mark.parametrize(("name", "row", "canonical"), SHAPES)
def test_a_row_is_recognised_and_written_in_its_canonical_form(
    name: str, row: dict[str, Any], canonical: dict[str, Any]
) -> None:
    assert formats.detect([row]) == name
    assert formats.registry.get(name).target.normalise(row) == canonical


@pytest.mark.parametrize(("name", "row", "canonical"), SHAPES)
def test_a_canonical_row_stays_as_it_is(name: str, row: dict[str, Any], canonical: dict[str, Any]) -> None:
    again = formats.registry.get(name).target.normalise(canonical)

    assert again == canonical
    assert list(again)[:2] == list(canonical)[:2]
    assert formats.detect([canonical]) == name


@pytest.mark.parametrize(("name", "row", "reason"), BROKEN)
def test_a_broken_row_is_refused_in_words(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        formats.registry.get(name).target.normalise(row)

    assert reason in str(refused.value)


def test_questions_with_answers_are_sft_when_that_is_asked_for() -> None:
    assert formats.registry.get("sft").target.normalise({"question": "p", "answer": "r"}) == {
        "prompt": "p",
        "response": "r",
    }


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"text": "plain"}], "no format has rows with the columns 'text'"),
        ([{"prompt": "p", "chosen": "a"}], "no format"),
        ([{"messages": [], "label": "positive"}], "no format"),
        ([{"prompt": "p", "response": "r", "answer": "a"}], "fit the formats sft and verifiable"),
    ],
)
def test_an_unknown_or_ambiguous_format_is_not_guessed(rows: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(InvalidSpec, match=reason):
        formats.detect(rows)


def test_one_odd_row_does_not_decide_the_format() -> None:
    assert formats.detect([{"oops": 1}, {"prompt": "p", "answer": "4"}, {"prompt": "p", "answer": "5"}]) == "verifiable"


@pytest.mark.parametrize(
    ("file", "format", "num_rows"),
    [
        ("sft/lf_alpaca_en_demo.json", "sft", 999),
        ("sft/lf_alpaca_zh_demo.json", "sft", 1000),
        ("sft/lf_identity.json", "sft", 91),
        ("sft/lf_glaive_toolcall_zh_demo.json", "sft", 300),
        ("sft/dolly_hhrlhf_train_small.jsonl", "sft", 1000),
        ("pref/lf_dpo_en_demo.json", "preference", 300),
        ("pref/lf_dpo_zh_demo.json", "preference", 300),
        ("pref/lf_kto_en_demo.json", "unpaired", 300),
        ("bench/gsm8k_test.jsonl", "verifiable", 1319),
        ("bench/math500.jsonl", "verifiable", 500),
        ("bench/aime24.jsonl", "verifiable", 30),
    ],
)
def test_public_datasets_are_read_without_a_broken_row(data_dir: Path, file: str, format: str, num_rows: int) -> None:
    items = list(read_rows(data_dir / file, file_name=file))
    rows = [item.row for item in items if isinstance(item, RawRow)]

    assert len(rows) == len(items) == num_rows
    assert formats.detect(rows) == format
    for row in rows:
        json.dumps(formats.registry.get(format).target.normalise(row))
