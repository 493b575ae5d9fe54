"""Training rows: read, rendered to tokens, and put into the order in which they are visited."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from transformers import PreTrainedTokenizerBase

from finery.core.carried import without_batches
from finery.core.checkpoints import file_sha256
from finery.core.errors import Conflict, InvalidSpec
from finery.core.rundir import Run, RunSpec
from finery.models import chat


@dataclass(frozen=True)
class Example:
    """One row of supervised data."""

    input_ids: list[int]
    labels: list[int]
    """-100 where no loss lies."""


def read_rows(run: Run, ref: str) -> list[dict[str, Any]]:
    """The rows of a data set version: canonical JSONL whose hash is checked.

    Raises:
        Conflict: the file is not the one that the job was submitted with.
        InvalidSpec: it has no rows.
    """
    resolved = run.input(ref)
    path = Path(resolved.path)
    if file_sha256(path) != resolved.sha256:
        raise Conflict(f"{ref} has changed since the job was submitted; submit it again")
    with open(path, "rb") as file:
        rows = [orjson.loads(line) for line in file if line.strip()]
    if not rows:
        raise InvalidSpec(f"{ref} has no rows; training needs at least one")
    return rows


@contextmanager
def naming_row(number: int, ref: str) -> Iterator[None]:
    """Say of which row of which data a complaint is."""
    try:
        yield
    except InvalidSpec as error:
        raise InvalidSpec(f"row {number} of {ref}: {error}") from error


def order(num_rows: int, num_visits: int, *, seed: int, shuffle: bool) -> list[int]:
    """Row numbers in the order of visits: every row once per pass, in a new order each pass."""
    visits: list[int] = []
    stream = random.Random(seed)
    while len(visits) < num_visits:
        one_pass = list(range(num_rows))
        if shuffle:
            stream.shuffle(one_pass)
        visits += one_pass
    return visits[:num_visits]


def visits(spec: RunSpec, num_rows: int, *, num: int, size: int, shuffle: bool, steps_per_batch: int = 1) -> list[int]:
    """Row numbers in the order of visits, without the rows of batches that rules have left out.

    Args:
        spec: Of the attempt.
        num_rows: Rows of the data.
        num: Batches.
        size: Rows in one.
        steps_per_batch: Optimizer steps that are made with one.
    """
    skipped = spec.carried.skipped_steps
    wanted = num * size
    drawn = max(num_rows, wanted + len(skipped) * size)
    while True:
        found = order(num_rows, drawn, seed=spec.seed, shuffle=shuffle)
        left = without_batches(found, skipped, size=size, steps_per_batch=steps_per_batch)
        if len(left) >= wanted:
            return left[:wanted]
        drawn *= 2


def examples(
    rows: list[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    loss_on: str,
    max_tokens: int,
    ref: str = "the data",
) -> tuple[list[Example], int]:
    """Render supervised rows; also how many were left out because truncation took all their loss.

    Raises:
        InvalidSpec: the chat template does not fit, or no row keeps a token that carries loss.
    """
    made = []
    for number, row in enumerate(rows, start=1):
        with naming_row(number, ref):
            ids, mask = chat.render_example(tokenizer, _messages(row), loss_on=loss_on)
        labels = [token if has_loss else -100 for token, has_loss in zip(ids, mask, strict=True)]
        ids, labels = ids[:max_tokens], labels[:max_tokens]
        if any(label != -100 for label in labels):
            made.append(Example(ids, labels))
    if not made:
        raise InvalidSpec(f"data.max_tokens ({max_tokens}) cuts every response off; raise it")
    return made, len(rows) - len(made)


def prompts(
    rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int, ref: str
) -> list[list[int]]:
    """Token ids of the prompts of verifiable rows of the data `ref`, cut on the left.

    Raises:
        InvalidSpec: the chat template takes no such prompt; the row is named.
    """
    made = []
    for number, row in enumerate(rows, start=1):
        with naming_row(number, ref):
            made.append(chat.render_prompt(tokenizer, row["prompt"])[-max_tokens:])
    return made


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    if "messages" in row:
        found: list[dict[str, Any]] = row["messages"]
        return found
    return [*chat.to_messages(row["prompt"]), {"role": "assistant", "content": row["response"]}]
