"""Families of language models: how each is built where its config does not say, and what its fields may hold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from finery.core.errors import InvalidSpec


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


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
    "smollm3": Family(),
    "ministral3": Family(),
    "ernie4_5": Family(),
    "cwm": Family(),
    "minicpm3": Family(),
    "aquila": Family(),
    "deepseek": Family(),
    "kimi_k2": Family(),
    "granitemoeshared": Family(),
    "qwen2_vl": Family(qkv_bias=True),
    "qwen2_vl_text": Family(qkv_bias=True),
    "qwen2_5_vl": Family(qkv_bias=True),
    "qwen2_5_vl_text": Family(qkv_bias=True),
    "qwen3_vl_text": Family(has_qk_norm=True),
    "exaone4": Family(has_qk_norm=True),
    "dots1": Family(has_qk_norm=True),
    "arcee": Family(is_gated=False),
    "cohere2": Family(norms=1, is_tied=True),
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
ENCODERS: Final = _words(
    """
    albert align altclip audio-spectrogram-transformer bart bart_text beit bert big_bird bigbird_pegasus blenderbot
    blenderbot-small blip camembert canine chinese_clip clap clip clip_text_model clip_vision_model clipseg convbert
    convnext convnextv2 data2vec-audio data2vec-text data2vec-vision deberta deberta-v2 deit detr dinov2 dinov3_vit
    distilbert efficientnet electra ernie esm eurobert flaubert fnet funnel groupvit hubert ibert layoutlm layoutlmv2
    layoutlmv3 led longformer luke lxlmert m2m_100 marian markuplm mbart megatron-bert mobilebert mobilenet_v2
    modernbert mpnet mvp nomic_bert nystromformer owlvit pegasus pegasus_x perceiver plbart prophetnet rembert resnet
    roberta roberta-prelayernorm roc_bert roformer sam segformer sew siglip siglip2 siglip_text_model
    siglip_vision_model speech_to_text speecht5 splinter squeezebert swin swinv2 unispeech vilt visual_bert vit
    vit_mae wav2vec2 wavlm whisper xlm xlm-prophetnet xlm-roberta xlm-roberta-xl xmod yolos yoso
    """
)
"""`model_type` of models that are no decoders of text, nor built like T5: their matrices are not counted."""

_MOST: Final = 10**9
"""Of any size; beyond it a config is wrong, not large."""
_MOST_LAYERS: Final = 10_000
_LAYERS: Final = frozenset(
    {"num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer", "n_layers", "first_k_dense_replace"}
)
_FLAGS: Final = _words(
    """
    add_qkv_bias is_gated_act mamba_rms_norm mlp_bias mlp_gated multi_query new_decoder_architecture tie_word_embeddings
    use_bias use_qkv_bias use_sliding_window
    """
)
_MAY_BE_ZERO: Final = _words(
    """
    attn_layer_offset expert_layer_offset first_k_dense_replace kv_lora_rank learned_position_embeddings
    moe_intermediate_size moe_latent_size moe_shared_expert_intermediate_size n_routed_experts n_shared_experts
    num_experts num_local_experts q_lora_rank shared_expert_intermediate_size shared_intermediate_size sliding_window
    """
)
_LISTS: Final[Mapping[str, type]] = {
    "attn_layer_indices": int,
    "mlp_only_layers": int,
    "moe_layers": int,
    "layer_types": str,
    "layers_block_type": str,
}
_WORDS: Final[Mapping[str, tuple[object, ...]]] = {
    "attention_bias": (True, False, "qkv", "qkvo"),
    "qk_norm": (True, False, "full", "per_head"),
    "time_step_rank": ("auto",),
    "mamba_dt_rank": ("auto",),
}
"""What a field may say in place of a number."""
_ONLY_WORDS: Final = frozenset({"attention_bias", "qk_norm"})


def checked(name: str, value: Any) -> Any:
    """What a field of a config holds, if it may hold that; whole numbers as int. None passes: the field is absent.

    Args:
        name: Of the field, as the config spells it.
        value: As read from JSON.

    Raises:
        InvalidSpec: it makes no sense; says what was expected.
    """
    if value is None or (name in _WORDS and isinstance(value, bool | str) and value in _WORDS[name]):
        return value
    if name in _FLAGS:
        return _flag(name, value)
    if name in _LISTS:
        return _list(name, value)
    if name in ("hybrid_override_pattern", "feed_forward_proj"):
        if not isinstance(value, str) or (name == "hybrid_override_pattern" and set(value) - set("ME*-")):
            expected = "letters of M, E, * and -" if name == "hybrid_override_pattern" else "text"
            raise InvalidSpec(f"{name} of the config is {shown(value)}; it must be {expected}")
        return value
    if name in _ONLY_WORDS:
        allowed = " or ".join(repr(word) for word in _WORDS[name])
        raise InvalidSpec(f"{name} of the config is {shown(value)}; it must be {allowed}")
    return _number(name, value)


def within(name: str, numbers: Sequence[int], layers: int) -> Sequence[int]:
    """Numbers of layers that a config lists.

    Raises:
        InvalidSpec: the model has no such layer.
    """
    for number in numbers:
        if number >= layers:
            raise InvalidSpec(f"{name} of the config holds {number}, but the model has {layers} layers, counted from 0")
    return numbers


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidSpec(f"{name} of the config is {shown(value)}; it must be true or false")


def _list(name: str, value: Any) -> list[Any]:
    kind = _LISTS[name]
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > _MOST_LAYERS:
        raise InvalidSpec(f"{name} of the config is {shown(value)}; it must be a list")
    for one in value:
        if not isinstance(one, kind) or isinstance(one, bool) or (isinstance(one, int) and one < 0):
            expected = "numbers of layers" if kind is int else "text"
            raise InvalidSpec(f"{name} of the config holds {shown(one)}; it must be a list of {expected}")
    return list(value)


def _number(name: str, value: Any) -> int | float:
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    is_number = is_number and not isinstance(value, bool)
    is_whole = is_number and (name == "expansion_ratio" or int(value) == value)
    most, least = _MOST_LAYERS if name in _LAYERS else _MOST, 0 if name in _MAY_BE_ZERO else 1
    if not is_whole or value < 0 or (value == 0 and least):
        kind = "number" if name == "expansion_ratio" else "whole number"
        expected = f"positive {kind}" if least else f"{kind} that is not negative"
        raise InvalidSpec(f"{name} of the config is {shown(value)}; it must be a {expected}")
    if value > most:
        raise InvalidSpec(f"{name} of the config is {shown(value)}; it must be at most {most:,}")
    return value if name == "expansion_ratio" else int(value)


def shown(value: object) -> str:
    """A value as a message names it: cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
