"""What the child of chat makes of tokens and of a machine's memory."""

from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from finery.chat.runner import Answerer, OutOfMemory, Pieces
from finery.chat.specs import ChatDone, ChatSampling, ChatText, ChatTurn
from finery.models import loading, resolving
from tests.models.conftest import models_home, smollm2_folder, tiny_folder  # noqa: F401 - fixtures

TEXTS = [
    "plain words, and more of them",
    "\u4e09\u6a21\u578b \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 na\u00efve",
    "  two spaces \n\n\ttab  ",
    "don't , can't . 'quoted' !",
]


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> PreTrainedTokenizerBase:  # noqa: F811 - the fixture
    return loading.load_tokenizer(smollm2_folder)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_together_the_whole(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    pieces = Pieces(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]

    found = [pieces.add(token) for token in ids]

    assert "".join(found) + pieces.rest() == text
    assert not any("\ufffd" in piece for piece in found)
    assert len([piece for piece in found if piece]) > 4


def test_a_character_that_is_never_completed_is_given_at_the_end(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("ab \U0001f9ff", add_special_tokens=False)["input_ids"][:-1]
    pieces = Pieces(tokenizer)

    found = "".join(pieces.add(token) for token in ids)

    assert "\ufffd" not in found
    assert found + pieces.rest() == tokenizer.decode(ids)


def test_tokens_that_are_no_text_give_none(tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = Pieces(tokenizer)
    ids = [tokenizer.eos_token_id, *tokenizer("hello", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]

    assert "".join(pieces.add(token) for token in ids) + pieces.rest() == "hello"


def test_a_model_that_does_not_fit_is_not_loaded(models_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    resolved = resolving.resolve("tiny-char", home=models_home)
    loading.materialize(resolved, "tiny-char")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(available=2**20))

    with pytest.raises(OutOfMemory, match=r"tiny-char needs about 0\.0 GiB of memory and 0\.0 GiB are free"):
        Answerer("tiny-char", resolved)


def test_an_answer_that_nobody_waits_for_leaves_the_next_one_right(models_home: Path) -> None:  # noqa: F811
    answerer = Answerer("tiny-char", resolving.resolve("tiny-char", home=models_home))
    turns = [ChatTurn(role="user", content="1+1=")]
    sampling = ChatSampling(max_new_tokens=20, seed=1)

    def whole() -> tuple[str, ChatDone]:
        *pieces, done = answerer.answer(turns, sampling, lambda: False)
        assert isinstance(done, ChatDone)
        return "".join(piece.text for piece in pieces if isinstance(piece, ChatText)), done

    first, _ = whole()
    left = answerer.answer(turns, sampling, lambda: False)
    next(left)
    left.close()
    again, done = whole()
    [*_, stopped] = answerer.answer(turns, sampling, lambda: True)

    assert again == first
    assert (done.reason, done.num_tokens) == ("length", 20)
    assert isinstance(stopped, ChatDone)
    assert (stopped.reason, stopped.num_tokens) == ("stopped", 1)
