"""What a language model is made of, read from its config: every matrix with its sizes, and so an exact count.

A config is the mapping of a Hugging Face `config.json`. Owns: how a config becomes matrices. Does not own: what a
family of models leaves unsaid (families), which models there are (catalog), nor what their numbers cost (memory).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from finery.core.errors import InvalidSpec
from finery.planner import hybrids
from finery.planner.families import ENCODERS, FAMILIES, checked, shown, within

_HIDDEN: Final = ("hidden_size", "n_embd", "d_model")
_DEPTH: Final = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "layers_block_type",
    "hybrid_override_pattern",
)
_NESTED: Final = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
"""Where a config of several models has that of its language model."""
_MOST: Final = 10_000 * 10**9
"""Parameters; a config that has more is wrong."""


@dataclass(frozen=True)
class Linear:
    """A matrix of a layer, as LoRA names its targets."""

    name: str
    num_in: int
    num_out: int
    has_bias: bool = False
    copies: float = 1
    """How many a layer has: experts. A fraction where only some layers have it."""

    @property
    def parameters(self) -> float:
        """Weights and bias of all copies."""
        return self.copies * (self.num_in * self.num_out + (self.num_out if self.has_bias else 0))


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of some layers' MLP."""

    num: int
    num_per_token: int
    intermediate: int
    """Width of one expert."""
    shared: int = 0
    """Width of what every token passes beside the experts."""
    num_layers: int = 0
    """Layers that have experts; the others have a plain MLP."""


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (arXiv:2405.04434, section 2.1): keys and values come from one small vector."""

    query_rank: int
    """0 has no compression of queries."""
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder; lengths are in elements."""

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    linears: tuple[Linear, ...]
    """Of one layer, those of a mixture averaged over all layers."""
    is_gated: bool = True
    is_tied: bool = False
    """Whether the head is the embedding."""
    other: int = 0
    """Parameters that are in no matrix of a layer, embedding or head: norms, positions, router biases."""
    embedding_dim: int = 0
    """Width of the embedding where it is not `hidden`; 0 is `hidden`."""
    experts: Experts | None = None
    latent: LatentAttention | None = None
    window: int = 0
    """Tokens that a layer looks back, where it is fewer than all; 0 is all."""
    has_dropout: bool = False
    norms: int = 2
    """Of the hidden size, in a layer."""
    has_qk_norm: bool = False
    """Whether queries and keys have norms."""
    attention_layers: int | None = None
    """Layers that have attention, where it is not all of them."""
    mixer_elements: float = 0.0
    """What other mixers keep for the backward pass, for a token and layer, on average."""
    assumed: bool = False
    """Whether the family is not known, and its layers were taken for Llama's."""

    @property
    def norm_width(self) -> int:
        """Elements of a layer that pass a norm, for each token."""
        heads = (self.heads + self.kv_heads) * self.head_dim if self.has_qk_norm else 0
        return self.norms * self.hidden + heads

    def cache_shares(self, tensor: int) -> int:
        """Over how many of the devices that share each layer the cache is divided: each has whole heads of keys and
        values, and all of what latent attention keeps (vLLM)."""
        return 1 if self.latent is not None else min(tensor, self.kv_heads)

    @property
    def attention_share(self) -> float:
        """Attentions of a layer, on average."""
        return 1.0 if self.attention_layers is None else self.attention_layers / self.layers

    @property
    def embedding(self) -> int:
        """Parameters of the embedding of tokens."""
        return self.vocabulary * (self.embedding_dim or self.hidden)

    @property
    def head(self) -> int:
        """Parameters of the head; 0 where it is the embedding."""
        return 0 if self.is_tied else self.embedding

    @cached_property
    def per_layer(self) -> float:
        """Parameters of the matrices of one layer, on average."""
        return sum(linear.parameters for linear in self.linears)

    @cached_property
    def parameters(self) -> int:
        """All parameters, each counted once."""
        return round(self.layers * self.per_layer) + self.embedding + self.head + self.other

    @cached_property
    def expert_parameters(self) -> int:
        """Those of experts, which expert parallelism splits."""
        return round(
            self.layers * sum(linear.parameters for linear in self.linears if linear.name.startswith("experts."))
        )

    @cached_property
    def active_parameters(self) -> int:
        """Parameters that one token meets, which make its FLOPs."""
        if self.experts is None:
            return self.parameters
        share = self.experts.num_per_token / self.experts.num
        return self.parameters - round(self.expert_parameters * (1 - share))

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that a token leaves in the cache, over all layers (arXiv:2405.04434, table 1)."""
        if self.latent is not None:
            return self.layers * (self.latent.kv_rank + self.latent.rope_dim)
        layers = self.layers if self.attention_layers is None else self.attention_layers
        return layers * 2 * self.kv_heads * self.head_dim

    def adapter_parameters(
        self, rank: int, targets: Iterable[str] | str = "all-linear", *, decomposes: bool = False
    ) -> int:
        """Trainable parameters of LoRA: rank x (in + out) of each matrix that it is put on (arXiv:2106.09685).

        Args:
            rank: Of the update.
            targets: Names of matrices, such as q_proj, or `all-linear`: all of the layers but routers.
            decomposes: Whether the norm of each row of a matrix is trained, too (DoRA, arXiv:2402.09353).

        Raises:
            InvalidSpec: a name is of no matrix.
        """
        names = {linear.name for linear in self.linears if linear.name != "router"}
        wanted = names if targets == "all-linear" else {_plain(name, names) for name in targets}
        per_layer = sum(
            linear.copies * (rank * (linear.num_in + linear.num_out) + (linear.num_out if decomposes else 0))
            for linear in self.linears
            if linear.name in wanted
        )
        return round(self.layers * per_layer)


def _plain(name: str, names: set[str]) -> str:
    for known in names:
        if name in (known, known.rpartition(".")[2]):
            return known
    raise InvalidSpec(f"the model has no matrix {name!r}; it has {', '.join(sorted(names))}")


def from_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape that a config describes.

    Args:
        config: Of `config.json`; that of the text part where a model has several.

    Raises:
        InvalidSpec: a field is missing or makes no sense; says which.
    """
    shape = _shape(config)
    if not 0 < shape.parameters <= _MOST:
        raise InvalidSpec(
            f"the config describes a model of {shape.parameters / 1e9:,.0f} billion parameters; the most that are "
            f"counted are {_MOST / 1e9:,.0f} billion"
        )
    return shape


def text_fields(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of the language model of a config, which may be inside it where the model reads images or sound, too.

    Args:
        config: Of `config.json`, whole.

    Returns:
        The config itself where it has these fields, or where it has no other config inside.

    Raises:
        InvalidSpec: what should be a config inside is none.
    """
    if not isinstance(config, Mapping):
        raise InvalidSpec(f"the config is {shown(config)}, no object; give the whole config.json of the model")
    kind = config.get("model_type")
    has_layers = any(config.get(name) is not None for name in _DEPTH)
    if (isinstance(kind, str) and kind in ENCODERS) or (has_layers and _has_width(config)):
        return config
    inside = [text_fields(_object(name, config[name])) for name in _NESTED if config.get(name) is not None]
    inside.sort(key=_has_width, reverse=True)
    if not inside or (_has_width(config) and not _has_width(inside[0])):
        return config
    fields, tied = inside[0], config.get("tie_word_embeddings")
    is_said = tied is None or fields.get("tie_word_embeddings") is not None
    return fields if is_said else {**fields, "tie_word_embeddings": tied}


def _object(name: str, inner: Any) -> Mapping[str, Any]:
    if isinstance(inner, Mapping):
        return inner
    raise InvalidSpec(f"config.{name} is no object; give the whole config.json of the model")


def _has_width(config: Mapping[str, Any]) -> bool:
    return any(config.get(name) is not None for name in _HIDDEN)


def _shape(config: Mapping[str, Any]) -> ModelShape:
    reader = _Config(config)
    if reader.model_type in ENCODERS:
        raise InvalidSpec(
            f"models of the family {reader.model_type} are not counted: they are not decoders that write text token by "
            "token; give the config.json of a decoder or of a model built like T5"
        )
    if reader.model_type in hybrids.UNKNOWN:
        raise InvalidSpec(
            f"models of the family {reader.model_type} cannot be counted yet; name one of about its size with --params"
        )
    mixed = _mixed(reader, config)
    if mixed is not None:
        return mixed
    family = reader.family
    hidden, layers, heads = (
        reader.size("hidden_size"),
        reader.size("num_hidden_layers"),
        reader.size("num_attention_heads"),
    )
    kv_heads = reader.kv_heads(heads)
    if heads % kv_heads:
        raise InvalidSpec(f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({kv_heads})")
    head_dim = int(reader.get("head_dim") or 0)
    if not head_dim:
        if hidden % heads:
            raise InvalidSpec(f"hidden_size ({hidden}) must be a multiple of num_attention_heads ({heads})")
        head_dim = hidden // heads
    experts, latent = reader.experts(layers), reader.latent()
    intermediate = reader.intermediate(hidden)
    is_gated = bool(reader.get("mlp_gated", family.is_gated))
    linears = [
        *(
            _latent_attention(hidden, heads, latent)
            if latent
            else _attention(reader, hidden, heads, kv_heads, head_dim)
        ),
        *_mlp(reader, hidden, intermediate, is_gated, layers, experts),
    ]
    is_tied = bool(reader.get("tie_word_embeddings", family.is_tied))
    vocabulary = reader.size("vocab_size")
    return ModelShape(
        family=reader.model_type,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate,
        vocabulary=vocabulary,
        linears=tuple(linears),
        is_gated=is_gated,
        is_tied=is_tied,
        other=reader.other(hidden, layers, heads, kv_heads, head_dim, vocabulary, experts, latent),
        embedding_dim=int(reader.get("word_embed_proj_dim") or 0),
        experts=experts,
        latent=latent,
        window=int(reader.get("sliding_window") or 0) if reader.get("use_sliding_window", True) else 0,
        has_dropout=family.has_dropout,
        norms=reader.norms,
        has_qk_norm=bool(reader.qk_norm),
        assumed=reader.assumed,
    )


_ONE_NORM: Final = frozenset({"mamba", "mamba2", "nemotron_h"})
"""Of families whose layers are not all alike, those with one norm a layer."""


def _mixed(reader: "_Config", config: Mapping[str, Any]) -> ModelShape | None:
    """The shape of a model whose layers are not all alike; None of others."""
    parts = hybrids.parts(reader.model_type, config)
    if parts is None:
        return None
    heads = int(reader.get("num_attention_heads") or reader.get("num_heads") or max(1, parts.hidden // 64))
    experts = None
    if parts.num_experts:
        widths = (parts.num_experts, parts.num_per_token, parts.expert_width, parts.shared_width)
        experts = Experts(*widths, num_layers=parts.expert_layers)
    return ModelShape(
        family=reader.model_type,
        hidden=parts.hidden,
        layers=parts.layers,
        heads=heads,
        kv_heads=int(reader.get("num_key_value_heads") or heads),
        head_dim=int(reader.get("head_dim") or reader.get("d_kv") or max(1, parts.hidden // heads)),
        intermediate=round(parts.dense_elements / max(1, parts.layers - parts.expert_layers)),
        vocabulary=reader.size("vocab_size"),
        linears=tuple(
            Linear(name, num_in, num_out, has_bias, count / parts.layers)
            for name, (num_in, num_out, has_bias, count) in parts.matrices.items()
        ),
        is_gated=parts.is_gated,
        is_tied=bool(reader.get("tie_word_embeddings", reader.family.is_tied)),
        other=parts.other,
        experts=experts,
        norms=1 if reader.model_type in _ONE_NORM else 2,
        attention_layers=parts.attention_layers,
        mixer_elements=parts.mixer_elements / parts.layers,
    )


def from_parameters(billions: float, *, active: float | None = None) -> ModelShape:
    """The shape of a usual model of that size: like Llama, with the proportions of those that are published.

    Args:
        billions: Parameters, in 1e9.
        active: Those that a token meets, in 1e9, of a mixture of experts.

    Raises:
        InvalidSpec: the number is not positive.
    """
    if not 0 < billions < 10_000:
        raise InvalidSpec(f"a model of {billions:g} billion parameters: the number must lie between 0 and 10,000")
    wanted = billions * 1e9
    if active is not None and not 0 < active <= billions:
        raise InvalidSpec(f"{active:g} of {billions:g} billion parameters that a token meets: it must be 0 to all")
    if active is not None and active < 0.8 * billions:
        return _usual_mixture(wanted, active * 1e9)
    # hidden is about 128 x layers, as of Llama 7B to 65B; then the width of the MLP makes the count right.
    layers = max(2, round((wanted / (12 * 128 * 128)) ** (1 / 3)))
    grain = 1024 if layers >= 24 else 128  # heads that parallelism can divide
    hidden = max(grain, round(128 * layers / grain) * grain)
    vocabulary = 32_000 if wanted > 3e8 else 8_192
    rest = wanted - 2 * vocabulary * hidden - layers * 4 * hidden * hidden
    intermediate = max(hidden, round(rest / (3 * layers * hidden) / 64) * 64)
    return from_config(
        {
            "model_type": "llama",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": max(1, hidden // 128),
            "intermediate_size": intermediate,
            "vocab_size": vocabulary,
        }
    )


def _usual_mixture(wanted: float, active: float) -> ModelShape:
    """A mixture of 128 experts of which a token meets 8, as Qwen3-30B-A3B; of fewer where more are met."""
    layers = max(2, round((active / (4 * 128 * 128)) ** (1 / 3)))  # half as deep as dense and wide as active^1/3
    grain = 1024 if layers >= 32 else 256  # heads that parallelism can divide
    hidden = max(grain, round(64 * layers / grain) * grain)
    rest = 2 * 32_000 * hidden + layers * 4 * hidden * hidden
    met, others = max(0.2 * active, active - rest), wanted - active
    num_per_token = 8 if others > 4 * met else 2
    num = max(num_per_token + 1, round(num_per_token * (1 + others / met)))
    width = max(64, round(met / (3 * layers * hidden * num_per_token) / 64) * 64)
    num = max(num_per_token + 1, round((wanted - rest) / (3 * layers * hidden * width)))
    return from_config(
        {
            "model_type": "qwen3_moe",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": max(1, hidden // 128),
            "intermediate_size": width,
            "moe_intermediate_size": width,
            "num_experts": num,
            "num_experts_per_tok": num_per_token,
            "vocab_size": 32_000,
        }
    )


class _Config:
    """A config with the spellings of its family."""

    def __init__(self, config: Mapping[str, Any]):
        if not isinstance(config, Mapping):
            raise InvalidSpec(f"the config is {shown(config)}, no object; give the whole config.json of the model")
        kind = config.get("model_type")
        if not isinstance(kind, str | None):
            raise InvalidSpec(f"model_type of the config is {shown(kind)}; it must be text, such as llama")
        self._config = config
        self.model_type = kind or "llama"
        self.family = FAMILIES.get(self.model_type, FAMILIES["llama"])
        self.assumed = not kind or (kind not in FAMILIES and kind not in hybrids.KNOWN)

    def get(self, name: str, default: Any = None) -> Any:
        value = checked(name, self._config.get(name))
        if value is None:
            alias = self.family.aliases.get(name, name)
            value = checked(alias, self._config.get(alias))
        return default if value is None else value

    def size(self, name: str) -> int:
        value = self.get(name)
        alias = self.family.aliases.get(name)
        spelled = f"{name} (or {alias})" if alias else name
        if value is None:
            raise InvalidSpec(f"the config has no {spelled}; give the whole config.json of the model")
        return int(value)

    def kv_heads(self, heads: int) -> int:
        if self.model_type in ("falcon", "gpt_bigcode") and self.get("num_key_value_heads") is None:
            if self.get("new_decoder_architecture"):
                return int(self.get("num_kv_heads", heads))
            return 1 if self.get("multi_query", True) else heads
        return int(self.get("num_key_value_heads") or heads)

    def intermediate(self, hidden: int) -> int:
        value = self.get("intermediate_size") or self.get("ffn_hidden_size")
        if value is None:
            if self.family.is_gated:
                return self.size("intermediate_size")
            value = hidden * float(self.get("expansion_ratio", 4))
        # Qwen's first family counts both halves of its gated MLP.
        width = int(value) // (2 if self.model_type == "qwen" else 1)
        if width < 1:
            raise InvalidSpec("the config makes the MLP 0 wide; look at intermediate_size")
        return width

    def experts(self, layers: int) -> Experts | None:
        num = int(self.get("num_experts") or self.get("num_local_experts") or self.get("n_routed_experts") or 0)
        if not num:
            return None
        width = int(self.get("moe_intermediate_size") or self.get("intermediate_size") or 0)
        dense = int(self.get("first_k_dense_replace") or 0) + len(
            within("mlp_only_layers", self.get("mlp_only_layers") or (), layers)
        )
        step = int(self.get("decoder_sparse_step") or 1)
        if layers - dense < step:
            return None
        num_per_token = int(self.get("num_experts_per_tok") or min(2, num))
        if num_per_token > num:
            raise InvalidSpec(f"num_experts_per_tok ({num_per_token}) of the config is more than its {num} experts")
        if width < 1:
            raise InvalidSpec("the config has no moe_intermediate_size; give the whole config.json of the model")
        return Experts(
            num=num,
            num_per_token=num_per_token,
            intermediate=width,
            shared=int(self.get("shared_expert_intermediate_size") or int(self.get("n_shared_experts") or 0) * width),
            num_layers=(layers - dense) // step,
        )

    def latent(self) -> LatentAttention | None:
        if not self.get("kv_lora_rank"):
            return None
        names = ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
        return LatentAttention(int(self.get("q_lora_rank") or 0), *(self.size(name) for name in names))

    def has_bias(self, what: str) -> bool:
        """Whether `qkv`, `out` or `mlp` has one."""
        said = self.get("attention_bias")
        if what == "mlp":
            return bool(self.get("mlp_bias", self.get("use_bias", self.family.mlp_bias)))
        if isinstance(said, str):
            return said == "qkvo" or (what == "qkv" and said == "qkv")
        if what == "qkv" and (self.get("use_qkv_bias") is not None or self.get("add_qkv_bias") is not None):
            return bool(self.get("use_qkv_bias") or self.get("add_qkv_bias"))
        own = self.family.qkv_bias if what == "qkv" else self.family.out_bias
        if self.get("use_bias") is not None:
            return bool(self.get("use_bias"))
        if said is None or self.model_type in ("qwen2", "qwen2_moe"):
            return own
        return bool(said) if self.model_type != "deepseek_v3" else False

    @property
    def norms(self) -> int:
        """Of the hidden size, in a layer."""
        if self.model_type == "falcon" and self.get("new_decoder_architecture"):
            return 2
        return self.family.norms

    @property
    def qk_norm(self) -> bool | str:
        """Norms of queries and keys: none, one for all heads, or one over all of them (`full`) or of each."""
        found: bool | str = self.get("qk_norm", "full" if self.model_type == "olmo2" else self.family.has_qk_norm)
        return found

    def other(
        self,
        hidden: int,
        layers: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        vocabulary: int,
        experts: Experts | None,
        latent: LatentAttention | None,
    ) -> int:
        """Parameters outside matrices of layers, embedding and head."""
        family, per_norm = self.family, self.family.norm
        if self.model_type == "mpt":
            per_norm = 2 if self.get("attention_bias") is True else 1
        found = layers * self.norms * per_norm * hidden + (1 + family.extra_norm) * per_norm * hidden
        query, key = heads * head_dim, kv_heads * head_dim
        if self.qk_norm in ("full", "per_head"):
            found += layers * (query + key)
        elif self.qk_norm:
            found += layers * 2 * head_dim
        if latent is not None:
            found += layers * (latent.kv_rank + latent.query_rank)
        if family.head_bias:
            found += vocabulary
        if experts is not None and self.model_type == "gpt_oss":
            found += layers * (experts.num + experts.num * (2 * experts.intermediate + hidden) + heads)
        found += self._positions() * hidden
        width = int(self.get("word_embed_proj_dim") or hidden)
        if width != hidden:
            found += 2 * width * hidden - per_norm * hidden  # opt-350m, whose last norm is missing, too
        return found

    def _positions(self) -> int:
        """Rows of a learned table of positions."""
        if self.get("learned_position_embeddings") is not None:
            return int(self.get("learned_position_embeddings"))
        if self.model_type in ("gpt2", "gpt_bigcode"):
            return int(self.get("max_position_embeddings") or 1024)
        if self.model_type == "opt":
            return int(self.get("max_position_embeddings") or 2048) + 2
        return 0


def _attention(reader: _Config, hidden: int, heads: int, kv_heads: int, head_dim: int) -> list[Linear]:
    family, query, key = reader.family, heads * head_dim, kv_heads * head_dim
    out = Linear(family.out, query, hidden, reader.has_bias("out"))
    has_bias = reader.has_bias("qkv")
    if family.fused_qkv:
        return [Linear(family.fused_qkv, hidden, query + 2 * key, has_bias), out]
    inputs = [
        Linear(name, hidden, size, has_bias) for name, size in (("q_proj", query), ("k_proj", key), ("v_proj", key))
    ]
    return [*inputs, out]


def _latent_attention(hidden: int, heads: int, latent: LatentAttention) -> list[Linear]:
    query = heads * (latent.nope_dim + latent.rope_dim)
    queries = [Linear("q_a_proj", hidden, latent.query_rank), Linear("q_b_proj", latent.query_rank, query)]
    return [
        *(queries if latent.query_rank else [Linear("q_proj", hidden, query)]),
        Linear("kv_a_proj_with_mqa", hidden, latent.kv_rank + latent.rope_dim),
        Linear("kv_b_proj", latent.kv_rank, heads * (latent.nope_dim + latent.value_dim)),
        Linear("o_proj", heads * latent.value_dim, hidden),
    ]


def _mlp(
    reader: _Config, hidden: int, intermediate: int, is_gated: bool, layers: int, experts: Experts | None
) -> list[Linear]:
    family, has_bias = reader.family, reader.has_bias("mlp")

    def block(prefix: str, width: int, copies: float, *, biased: bool = False) -> list[Linear]:
        gate, up, down = (f"{prefix}{name}" for name in (family.mlp if is_gated else ("", *family.mlp[1:])))
        if is_gated and family.fused_gate and not prefix:
            rows = [Linear(family.fused_gate, hidden, 2 * width, biased, copies)]
        else:
            rows = [Linear(name, hidden, width, biased, copies) for name in ((gate, up) if is_gated else (up,))]
        return [*rows, Linear(down, width, hidden, biased, copies)]

    if experts is None:
        return block("", intermediate, 1, biased=has_bias)
    share = experts.num_layers / layers
    found = [Linear("router", hidden, experts.num, copies=share)]
    found += block("experts.", experts.intermediate, experts.num * share)
    if experts.shared:
        found += block("shared_expert.", experts.shared, share)
        if reader.model_type == "qwen2_moe":
            found.append(Linear("shared_expert_gate", hidden, 1, copies=share))
    if share < 1:
        found += block("", intermediate, 1 - share)
    return found
