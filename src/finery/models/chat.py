"""From messages to token ids, and which of them carry loss."""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any, Final

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from finery.core.errors import InvalidSpec

Message = dict[str, Any]

STOPS: Final = "stop_token_ids"
"""Entry of a tokenizer's config: tokens that end an answer, besides the one that ends a sequence."""
_END_OF_TURN: Final = ("<|im_end|>", "<|eot_id|>")
_CHANGES = "the chat template changes earlier turns when later ones follow; set model.template: chatml"


def to_messages(prompt: str | Sequence[Message]) -> list[Message]:
    """A prompt as chat messages: text is one turn of the user."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[Message]) -> list[int]:
    """Token ids after which the model writes its answer."""
    return _encoded(tokenizer, _text(tokenizer, to_messages(prompt), add_generation_prompt=True))


def render_example(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, loss_on: str = "response"
) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation and a mask of those that carry loss.

    The loss lies on what the assistant says, with the token that ends its turn, since a model that never learns to end
    does not stop. Works with any template: a turn's tokens are the difference between the conversation up to it with
    the generation prompt and the conversation with it. An answer begins with a token of its own, as it does when it is
    generated, even where the text alone would give one token for its beginning and the end of the prompt.

    Raises:
        InvalidSpec: the template does not render a conversation as a continuation of its beginning.
    """
    whole = _text(tokenizer, messages)
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    starts = [_text(tokenizer, messages[:index], add_generation_prompt=True) for index in turns]
    ids = _encoded(tokenizer, starts[0] if starts else whole)
    mask = [loss_on == "all"] * len(ids)
    for index, (start, following) in zip(turns, pairwise([*starts, whole]), strict=True):
        part = _continuation(tokenizer, start, following)
        num_said = len(part)
        if loss_on != "all":
            turn = _text(tokenizer, messages[: index + 1])
            said = part if turn == following else _continuation(tokenizer, start, turn)
            num_said = _num_said(tokenizer, said, part)
        ids += part
        mask += [position < num_said for position in range(len(part))]
    return ids, mask


def render_completion(
    tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[Message], answer: str
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, and of an answer to it with the token that ends its turn.

    Raises:
        InvalidSpec: the template does not render a conversation as a continuation of its beginning.
    """
    messages = to_messages(prompt)
    start = _text(tokenizer, messages, add_generation_prompt=True)
    whole = _text(tokenizer, [*messages, {"role": "assistant", "content": answer}])
    ids = _continuation(tokenizer, start, whole)
    return _encoded(tokenizer, start), ids[: _turn_end(tokenizer, ids)]


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer: the end of sequence, ends of turns, and those that the model came with."""
    named = {tokenizer.eos_token_id, *(tokenizer.convert_tokens_to_ids(token) for token in _END_OF_TURN)}
    known = {number for number in named if number is not None and number != tokenizer.unk_token_id}
    return frozenset(known.union(tokenizer.init_kwargs.get(STOPS, ())))


def _turn_end(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> int:
    """End of a turn: just after its stop token, without the white space that a template puts behind it."""
    stops = stop_ids(tokenizer)
    return next((position + 1 for position in range(len(ids) - 1, -1, -1) if ids[position] in stops), len(ids))


def _continuation(tokenizer: PreTrainedTokenizerBase, start: str, whole: str) -> list[int]:
    """Token ids of what follows `start` in `whole`, where `start` has tokens of its own."""
    if not whole.startswith(start):
        raise InvalidSpec(_CHANGES)
    start_ids, ids = _encoded(tokenizer, start), _encoded(tokenizer, whole)
    if ids[: len(start_ids)] == start_ids:
        return ids[len(start_ids) :]
    return _encoded(tokenizer, whole[len(start) :])


def _num_said(tokenizer: PreTrainedTokenizerBase, said: list[int], part: list[int]) -> int:
    """How many tokens at the beginning of `part` are an answer, which when nothing follows is `said`."""
    both = list(takewhile(lambda pair: pair[0] == pair[1], zip(said, part, strict=False)))
    if len(both) < len(said) and not stop_ids(tokenizer).intersection(said[: len(both)]):
        raise InvalidSpec(_CHANGES)
    return _turn_end(tokenizer, said[: len(both)])


def _text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> str:
    try:
        found: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        raise InvalidSpec(f"the model's chat template refuses this conversation: {error}") from error
    return found


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found
