"""What the child of chat makes of tokens and of a machine's memory."""

import fcntl
import time
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from finery.chat.child import Answer, Child
from finery.chat.pipe import Answered
from finery.chat.runner import Answerer, OutOfMemory
from finery.chat.specs import ChatDone, ChatEvent, ChatSampling, ChatText, ChatTurn
from finery.models import loading, resolving
from finery.models.pieces import Pieces, texts
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


@pytest.mark.parametrize("text", TEXTS)
def test_each_token_has_its_text(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]

    found = texts(tokenizer, ids)

    assert len(found) == len(ids)
    assert found[-1] == tokenizer.eos_token
    assert "".join(found[:-1]) == text
    assert texts(tokenizer, []) == []


def test_half_a_character_at_the_end_is_with_the_last_token(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("ab \U0001f9ff", add_special_tokens=False)["input_ids"][:-1]

    found = texts(tokenizer, ids)

    assert "".join(found) == tokenizer.decode(ids)
    assert found[-1].endswith("\ufffd")


def test_a_character_that_no_conversation_may_hold_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = Pieces(tokenizer)
    ids = tokenizer("one\0two\0", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "one\0two\0"

    text = "".join(pieces.add(token) for token in ids) + pieces.rest()

    assert text == "onetwo"
    assert ChatTurn(role="assistant", content=text).content == text


def test_two_that_load_at_once_do_not_both_count_the_same_memory(
    models_home: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While another one looks at what is free and fills it, nobody looks."""
    resolved = resolving.resolve("tiny-char", home=models_home)
    loading.materialize(resolved, "tiny-char")
    looks: list[float] = []
    plain = psutil.virtual_memory
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: looks.append(time.monotonic()) or plain())
    with open(tmp_path / "chat.lock", "wb") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        made = pool.submit(Answerer, "tiny-char", resolved, tmp_path / "chat.lock")
        time.sleep(2)
        assert not made.done()
        assert looks == []

        fcntl.flock(other, fcntl.LOCK_UN)
        assert made.result(timeout=60)
        assert len(looks) == 1


@pytest.fixture
def child(models_home: Path, tmp_path: Path) -> Iterator[Child]:  # noqa: F811
    resolved = resolving.resolve("tiny-char", home=models_home)
    made = Child("tiny-char", resolved, home=tmp_path, tokens={})
    yield made
    made.close()


def test_a_child_that_reads_nothing_is_asked_without_waiting_and_ended(child: Child) -> None:
    events: SimpleQueue[ChatEvent] = SimpleQueue()
    process = psutil.Process(child.pid)
    process.suspend()
    started = time.monotonic()

    for _ in range(3):
        number = child.ask([ChatTurn(role="user", content="1" * 300_000)], ChatSampling(), events.put)
        child.forget(number)
    assert time.monotonic() - started < 2
    child.close()

    assert time.monotonic() - started < 15
    assert not process.is_running()
    assert not child.is_alive


def test_a_child_that_is_asked_what_it_cannot_read_ends_and_says_why(child: Child) -> None:
    *_, last = Answer(child, [ChatTurn(role="user", content="1")], ChatSampling(max_new_tokens=1))
    assert last.type == "done"
    child._unsent.put(Answered(id=1, event=None))

    psutil.Process(child.pid).wait(timeout=20)

    [log] = child._log.parent.iterdir()
    assert "ValidationError" in log.read_text()


def test_a_model_that_does_not_fit_is_not_loaded(models_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    resolved = resolving.resolve("tiny-char", home=models_home)
    loading.materialize(resolved, "tiny-char")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(available=2**20))

    with pytest.raises(OutOfMemory, match=r"tiny-char needs about 0\.0 GiB of memory and 0\.0 GiB are free"):
        Answerer("tiny-char", resolved, models_home / "chat.lock")


def test_an_answer_that_nobody_waits_for_leaves_the_next_one_right(models_home: Path) -> None:  # noqa: F811
    answerer = Answerer("tiny-char", resolving.resolve("tiny-char", home=models_home), models_home / "chat.lock")
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
