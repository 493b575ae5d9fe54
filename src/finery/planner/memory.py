"""How much memory a training step takes on one device: pure functions, each formula with its source.

Bytes everywhere. A step has two moments that can be its peak: the loss, when all activations and the logits are
there, and the update, when all gradients and what the optimizer needs for a moment are. Owns: what PyTorch's allocator
is asked for. Does not own: how large a model is (shapes) or what a device has (accelerators).

Sources: ZeRO arXiv:1910.02054; activations arXiv:2205.05198; FlashAttention arXiv:2205.14135; LoRA arXiv:2106.09685;
QLoRA arXiv:2305.14314; 8-bit optimizers arXiv:2110.02861; Adafactor arXiv:1804.04235; Muon arXiv:2502.16982.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from finery.core.errors import InvalidSpec
from finery.planner.shapes import Linear, ModelShape

GIB: Final = 2**30
Optimizer = Literal[
    "adamw",
    "adamw_8bit",
    "adamw_4bit",
    "adamw_paged_8bit",
    "adafactor",
    "sgd",
    "sgd_momentum",
    "lion",
    "lion_8bit",
    "muon",
]
Quantization = Literal["none", "int8", "nf4", "nf4_double", "int4"]
Recomputation = Literal["none", "selective", "full"]

STATES: Final[Mapping[Optimizer, float]] = {
    "adamw": 2.0,
    "adamw_8bit": 0.0,
    "adamw_4bit": 0.0,
    "adamw_paged_8bit": 0.0,
    "adafactor": 0.01,
    "sgd": 0.0,
    "sgd_momentum": 1.0,
    "lion": 1.0,
    "lion_8bit": 0.0,
    "muon": 1.1,
}
"""States as large as the trained weights, in their number format. Adafactor keeps a row and a column of each matrix;
Muon one buffer for matrices and AdamW's two for the rest, about a tenth."""
_STATE_BYTES: Final[Mapping[Optimizer, float]] = {
    "adamw_8bit": 2.0 + 2 * 4 / 256,
    "adamw_4bit": 1.0 + 2 * 4 / 128,
    "lion_8bit": 1.0 + 4 / 256,
}
"""Fixed bytes per trained parameter: states of 8 bits with a float32 scale per block of 256, of 4 bits per 128
(arXiv:2309.01507)."""
_BUCKET: Final = 2 * 5e8 * 2
"""Bytes of gradients on their way to the host: two buckets of 5e8 elements (DeepSpeed's reduce_bucket_size)."""
WEIGHT_BYTES: Final[Mapping[Quantization, float]] = {
    "int8": 1.0,
    "nf4": 0.5 + 4 / 64,
    "nf4_double": 0.5 + (1 + 4 / 256) / 64,
    "int4": 0.5 + 4 / 128,
}
"""Of a quantized weight with its scales: float32 per 64 (QLoRA, section 3), the same scales in 8 bits with a float32
per 256 of them, and groups of 128 with a half scale and zero."""


_READS: Final = frozenset({"q_proj", "k_proj", "v_proj", "c_attn", "query_key_value", "qkv_proj", "W_pack", "Wqkv"})
"""Matrices of attention that read the hidden vector."""
_MOST_WASTE: Final = 8.5 * GIB
"""For each sequence of a batch: blocks of lengths gone by do not grow further, as larger ones are split. Fitted."""


@dataclass(frozen=True)
class Kernels:
    """What an implementation keeps for the backward pass, where the mathematics leaves it open."""

    norm: float = 6.0
    """Per element and norm: the input, and what computing in float32 leaves."""
    rope_copies: bool = True
    """Whether queries and keys are kept before and after the rotation."""
    activation_function: float = 4.0
    """Per element of a gated MLP's width beside gate and up: the activation and the product. 2 where they are fused."""
    logits: float = 14.0
    """Per token and entry of the vocabulary at the loss: logits in 16 bits and in float32, the log-softmax and their
    gradients. 4 where the loss is computed in pieces, 0 where it is fused with the head."""
    head: float = 0.0
    """Per element of a head that is trained, what a loss that is computed with it holds of its gradient."""
    waste: float = 0.0
    """Per token and entry of the vocabulary, what the allocator keeps of blocks that fit no later batch, where lengths
    vary and nothing is packed."""
    quantized: float = 0.0
    """Per token, layer and element of the hidden size, what quantized matrices keep beyond others."""
    selects_outputs: bool = False
    """Whether selective recomputation keeps every second matrix's output and attention's result (torchtitan's `op`);
    else all but the scores of attention (Megatron)."""
    whole_gradients: Literal["none", "trained", "all"] = "none"
    """What FSDP keeps undivided while it accumulates, where devices add their gradients up after the last micro batch
    alone (`no_sync`): gradients of what is trained, or of frozen weights that lie beside in a flat parameter, too."""
    workspace: float = 0.1 * GIB
    """Of the matrix library, in the allocator."""
    step: float = 1.0
    """Copies of the trained weights that the optimizer holds for a moment (torch's `foreach`); 0 where it is fused."""

    def in_float32(self) -> "Kernels":
        """The same where all is computed in 32 bits: what was kept in 16 is twice as large, and nothing is cast."""
        logits = 16.0 if self.logits >= 14.0 else 2 * self.logits
        return replace(self, norm=8.0, activation_function=8.0, logits=logits)


@dataclass(frozen=True)
class Adapter:
    """Update matrices in place of the weights."""

    rank: int = 8
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    bytes_per_weight: float = 4.0
    """Of the trained matrices, their gradients and states."""
    parameters: int | None = None
    """How many are trained, where that is known; None counts them by rank and targets."""
    dropout: bool = False
    """Whether each matrix keeps its input once more after dropout, with the mask (PEFT's and litgpt's lora_dropout)."""
    decomposes: bool = False
    """Whether the norm of each row of a matrix is trained, too (DoRA, arXiv:2402.09353). What the matrix and the update
    give is then kept, each in its number format, to be scaled."""

    def size(self, shape: ModelShape) -> int:
        """How many parameters are trained of a model.

        Raises:
            InvalidSpec: a target is of no matrix.
        """
        if self.parameters is not None:
            return self.parameters
        return shape.adapter_parameters(self.rank, self.targets, decomposes=self.decomposes)


@dataclass(frozen=True)
class Split:
    """How the work is divided between devices."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    virtual: int = 1
    """Stages of the pipeline that each device has."""
    context: int = 1
    expert: int = 1
    sequence: bool = False
    """Activations outside matrices are split over `tensor`, too (arXiv:2205.05198, section 4.2.2)."""
    zero: Literal[0, 1, 2, 3] = 0
    """What is divided over `data` and `context`: optimizer states; gradients; weights. FSDP is 3."""
    stage: Literal["first", "last"] = "first"
    """Of the pipeline. The first holds the most activations, the last the logits."""

    @property
    def devices(self) -> int:
        return self.data * self.tensor * self.pipeline * self.context

    @property
    def shards(self) -> int:
        """Devices over which ZeRO divides."""
        return self.data * self.context


@dataclass(frozen=True)
class Step:
    """One training step on one model."""

    shape: ModelShape
    seq_len: int
    micro_batch: int
    weights: float = 2.0
    """Bytes of a weight that is computed with."""
    trained: float = 2.0
    """Bytes of a trained weight where the optimizer changes it. 4 with `weights` of 4 is float32."""
    master: bool = False
    """Whether a float32 copy of the trained weights is kept beside (ZeRO, section 3.1; Megatron)."""
    gradients: float = 2.0
    optimizer: Optimizer = "adamw"
    adapter: Adapter | None = None
    quantization: Quantization = "none"
    recomputation: Recomputation = "none"
    flash: bool = True
    """Whether attention keeps no matrix of tokens by tokens."""
    split: Split = Split()
    kernels: Kernels = Kernels()
    keeps_gradients: bool = False
    """Whether all gradients exist at all times, in one buffer."""
    accumulates: bool = False
    """Whether gradients of several passes are added up, and so exist at the loss, too."""
    compute: float = 2.0
    """Bytes of an activation."""
    offload_activations: bool = False
    """Whether inputs of layers that are recomputed wait in host memory."""
    offload_optimizer: bool = False
    """Whether states, master weights and gradients lie in host memory (ZeRO-Offload, arXiv:2101.06840)."""
    offload_weights: bool = False
    """Whether weights do, too: two layers at a time are on the device (ZeRO-Infinity, arXiv:2104.07857)."""
    block: float | None = None
    """Layers that are trained at a time, where it is not all of them (BAdam arXiv:2404.02827)."""
    block_has_ends: bool = False
    """Whether embedding and head are trained beside them (LISA arXiv:2403.17919)."""
    subspace: int = 0
    """Rank that states of a layer's matrices are kept in (GaLore arXiv:2403.03507, APOLLO arXiv:2412.05270); 0 is
    none."""
    has_backward: bool = True
    """False where steps are estimated from losses alone (MeZO, arXiv:2305.17333)."""
    ends: float | None = None
    """Bytes of a weight of embedding and head beside quantized layers, where not `weights`."""
    residual: float | None = None
    """Bytes of what passes from layer to layer, where not `compute`."""
    input_bytes: float | None = None
    """Bytes of an input that a matrix keeps, where not `compute`: 1 in FP8 (Transformer Engine keeps the cast one)."""

    def __post_init__(self) -> None:
        shape, split = self.shape, self.split
        for name in ("seq_len", "micro_batch"):
            if getattr(self, name) < 1:
                raise InvalidSpec(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if shape.heads % split.tensor:
            raise InvalidSpec(f"tensor parallelism of {split.tensor} does not divide the model's {shape.heads} heads")
        if split.pipeline > shape.layers:
            raise InvalidSpec(f"{split.pipeline} stages of a pipeline are more than the model's {shape.layers} layers")
        if self.seq_len % split.context:
            raise InvalidSpec(f"context parallelism of {split.context} does not divide {self.seq_len} tokens")


@dataclass(frozen=True)
class Peak:
    """Memory of one device at its peak, by what it is for."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    workspace: float
    moment: Literal["loss", "update"]
    """Which of the two was larger."""
    other_moment: float = 0.0
    """What the other takes that this one does not: blocks of another size, which the allocator keeps beside."""
    waste: float = 0.0
    """What the allocator keeps of blocks that fit nothing later."""

    @property
    def allocated(self) -> float:
        """What PyTorch's allocator has given out."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.workspace

    def reserved(self, total: float = float("inf")) -> float:
        """What it has taken from the driver.

        Args:
            total: Memory of the device: what is only kept is given back before that is exceeded.
        """
        return max(self.allocated, min(self.allocated + self.other_moment + self.waste, total))


def peak(step: Step) -> Peak:
    """The peak of one device.

    Args:
        step: What is trained, and how.

    Raises:
        InvalidSpec: an adapter's targets are not of the model.
    """
    base, trained = _weights(step)
    states = _states(step, trained)
    activations, logits = _activations(step), _logits(step)
    if not step.has_backward:
        activations = layer_activations(step)
    if step.recomputation == "full" and step.has_backward:  # the last layer is computed again when the logits are gone
        again = layer_activations(step)
        logits, activations = (logits, activations) if logits >= again else (0.0, activations + again)
    gradients = _gradients(step, trained)
    temporary = 0.0
    if not step.offload_optimizer and step.has_backward:
        temporary = trained.at_a_time * step.kernels.step * trained.number_bytes / _divided(step, 1)
    if step.subspace or (step.adapter is None and step.gradients == 0):  # one matrix after the other
        temporary = 0.0
    workspace = step.kernels.workspace + _gathered(step)
    is_whole = step.kernels.whole_gradients != "none" and step.split.zero == 3 and step.split.data > 1
    if is_whole and not step.offload_optimizer:
        gradients = base if step.kernels.whole_gradients == "all" else gradients
        gradients *= step.split.shards
    held = gradients if is_whole or step.keeps_gradients or step.accumulates else 0.0
    waste = min(_tokens(step) * step.kernels.waste * step.shape.vocabulary, step.micro_batch * _MOST_WASTE)
    at_loss = base + states + activations + logits + held
    at_update = base + states + gradients + temporary
    if at_loss >= at_update:
        only_update = gradients - held + temporary
        return Peak(base, held, states, activations, logits, workspace, "loss", only_update, waste)
    only_loss = activations + logits
    return Peak(base, gradients, states + temporary, 0.0, 0.0, workspace, "update", only_loss, waste)


def resting(step: Step) -> tuple[float, float, float]:
    """What a model that trains holds on a device between its updates: bytes of weights, states, and gradients."""
    base, trained = _weights(step)
    gradients = _gradients(step, trained) if step.keeps_gradients else 0.0
    return base, _states(step, trained), gradients


@dataclass(frozen=True)
class _Trained:
    """What the optimizer changes, on one device before ZeRO divides it."""

    parameters: float
    number_bytes: float
    at_a_time: float
    """Those that have gradients and states at the same time."""


def _local(step: Step) -> tuple[float, float]:
    """Parameters of one device before ZeRO: those of layers and norms with their experts, and of embedding and head."""
    shape, split = step.shape, step.split
    experts = shape.expert_parameters
    dense = shape.layers * shape.per_layer - experts
    share = 1 / (split.tensor * split.pipeline)
    layers = dense * share + experts * share / split.expert + shape.other / split.pipeline
    ends = shape.embedding / split.tensor
    if split.pipeline == 1:
        ends += shape.head / split.tensor
    return layers, ends


def _weights(step: Step) -> tuple[float, _Trained]:
    """Bytes of all weights, and what of them is trained."""
    layers, ends = _local(step)
    if step.quantization == "none":
        frozen = (layers + ends) * step.weights
    else:
        frozen = layers * WEIGHT_BYTES[step.quantization] + ends * (step.ends or step.weights)
    if step.adapter is None:
        at_a_time = layers + ends
        if step.block is not None:
            block = layers * step.split.pipeline / step.shape.layers * step.block
            at_a_time = min(at_a_time, block + (ends if step.block_has_ends else 0.0))
        trained = _Trained(layers + ends, step.trained, at_a_time)
        whole = (layers + ends) * step.weights
        return _resident(step, whole), trained
    number = step.adapter.size(step.shape) // (step.split.tensor * step.split.pipeline)
    trained = _Trained(number, step.adapter.bytes_per_weight, number)
    return _resident(step, frozen + number * step.adapter.bytes_per_weight), trained


def _resident(step: Step, whole: float) -> float:
    """Bytes of weights that are always on the device."""
    if not step.offload_weights:
        return whole / _divided(step, 3)
    if _gathered(step):  # the layers that are worked on are counted there
        return 0.0
    layers, ends = _local(step)
    return min(whole, (2 * layers / max(1, step.shape.layers / step.split.pipeline) + ends) * step.weights)


def _divided(step: Step, stage: int) -> int:
    """Over how many devices a thing is divided from this stage of ZeRO on."""
    return step.split.shards if step.split.zero >= stage else 1


def _states(step: Step, trained: _Trained) -> float:
    if step.offload_optimizer or not step.has_backward:
        return 0.0
    bytes_each = _STATE_BYTES.get(step.optimizer)
    if bytes_each is None:
        number = 4.0 if step.master else trained.number_bytes
        bytes_each = STATES[step.optimizer] * number
    master = 4.0 if step.master else 0.0
    kept = trained.at_a_time
    projections = 0.0
    if step.subspace and step.adapter is None:
        kept, projections = _in_subspace(step, trained)
    bytes_all = kept * bytes_each + trained.at_a_time * master + projections * step.trained
    if step.split.expert > 1 and step.adapter is None and step.split.zero in (1, 2):
        # Experts have fewer copies, so that their states are divided between fewer devices.
        held = step.shape.expert_parameters / (step.split.tensor * step.split.pipeline * step.split.expert)
        share = min(1.0, held / max(1.0, trained.parameters))
        copies = max(1, step.split.shards // step.split.expert)
        return bytes_all * (share / copies + (1 - share) / step.split.shards)
    return bytes_all / _divided(step, 1)


def _in_subspace(step: Step, trained: _Trained) -> tuple[float, float]:
    """Elements of one state where matrices of layers are projected to a low rank, and of the projections."""
    whole = low = projections = 0.0
    for one in step.shape.linears:
        rank = min(step.subspace, one.num_in, one.num_out)
        whole += one.parameters
        low += one.copies * rank * max(one.num_in, one.num_out)
        projections += one.copies * rank * min(one.num_in, one.num_out)
    share = step.shape.layers / (step.split.tensor * step.split.pipeline)
    return max(0.0, trained.parameters - whole * share) + low * share, projections * share


def _gradients(step: Step, trained: _Trained) -> float:
    if not step.has_backward:
        return 0.0
    number = step.gradients if step.adapter is None else step.adapter.bytes_per_weight
    found = trained.at_a_time * number / _divided(step, 2)
    return min(found, _BUCKET) if step.offload_optimizer else found


def _gathered(step: Step) -> float:
    """With ZeRO 3, two layers whose weights are whole for a moment, and a gradient (arXiv:1910.02054, 5.3)."""
    if step.split.zero < 3 or step.split.shards == 1:
        return 0.0
    layers, ends = _local(step)
    one = layers / max(1, step.shape.layers / step.split.pipeline)
    return (2 * one + ends) * step.weights + (one * step.gradients if step.adapter is None else 0.0)


def layer_activations(step: Step) -> float:
    """Bytes that one layer keeps for the backward pass, with nothing recomputed.

    Each matrix keeps its input, each norm its input and what float32 leaves, attention its queries, keys, values and
    result, and without FlashAttention the scores and probabilities of every head (arXiv:2205.05198, section 4.1).
    """
    shape, split, kernels, size = step.shape, step.split, step.kernels, step.compute
    tokens = _tokens(step)
    outside = split.tensor if split.sequence else 1
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if shape.latent is not None:
        key = query
    norm = kernels.norm if step.adapter is None else min(kernels.norm, max(4.0, kernels.norm - size))
    norms = shape.norms * norm * shape.hidden / outside
    norms += norm * (shape.norm_width - shape.norms * shape.hidden) / split.tensor
    attention = size * (2 * query + 2 * key + (query + key if kernels.rope_copies else 0)) / split.tensor
    attention = attention * shape.attention_share + size * shape.mixer_elements / split.tensor
    inputs = _linear_inputs(step)
    scores = 0.0 if step.flash or step.recomputation == "selective" else _scores(step)
    return tokens * (norms + attention + inputs + _mlp(step) + shape.has_dropout * 2 * shape.hidden / outside) + scores


def _tokens(step: Step) -> float:
    """Of a micro batch, on one device."""
    return step.seq_len * step.micro_batch / step.split.context


def _scores(step: Step) -> float:
    """Scores, their dropout's mask and what is left of them: 5 bytes each, 2 without dropout; for each head."""
    shape, split = step.shape, step.split
    each = 5.0 if shape.has_dropout else 2.0 * step.compute
    each *= shape.attention_share
    return each * shape.heads / split.tensor * step.micro_batch * step.seq_len**2 / split.context


def _linear_inputs(step: Step) -> float:
    """Per token, inputs of matrices at the hidden size, of attention and MLP, and what adapters keep beside them: each
    its input once more in float32 where it is trained in that."""
    shape, split = step.shape, step.split
    size = step.compute if step.input_bytes is None else step.input_bytes
    found = _hidden_inputs(step) * size * shape.hidden / (split.tensor if split.sequence else 1)
    if step.quantization != "none":
        found += step.kernels.quantized * shape.hidden
    if step.adapter is not None:
        copies = step.adapter.bytes_per_weight if step.adapter.bytes_per_weight > step.compute else 0.0
        if step.adapter.dropout:
            copies = step.adapter.bytes_per_weight + 1.0
        found += copies * sum(_met(one, shape) * one.num_in for one in _adapted(step, step.adapter))
        if step.adapter.decomposes:
            results = step.compute + step.adapter.bytes_per_weight
            found += results * sum(_met(one, shape) * one.num_out for one in _adapted(step, step.adapter))
    return found


def _met(linear: Linear, shape: ModelShape) -> float:
    """Copies of a matrix that one token passes: of the experts, those that it is sent to."""
    if shape.experts is None or not linear.name.startswith("experts."):
        return linear.copies
    return linear.copies * shape.experts.num_per_token / shape.experts.num


def _hidden_inputs(step: Step) -> int:
    """Inputs of the hidden size that a layer keeps in the number format it computes in: of attention and of MLP.

    A matrix that is not trained needs its weights alone for the gradient of its input; one with an adapter in another
    number format keeps its own cast of the input.
    """
    if step.adapter is None:
        return 2
    if step.adapter.bytes_per_weight > step.compute:
        return 0
    wide = {one.name for one in _adapted(step, step.adapter) if one.num_in == step.shape.hidden}
    return bool(wide & _READS) + bool(wide - _READS)


def _adapted(step: Step, adapter: Adapter) -> list[Linear]:
    return [one for one in step.shape.linears if adapter.targets == "all-linear" or one.name in adapter.targets]


def _mlp(step: Step) -> float:
    """Per token, what the MLP keeps: its widths before and after the activation function."""
    shape, size = step.shape, step.compute
    gated = 2 * size + step.kernels.activation_function
    each = gated if shape.is_gated else 2 * size
    if step.adapter is not None and not any(_is_last_of_mlp(one, shape) for one in _adapted(step, step.adapter)):
        each -= size  # the input of its last matrix, which nothing that is trained needs
    if shape.experts is None:
        return each * shape.intermediate / step.split.tensor
    experts = shape.experts
    share = experts.num_layers / shape.layers
    routed = experts.num_per_token * (each * experts.intermediate + 2 * size * shape.hidden)
    sparse = routed + each * experts.shared
    return (share * sparse + (1 - share) * each * shape.intermediate) / step.split.tensor


def _is_last_of_mlp(linear: Linear, shape: ModelShape) -> bool:
    return linear.num_out == shape.hidden and linear.num_in == shape.intermediate


def _activations(step: Step) -> float:
    """All layers of a device. Recomputation keeps the input of each layer (section 5)."""
    shape, split = step.shape, step.split
    layers = shape.layers / split.pipeline
    in_flight = _in_flight(split)
    if step.recomputation == "full":
        kept = _tokens(step) * shape.hidden * (step.residual or step.compute) / (split.tensor if split.sequence else 1)
        return (min(2.0, layers) if step.offload_activations else in_flight * layers) * kept
    if step.recomputation == "selective" and step.kernels.selects_outputs:
        outputs = sum(one.copies * one.num_out for one in shape.linears if not one.name.startswith("experts."))
        kept = (shape.hidden + shape.heads * shape.head_dim + outputs / 2) * step.compute / split.tensor
        whole = layer_activations(step)  # of the layer at hand
        return min(in_flight * layers * _tokens(step) * kept + whole, in_flight * layers * whole)
    return in_flight * layers * layer_activations(step)


def _in_flight(split: Split) -> float:
    """Micro batches that a stage holds: as many as there are stages in the first (1F1B), more with virtual stages."""
    if split.pipeline == 1:
        return 1.0
    if split.stage == "last":
        return 1.0 if split.virtual == 1 else ((split.virtual - 1) * split.pipeline + 1) / split.virtual
    return (
        split.pipeline * (1 + (split.pipeline - 1) / (split.pipeline * split.virtual))
        if split.virtual > 1
        else float(split.pipeline)
    )


def _logits(step: Step) -> float:
    if step.split.pipeline > 1 and step.split.stage == "first":
        return 0.0
    found = _tokens(step) * step.kernels.logits * step.shape.vocabulary / step.split.tensor
    if step.adapter is None and step.has_backward:
        found += step.kernels.head * step.shape.embedding / step.split.tensor
    return found
