"""Which tokens carry loss, by examples worked by hand: every template, one turn and several."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from finery.core.errors import InvalidSpec
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

    with pytest.raises(InvalidSpec, match="set model.template: chatml"):
        chat.render_example(tokenizer, MULTI)
    with pytest.raises(InvalidSpec, match="set model.template: chatml"):
        chat.render_completion(tokenizer, "1+1=", "2")


def test_a_template_that_rewrites_an_earlier_answer_is_refused(tiny_folder: Path) -> None:
    """As models of reasoning have: what was thought is left out once another turn follows."""
    tokenizer = loading.load_tokenizer(tiny_folder)
    answer = "message['content'] + '<eos>'"
    tokenizer.chat_template = tokenizer.chat_template.replace(answer, f"('!' if loop.last else '') + {answer}")

    with pytest.raises(InvalidSpec, match="set model.template: chatml"):
        chat.render_example(tokenizer, MULTI)
    assert shown(tokenizer, SINGLE)[-1] == (True, "!2<eos>")


def test_an_end_that_only_the_last_turn_has_is_not_looked_for_in_the_others(tiny_folder: Path) -> None:
    """As Phi-3 has: each turn ends with one token, the conversation with another."""
    tokenizer = loading.load_tokenizer(tiny_folder)
    tokenizer.init_kwargs[chat.STOPS] = [tokenizer.convert_tokens_to_ids("!")]
    changed = tokenizer.chat_template.replace("+ '<eos>'", "+ '!'")
    tokenizer.chat_template = changed + "{% if not add_generation_prompt %}<eos>{% endif %}"

    assert [text for has_loss, text in shown(tokenizer, MULTI) if has_loss] == ["2!", "6!<eos>"]


def _merging_tokenizer(folder: Path) -> Path:
    """Pairs of characters: `=2` and `23` are one token each, and each text begins with `<s>`."""
    vocabulary = {token: number for number, token in enumerate(["<s>", "<eos>", *"1234+= ", "=2", "23"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("=", "2"), ("2", "3")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<eos>").save_pretrained(folder)
    return folder


def test_a_template_of_ours_begins_with_the_token_that_begins_a_text(
    tmp_path: Path, tiny_folder: Path, smollm2_folder: Path
) -> None:
    folder = _merging_tokenizer(tmp_path)

    for template in ("auto", "plain", "chatml"):
        tokenizer = loading.load_tokenizer(folder, template)  # type: ignore[arg-type]
        ids = chat.render_example(tokenizer, SINGLE)[0]
        assert ids.count(0) == 1
        assert ids[0] == chat.render_prompt(tokenizer, "1+1=")[0] == 0
    for other in (tiny_folder, smollm2_folder):
        assert loading.load_tokenizer(other, "plain").chat_template == loading.PLAIN
        assert loading.load_tokenizer(other, "chatml").chat_template == loading.CHATML


def test_an_answer_has_tokens_of_its_own_where_the_text_alone_would_join_it_to_the_prompt(tmp_path: Path) -> None:
    """Whoever generates it has the prompt's tokens and can only add some."""
    tokenizer = loading.load_tokenizer(_merging_tokenizer(tmp_path))
    joined = tokenizer.convert_tokens_to_ids("=2")

    prompt, answer = chat.render_completion(tokenizer, "1+1=", "23")

    assert tokenizer("=2", add_special_tokens=False)["input_ids"] == [joined]
    assert prompt == chat.render_prompt(tokenizer, "1+1=")
    assert tokenizer.convert_ids_to_tokens(prompt) == ["<s>", "1", "+", "1", "="]
    assert tokenizer.convert_ids_to_tokens(answer) == ["23", "<eos>"]
    turns = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "23"}] * 2
    ids, mask = chat.render_example(tokenizer, turns)
    assert ids == prompt + answer + prompt[1:] + answer
    assert mask == ([False] * 5 + [True] * 2 + [False] * 4 + [True] * 2)
    assert chat.render_example(tokenizer, turns, loss_on="all") == (ids, [True] * len(ids))


def test_where_nothing_is_joined_the_tokens_are_those_of_the_text(tmp_path: Path) -> None:
    tokenizer = loading.load_tokenizer(_merging_tokenizer(tmp_path))
    turns = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "3"}] * 2
    whole = tokenizer("<s>1+1=3<eos>1+1=3<eos>", add_special_tokens=False)["input_ids"]

    assert chat.render_example(tokenizer, turns)[0] == whole
    assert sum(chat.render_completion(tokenizer, turns[:3], "3"), start=[]) == whole


def test_answers_stop_at_the_end_tokens_that_the_vocabulary_has(
    tiny_tokenizer: PreTrainedTokenizerBase, smollm2_folder: Path
) -> None:
    smollm2 = loading.load_tokenizer(smollm2_folder)

    assert chat.stop_ids(tiny_tokenizer) == {tiny_tokenizer.eos_token_id}
    assert smollm2.convert_tokens_to_ids("<|im_end|>") in chat.stop_ids(smollm2)
    assert smollm2.unk_token_id not in chat.stop_ids(smollm2) - {smollm2.eos_token_id}


@pytest.mark.parametrize("ends", [7, [1, 7, 9]])
def test_answers_also_stop_where_the_models_own_settings_say(tiny_folder: Path, tmp_path: Path, ends: Any) -> None:
    """The settings lie beside the weights; a tokenizer that is saved without them still knows."""
    base, adapter, alone = (tmp_path / name for name in ("base", "adapter", "alone"))
    plain = AutoTokenizer.from_pretrained(tiny_folder)
    plain.save_pretrained(base)
    plain.save_pretrained(adapter)
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    expected = {1, 7, *(ends if isinstance(ends, list) else ())}

    tokenizer = loading.load_tokenizer(base)
    tokenizer.save_pretrained(alone)

    assert chat.stop_ids(tokenizer) == chat.stop_ids(loading.load_tokenizer(adapter)) == expected
    assert chat.stop_ids(loading.load_tokenizer(alone)) == expected
