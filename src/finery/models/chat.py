"""From messages to token ids, and which of them carry loss."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]


def to_messages(prompt: str | Sequence[Message]) -> list[Message]:
    """A prompt as chat messages: text is one turn of the user."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[Message]) -> list[int]:
    """Token ids after which the model writes its answer."""
    return _ids(tokenizer, to_messages(prompt), add_generation_prompt=True)


def render_example(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, loss_on: str = "response"
) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation and a mask of those that carry loss.

    The loss lies on what the assistant says, with the token that ends its turn, since a model that never learns to end
    does not stop. Works with any template: a turn's tokens are the difference between the conversation up to it with
    the generation prompt and the conversation with it.

    Raises:
        ValueError: the template does not render a conversation as a continuation of its beginning.
    """
    ids = _ids(tokenizer, messages, add_generation_prompt=False)
    if loss_on == "all":
        return ids, [True] * len(ids)
    mask = [False] * len(ids)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = _ids(tokenizer, messages[:index], add_generation_prompt=True)
        end = _turn_end(tokenizer, _ids(tokenizer, messages[: index + 1], add_generation_prompt=False), len(start))
        if ids[: len(start)] != start:
            raise ValueError("the chat template changes earlier turns when later ones follow; use template: chatml")
        mask[len(start) : end] = [True] * (end - len(start))
    return ids, mask


def render_completion(
    tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[Message], answer: str
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, and of an answer to it with the token that ends its turn.

    Raises:
        ValueError: the template does not render a conversation as a continuation of its beginning.
    """
    messages = to_messages(prompt)
    start = _ids(tokenizer, messages, add_generation_prompt=True)
    ids = _ids(tokenizer, [*messages, {"role": "assistant", "content": answer}], add_generation_prompt=False)
    if ids[: len(start)] != start:
        raise ValueError("the chat template changes the prompt when an answer follows; use template: chatml")
    return start, ids[len(start) : _turn_end(tokenizer, ids, len(start))]


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer."""
    found = {tokenizer.eos_token_id, *(tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|eot_id|>"))}
    return frozenset(number for number in found if number is not None and number != tokenizer.unk_token_id)


def _turn_end(tokenizer: PreTrainedTokenizerBase, ids: list[int], start: int) -> int:
    """End of a turn: just after its stop token, without the white space that a template puts behind it."""
    stops = stop_ids(tokenizer)
    for position in range(len(ids) - 1, start - 1, -1):
        if ids[position] in stops:
            return position + 1
    return len(ids)


def _ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
    if not messages and not add_generation_prompt:
        return []
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found
