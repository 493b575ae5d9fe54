"""Families of language models: how each is built where its config does not say, and how it spells its fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final


@dataclass(frozen=True)
class Family:
    """How a family of models is built where its config does not say."""

    is_gated: bool = True
    norm: int = 1
    """Parameters of a norm per element: 1 a scale, 2 a scale and a shift, 0 none."""
    norms: int = 2
    """Of a layer."""
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    is_tied: bool = False
    fused_qkv: str = ""
    """Name of the one matrix of queries, keys and values."""
    fused_gate: str = ""
    mlp: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    out: str = "o_proj"
    has_qk_norm: bool = False
    has_dropout: bool = False
    extra_norm: int = 0
    """Norms of the hidden size beside those of the layers and the last: of the embedding."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Field as of Llama -> what this family calls it."""


_BIASED: Final = Family(is_gated=False, norm=2, qkv_bias=True, out_bias=True, mlp_bias=True, mlp=("", "fc1", "fc2"))
_OF_GPT2: Final = replace(
    _BIASED,
    is_tied=True,
    has_dropout=True,
    fused_qkv="c_attn",
    out="c_proj",
    mlp=("", "c_fc", "mlp.c_proj"),
    aliases={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
        "max_position_embeddings": "n_positions",
    },
)
_OF_NEOX: Final = replace(_BIASED, fused_qkv="query_key_value", out="dense", mlp=("", "dense_h_to_4h", "dense_4h_to_h"))
FAMILIES: Final[dict[str, Family]] = {
    "llama": Family(),
    "mistral": Family(),
    "mixtral": Family(),
    "granite": Family(),
    "baichuan": Family(fused_qkv="W_pack"),
    "internlm": Family(qkv_bias=True, out_bias=True),
    "internlm2": Family(fused_qkv="wqkv", out="wo", mlp=("w1", "w3", "w2")),
    "qwen": Family(qkv_bias=True, fused_qkv="c_attn", out="c_proj", mlp=("w1", "w2", "mlp.c_proj")),
    "qwen2": Family(qkv_bias=True),
    "qwen2_moe": Family(qkv_bias=True),
    "qwen3": Family(has_qk_norm=True),
    "qwen3_moe": Family(has_qk_norm=True),
    "gemma": Family(is_tied=True),
    "gemma2": Family(is_tied=True, norms=4),
    "gemma3_text": Family(is_tied=True, norms=4, has_qk_norm=True),
    "phi": replace(_BIASED, norms=1, head_bias=True, out="dense"),
    "phi3": Family(fused_qkv="qkv_proj", fused_gate="gate_up_proj"),
    "deepseek_v2": Family(),
    "deepseek_v3": Family(),
    "glm4_moe": Family(),
    "granitemoe": Family(),
    "phimoe": Family(norm=2),
    "nemotron": Family(is_gated=False, norm=2),
    "mamba": Family(is_tied=True),
    "t5": Family(is_tied=True),
    "gpt2": _OF_GPT2,
    "gpt_bigcode": _OF_GPT2,
    "gpt_neox": _OF_NEOX,
    "opt": replace(_BIASED, is_tied=True, has_dropout=True, out="out_proj", aliases={"intermediate_size": "ffn_dim"}),
    "bloom": replace(
        _OF_NEOX,
        is_tied=True,
        extra_norm=1,
        aliases={"num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
    ),
    "falcon": replace(_OF_NEOX, norms=1, is_tied=True, qkv_bias=False, out_bias=False, mlp_bias=False),
    "mpt": Family(
        is_gated=False,
        is_tied=True,
        fused_qkv="Wqkv",
        out="out_proj",
        mlp=("", "up_proj", "down_proj"),
        aliases={"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
    ),
    "stablelm": Family(norm=2),
    "olmo": Family(norm=0),
    "olmo2": Family(),
    "cohere": Family(norms=1, is_tied=True),
    "starcoder2": replace(_BIASED, is_tied=True, mlp=("", "c_fc", "c_proj")),
    "gpt_oss": Family(qkv_bias=True, out_bias=True),
    "chatglm": Family(qkv_bias=True, fused_qkv="query_key_value", fused_gate="dense_h_to_4h", out="dense"),
}
"""By `model_type`. A family that is not here is taken for one like Llama."""
