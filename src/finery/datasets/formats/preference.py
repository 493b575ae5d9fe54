"""Preference: a prompt with a better and a worse answer, for reward models, DPO and ORPO.

Canonical: {"prompt": text or messages that end with the user, "chosen": text, "rejected": text}, optionally "margin",
a number by which the chosen answer is better; other columns are kept. Accepted besides: answers as messages,
{"role", "content"} or ShareGPT's {"from", "value"}, alone or after the conversation that both share, which is then
the prompt; `question` or `instruction` (with Alpaca's `input`) for the prompt; ShareGPT's `conversations`, or
`messages`, that end with the user; `system`, which is put before the prompt.
"""

from typing import Any

from finery.datasets.formats import NoParams, Row, messages_of, registry, text_of
from finery.datasets.formats.sft import sharegpt_message

_PROMPTS = ("prompt", "question", "instruction")
_CONVERSATIONS = ("conversations", "messages")


class Preference:
    """Preference pairs: a prompt with a chosen and a rejected answer."""

    def recognises(self, row: Row) -> bool:
        """Both answers."""
        return "chosen" in row and "rejected" in row

    def normalise(self, row: Row) -> Row:
        """Prompt, chosen and rejected first; the answers as text."""
        chosen_before, chosen = answer_of(row, "chosen")
        rejected_before, rejected = answer_of(row, "rejected")
        if chosen_before != rejected_before:
            raise ValueError("'chosen' and 'rejected' answer different conversations; all but the last turn must agree")
        prompt, used = prompt_of(row, chosen_before)
        made: Row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        margin = row.get("margin")
        if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
            raise ValueError(f"'margin' must be a number, this is {type(margin).__name__}")
        return made | {key: value for key, value in row.items() if key not in {*used, *made}}


registry.register("preference", params=NoParams)(Preference())


def answer_of(row: Row, key: str) -> tuple[list[Row], str]:
    """The turns before an answer, where they stand with it, and its text.

    Raises:
        ValueError: in words.
    """
    value = row.get(key)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return [], text_of(row, key, what=f"{key} answer")
    messages = messages_of([sharegpt_message(turn) for turn in value], what=key, last="assistant")
    return messages[:-1], messages[-1]["content"]


def prompt_of(row: Row, before: list[Row]) -> tuple[Any, set[str]]:
    """The prompt of a row, text or messages, and the columns that it is made of.

    Args:
        row: As it came in.
        before: Turns that stand with the answers; they are the prompt unless they are none.

    Raises:
        ValueError: in words.
    """
    used = {key for key in (*_PROMPTS, *_CONVERSATIONS) if key in row}
    if before:
        return messages_of(with_system(row, before), what="chosen", last="user"), used | {"system"}
    turns_key = next((key for key in _CONVERSATIONS if row.get(key) is not None), None)
    prompt_key = next((key for key in _PROMPTS if row.get(key) is not None), None)
    if prompt_key is None and turns_key is not None:
        turns = row[turns_key]
        if not isinstance(turns, list):
            raise ValueError(f"{turns_key!r} must be a list")
        messages = [sharegpt_message(turn) for turn in turns]
        return messages_of(with_system(row, messages), what=turns_key, last="user"), used | {"system"}
    if prompt_key is not None and isinstance(row[prompt_key], list):
        return messages_of(with_system(row, row[prompt_key]), what=prompt_key, last="user"), used | {"system"}
    text = text_of(row, *_PROMPTS, what="prompt")
    extra = row.get("input")
    if prompt_key == "instruction" and isinstance(extra, str):
        text, used = f"{text}\n{extra}" if extra else text, used | {"input"}
    messages = with_system(row, [{"role": "user", "content": text}])
    if len(messages) == 1:
        return text, used
    return messages_of(messages, what="prompt", last="user"), used | {"system"}


def with_system(row: Row, turns: list[Row]) -> list[Row]:
    """Turns behind the row's `system`, unless there is none or they begin with it."""
    system = row.get("system")
    if not isinstance(system, str) or not system:
        return turns
    head = {"role": "system", "content": system}
    return turns if turns[:1] == [head] else [head, *turns]
