"""SFT: a conversation whose last turn is to be learned.

Canonical: {"prompt": text, "response": text}, or {"messages": [{"role", "content"}, ...]} that end with the assistant.
Accepted besides: {"instruction", "response"}; {"prompt", "completion"}, also as lists of messages; Alpaca
{"instruction", "input", "output", "system"?, "history"?}, where the input is put under the instruction; ShareGPT
{"conversations": [{"from", "value"}, ...], "system"?}. A tool call keeps its text, since that is what is learned; the
description of tools (`tools`) stays a column. Other columns are kept.
"""

from finery.datasets.formats import NoParams, Row, messages_of, registry, text_of

_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "tool": "tool",
}
_PROMPTS = ("prompt", "question", "query")
_RESPONSES = ("response", "output", "completion", "answer")
_PREFERENCE = {"chosen", "rejected", "label", "kto_tag"}


class Sft:
    """Supervised fine-tuning: prompt and response, chat messages, Alpaca or ShareGPT."""

    def recognises(self, row: Row) -> bool:
        """Messages, or a prompt with a response; not when it is preference data."""
        if _PREFERENCE & row.keys():
            return False
        if "messages" in row or "conversations" in row:
            return True
        has_prompt = "instruction" in row or any(key in row for key in _PROMPTS)
        return has_prompt and any(key in row for key in _RESPONSES[:3])

    def normalise(self, row: Row) -> Row:
        """Prompt and response where that says it all, messages otherwise."""
        if {"chosen", "rejected"} & row.keys():
            raise ValueError("is a preference pair ('chosen', 'rejected'), which SFT cannot learn from")
        if row.get("messages") is not None:
            messages = messages_of(row["messages"], what="messages", last="assistant")
            return {"messages": messages, **_rest(row, {"messages"})}
        if row.get("conversations") is not None:
            return _from_sharegpt(row)
        if row.get("instruction") is not None:
            return _from_alpaca(row)
        return _from_pair(row)


registry.register("sft", params=NoParams)(Sft())


def sharegpt_message(turn: object, *, place: str = "a turn") -> Row:
    """A turn of ShareGPT, or a chat message, as a chat message whose content is still to be checked.

    Raises:
        ValueError: it is no turn, or nobody known says it.
    """
    if not isinstance(turn, dict):
        raise ValueError(f"{place} is no turn; expected {{'from': ..., 'value': ...}}")
    speaker = turn.get("from", turn.get("role"))
    role = _SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise ValueError(f"{place} is from {speaker!r}; known are {', '.join(_SHAREGPT_ROLES)}")
    return {"role": role, "content": turn.get("value", turn.get("content"))}


def _rest(row: Row, used: set[str]) -> Row:
    return {key: value for key, value in row.items() if key not in used}


def _from_pair(row: Row) -> Row:
    prompt_key = next((key for key in _PROMPTS if row.get(key) is not None), "prompt")
    response_key = next((key for key in _RESPONSES if row.get(key) is not None), "response")
    prompt, response = row.get(prompt_key), row.get(response_key)
    rest = _rest(row, {prompt_key, response_key})
    if isinstance(prompt, list):
        said = response if isinstance(response, list) else [{"role": "assistant", "content": response}]
        return {
            "messages": messages_of([*prompt, *said], what=f"{prompt_key}+{response_key}", last="assistant"),
            **rest,
        }
    return {
        "prompt": text_of(row, prompt_key, what="prompt"),
        "response": text_of(row, response_key, what="response"),
        **rest,
    }


def _from_alpaca(row: Row) -> Row:
    instruction = text_of(row, "instruction", what="instruction")
    extra = row.get("input")
    if extra is not None and not isinstance(extra, str):
        raise ValueError("'input' must be text")
    prompt = f"{instruction}\n{extra}" if extra else instruction
    response_key = next((key for key in ("output", "response", "completion") if row.get(key) is not None), "output")
    response = text_of(row, response_key, "response", what="output")
    rest = _rest(row, {"instruction", "input", "system", "history", response_key})
    system, history = row.get("system"), row.get("history")
    if not system and not history:
        return {"prompt": prompt, "response": response, **rest}
    messages = [{"role": "system", "content": system}] if system else []
    for turn in history or ():
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise ValueError("'history' must hold pairs [question, answer]")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return {"messages": messages_of(messages, what="history", last="assistant"), **rest}


def _from_sharegpt(row: Row) -> Row:
    turns = row["conversations"]
    if not isinstance(turns, list):
        raise ValueError("'conversations' must be a list")
    system = row.get("system")
    messages = [{"role": "system", "content": system}] if system else []
    for index, turn in enumerate(turns):
        messages.append(sharegpt_message(turn, place=f"conversations[{index}]"))
    rest = _rest(row, {"conversations", "system"})
    return {"messages": messages_of(messages, what="conversations", last="assistant"), **rest}
