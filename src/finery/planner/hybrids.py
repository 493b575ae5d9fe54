"""Models whose layers are not all alike: state spaces, linear attention, mixtures in some layers, encoders.

Owns: which matrices such a family has, counted over all layers. Does not own: models with one kind of layer (shapes).
Counted as transformers builds them (src/transformers/models/FAMILY/modeling_FAMILY.py), and tested against it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from finery.core.errors import InvalidSpec
from finery.planner.families import checked, within


@dataclass
class Parts:
    """What is in all layers together."""

    layers: int
    hidden: int
    matrices: dict[str, tuple[int, int, bool, float]] = field(default_factory=dict)
    """Name -> inputs, outputs, whether it has a bias, how many there are in all layers."""
    other: int = 0
    """Parameters in no matrix, embedding or head."""
    attention_layers: int = 0
    mixer_elements: float = 0.0
    """What mixers other than attention keep for the backward pass, for a token in all layers."""
    dense_elements: int = 0
    """Widths of plain MLPs, added over layers."""
    expert_layers: int = 0
    num_experts: int = 0
    num_per_token: int = 0
    expert_width: int = 0
    shared_width: int = 0
    is_gated: bool = True

    def add(self, name: str, num_in: int, num_out: int, count: float = 1, *, bias: bool = False) -> None:
        """Count a matrix; those of one name are of one size."""
        before = self.matrices.get(name)
        self.matrices[name] = (num_in, num_out, bias, count + (before[3] if before else 0))

    def add_attention(self, heads: int, kv_heads: int, head_dim: int, *, bias: bool = False, gates: int = 0) -> None:
        """Of one layer. `gates` is the width of what its result is multiplied with."""
        self.attention_layers += 1
        for name, width in (("q_proj", heads * head_dim + gates), ("k_proj", kv_heads * head_dim)):
            self.add(name, self.hidden, width, bias=bias)
        self.add("v_proj", self.hidden, kv_heads * head_dim, bias=bias)
        self.add("o_proj", heads * head_dim, self.hidden, bias=bias)

    def add_mlp(self, width: int) -> None:
        """Of one layer."""
        self.dense_elements += width
        self._block("", self.hidden, width, 1)

    def add_experts(self, num: int, per_token: int, width: int, shared: int = 0, latent: int = 0) -> None:
        """Of one layer. `latent` is the width that routed experts work in, where it is not the hidden size."""
        if not 0 < per_token <= num or width < 1:
            raise InvalidSpec(
                f"a mixture of {num} experts of the width {width} of which a token meets {per_token} cannot be; "
                "look at the number of experts, num_experts_per_tok and moe_intermediate_size of the config"
            )
        self.expert_layers += 1
        self.num_experts, self.num_per_token, self.expert_width, self.shared_width = num, per_token, width, shared
        self.add("router", self.hidden, num)
        self._block("experts.", latent or self.hidden, width, num)
        if latent:
            self.add("fc1_latent_proj", self.hidden, latent)
            self.add("fc2_latent_proj", latent, self.hidden)
        if shared:
            self._block("shared_expert.", self.hidden, shared, 1)

    def _block(self, prefix: str, outside: int, width: int, count: float) -> None:
        for name in ("gate_proj", "up_proj") if self.is_gated else ("up_proj",):
            self.add(prefix + name, outside, width, count)
        self.add(prefix + "down_proj", width, outside, count)

    def add_mamba2(self, heads: int, head_dim: int, groups: int, state: int, kernel: int, *, norm: bool = True) -> None:
        """One mixer of Mamba 2 (arXiv:2405.21060)."""
        inner, convolved = heads * head_dim, heads * head_dim + 2 * groups * state
        self.add("in_proj", self.hidden, inner + convolved + heads)
        self.add("out_proj", inner, self.hidden)
        self.other += convolved * (kernel + 1) + 3 * heads + (inner if norm else 0)
        self.mixer_elements += inner + convolved + heads + convolved + 2 * inner

    def add_mamba(self, inner: int, state: int, rank: int, kernel: int, *, norms: bool = False) -> None:
        """One mixer of Mamba (arXiv:2312.00752)."""
        self.add("in_proj", self.hidden, 2 * inner)
        self.add("x_proj", inner, rank + 2 * state)
        self.add("dt_proj", rank, inner, bias=True)
        self.add("out_proj", inner, self.hidden)
        self.other += inner * (state + 1 + kernel + 1) + (rank + 2 * state if norms else 0)
        self.mixer_elements += 5 * inner + rank + 2 * state


Get = Callable[..., Any]


def _heads(get: Get, parts: Parts) -> tuple[int, int, int]:
    heads = int(get("num_attention_heads"))
    kv_heads, head_dim = int(get("num_key_value_heads") or heads), int(get("head_dim") or 0)
    if heads % kv_heads:
        raise InvalidSpec(f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({kv_heads})")
    if not head_dim and parts.hidden % heads:
        raise InvalidSpec(f"hidden_size ({parts.hidden}) must be a multiple of num_attention_heads ({heads})")
    return heads, kv_heads, head_dim or parts.hidden // heads


def _kinds(name: str, kinds: list[str], parts: Parts) -> list[str]:
    """The kinds of layers that a config lists, one of each layer."""
    if len(kinds) != parts.layers:
        raise InvalidSpec(f"{name} of the config lists {len(kinds)} layers, but num_hidden_layers is {parts.layers}")
    return kinds


def _nemotron_h(get: Get, parts: Parts) -> None:
    letters = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}
    kinds = get("layers_block_type") or [letters[one] for one in str(get("hybrid_override_pattern"))]
    parts.is_gated = False
    for kind in kinds:
        parts.other += parts.hidden
        if kind in ("mamba", "linear_attention"):
            heads, head_dim = int(get("mamba_num_heads")), int(get("mamba_head_dim"))
            parts.add_mamba2(
                heads, head_dim, int(get("n_groups")), int(get("ssm_state_size")), int(get("conv_kernel", 4))
            )
        elif kind == "moe":
            shared = int(get("moe_shared_expert_intermediate_size") or 0) * int(get("n_shared_experts") or 1)
            latent = int(get("moe_latent_size") or 0)
            width = int(get("moe_intermediate_size"))
            parts.add_experts(int(get("n_routed_experts")), int(get("num_experts_per_tok")), width, shared, latent)
        elif kind == "mlp":
            parts.add_mlp(int(get("intermediate_size")))
        else:
            parts.add_attention(*_heads(get, parts))


def _mamba2(get: Get, parts: Parts) -> None:
    names = ("num_heads", "head_dim", "n_groups", "state_size", "conv_kernel")
    for _ in range(parts.layers):
        parts.other += parts.hidden
        parts.add_mamba2(*(int(get(name)) for name in names))


def _mamba(get: Get, parts: Parts) -> None:
    rank = get("time_step_rank", "auto")
    rank = -(-parts.hidden // 16) if rank == "auto" else int(rank)
    inner = int(get("intermediate_size") or int(get("expand", 2)) * parts.hidden)
    for _ in range(parts.layers):
        parts.other += parts.hidden
        parts.add_mamba(inner, int(get("state_size", 16)), rank, int(get("conv_kernel", 4)))


def _of_bamba(get: Get, parts: Parts, *, is_attention: bool, norm: bool = True) -> None:
    """The mixer of a layer that has one of two kinds."""
    if is_attention:
        parts.add_attention(*_heads(get, parts), bias=bool(get("attention_bias")))
        return
    names = ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv")
    parts.add_mamba2(*(int(get(name)) for name in names), norm=norm)


def _bamba(get: Get, parts: Parts) -> None:
    attentions = within("attn_layer_indices", get("attn_layer_indices") or (), parts.layers)
    for index in range(parts.layers):
        parts.other += 2 * parts.hidden
        _of_bamba(get, parts, is_attention=index in attentions)
        parts.add_mlp(int(get("intermediate_size")))


def _falcon_h1(get: Get, parts: Parts) -> None:
    for _ in range(parts.layers):  # both mixers in each layer, side by side
        parts.other += 2 * parts.hidden
        _of_bamba(get, parts, is_attention=True)
        _of_bamba(get, parts, is_attention=False, norm=bool(get("mamba_rms_norm")))
        parts.add_mlp(int(get("intermediate_size")))


def _granitemoehybrid(get: Get, parts: Parts) -> None:
    for kind in _kinds("layer_types", get("layer_types") or ["mamba"] * parts.layers, parts):
        parts.other += 2 * parts.hidden
        _of_bamba(get, parts, is_attention=kind in ("attention", "full_attention"))
        shared = int(get("shared_intermediate_size") or 0)
        if get("num_local_experts"):
            num, per_token = int(get("num_local_experts")), int(get("num_experts_per_tok"))
            parts.add_experts(num, per_token, int(get("intermediate_size")), shared)
        else:
            parts.add_mlp(shared)


def _jamba(get: Get, parts: Parts) -> None:
    rank = get("mamba_dt_rank", "auto")
    rank = -(-parts.hidden // 16) if rank == "auto" else int(rank)
    num = int(get("num_experts") or 1)
    for index in range(parts.layers):
        parts.other += 2 * parts.hidden
        if index % int(get("attn_layer_period", 8)) == int(get("attn_layer_offset", 4)):
            parts.add_attention(*_heads(get, parts))
        else:
            inner = int(get("mamba_expand", 2)) * parts.hidden
            state, kernel = int(get("mamba_d_state", 16)), int(get("mamba_d_conv", 4))
            parts.add_mamba(inner, state, rank, kernel, norms=True)
        width = int(get("intermediate_size"))
        if num > 1 and index % int(get("expert_layer_period", 2)) == int(get("expert_layer_offset", 1)):
            parts.add_experts(num, int(get("num_experts_per_tok", 2)), width)
        else:
            parts.add_mlp(width)


def _qwen3_next(get: Get, parts: Parts) -> None:
    heads, kv_heads, head_dim = _heads(get, parts)
    key_heads, value_heads = int(get("linear_num_key_heads", 16)), int(get("linear_num_value_heads", 32))
    keys = key_heads * int(get("linear_key_head_dim", 128))
    value_dim = int(get("linear_value_head_dim", 128))
    values, kernel = value_heads * value_dim, int(get("linear_conv_kernel_dim", 4))
    every = int(get("full_attention_interval", 4))
    kinds = get("layer_types") or [
        "linear_attention" if (index + 1) % every else "full_attention" for index in range(parts.layers)
    ]
    dense = within("mlp_only_layers", get("mlp_only_layers") or (), parts.layers)
    for index, kind in enumerate(_kinds("layer_types", kinds, parts)):
        parts.other += 2 * parts.hidden
        if kind == "full_attention":  # gated: a second vector beside the queries
            parts.add_attention(heads, kv_heads, head_dim, gates=heads * head_dim)
            parts.other += 2 * head_dim
        else:
            parts.add("in_proj_qkvz", parts.hidden, 2 * keys + 2 * values)
            parts.add("in_proj_ba", parts.hidden, 2 * value_heads)
            parts.add("out_proj", values, parts.hidden)
            parts.other += (2 * keys + values) * kernel + 2 * value_heads + value_dim
            parts.mixer_elements += 2 * (2 * keys + 2 * values) + 2 * values
        if index in dense or (index + 1) % int(get("decoder_sparse_step", 1)):
            parts.add_mlp(int(get("intermediate_size")))
            continue
        num, per_token = int(get("num_experts")), int(get("num_experts_per_tok"))
        shared = int(get("shared_expert_intermediate_size") or 0)
        parts.add_experts(num, per_token, int(get("moe_intermediate_size")), shared)
        parts.add("shared_expert_gate", parts.hidden, 1)


def _minimax(get: Get, parts: Parts) -> None:
    heads, kv_heads, head_dim = _heads(get, parts)
    width = heads * head_dim
    kinds = get("layer_types") or [
        "full_attention" if (index + 1) % 8 == 0 else "linear_attention" for index in range(parts.layers)
    ]
    for kind in _kinds("layer_types", kinds, parts):
        parts.other += 2 * parts.hidden
        if kind == "full_attention":
            parts.add_attention(heads, kv_heads, head_dim)
        else:
            parts.add("qkv_proj", parts.hidden, 3 * width)
            parts.add("out_proj", width, parts.hidden)
            parts.add("output_gate", parts.hidden, width)
            parts.other += width
            parts.mixer_elements += 6 * width
        sizes = (int(get(name)) for name in ("num_local_experts", "num_experts_per_tok", "intermediate_size"))
        parts.add_experts(*sizes)


def _llama4_text(get: Get, parts: Parts) -> None:
    step, width = int(get("interleave_moe_layer_step") or 1), int(get("intermediate_size"))
    sparse = within("moe_layers", get("moe_layers") or range(step - 1, parts.layers, step), parts.layers)
    for index in range(parts.layers):
        parts.other += 2 * parts.hidden
        parts.add_attention(*_heads(get, parts), bias=bool(get("attention_bias")))
        if index in sparse:
            parts.add_experts(int(get("num_local_experts")), int(get("num_experts_per_tok") or 1), width, shared=width)
        else:
            parts.add_mlp(int(get("intermediate_size_mlp") or width))


def _t5(get: Get, parts: Parts) -> None:
    """Encoder and decoder, whose layers have a second attention that looks at the encoder (arXiv:1910.10683)."""
    decoder = int(get("num_decoder_layers") or get("num_layers") or get("num_hidden_layers"))
    encoder = parts.layers - decoder
    heads = int(get("num_heads") or get("num_attention_heads"))
    head_dim, width = int(get("d_kv") or get("head_dim") or 64), int(get("d_ff") or get("intermediate_size"))
    parts.is_gated = bool(get("is_gated_act")) or "gated" in str(get("feed_forward_proj") or "")
    for _ in range(encoder + 2 * decoder):
        parts.add_attention(heads, heads, head_dim)
    for _ in range(parts.layers):
        parts.add_mlp(width)
    buckets = int(get("relative_attention_num_buckets") or 32)
    parts.other += parts.hidden * (2 * encoder + 3 * decoder + 1) + 2 * buckets * heads


_BUILT: Final[Mapping[str, Callable[[Get, Parts], None]]] = {
    "nemotron_h": _nemotron_h,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "bamba": _bamba,
    "falcon_h1": _falcon_h1,
    "granitemoehybrid": _granitemoehybrid,
    "jamba": _jamba,
    "qwen3_next": _qwen3_next,
    "minimax": _minimax,
    "llama4_text": _llama4_text,
    "t5": _t5,
    "mt5": _t5,
}
KNOWN: Final = frozenset(_BUILT)
"""Families that are counted here, by `model_type`."""
UNKNOWN: Final = frozenset({"zamba", "zamba2", "rwkv", "recurrent_gemma", "xlstm", "lfm2"})
"""Families whose layers are counted nowhere here: they share weights or are built in another way."""


def parts(model_type: str, config: Mapping[str, Any]) -> Parts | None:
    """What the layers of a model have; None where all layers are alike.

    Args:
        model_type: Of the config.
        config: Its fields.

    Raises:
        InvalidSpec: a field is missing or makes no sense; says which.
    """
    build = _BUILT.get(model_type)
    if build is None:
        return None

    asked = ""

    def get(name: str, default: Any = None) -> Any:
        nonlocal asked
        asked, value = name, checked(name, config.get(name))
        return default if value is None else value

    hidden = int(get("hidden_size") or get("d_model") or 0)
    layers = int(get("num_hidden_layers") or get("num_layers") or get("n_layer") or 0)
    if build is _t5:
        layers = int(get("num_layers") or layers)
        layers += int(get("num_decoder_layers") or layers)
    if build is _nemotron_h:
        layers = len(get("layers_block_type") or get("hybrid_override_pattern") or "")
    if hidden < 1 or layers < 1:
        raise InvalidSpec(
            "the config has no hidden_size or no num_hidden_layers; give the whole config.json of the model"
        )
    found = Parts(layers, hidden)
    try:
        build(get, found)
    except TypeError as error:  # of int(None)
        raise InvalidSpec(
            f"the config of a {model_type} model lacks a field: {asked}; give the whole config.json of the model"
        ) from error
    found.other += hidden  # the last norm
    return found
