"""How a job is spread over Ascend cards: the shape of the model, and the parts of a batch."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from finery.core.errors import InvalidSpec
from finery.core.refs import is_local_path
from finery.training.job import Job
from finery.training.specs.grpo import GrpoSpec

CARDS: Final = (2, 8)
STAGES: Final = 2
"""Pipeline stages of training: only with several does MindRLHF add up the gradients of micro batches."""
_LENGTH_UNIT: Final = 128


@dataclass(frozen=True)
class Shape:
    """What MindFormers is told of a model of the Qwen2.5 family."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    vocab_size: int
    is_tied: bool = False
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    max_positions: int = 32768
    bos: int = 151643
    eos: tuple[int, ...] = (151645, 151643)
    pad: int = 151643


_SHAPES: Final = {
    "0.5B": Shape(896, 24, 14, 2, 4864, 151936, is_tied=True),
    "1.5B": Shape(1536, 28, 12, 2, 8960, 151936, is_tied=True),
    "3B": Shape(2048, 36, 16, 2, 11008, 151936, is_tied=True),
    "7B": Shape(3584, 28, 28, 4, 18944, 152064),
    "14B": Shape(5120, 48, 40, 8, 13824, 152064),
    "32B": Shape(5120, 64, 40, 8, 27648, 152064),
    "72B": Shape(8192, 80, 64, 8, 29568, 152064),
}
"""Of `config.json` of Qwen/Qwen2.5-*, which is asked where the model is a folder."""
_QWEN: Final = re.compile(r"(modelscope:)?Qwen/Qwen2\.5-(?P<size>[\d.]+B)(-Instruct)?(@.*)?")


@dataclass(frozen=True)
class Layout:
    """How model and batch are spread over the cards."""

    cards: int
    """Per machine."""
    nodes: int
    data_parallel: int
    model_parallel: int
    batch_size: int
    """Completions per card group and micro batch."""
    micro_batches: int
    chunk_size: int
    num_rollouts: int

    @property
    def generation_parallel(self) -> int:
        """Copies of the model that generate."""
        return self.cards * self.nodes // self.model_parallel


def cards_of(job: Job) -> int:
    """Cards of one machine; a whole one of eight where the job does not say."""
    return 8 if job.resources.gpus is None else job.resources.gpus


def shape_of(base: str) -> Shape:
    """The shape of the model, from its own configuration where it is a folder.

    Raises:
        InvalidSpec: it is none of the Qwen2.5 family.
    """
    if is_local_path(base):
        return _read_shape(Path(base).expanduser())
    found = _QWEN.fullmatch(base)
    if found is None or found["size"] not in _SHAPES:
        raise InvalidSpec(
            f"task.model.base: MindRLHF trains models of the Qwen2.5 family by GRPO, and {base} is not known as "
            "one; set "
            f"Qwen/Qwen2.5-{{{','.join(_SHAPES)}}} with or without -Instruct, or the folder of such a model"
        )
    return _SHAPES[found["size"]]


def _read_shape(folder: Path) -> Shape:
    try:
        config = orjson.loads((folder / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise InvalidSpec(f"task.model.base: {folder} holds no config.json; name the folder of a model") from error
    if config.get("model_type") != "qwen2":
        raise InvalidSpec(
            f"task.model.base: {folder} holds a model of type {config.get('model_type')!r}; MindRLHF trains "
            "qwen2 by GRPO"
        )
    generation = folder / "generation_config.json"
    own = orjson.loads(generation.read_bytes()) if generation.is_file() else {}
    eos = own.get("eos_token_id", config.get("eos_token_id"))
    eos = tuple(eos) if isinstance(eos, list) else (eos,)
    pad = own.get("pad_token_id", config.get("pad_token_id"))
    bos = own.get("bos_token_id", config.get("bos_token_id"))
    return Shape(
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        intermediate_size=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        is_tied=config.get("tie_word_embeddings", False),
        rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_theta=(config.get("rope_parameters") or config).get("rope_theta", 1e6),
        max_positions=config.get("max_position_embeddings", 32768),
        bos=eos[0] if bos is None else bos,
        eos=eos,
        pad=eos[-1] if pad is None else pad,
    )


def layout_of(job: Job, task: GrpoSpec, shape: Shape) -> Layout:
    """Spread the model over the cards: two pipeline stages, as much tensor parallelism as heads allow, copies of that.

    Raises:
        InvalidSpec: the batch does not fall into as many parts.
    """
    cards, nodes = cards_of(job), job.resources.nodes
    total = cards * nodes
    model_parallel = next(
        size
        for size in (4, 2, 1)
        if size * STAGES <= cards and shape.num_heads % size == shape.num_kv_heads % size == 0
    )
    data_parallel = total // (STAGES * model_parallel)
    generating = total // model_parallel
    completions = task.prompts_per_step * task.rollout.completions_per_prompt
    batch_size = task.micro_batch_size or 1
    if completions % (batch_size * data_parallel) or completions // (batch_size * data_parallel) < STAGES:
        raise InvalidSpec(
            f"task.micro_batch_size: {completions} completions of a step fall into micro batches of {batch_size} on "
            f"{data_parallel} copies of the model, at least {STAGES} each; set another micro_batch_size or "
            "prompts_per_step"
        )
    if task.prompts_per_step % generating:
        raise InvalidSpec(
            f"task.prompts_per_step: {task.prompts_per_step} prompts are answered by {generating} copies of the model; "
            f"set a multiple of {generating}"
        )
    each = task.prompts_per_step // generating
    chunk_size = 2 if each % 2 == 0 else 1
    return Layout(
        cards=cards,
        nodes=nodes,
        data_parallel=data_parallel,
        model_parallel=model_parallel,
        batch_size=batch_size,
        micro_batches=completions // (batch_size * data_parallel),
        chunk_size=chunk_size,
        num_rollouts=each // chunk_size,
    )


def max_tokens(task: GrpoSpec) -> int:
    """Tokens of a sequence: prompt, answer, and two that packing adds, rounded up."""
    needed = task.data.max_prompt_tokens + task.rollout.max_new_tokens + 2
    return -(-needed // _LENGTH_UNIT) * _LENGTH_UNIT
