"""Shapes from configs: the count is exactly that of the model that transformers builds."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from finery.core.errors import InvalidSpec
from finery.planner import shapes

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
    with pytest.raises(InvalidSpec, match="mamba2 model lacks a field"):
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
