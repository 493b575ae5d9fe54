"""Which tokens carry loss, by examples worked by hand: every template, one turn and several."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from finery.models import chat, loading

USER, ANSWER = {"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}
SYSTEM = {"role": "system", "content": "Add."}
MORE = [{"role": "user", "content": "3+3="}, {"role": "assistant", "content": "6"}]

SINGLE, MULTI = [USER, ANSWER], [SYSTEM, USER, ANSWER, *MORE]


def pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int], mask: list[bool]) -> list[tuple[bool, str]]:
    """Runs of tokens with and without loss, as text."""
    runs: list[tuple[bool, list[int]]] = []
    for number, has_loss in zip(ids, mask, strict=True):
        if not runs or runs[-1][0] != has_loss:
            runs.append((has_loss, []))
        runs[-1][1].append(number)
    return [(has_loss, tokenizer.decode(numbers)) for has_loss, numbers in runs]


def shown(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]]) -> list[tuple[bool, str]]:
    return pieces(tokenizer, *chat.render_example(tokenizer, messages))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (SINGLE, [(False, "<user>1+1=<assistant>"), (True, "2<eos>")]),
        (
            MULTI,
            [
                (False, "<system>Add.<user>1+1=<assistant>"),
                (True, "2<eos>"),
                (False, "<user>3+3=<assistant>"),
                (True, "6<eos>"),
            ],
        ),
    ],
)
def test_the_tiny_template_has_loss_on_answers_and_their_end(
    tiny_tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], expected: list[tuple[bool, str]]
) -> None:
    assert shown(tiny_tokenizer, messages) == expected


def test_the_tiny_template_in_numbers(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    ids, mask = chat.render_example(tiny_tokenizer, SINGLE)

    # pad 0, eos 1, unk 2, user 3, assistant 4, system 5, then the digits from 6 on.
    assert ids[:2] == [3, 6 + 1]
    assert ids[-3:] == [4, 6 + 2, 1]
    assert mask == [False] * 6 + [True] * 2


def test_the_plain_template_is_the_text_alone(tiny_folder: Path) -> None:
    tokenizer = loading.load_tokenizer(tiny_folder, "plain")

    assert shown(tokenizer, SINGLE) == [(False, "1+1="), (True, "2<eos>")]
    assert shown(tokenizer, MULTI) == [(False, "Add.1+1="), (True, "2<eos>"), (False, "3+3="), (True, "6<eos>")]
    assert tokenizer.decode(chat.render_prompt(tokenizer, "1+1=")) == "1+1="


def test_chatml_adds_nothing_that_the_user_did_not_write(smollm2_folder: Path) -> None:
    tokenizer = loading.load_tokenizer(smollm2_folder, "chatml")

    first = "<|im_start|>user\n1+1=<|im_end|>\n<|im_start|>assistant\n"
    assert shown(tokenizer, SINGLE) == [(False, first), (True, "2<|im_end|>"), (False, "\n")]
    assert tokenizer.decode(chat.render_prompt(tokenizer, "1+1=")) == first
    assert shown(tokenizer, MULTI) == [
        (False, f"<|im_start|>system\nAdd.<|im_end|>\n{first}"),
        (True, "2<|im_end|>"),
        (False, "\n<|im_start|>user\n3+3=<|im_end|>\n<|im_start|>assistant\n"),
        (True, "6<|im_end|>"),
        (False, "\n"),
    ]


def test_the_template_of_smollm2_has_loss_on_answers_and_their_end(smollm2_folder: Path) -> None:
    tokenizer = loading.load_tokenizer(smollm2_folder)

    found = shown(tokenizer, MULTI)

    assert [text for has_loss, text in found if has_loss] == ["2<|im_end|>", "6<|im_end|>"]
    whole = tokenizer.apply_chat_template(MULTI, tokenize=False)
    assert "".join(text for _, text in found) == whole


@pytest.mark.parametrize("messages", [SINGLE, MULTI])
def test_a_prompt_is_what_stands_before_the_last_answer(
    tiny_tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]]
) -> None:
    prompt = chat.render_prompt(tiny_tokenizer, messages[:-1])

    ids, _ = chat.render_example(tiny_tokenizer, messages)
    assert ids[: len(prompt)] == prompt
    assert tiny_tokenizer.decode(ids[len(prompt) :]) == f"{messages[-1]['content']}<eos>"


def test_loss_on_all_is_loss_on_every_token(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    ids, mask = chat.render_example(tiny_tokenizer, MULTI, loss_on="all")

    assert ids == chat.render_example(tiny_tokenizer, MULTI)[0]
    assert all(mask)


def test_a_conversation_without_an_answer_has_no_loss(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    assert not any(chat.render_example(tiny_tokenizer, [SYSTEM, USER])[1])


def test_an_answer_that_is_empty_has_loss_on_its_end(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    empty = {"role": "assistant", "content": ""}

    assert shown(tiny_tokenizer, [USER, empty])[-1] == (True, "<eos>")


def test_a_template_that_rewrites_earlier_turns_is_refused_with_the_way_out(tiny_folder: Path) -> None:
    tokenizer = loading.load_tokenizer(tiny_folder)
    tokenizer.chat_template = "{{ messages | length }}" + tokenizer.chat_template

    with pytest.raises(ValueError, match="chatml"):
        chat.render_example(tokenizer, MULTI)


def test_answers_stop_at_the_end_tokens_that_the_vocabulary_has(
    tiny_tokenizer: PreTrainedTokenizerBase, smollm2_folder: Path
) -> None:
    smollm2 = loading.load_tokenizer(smollm2_folder)

    assert chat.stop_ids(tiny_tokenizer) == {tiny_tokenizer.eos_token_id}
    assert smollm2.convert_tokens_to_ids("<|im_end|>") in chat.stop_ids(smollm2)
    assert smollm2.unk_token_id not in chat.stop_ids(smollm2) - {smollm2.eos_token_id}
