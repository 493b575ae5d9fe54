"""The table of known models, and the names that find its rows."""

import re
import subprocess
import sys
from collections import Counter

import orjson
import pytest

from finery.core.errors import NotFound
from finery.planner import catalog

_FIRST = [
    "id",
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
]
_LAST = ["parameters", "parameters_source", "aliases", "source", "note", "uncertain"]
_SIZES = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
]


@pytest.mark.parametrize("model", catalog.names())
def test_a_model_is_found_by_its_id_and_by_each_alias(model: str) -> None:
    row = catalog.shape_fields(model)
    for written in (model, model.upper(), *row["aliases"]):
        assert catalog.shape_fields(written)["id"] == model


@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("qwen2.5 7b", "Qwen/Qwen2.5-7B"),
        ("Qwen2.5_7B", "Qwen/Qwen2.5-7B"),
        ("unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "Qwen/Qwen2.5-7B"),
        ("Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B"),
        ("Qwen/Qwen3-8B-Base", "Qwen/Qwen3-8B"),
        ("LLAMA 2 7B", "meta-llama/Llama-2-7b-hf"),
        ("someone/Llama-2-7B-Chat-AWQ", "meta-llama/Llama-2-7b-hf"),
        ("llama-3.2-3b-instruct", "meta-llama/Llama-3.2-3B"),
        ("gemma 2 9b it", "google/gemma-2-9b"),
        ("gemma-3-1b-it", "google/gemma-3-1b-pt"),
        ("mixtral 8x7b", "mistralai/Mixtral-8x7B-v0.1"),
        ("Mixtral-8x7B-Instruct-v0.1-AWQ", "mistralai/Mixtral-8x7B-v0.1"),
        ("TheBloke/Mistral-7B-Instruct-v0.3-GPTQ", "mistralai/Mistral-7B-v0.3"),
        ("t5-base", "google-t5/t5-base"),
        ("mpt-7b", "llm-foundry/mpt-7b"),
        ("mosaicml/mpt-7b", "mosaicml/mpt-7b"),
        ("/data/models/Qwen3-8B/", "Qwen/Qwen3-8B"),
    ],
)
def test_a_loose_spelling_finds_the_model(written: str, model: str) -> None:
    assert catalog.shape_fields(written)["id"] == model


@pytest.mark.parametrize("written", ["qwen2.5-8b", "llama-3-9b", "Qwen3-8C"])
def test_an_unknown_name_says_near_matches_and_the_way_out(written: str) -> None:
    with pytest.raises(NotFound, match=r"did you mean .*--config FILE.*--params 7\.6") as caught:
        catalog.shape_fields(written)
    said = re.split(", | or ", str(caught.value).partition("did you mean ")[2].partition("?")[0])
    assert 1 <= len(said) <= 3
    assert set(said) <= set(catalog.names())


@pytest.mark.parametrize("written", ["", "-", "instruct", "v0.1", "zzzzzzzzzzzz"])
def test_a_name_like_none_says_the_way_out_alone(written: str) -> None:
    with pytest.raises(NotFound, match=r"--config FILE.*--params 7\.6") as caught:
        catalog.shape_fields(written)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("written", ["t5", "mt5", "gpt", "gemma-3", "DeepSeek-V9"])
def test_a_family_without_a_size_is_no_model(written: str) -> None:
    with pytest.raises(NotFound):
        catalog.shape_fields(written)


def test_a_version_is_not_dropped_where_that_leaves_several_models() -> None:
    with pytest.raises(NotFound, match=r"v0\.1 or mistralai/Mistral-7B-v0\.3; write one of these"):
        catalog.shape_fields("Mistral-7B-v9.9")


def test_near_matches_keep_the_generation() -> None:
    with pytest.raises(NotFound, match=r"did you mean Qwen/Qwen2\.5-"):
        catalog.shape_fields("qwen2.5-8b")


@pytest.mark.parametrize(
    "written", ["state-spaces/mamba-2.8b-hf", "google-bert/bert-large-uncased", "foo-a3b", "tiny-3b", "other-7b-chat"]
)
def test_a_name_that_shares_no_word_with_a_model_gets_no_suggestion(written: str) -> None:
    with pytest.raises(NotFound) as caught:
        catalog.shape_fields(written)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "family"),
    [("olmoe-1b", "olmo"), ("codeqwen-7b", "qwen"), ("gpt2-huge", "gpt2"), ("mistral-8b", "mistral")],
)
def test_near_matches_share_a_part_of_the_name(written: str, family: str) -> None:
    with pytest.raises(NotFound, match="did you mean") as caught:
        catalog.shape_fields(written)
    said = re.split(", | or ", str(caught.value).partition("did you mean ")[2].partition("?")[0])
    assert all(family in one.casefold() for one in said)


def test_a_row_is_a_copy() -> None:
    row = catalog.shape_fields("Qwen3-8B")
    row["aliases"].append("changed")
    row["hidden_size"] = 1
    assert catalog.shape_fields("Qwen3-8B") != row


def test_names_are_the_ids_each_once() -> None:
    found = catalog.names()
    assert len(found) == len(set(found)) >= 218
    found.clear()
    assert catalog.names()


@pytest.mark.parametrize("model", catalog.names())
def test_every_row_has_the_needed_fields_and_a_source(model: str) -> None:
    row = catalog.shape_fields(model)
    assert all(type(row[name]) is int and row[name] > 0 for name in _SIZES)
    assert isinstance(row["model_type"], str)
    assert isinstance(row["tie_word_embeddings"], bool)
    assert "head_dim" in row or row["hidden_size"] % row["num_attention_heads"] == 0
    assert row["num_attention_heads"] % row["num_key_value_heads"] == 0
    assert isinstance(row.get("attention_bias", False), bool)
    assert "/" in row["source"] or "arXiv:" in row["source"]
    assert row.get("uncertain", True) is True
    assert "uncertain" in row or not row["source"].startswith("model card of")
    assert type(row.get("parameters", 1)) is int


@pytest.mark.parametrize("model", catalog.names())
def test_fields_are_in_one_order(model: str) -> None:
    row = catalog.shape_fields(model)
    others = sorted(set(row) - set(_FIRST) - set(_LAST))
    assert list(row) == [name for name in [*_FIRST, *others, *_LAST] if name in row]


def test_no_two_models_share_a_name() -> None:
    written = Counter(
        name.casefold() for model in catalog.names() for name in (model, *catalog.shape_fields(model)["aliases"])
    )
    assert [name for name, times in written.items() if times > 1] == []


@pytest.mark.parametrize("model", [name for name in catalog.names() if "layer_types" in catalog.shape_fields(name)])
def test_the_kinds_of_layers_agree_with_their_pattern(model: str) -> None:
    row = catalog.shape_fields(model)
    assert [{"M": "mamba", "*": "attention"}[letter] for letter in row["hybrid_override_pattern"]] == row["layer_types"]
    assert len(row["layer_types"]) == row["num_hidden_layers"]


def test_the_first_qwen_counts_gate_and_up_together() -> None:
    assert catalog.shape_fields("Qwen-7B-Chat")["intermediate_size"] == 2 * 11008


def test_the_table_has_one_model_a_line() -> None:
    first, *lines, last = catalog._FILE.read_text().splitlines()
    assert (first, last) == ("[", "]")
    assert [orjson.loads(line.removesuffix(","))["id"] for line in lines] == catalog.names()


def test_a_look_up_needs_no_torch() -> None:
    code = "import sys; from finery.planner.catalog import names; print(bool(names()) and 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
