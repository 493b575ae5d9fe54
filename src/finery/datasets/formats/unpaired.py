"""Unpaired: a prompt with one answer that is good or bad, for KTO.

Canonical: {"prompt": text or messages that end with the user, "completion": text, "label": bool}; other columns are
kept. Accepted besides: `response` or `output` for the completion, also as messages; `kto_tag` for the label; chat
`messages` or ShareGPT's `conversations` that end with the answer; 0 and 1 as labels; prompts as of `preference`.
"""

from finery.datasets.formats import NoParams, Row, messages_of, registry
from finery.datasets.formats.preference import answer_of, prompt_of, with_system

_ANSWERS = ("completion", "response", "output")
_LABELS = ("label", "kto_tag")
_CONVERSATIONS = ("messages", "conversations")


class Unpaired:
    """Single answers labelled good or bad: prompt, completion and label."""

    def recognises(self, row: Row) -> bool:
        """A label beside an answer."""
        has_label = any(_as_bool(row.get(key)) is not None for key in _LABELS)
        return has_label and any(key in row for key in (*_ANSWERS, *_CONVERSATIONS)) and "chosen" not in row

    def normalise(self, row: Row) -> Row:
        """Prompt, completion and label first."""
        label_key = next((key for key in _LABELS if row.get(key) is not None), "label")
        label = _as_bool(row.get(label_key))
        if label is None:
            raise ValueError(f"{label_key!r} must be true or false, it is {row.get(label_key)!r}")
        answer_key = next((key for key in _ANSWERS if row.get(key) is not None), None)
        turns_key = next((key for key in _CONVERSATIONS if row.get(key) is not None), None)
        if answer_key is None and turns_key is not None:
            before, completion = answer_of(row, turns_key)
            prompt = messages_of(with_system(row, before), what=turns_key, last="user")
            used = {turns_key, "system"}
        else:
            answer_key = answer_key or "completion"
            before, completion = answer_of(row, answer_key)
            prompt, used = prompt_of(row, before)
        made: Row = {"prompt": prompt, "completion": completion, "label": label}
        left_out = {*used, *made, label_key, *({answer_key} if answer_key else ())}
        return made | {key: value for key, value in row.items() if key not in left_out}


registry.register("unpaired", params=NoParams)(Unpaired())


def _as_bool(value: object) -> bool | None:
    return bool(value) if isinstance(value, bool) or value in (0, 1) else None
