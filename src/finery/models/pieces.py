"""Tokens as text, piece by piece."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"
"""What a character decodes to of which not all bytes have been drawn yet."""
_NUL = "\0"


class Pieces:
    """Turns tokens into text as they come. The pieces together are the whole.

    A token may hold part of a character, and what it decodes to may depend on the tokens before it; so a few are
    decoded with it, and what they give alone is taken off. NUL characters are left out: no conversation may hold them.
    Special tokens have no text unless they are asked for.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, with_special: bool = False):
        self._tokenizer = tokenizer
        self._with_special = with_special
        self._ids: list[int] = []
        self._start = 0
        """Where decoding begins."""
        self._told = 0
        """Where the tokens begin whose text has not been given."""

    def add(self, token: int) -> str:
        """The text that is certain now; empty while a character is incomplete."""
        self._ids.append(token)
        text = self._new()
        if text.endswith(_INCOMPLETE) or not text:
            return ""
        self._start, self._told = self._told, len(self._ids)
        return text.replace(_NUL, "")

    def rest(self) -> str:
        """What is left at the end."""
        return self._new().replace(_NUL, "")

    def _new(self) -> str:
        before = self._decode(self._ids[self._start : self._told])
        return self._decode(self._ids[self._start :])[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=not self._with_special, clean_up_tokenization_spaces=False
        )
        return str(text)


def texts(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> list[str]:
    """The text of each token, special ones too. A character of several tokens belongs to the last of them."""
    pieces = Pieces(tokenizer, with_special=True)
    found = [pieces.add(token) for token in token_ids]
    if found:
        found[-1] += pieces.rest()
    return found
