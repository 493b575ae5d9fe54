"""Reads rows of published measurements as people write them: every column in any usual spelling.

Pure. What cannot be read is None or the default of the row's program, never an error. Owns: spellings. Does not own:
what a row means for memory or speed (planner_accuracy).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from finery.core.errors import FineryError
from finery.planner import accelerators, catalog, shapes
from finery.planner.accelerators import Accelerator
from finery.planner.memory import Optimizer, Quantization, Recomputation

Row = dict[str, str]
COLUMNS: Final = (
    *("source_repo", "framework", "model", "params_b", "gpu_type", "num_gpus", "method", "parallelism", "precision"),
    *("seq_len", "micro_batch", "grad_ckpt", "optimizer", "flash_attn", "measured_peak_gb", "tokens_per_s_per_gpu"),
    "notes",
)
_NOTHING: Final = frozenset(
    {"", "-", "?", "n/a", "na", "none", "unknown", "default", "auto", "nan", "null", "not given"}
)


def cleaned(row: Mapping[str, Any]) -> Row:
    """A row with all columns, none of them None."""
    return {name: str(row.get(name) or "").strip() for name in COLUMNS}


def is_blank(text: str) -> bool:
    """Whether a column says nothing."""
    return text.strip().lower() in _NOTHING


def number(text: str) -> float | None:
    """The first number of a text: `4 per gpu`, `~7.6B`, `1,024`, `350M` in billions only where asked elsewhere."""
    found = re.search(r"\d+(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+", text)
    return float(found[0].replace(",", "")) if found else None


def measured(text: str) -> float | None:
    """A measured value, None where there is none above zero; the largest of `47.01+65.03`."""
    values = [float(one) for one in re.findall(r"\d*\.\d+|\d+", text.replace(",", ""))]
    return max(values, default=0.0) or None


def whole(text: str) -> int | None:
    """A count of 1 or more: `2x8` and `2 nodes x 8` are 16."""
    product = re.search(r"(\d+)\s*(?:nodes?|hosts?)?\s*[x×*]\s*(\d+)", text.lower())
    if product:
        return max(1, int(product[1])) * max(1, int(product[2]))
    value = number(text)
    return min(1_000_000, max(1, int(value))) if value is not None else None


def length(text: str) -> int | None:
    """Tokens: `4k`, `128K`, `2048+512` (together), `1,024`, `512-2048` (the longest), `4096 (packed)`."""
    said = re.sub(r"\(.*?\)", "", text.lower().replace(",", ""))
    values = [
        round(float(value) * {"k": 1024, "m": 1024**2}.get(unit, 1))
        for value, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([km]?)\b", said)
    ]
    values = [value for value in values if value > 0]
    if not values:
        return None
    return min(16 * 1024**2, sum(values) if "+" in said else max(values))


def is_yes(text: str) -> bool | None:
    """Whether a switch is on; None where a text does not say."""
    said = text.strip().lower()
    if re.match(r"(no|false|off|0|none|disabled?|eager|math|without|w/o)\b", said):
        return False if said != "none" else None
    return None if said in _NOTHING else True


def recomputation(text: str) -> Recomputation | None:
    """What a column such as grad_ckpt says."""
    said = text.strip().lower()
    if said == "none":
        return "none"
    if re.search(r"selective|\bsac\b|\bsel\b", said):
        return "selective"
    on = is_yes(said)
    return None if on is None else "full" if on else "none"


@dataclass(frozen=True)
class Division:
    """How a row divides the work, as far as it says."""

    tensor: int = 1
    pipeline: int = 1
    virtual: int = 1
    context: int = 1
    expert: int = 1
    data: int | None = None
    zero: Literal[0, 1, 2, 3] | None = None
    sequence: bool = False
    is_naive: bool = False
    """Each device has some of the layers, and they work one after the other."""
    offloads_optimizer: bool = False
    offloads_weights: bool = False
    offloads_activations: bool = False

    @property
    def is_parallel_model(self) -> bool:
        """Whether layers or matrices are divided, as Megatron does."""
        return (self.tensor > 1 or self.pipeline > 1 or self.context > 1) and not self.is_naive


_WAYS: Final = {
    "tensor": r"tp|tensor[-_ ]?(?:model[-_ ]?)?(?:parallel\w*)?|mp",
    "pipeline": r"pp|pipeline[-_ ]?(?:model[-_ ]?)?(?:parallel\w*)?",
    "virtual": r"vpp|vp|virtual(?:[-_ ]?pipeline)?",
    "context": r"cp|context[-_ ]?(?:parallel\w*)?",
    "expert": r"ep|expert[-_ ]?(?:model[-_ ]?)?(?:parallel\w*)?",
    "data": r"dp|data[-_ ]?(?:parallel\w*)?",
}


def division(text: str) -> Division:
    """Reads `tp=8 pp=4 dp=2`, `TP8/PP2`, `8-way tensor`, `ZeRO-3 offload`, `fsdp`, `deepspeed zero2`, `ddp`."""
    said = text.lower()
    found: dict[str, int] = {}
    for name, words in _WAYS.items():
        match = re.search(rf"(?<![a-z])(?:{words})(?:[-_ ]?(?:size|degree))?\s*[=:\-]?\s*(\d+)(?!\d)", said)
        match = match or re.search(rf"(\d+)[- ]?way[- ](?:{words})(?![a-z])", said)
        if match:
            found[name] = min(65_536, max(1, int(match[1])))
    offload = bool(re.search(r"off-?load", said)) and not re.search(
        r"(no|without|w/o|non)[- ]?\s?\w*[- ]?off-?load", said
    )
    only_activations = bool(re.search(r"activations?[- _]off-?load|off-?load\w*[- _:=]*activations?", said))
    zero = _stage(said)
    on_host = offload and not (only_activations and not re.search(r"optim|param|cpu|weight", said))
    names_optimizer = bool(re.search(r"optim", said.replace("dist_opt", "")))
    names_weights = bool(re.search(r"param|weight", said))
    return Division(
        tensor=found.get("tensor", 1),
        pipeline=found.get("pipeline", 1),
        virtual=found.get("virtual", 1),
        context=found.get("context", 1),
        expert=found.get("expert", 1),
        data=found.get("data"),
        zero=zero,
        sequence=bool(re.search(r"(?<![a-z])sp(?![a-z])|sequence[-_ ]parallel", said)),
        is_naive="device_map" in said or "naive" in said,
        offloads_optimizer=on_host,
        offloads_weights=on_host and (names_weights or (zero == 3 and not names_optimizer)),
        offloads_activations=offload and only_activations,
    )


def _stage(said: str) -> Literal[0, 1, 2, 3] | None:
    """Stage of ZeRO that a text names. Distributed optimizers are 1, FSDP is 3, its SHARD_GRAD_OP 2."""
    plain = said.replace(" ", "").replace("_", "").replace("-", "")
    match = re.search(r"(?:zero(?:stage)?|deepspeedstage|stage|deepspeed|ds|dsz|dszero|\bz)[=:]?([0-3])", plain)
    if "fsdp=false" in plain or "fsdp:false" in plain:
        plain = plain.replace("fsdp", "")
    if "shardgradop" in plain or "zero2fsdp" in plain:
        return 2
    if "noshard" in plain:
        return 0
    if "fsdp" in plain or "hsdp" in plain or "fullshard" in plain or "fullysharded" in plain:
        return 3
    if match:
        return int(match[1])  # type: ignore[return-value]
    if "zero++" in plain or "infinity" in plain:
        return 3
    if "distopt" in plain or "distributedopt" in plain:
        return 1
    if "zerooff" in plain or plain == "zero":
        return 2
    return 0 if "ddp" in plain or "replicated" in plain or "dataparallel" in plain else None


@dataclass(frozen=True)
class Method:
    """What a row trains, and by which algorithm."""

    kind: Literal["full", "adapter"]
    has_low_rank: bool
    """Whether update matrices stand beside the weights."""
    has_matrices: bool
    """Whether what is trained reads the inputs of matrices; prompts, norms and biases do not."""
    algorithm: str
    """One of finery.planner.phases."""
    words: str


_ADAPTERS: Final = (
    *(
        "lora",
        "adapter",
        "prompt",
        "prefix",
        "ptuning",
        "p-tuning",
        "ia3",
        "oft",
        "loha",
        "lokr",
        "dora",
        "vera",
        "boft",
    ),
    *("peft", "freeze", "frozen", "bitfit", "reft", "adalora", "head only", "linear prob", "llamapro"),
)
_LOW_RANK: Final = re.compile(
    r"lora|dora|loha|lokr|lora\+|pissa|olora|rslora|galora|gralora|hira|deft|lily|peanut|frod"
)
_OUTSIDE: Final = re.compile(
    r"prompt|prefix|p-?tuning|ln_tuning|bitfit|beft|trainable_tokens|adaption|^q?adapter(?!_v2)"
)
_ALGORITHMS: Final = (
    *(("grpo", "grpo"), ("gspo", "grpo"), ("dapo", "grpo"), ("rloo", "rloo"), ("reinforce", "rloo"), ("remax", "rloo")),
    *(("ppo", "ppo"), ("rlhf", "ppo"), ("orpo", "orpo"), ("simpo", "orpo"), ("cpo", "orpo"), ("kto", "kto")),
    *(("dpo", "dpo"), ("ipo", "dpo"), ("reward", "reward"), ("pretrain", "pretrain"), ("pre-train", "pretrain")),
)


def method(text: str, hints: str = "") -> Method:
    """Reads `full;sft`, `qlora`, `dpo lora`, `GRPO full`, `pretraining`, `reward`.

    Args:
        text: Of the column.
        hints: Of others, which decide where it says nothing: quantized weights are trained through adapters.
    """
    said = text.lower()
    first = said.partition(";")[0]
    algorithm = next((ours for word, ours in _ALGORITHMS if re.search(rf"(?<![a-z]){word}", said)), "sft")
    if re.search(r"(?<![a-z])rm(?![a-z])", said):
        algorithm = "reward"
    is_full = bool(re.match(r"full|fft|pretrain|pre-train|continued|cpt", first)) or (
        "full" in said and not any(word in said for word in _ADAPTERS)
    )
    is_adapter = not is_full and (any(word in said for word in _ADAPTERS) or quantization(f"{said} {hints}") != "none")
    if not is_full and not is_adapter and said not in _NOTHING and ";" in said:
        is_adapter = not re.match(r"(sft|dpo|grpo|ppo|kto|orpo|rm|reward|rl|train(?!able)|pretrain|fine)", first)
    low_rank = bool(_LOW_RANK.search(first)) or not first or "lora" in said
    return Method("adapter" if is_adapter else "full", low_rank, not _OUTSIDE.search(first), algorithm, said)


def quantization(text: str) -> Quantization:
    """How frozen weights are stored: `nf4`, `4bit`, `nf4-dq`, `int8`, `gptq`, `qlora`."""
    said = text.lower()
    if "nf4-dq" in said or "double" in said or "nf4_double" in said:
        return "nf4_double"
    if "nf4" in said:
        return "nf4"
    if re.search(r"int8|(?<!adamw_)(?<!adam_)(?<!adamw-)\b8[-_ ]?bits?\b|llm\.int8|w8", said):
        return "int8"
    if re.search(r"bnb|bitsandbytes|(?<!int)\b4[-_ ]?bits?\b|fp4(?<!nvfp4)|(?<!mx)\bfp4", said) and "nvfp4" not in said:
        return "nf4_double"
    if re.search(r"gptq|awq|int4|w4|hqq|aqlm", said):
        return "int4"
    return "nf4_double" if "qlora" in said else "none"


@dataclass(frozen=True)
class Numbers:
    """Number formats of a row."""

    is_mixed: bool
    """float32 weights, computed with in 16 bits."""
    is_float32: bool
    is_fp8: bool
    is_fp4: bool
    has_master: bool | None
    """Whether a float32 copy is kept; None leaves that to the program."""


def numbers(text: str) -> Numbers:
    """Reads `bf16-mixed`, `amp_bf16`, `bf16 (pure)`, `fp32`, `fp8 (current scaling)`, `bf16 + fp32 master`."""
    said = text.lower()
    is_fp4 = "nvfp4" in said or "mxfp4" in said
    has_master: bool | None = None
    if re.search(r"(fp32|float32) master|master (fp32|float32)", said):
        has_master = True
    elif "bf16 master" in said or "pure" in said or "-true" in said:
        has_master = False
    is_half = bool(re.search(r"bf16|bfloat16|fp16|float16|half|16", said))
    is_mixed = bool(re.search(r"mixed|amp|autocast", said)) and "fp8" not in said
    plain32 = bool(re.search(r"fp32|float32|tf32|^32|single", said)) and not is_half
    if re.search(r"fp32\s*/\s*bf16|bf16\s*/\s*fp32", said):
        is_mixed = True
    return Numbers(is_mixed, plain32, "fp8" in said or is_fp4, is_fp4, has_master)


@dataclass(frozen=True)
class Updater:
    """An optimizer, and how much of the weights it works on at a time."""

    name: Optimizer
    block: float | None = None
    """Layers that are trained at a time, where they are few (BAdam, LISA)."""
    has_ends: bool = False
    """Whether embedding and head are trained beside that block."""
    rank: int = 0
    """Of the subspace that states are kept in (GaLore, APOLLO); 0 is all of it."""
    drops_gradients: bool = False
    """Whether a gradient is used and freed during the backward pass (LOMO)."""
    no_backward: bool = False
    """Whether there are no gradients at all (MeZO)."""


_NAMED: Final[tuple[tuple[str, Optimizer], ...]] = (
    ("paged", "adamw_paged_8bit"),
    ("muon", "muon"),
    (r"lion.*8[-_ ]?bit", "lion_8bit"),
    ("lion", "lion"),
    ("adafactor", "adafactor"),
    (r"4[-_ ]?bit", "adamw_4bit"),
    (r"8[-_ ]?bit|int8", "adamw_8bit"),
    (r"adam[-_ ]?mini|rmsprop|adagrad|sgd.*(moment|nesterov)", "sgd_momentum"),
    (r"\bsgd", "sgd"),
)
"""Spelling -> what it keeps; the first that is found decides."""


def updater(optimizer: str, words: str = "", default: Optimizer = "adamw") -> Updater:
    """Reads `adamw_8bit`, `paged_adamw_8bit`, `adafactor`, `lion`, `sgd`, `galore`, `BAdam`.

    Args:
        optimizer: Of the column.
        words: Of the method's, where such methods are written, too.
        default: Of the row's program.
    """
    said, both = optimizer.lower(), f"{optimizer} {words}".lower()
    name = next((ours for spelling, ours in _NAMED if re.search(spelling, said)), default)
    if "badam" in both or "block coordinate" in both:
        return Updater("adamw", block=1.0)
    lisa = re.search(r"(?<![a-z])lisa(?:[-_ =]?(\d+))?", both)
    if lisa:
        return Updater(name, block=float(lisa[1] or 2), has_ends=True)
    if re.search(r"galore|apollo|fira", both):
        rank = re.search(r"(?:galore|apollo|rank)[=_ -]*(\d+)", both)
        is_small = name == "adamw_8bit" or "quantize" in both
        told = int(rank[1]) if rank else 1 if "mini" in both else 128
        is_fused = bool(re.search(r"layer-?wise|per[-_ ]?layer", both))
        return Updater("adamw_8bit" if is_small else "adamw", rank=max(1, told), drops_gradients=is_fused)
    if "lomo" in both:
        return Updater("adafactor" if "adalomo" in both else "sgd", drops_gradients=True)
    if "mezo" in both:
        return Updater("sgd", no_backward=True)
    return Updater(name)


def device(text: str) -> Accelerator | None:
    """The device that a text names: `8x A100-80G`, `H100 SXM5 (est.)`, `NVIDIA L40S 48GB PCIe`."""
    spellings = [text, text.partition("(")[0], re.sub(r"^\s*\d+\s*[x×*]\s*", "", text, flags=re.IGNORECASE)]
    words = re.split(r"[\s,;/]+", re.sub(r"[()]", " ", spellings[-1]).strip())
    spellings += [" ".join(words[:end]) for end in range(len(words), 0, -1)] + words
    size = re.search(r"(\d+)\s*gi?b?\b", text.lower())
    plain = re.search(r"(?<![a-z])((?:gb|gh|b|h|a|l|v|p|t|rtx ?|gtx ?|mi)\d{1,4}[a-z]{0,2})", text.lower())
    if plain:
        spellings += [f"{plain[1]}-{size[1]}GB"] if size else []
        spellings += [plain[1], plain[1].rstrip("abcdefghijklmnopqrstuvwyz")]
    for spelling in spellings:
        if is_blank(spelling) or re.fullmatch(r"\W*\d*\W*", spelling):
            continue
        try:
            return accelerators.find(spelling)
        except FineryError:
            continue
    return None


def device_bytes(text: str) -> float | None:
    """Memory of a device; of one that is not known, the size that the text has."""
    found = device(text)
    if found is not None:
        return float(found.total_bytes)
    size = re.search(r"(\d+)\s*-?\s*gi?b", text.lower())
    return int(size[1]) * 2**30 * 0.985 if size else None


def billions(text: str, params: str = "") -> tuple[float | None, float | None]:
    """Parameters and those that a token meets, in 1e9, from a column or a name: `7B`, `350m`, `30B-A3B`, `8x7B`."""
    said = text.lower().replace("_", "-")
    active = re.search(r"(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z])", said) or re.search(
        r"(\d+(?:\.\d+)?)b[- ]active", said
    )
    told = number(params)
    if told is not None and re.search(r"\d\s*m", params.lower()):
        told /= 1000
    if told is not None and told > 50_000:  # a count, not billions
        told /= 1e9
    if not told:
        experts = re.search(r"(\d+)x(\d+(?:\.\d+)?)b", said)
        size = re.search(r"(?<![a-z0-9.])(\d+(?:[._]\d+)?) ?([bmt])(?![a-z0-9])", said)
        if experts:  # they share what is not the MLP, about a tenth
            told = int(experts[1]) * float(experts[2]) * 0.85
        elif size:
            told = float(size[1].replace("_", ".")) / {"m": 1e3, "b": 1.0, "t": 1e-3}[size[2]]
    if told is None or not 1e-4 < told < 10_000:
        return None, None
    few = float(active[1]) if active else None
    return told, few if few is not None and 0 < few < told else None


USUAL_BILLIONS: Final = 7.0
"""Of a model that a row does not tell."""


def known_shape(model: str) -> dict[str, Any] | None:
    """The catalog's row of a name, also where the name has remarks, or a path before or behind it."""
    without = re.sub(r"\(.*?\)", " ", model).strip()
    names = [model, without, without.rpartition("/")[2], re.split(r"[,;+]|\s-\s", without)[0].strip()]
    for name in dict.fromkeys(names):
        if not name:
            continue
        try:
            return catalog.shape_fields(name)
        except FineryError:
            continue
    return None


def usual_shape(model: str, params: str) -> shapes.ModelShape:
    """A shape of the size that a row tells."""
    told, active = billions(model, params)
    return shapes.from_parameters(told or USUAL_BILLIONS, active=active)
