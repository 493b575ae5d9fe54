"""What is written for verl is read by verl's own data sets."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from omegaconf import OmegaConf
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.utils.dataset.rl_dataset import RLHFDataset

from finery.core import parquet
from tests.verl.inside import sharded

ROWS: list[dict[str, Any]] = [
    {"prompt": "1+2=", "answer": "3", "level": 1, "tests": [{"in": "1", "out": None}]},
    {
        "prompt": [{"role": "system", "content": "Köln"}, {"role": "user", "content": "2+2="}],
        "answer": "4",
        "level": "x",
    },
    {"prompt": "<image> ∑ 日本 \u2028", "answer": "½", "extra": {"deep": [1, [2, {}]]}},
]


@pytest.fixture
def tokenizer() -> Any:
    made = sharded.tokenizer()
    made.chat_template = (
        "{% for message in messages %}{{ '0' if message['role'] == 'user' else '1' }}{{ message['content'] }}"
        "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '1' }}{% endif %}"
    )
    return made


def test_verl_reads_prompts_and_hands_rewards_the_whole_row(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_rl(ROWS, path, data_source="sums@1", split="train")

    config = OmegaConf.create(
        {"max_prompt_length": 64, "cache_dir": str(tmp_path), "filter_overlong_prompts_workers": 1}
    )
    found = RLHFDataset(str(path), tokenizer, config)

    assert len(found) == len(ROWS)
    for index, row in enumerate(ROWS):
        item = found[index]
        prompt = row["prompt"]
        assert item["raw_prompt"] == ([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)
        assert item["data_source"] == "sums@1"
        assert item["reward_model"] == {"style": "rule", "ground_truth": row["answer"]}
        assert item["index"] == index
        assert parquet.whole_row(item["extra_info"]) == row


def test_verl_trains_on_the_answers_and_not_on_the_questions(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "train.parquet"
    rows = [
        {"prompt": "1+2=", "response": "3"},
        {"messages": [{"role": "user", "content": "5"}, {"role": "assistant", "content": "67"}], "source": "x"},
    ]
    parquet.write_sft(rows, path)

    config = OmegaConf.create({"max_length": 16, "truncation": "error", "pad_mode": "no_padding"})
    found = MultiTurnSFTDataset(str(path), tokenizer, config)

    learned = []
    for index in range(len(rows)):
        item = found[index]
        ids, mask = item["input_ids"].flatten().tolist(), item["loss_mask"].flatten().tolist()
        learned.append(tokenizer.decode([token for token, counts in zip(ids, mask, strict=True) if counts]))
    assert [text.replace(" ", "") for text in learned] == ["3<eos>", "67<eos>"]


def test_rows_that_a_run_has_rendered_come_back_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_rl(ROWS, path, data_source="sums@1")

    import pyarrow.parquet

    texts = [info["row"] for info in pyarrow.parquet.read_table(path)["extra_info"].to_pylist()]
    assert texts == [orjson.dumps(row).decode() for row in ROWS]
