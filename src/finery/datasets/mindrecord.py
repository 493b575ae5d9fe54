"""Rows as the MindRecord files that MindRLHF and MindFormers read. Runs under an interpreter that has mindspore.

`python -m finery.datasets.mindrecord grpo|sft ROWS.jsonl TOKENIZER OUT.mindrecord --max-tokens N ...`, with the
packages mindspore, transformers (without torch, for tokenizers alone), jinja2, pydantic and orjson. Prompts become
tokens as in training: with the chat template of the tokenizer, cut on the left.

Layouts are those of the programs that read them: for GRPO `prompt_ids`, `pretrain_ids` (the answer) and `loss_mask`, as
`examples/grpo/qwen_grpo_tutorial/rlhf_data.py` of MindRLHF writes them; for SFT `input_ids` and `labels`, as the
`*_preprocess.py` of MindFormers do. All rows of a file are padded to one length.
"""

import argparse
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from mindspore.mindrecord import FileWriter
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from finery.core.errors import InvalidSpec
from finery.models import chat

IGNORED: Final = -100
"""Label of a token that carries no loss."""
_ROWS_AT_ONCE: Final = 256

Row = Mapping[str, Any]
Record = dict[str, NDArray[np.int64] | NDArray[np.int32]]


def write_grpo(
    rows: Iterable[Row], path: Path, tokenizer: PreTrainedTokenizerBase, *, max_prompt_tokens: int, max_tokens: int
) -> int:
    """Write verifiable rows for the GRPO of MindRLHF.

    Args:
        rows: Each has `prompt`, text or messages, and `answer`, text.
        path: File to write; its index is written beside it, as `<path>.db`.
        tokenizer: Its padding token tells MindRLHF where a prompt ends, so no prompt may contain it.
        max_prompt_tokens: Longer prompts are cut on the left, shorter ones padded on the right.
        max_tokens: Length of `pretrain_ids` and `loss_mask`.

    Returns:
        How many rows were written.

    Raises:
        InvalidSpec: there are no rows, or one cannot be written; names it.
    """
    pad = _padding(tokenizer)

    def encode(number: int, row: Row) -> Record:
        prompt = chat.render_prompt(tokenizer, row["prompt"])[-max_prompt_tokens:]
        answer = tokenizer(str(row["answer"]), add_special_tokens=False)["input_ids"]
        if pad in prompt or pad in answer:
            raise InvalidSpec(
                f"row {number} contains the padding token {tokenizer.pad_token!r}, at which MindRLHF would cut it off; "
                "give the tokenizer a padding token of its own"
            )
        if len(answer) > max_tokens:
            raise InvalidSpec(f"row {number} has an answer of {len(answer)} tokens; raise --max-tokens ({max_tokens})")
        return {
            "prompt_ids": _padded(prompt, max_prompt_tokens, pad, np.int64),
            "pretrain_ids": _padded(answer, max_tokens, pad, np.int64),
            "loss_mask": _padded([1] * len(answer), max_tokens, 0, np.int64),
        }

    return _write(rows, path, encode, dict.fromkeys(("prompt_ids", "pretrain_ids", "loss_mask"), "int64"))


def write_sft(
    rows: Iterable[Row], path: Path, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int, loss_on: str = "response"
) -> int:
    """Write supervised rows for the fine-tuning of MindFormers. What carries no loss has the label -100.

    Args:
        rows: Each has `messages`, or `prompt` and `response`.
        path: File to write; its index is written beside it, as `<path>.db`.
        tokenizer: Renders the conversations.
        max_tokens: Length of a row; longer ones are cut on the right, and left out where that takes all their loss.
        loss_on: `response` or `all`.

    Returns:
        How many rows were written.

    Raises:
        InvalidSpec: there are no rows that can be learned from.
    """
    pad = _padding(tokenizer)

    def encode(number: int, row: Row) -> Record | None:
        messages = row.get("messages") or [
            *chat.to_messages(row["prompt"]),
            {"role": "assistant", "content": row["response"]},
        ]
        ids, mask = chat.render_example(tokenizer, messages, loss_on=loss_on)
        labels = [token if has_loss else IGNORED for token, has_loss in zip(ids, mask, strict=True)][:max_tokens]
        if all(label == IGNORED for label in labels):
            return None
        return {
            "input_ids": _padded(ids[:max_tokens], max_tokens, pad, np.int32),
            "labels": _padded(labels, max_tokens, IGNORED, np.int32),
        }

    return _write(rows, path, encode, {"input_ids": "int32", "labels": "int32"})


def _write(
    rows: Iterable[Row], path: Path, encode: Callable[[int, Row], Record | None], columns: Mapping[str, str]
) -> int:
    records = (made for number, row in enumerate(rows, start=1) if (made := encode(number, row)) is not None)
    first = next(records, None)
    if first is None:
        raise InvalidSpec("there are no rows to write that anything can be learned from; name other data")
    # A MindRecord file knows its name, so it is written under that name in a folder of its own and then moved.
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        writer = FileWriter(file_name=str(aside / path.name), shard_num=1, overwrite=True)
        writer.add_schema({name: {"type": type_, "shape": [-1]} for name, type_ in columns.items()})
        num_rows = 0
        rest = chain([first], records)
        while group := list(islice(rest, _ROWS_AT_ONCE)):
            writer.write_raw_data(group)
            num_rows += len(group)
        writer.commit()
        for name in (f"{path.name}.db", path.name):
            os.replace(aside / name, path.with_name(name))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return num_rows


def _padding(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.pad_token_id is None:
        raise InvalidSpec("the tokenizer has no padding token, which rows of one length need; give it one")
    return int(tokenizer.pad_token_id)


def _padded(values: list[int], length: int, filler: int, dtype: type) -> NDArray[Any]:
    found: NDArray[Any] = np.full(length, filler, dtype=dtype)
    found[: len(values)] = values
    return found


def _read(path: Path) -> Iterator[Row]:
    with open(path, "rb") as file:
        for line in file:
            if line.strip():
                yield orjson.loads(line)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m finery.datasets.mindrecord", description="Rows to MindRecord.")
    parser.add_argument("kind", choices=["grpo", "sft"])
    parser.add_argument("rows", type=Path, help="JSON Lines")
    parser.add_argument("tokenizer", help="folder of the model, with its chat template")
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-prompt-tokens", type=int, default=2048)
    parser.add_argument("--max-tokens", type=int, default=4096)
    parser.add_argument("--loss-on", choices=["response", "all"], default="response")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer, trust_remote_code=False)
    try:
        if given.kind == "grpo":
            limits = {"max_prompt_tokens": given.max_prompt_tokens, "max_tokens": given.max_tokens}
            num_rows = write_grpo(_read(given.rows), given.out, tokenizer, **limits)
        else:
            num_rows = write_sft(
                _read(given.rows), given.out, tokenizer, max_tokens=given.max_tokens, loss_on=given.loss_on
            )
    except InvalidSpec as error:
        raise SystemExit(f"{given.rows}: {error}") from error
    print(f"{num_rows} rows in {given.out}")  # noqa: T201 - the answer of the command


if __name__ == "__main__":
    main()
