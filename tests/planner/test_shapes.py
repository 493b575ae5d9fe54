"""Shapes from configs: the count is exactly that of the model that transformers builds."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from finery.core.errors import InvalidSpec
from finery.planner import families, shapes
from finery.planner.shapes import ModelShape

BASE: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "max_position_embeddings": 512,
}
GROUPED: dict[str, Any] = {**BASE, "num_key_value_heads": 2}
GPT2: dict[str, Any] = {"vocab_size": 1000, "n_embd": 256, "n_layer": 3, "n_head": 8, "n_positions": 512}
SPARSE: dict[str, Any] = {"moe_intermediate_size": 128, "num_experts_per_tok": 2}
LATENT: dict[str, Any] = {
    **BASE,
    **SPARSE,
    "num_key_value_heads": 8,
    "n_routed_experts": 8,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
}
NO_TABLE = {key: value for key, value in BASE.items() if key not in ("intermediate_size", "max_position_embeddings")}
STATES: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 16}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 96}
NEMOTRON: dict[str, Any] = {
    **SPARSE,
    "mamba_num_heads": 8,
    "mamba_head_dim": 64,
    "n_groups": 2,
    "ssm_state_size": 16,
    "moe_shared_expert_intermediate_size": 192,
    "n_routed_experts": 4,
}
LINEAR: dict[str, Any] = {
    "linear_num_value_heads": 8,
    "linear_num_key_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "shared_expert_intermediate_size": 96,
}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", GROUPED),
    ("llama", {**GROUPED, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("mistral", {**GROUPED, "head_dim": 64}),
    ("qwen2", GROUPED),
    ("qwen3", {**GROUPED, "head_dim": 64}),
    ("gemma", {**GROUPED, "head_dim": 64}),
    ("gemma2", {**GROUPED, "head_dim": 64}),
    ("gemma3_text", {**GROUPED, "head_dim": 64}),
    ("phi", BASE),
    ("phi3", {**GROUPED, "pad_token_id": 0}),
    ("mixtral", {**GROUPED, "num_local_experts": 4}),
    ("qwen2_moe", {**GROUPED, **SPARSE, "num_experts": 6, "shared_expert_intermediate_size": 256}),
    ("qwen3_moe", {**GROUPED, **SPARSE, "num_experts": 6, "head_dim": 64}),
    ("deepseek_v2", {**LATENT, "q_lora_rank": None, "n_shared_experts": 2}),
    ("deepseek_v3", {**LATENT, "q_lora_rank": 64, "n_shared_experts": 1, "n_group": 2, "topk_group": 1}),
    ("gpt2", GPT2),
    ("gpt_bigcode", GPT2),
    ("gpt_neox", BASE),
    ("opt", {**NO_TABLE, "ffn_dim": 1024, "max_position_embeddings": 512, "word_embed_proj_dim": 256}),
    ("bloom", {"vocab_size": 1000, "hidden_size": 256, "n_layer": 3, "n_head": 8}),
    ("falcon", NO_TABLE),
    ("falcon", {**NO_TABLE, "new_decoder_architecture": True, "num_kv_heads": 2}),
    ("mpt", {"vocab_size": 1000, "d_model": 256, "n_layers": 3, "n_heads": 8}),
    ("stablelm", GROUPED),
    ("olmo", GROUPED),
    ("olmo2", GROUPED),
    ("cohere", GROUPED),
    ("starcoder2", GROUPED),
    ("granite", GROUPED),
    ("gpt_oss", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 32}),
    ("smollm3", {**GROUPED, "pad_token_id": 0}),
    ("ministral3", GROUPED),
    ("ernie4_5", GROUPED),
    ("cwm", GROUPED),
    ("granitemoeshared", GROUPED),
    ("minicpm3", GROUPED),
    ("exaone4", GROUPED),
    ("dots1", {**GROUPED, **SPARSE, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}),
    ("arcee", GROUPED),
    ("cohere2", GROUPED),
    ("nemotron", GROUPED),
    ("granitemoe", {**GROUPED, "num_local_experts": 4}),
    ("phimoe", {**GROUPED, "num_local_experts": 4}),
    ("glm4_moe", {**GROUPED, **SPARSE, "n_routed_experts": 4, "n_shared_experts": 1, "head_dim": 32}),
    ("mamba", {"vocab_size": 1000, "hidden_size": 256, "num_hidden_layers": 2}),
    ("mamba2", {**NO_TABLE, "num_heads": 8, "head_dim": 64, "state_size": 16, "n_groups": 2}),
    ("nemotron_h", {**GROUPED, **NEMOTRON, "hybrid_override_pattern": "ME*"}),
    ("nemotron_h", {**GROUPED, **NEMOTRON, "hybrid_override_pattern": "M-*", "head_dim": 64}),
    ("nemotron_h", {**GROUPED, **NEMOTRON, "hybrid_override_pattern": "EM*", "moe_latent_size": 64}),
    ("bamba", {**GROUPED, **STATES, "attn_layer_indices": [1]}),
    ("falcon_h1", {**GROUPED, **STATES, "mamba_d_ssm": 512}),
    ("granitemoehybrid", {**GROUPED, **STATES, **EXPERTS, "layer_types": ["mamba", "attention", "mamba"]}),
    ("granitemoehybrid", {**GROUPED, **STATES, "num_local_experts": 0, "shared_intermediate_size": 96}),
    ("jamba", {**GROUPED, "num_experts": 4, "num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 1}),
    ("qwen3_next", {**GROUPED, **SPARSE, **LINEAR, "num_experts": 4, "num_hidden_layers": 5, "head_dim": 32}),
    ("minimax", {**GROUPED, "num_local_experts": 4, "head_dim": 32, "num_hidden_layers": 9}),
    ("llama4_text", {**GROUPED, "num_local_experts": 4, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 512}),
    ("llama4_text", {**GROUPED, "num_local_experts": 4, "interleave_moe_layer_step": 1, "head_dim": 64}),
]


@pytest.mark.parametrize(("model_type", "fields"), MODELS, ids=[name for name, _ in MODELS])
def test_parameters_are_counted_exactly(model_type: str, fields: dict[str, Any]) -> None:
    config = AutoConfig.for_model(model_type, **fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)

    found = shapes.from_config(config.to_dict())

    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert not found.assumed


@pytest.mark.parametrize("model_type", ["qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text"])
def test_the_language_model_of_one_that_sees_is_counted_exactly(model_type: str) -> None:
    config = AutoConfig.for_model(model_type, **GROUPED, head_dim=32, tie_word_embeddings=True)
    with torch.device("meta"):
        model = AutoModel.from_config(config)

    found = shapes.from_config(config.to_dict())

    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert not found.assumed


@pytest.mark.parametrize("gated", ["gated-gelu", "relu"])
@pytest.mark.parametrize("model_type", ["t5", "mt5"])
def test_an_encoder_and_its_decoder_are_counted_exactly(model_type: str, gated: str) -> None:
    fields = {"vocab_size": 1000, "d_model": 256, "d_kv": 32, "d_ff": 640, "num_heads": 4, "feed_forward_proj": gated}
    config = AutoConfig.for_model(model_type, **fields, num_layers=2, num_decoder_layers=3)
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config)

    found = shapes.from_config(config.to_dict())

    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.layers == 5


def test_a_family_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="zamba2 cannot be counted yet"):
        shapes.from_config({**GROUPED, "model_type": "zamba2"})
    with pytest.raises(InvalidSpec, match="mamba2 model lacks a field: num_heads"):
        shapes.from_config({**GROUPED, "model_type": "mamba2"})


@pytest.mark.parametrize(("billions", "active"), [(30.5, 3.3), (235, 22), (46.7, 12.9), (671, 37), (2.7, 0.5)])
def test_a_size_and_what_a_token_meets_make_a_mixture(billions: float, active: float) -> None:
    found = shapes.from_parameters(billions, active=active)

    assert found.parameters == pytest.approx(billions * 1e9, rel=0.03)
    assert found.active_parameters == pytest.approx(active * 1e9, rel=0.05)
    with pytest.raises(InvalidSpec, match="must be 0 to all"):
        shapes.from_parameters(billions, active=billions + 1)


def test_few_layers_with_attention_leave_a_small_cache() -> None:
    found = shapes.from_config({**GROUPED, **NEMOTRON, "model_type": "nemotron_h", "hybrid_override_pattern": "M-*"})

    assert found.kv_elements_per_token == 2 * 2 * 32


@pytest.mark.parametrize("billions", [0.2, 0.5, 1.5, 7, 7.6, 13, 70, 405])
def test_a_size_alone_makes_a_usual_model_of_that_size(billions: float) -> None:
    found = shapes.from_parameters(billions)

    assert found.parameters == pytest.approx(billions * 1e9, rel=0.03)
    assert found.intermediate < 6 * found.hidden


def test_lora_has_the_parameters_of_its_paper() -> None:
    """GPT-3 175B, rank 4 on queries and values: 35 MB in 16 bits (arXiv:2106.09685, section 4.2)."""
    gpt3 = shapes.from_config(
        {
            "model_type": "llama",
            "hidden_size": 12288,
            "num_hidden_layers": 96,
            "num_attention_heads": 96,
            "intermediate_size": 4 * 12288,
            "mlp_gated": False,
            "vocab_size": 50257,
            "tie_word_embeddings": True,
        }
    )

    assert gpt3.parameters == pytest.approx(175e9, rel=0.01)
    assert 2 * gpt3.adapter_parameters(4, ["q_proj", "v_proj"]) / 2**20 == pytest.approx(36)


def test_latent_attention_keeps_as_little_as_its_paper_says() -> None:
    """DeepSeek-V2: 60 layers, 512 + 64 elements each (arXiv:2405.04434, section 2.1.4)."""
    found = shapes.from_config({**LATENT, "num_hidden_layers": 60, "kv_lora_rank": 512, "qk_rope_head_dim": 64})

    assert found.kv_elements_per_token == 60 * 576


def test_a_token_meets_few_of_many_experts() -> None:
    found = shapes.from_config({**GROUPED, **SPARSE, "model_type": "qwen3_moe", "num_experts": 6, "head_dim": 64})

    idle = 3 * 4 * 3 * 256 * 128  # layers, experts that a token does not meet, matrices
    assert found.parameters - found.active_parameters == idle


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "no hidden_size"),
        ({"vocab_size": 0}, "vocab_size of the config is 0"),
        ({"num_hidden_layers": "three"}, "num_hidden_layers of the config is 'three'"),
        ({"num_key_value_heads": 3}, r"num_attention_heads \(8\) must be a multiple of num_key_value_heads \(3\)"),
        ({"num_attention_heads": 7}, r"hidden_size \(256\) must be a multiple of num_attention_heads \(7\)"),
    ],
)
def test_a_config_that_describes_no_model_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        shapes.from_config({**BASE, **change})


def test_an_unknown_target_of_lora_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidSpec, match="no matrix 'query'; it has down_proj, gate_proj"):
        shapes.from_config(BASE).adapter_parameters(8, ["query"])


FUZZED: dict[str, dict[str, Any]] = {
    "llama": {**GROUPED, "head_dim": 32, "sliding_window": 64, "attention_bias": True, "tie_word_embeddings": True},
    "qwen2_moe": {
        **GROUPED,
        **SPARSE,
        "num_experts": 6,
        "shared_expert_intermediate_size": 256,
        "decoder_sparse_step": 1,
    }
    | {"mlp_only_layers": [0], "use_sliding_window": True, "sliding_window": 64},
    "deepseek_v3": {**LATENT, "q_lora_rank": 64, "n_shared_experts": 1},
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt2": {**GPT2, "n_inner": 1024},
    "gemma": {**GROUPED, "head_dim": 64},
    "falcon": {**NO_TABLE, "new_decoder_architecture": True, "num_kv_heads": 2, "multi_query": False},
    "mpt": {"vocab_size": 1000, "d_model": 256, "n_layers": 3, "n_heads": 8, "expansion_ratio": 4},
    "opt": {**NO_TABLE, "ffn_dim": 1024, "max_position_embeddings": 512, "word_embed_proj_dim": 128},
    "gpt_oss": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 32},
    "mamba": {**NO_TABLE, "state_size": 16, "time_step_rank": 16, "expand": 2, "conv_kernel": 4},
    "mamba2": {**NO_TABLE, "num_heads": 8, "head_dim": 64, "state_size": 16, "n_groups": 2, "conv_kernel": 4},
    "t5": {"vocab_size": 1000, "d_model": 256, "d_kv": 32, "d_ff": 640, "num_heads": 4, "num_layers": 2}
    | {"num_decoder_layers": 3, "relative_attention_num_buckets": 32, "is_gated_act": True},
    "nemotron_h": {**GROUPED, **NEMOTRON, "hybrid_override_pattern": "ME*", "moe_latent_size": 64, "conv_kernel": 4},
    "bamba": {**GROUPED, **STATES, "mamba_d_conv": 4, "attn_layer_indices": [1]},
    "falcon_h1": {**GROUPED, **STATES, "mamba_d_conv": 4, "mamba_rms_norm": True},
    "granitemoehybrid": {
        **GROUPED,
        **STATES,
        **EXPERTS,
        "mamba_d_conv": 4,
        "layer_types": ["mamba", "attention", "mamba"],
    },
    "jamba": {**GROUPED, "num_experts": 4, "attn_layer_period": 3, "attn_layer_offset": 1, "mamba_dt_rank": 16}
    | {"mamba_expand": 2, "mamba_d_state": 16, "mamba_d_conv": 4, "expert_layer_period": 2, "num_experts_per_tok": 2},
    "qwen3_next": {**GROUPED, **SPARSE, **LINEAR, "num_experts": 4, "head_dim": 32, "full_attention_interval": 4},
    "minimax": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 32},
    "llama4_text": {**GROUPED, "num_local_experts": 4, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 512},
}
WRONG: list[Any] = ["64", "many", [64], {"size": 64}, -1, -64, 2.5, math.nan, math.inf, 10**10, 1e300, 10**400]


UNREAD = {"max_position_embeddings", "intermediate_size", "multi_query", "head_dim", *SPARSE}
"""Fields that some families do not use."""


def _counts(shape: ModelShape) -> list[float]:
    """Those that are of every model."""
    linears = [number for linear in shape.linears for number in (linear.num_in, linear.num_out, linear.copies)]
    sizes = [shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_dim, shape.vocabulary]
    return [*linears, *sizes, shape.parameters, shape.active_parameters, shape.per_layer]


@pytest.mark.parametrize("model_type", FUZZED)
def test_a_wrong_field_is_refused_by_its_name_or_not_read(model_type: str) -> None:
    config = {"model_type": model_type, **FUZZED[model_type]}
    whole = shapes.from_config(config)
    for name in FUZZED[model_type]:
        is_number = isinstance(config[name], int) and not isinstance(config[name], bool)
        wrongs = [*WRONG, *([True, False] if is_number else [])]
        messages = [_refusal({**config, name: wrong}) for wrong in wrongs]
        if any(messages):
            allowed = [2.5] if name == "expansion_ratio" else []
            said = zip(wrongs, messages, strict=True)
            assert [wrong for wrong, message in said if name not in message and wrong not in allowed] == [], name
            assert max(map(len, messages)) < 250
        else:
            assert name in UNREAD
            assert {shapes.from_config({**config, name: wrong}) for wrong in wrongs} == {whole}


def _refusal(config: Mapping[str, Any]) -> str:
    try:
        shapes.from_config(config)
    except InvalidSpec as error:
        return str(error)
    return ""


@pytest.mark.parametrize("model_type", FUZZED)
@pytest.mark.parametrize("value", [0, 1, 3, 7, 10_000, None, ()])
def test_an_odd_field_makes_a_model_with_positive_counts_or_is_refused(model_type: str, value: Any) -> None:
    config = {"model_type": model_type, **FUZZED[model_type]}
    for name in FUZZED[model_type]:
        without = {key: kept for key, kept in config.items() if key != name}
        try:
            found = shapes.from_config(without if value == () else {**config, name: value})
        except InvalidSpec:
            continue
        assert all(count > 0 and math.isfinite(count) for count in _counts(found)), (name, value)
        assert found.active_parameters <= found.parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intermediate_size": "640"}, "intermediate_size of the config is '640'; it must be a positive whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers of the config is True"),
        ({"num_hidden_layers": 10_001}, "num_hidden_layers of the config is 10001; it must be at most 10,000"),
        ({"sliding_window": -1}, "sliding_window of the config is -1; it must be a whole number that is not negative"),
        ({"num_key_value_heads": 0}, "num_key_value_heads of the config is 0"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings of the config is 'no'; it must be true or false"),
        ({"qk_norm": "some"}, "qk_norm of the config is 'some'; it must be True or False or 'full'"),
        ({"num_experts": 4, "num_experts_per_tok": 5}, r"num_experts_per_tok \(5\) of the config is more than its 4"),
        ({"num_experts": 4, "mlp_only_layers": 1}, "mlp_only_layers of the config is 1; it must be a list"),
        (
            {"num_experts": 4, "mlp_only_layers": [3]},
            "mlp_only_layers of the config holds 3, but the model has 3 layers",
        ),
        ({"num_experts": 4, "mlp_only_layers": ["a"]}, "mlp_only_layers of the config holds 'a'"),
        ({"hidden_size": 8 * 10**6, "num_hidden_layers": 1000}, "the most that are counted are 10,000 billion"),
        ({"model_type": ["llama"]}, r"model_type of the config is \['llama'\]; it must be text"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_with_what_was_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        shapes.from_config({**BASE, "model_type": "llama", **change})


@pytest.mark.parametrize("config", [[], "llama", None, 7])
def test_what_is_no_object_is_no_config(config: Any) -> None:
    for read in (shapes.from_config, shapes.text_fields):
        with pytest.raises(InvalidSpec, match="no object; give the whole config.json"):
            read(config)


def test_an_empty_config_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="the config has no hidden_size"):
        shapes.from_config({})


def test_the_listed_kinds_of_layers_are_one_of_each_layer() -> None:
    config = {**FUZZED["granitemoehybrid"], "model_type": "granitemoehybrid", "layer_types": ["mamba"]}
    with pytest.raises(InvalidSpec, match="layer_types of the config lists 1 layers, but num_hidden_layers is 3"):
        shapes.from_config(config)


@pytest.mark.parametrize("model_type", sorted(families.ENCODERS))
def test_a_model_that_is_no_decoder_is_refused(model_type: str) -> None:
    with pytest.raises(InvalidSpec, match=f"family {model_type} are not counted: they are not decoders"):
        shapes.from_config({**BASE, "model_type": model_type})


def test_encoders_that_people_try_are_among_those_refused() -> None:
    tried = {"bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta", "deberta-v2", "modernbert"}
    assert tried | {"vit", "clip", "siglip", "whisper", "bart", "wav2vec2", "nomic_bert"} <= families.ENCODERS


def test_no_family_is_both_counted_and_refused() -> None:
    assert not families.ENCODERS & (set(families.FAMILIES) | shapes.hybrids.KNOWN | shapes.hybrids.UNKNOWN)


def test_a_family_that_is_not_known_is_counted_as_llama_and_says_so() -> None:
    llama = shapes.from_config({**GROUPED, "model_type": "llama"})

    for given in ({"model_type": "foobar"}, {"model_type": None}, {"model_type": ""}, {}):
        found = shapes.from_config({**GROUPED, **given})
        assert found.assumed
        assert found.parameters == llama.parameters
    assert not llama.assumed
    assert not shapes.from_parameters(7).assumed
    assert not shapes.from_config({"model_type": "mamba", **FUZZED["mamba"]}).assumed


@pytest.mark.parametrize("name", ["text_config", "llm_config", "language_config", "decoder"])
def test_the_fields_of_the_language_model_are_found_inside(name: str) -> None:
    for inner in (GROUPED, GPT2, FUZZED["t5"], FUZZED["mpt"]):
        assert shapes.text_fields({"model_type": "seeing", "vision_config": {"hidden_size": 9}, name: inner}) == inner
    assert shapes.text_fields({"hidden_size": 9, name: GROUPED}) == GROUPED  # of a projector, without layers


def test_the_fields_of_the_language_model_are_found_two_deep() -> None:
    config = {"talker_config": {"hidden_size": 9}, "thinker_config": {"audio_config": {}, "text_config": GROUPED}}

    assert shapes.text_fields(config) == GROUPED


def test_a_config_of_one_model_is_itself_the_fields() -> None:
    for config in (GROUPED, GPT2, FUZZED["t5"], FUZZED["mpt"], {**BASE, "text_config": GPT2}, {"hidden_size": 9}, {}):
        assert shapes.text_fields(config) is config


def test_what_the_whole_config_says_of_the_head_holds_inside() -> None:
    def tied(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> object:
        return shapes.text_fields({**outer, "text_config": {**GROUPED, **inner}}).get("tie_word_embeddings")

    said = {"tie_word_embeddings": True}
    assert tied(said, {}) is True
    assert tied(said, {"tie_word_embeddings": False}) is False
    assert tied({}, {}) is None


def test_a_config_inside_must_be_an_object() -> None:
    with pytest.raises(InvalidSpec, match=r"config\.text_config is no object"):
        shapes.text_fields({"text_config": "llama"})


def test_an_encoder_is_not_taken_for_what_is_inside() -> None:
    config = {"model_type": "clip", "text_config": {**BASE, "model_type": "clip_text_model"}}
    with pytest.raises(InvalidSpec, match="family clip are not counted"):
        shapes.from_config(shapes.text_fields(config))
