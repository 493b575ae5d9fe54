"""Verifiable: a problem and its true answer, for reinforcement learning and for benchmarks.

Canonical: {"prompt": text or messages that end with the user, "answer": text}, optionally "reward_func", other columns
kept. Accepted besides: `question` or `problem` for the prompt; `ground_truth`, `target` or `solution` for the answer;
numbers as answers; GSM8K's {"question", "answer"}, whose answer stands behind `####` (the worked solution becomes
`solution`); verl's {"prompt", "reward_model": {"ground_truth"}}.
"""

from finery.datasets.formats import NoParams, Row, messages_of, registry, text_of

_PROMPTS = ("prompt", "question", "problem")
_ANSWERS = ("answer", "ground_truth", "target", "solution")
_GSM8K_MARK = "####"


class Verifiable:
    """Problems whose answers can be checked: prompt and answer."""

    def recognises(self, row: Row) -> bool:
        """A prompt with an answer."""
        has_answer = any(key in row for key in _ANSWERS) or "reward_model" in row
        return has_answer and any(key in row for key in _PROMPTS)

    def normalise(self, row: Row) -> Row:
        """Prompt and answer first, the answer as text."""
        prompt_key = next((key for key in _PROMPTS if row.get(key) is not None), "prompt")
        prompt = row.get(prompt_key)
        if isinstance(prompt, list):
            prompt = messages_of(prompt, what=prompt_key, last="user")
        else:
            prompt = text_of(row, *_PROMPTS, what="prompt")
        answer_key, answer = _answer(row)
        made = {"prompt": prompt, "answer": answer}
        if prompt_key == "question" and _GSM8K_MARK in answer:
            made["answer"] = answer.rpartition(_GSM8K_MARK)[2].strip()
            made["solution"] = answer
            if not made["answer"]:
                raise ValueError(f"'answer' has nothing behind {_GSM8K_MARK}")
        _check_reward_func(row)
        used = {prompt_key, answer_key, *made}
        return made | {key: value for key, value in row.items() if key not in used}


registry.register("verifiable", params=NoParams)(Verifiable())


def _answer(row: Row) -> tuple[str, str]:
    nested = row.get("reward_model")
    if isinstance(nested, dict) and nested.get("ground_truth") is not None and row.get("answer") is None:
        return "reward_model", _as_text({"ground_truth": nested["ground_truth"]}, "ground_truth")
    key = next((key for key in _ANSWERS if row.get(key) is not None), "answer")
    return key, _as_text(row, key)


def _as_text(row: Row, key: str) -> str:
    value = row.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return text_of(row, *([key] if key != "answer" else _ANSWERS), what="answer")


def _check_reward_func(row: Row) -> None:
    name = row.get("reward_func")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ValueError("'reward_func' must be the name of a reward")
