"""What is to be trained on what, and the ways to do it: how it is divided, and what waits in host memory.

Pure. Owns: which ways a program has for a job. Does not own: what a way takes (memory, phases), how long it lasts
(timing), nor which is best (recommending).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from finery.core.errors import InvalidSpec
from finery.planner import cpu
from finery.planner.accelerators import Accelerator
from finery.planner.frameworks import FRAMEWORKS, Framework
from finery.planner.memory import GIB, Adapter, Kernels, Optimizer, Quantization, Recomputation, Split, Step
from finery.planner.phases import GENERATES, PAIRS, Algorithm, Phase, Rollout, fullest
from finery.planner.shapes import ModelShape
from finery.planner.throughput import Precision

Sharding = Literal["none", "ddp", "zero1", "zero2", "zero3", "fsdp", "megatron"]
Offload = Literal["none", "optimizer", "all", "between"]
"""What waits in host memory: states; states and weights; all that trains, while completions are generated (verl)."""
Numbers = Literal["bf16", "mixed", "fp32"]
"""Weights, gradients and states in 16 bits; computed in 16 with all three in 32; all in 32."""
Rollouts = Literal["trainer", "colocated", "apart"]
"""What generates completions: the model that is trained; an engine (vLLM) on the same devices; one on its own."""
Engine = Literal["trl", "verl", "accelerate"]
"""What runs a way: an engine of a job file, or TRL alone with accelerate's or DeepSpeed's configuration."""

MARGIN: Final = 0.06
"""Share of the device that stays free: about the median error against published measurements. A tenth of jobs is off by
four times as much, so that a way close to the budget may still not fit."""
COMMUNICATOR_GIB: Final = 1.5
"""Part of `Accelerator.context_gib` that a single device does not need."""
LEFT_BY_ENGINE_GIB: Final = 1.0
"""What an engine that sleeps leaves on the device: its own context and the graphs it has captured."""
_SHORTEST_PART: Final = 1024
"""Tokens below which a sequence is not divided over devices."""
_MOST_STAGES: Final = 16
"""Of a pipeline, that are searched."""
GROUP: Final = 8
"""Completions of a prompt, as a job file has them by default (`rollout.completions_per_prompt`)."""
BUCKET_BYTES: Final = 2 * 64 * 2**20
"""Gradients that travel between processes of engine trl together, and their sum."""
VERL_ALGORITHMS: Final = frozenset({"sft", "ppo", "grpo", "rloo"})
"""What the engine verl trains."""
ALONE: Final = frozenset({"apple"})
"""Vendors of devices that train with no others."""
WITHOUT_BITSANDBYTES: Final = frozenset({"apple", "google"})
"""Vendors of devices that train nothing beside quantized weights."""
_OF_VERL: Final = frozenset({"nvidia", "amd", "huawei"})
"""Vendors of devices that it runs on."""
_LOGITS_OF_ROLLOUTS: Final = 24.0
"""Bytes for each completion token and entry of the vocabulary on a GPU: those of HF, divided by the temperature, with
the exponentials of their entropy."""
_HEAD_BYTES: Final = 6.0
"""For each element of a head that is trained, of its gradient in float32 and as it is cast
(trl/kernels/chunked_logprob.py)."""
_FUSED: Final = frozenset({"pretrain", "sft", "dpo", "kto", "grpo", "rloo"})
"""Whose loss TRL computes with the head, in pieces (trl/trainer/utils.py: `add_fused_lm_head`)."""
_ZERO: Final = ("zero1", "zero2", "zero3")
_FRAMEWORKS: Final = {"zero1": "deepspeed", "zero2": "deepspeed", "zero3": "deepspeed", "megatron": "megatron"}


@dataclass(frozen=True)
class Pins:
    """What is not searched, as it is given."""

    sharding: Sharding | None = None
    tensor: int | None = None
    pipeline: int | None = None
    context: int | None = None
    expert: int | None = None
    micro_batch: int | None = None
    recomputation: Recomputation | None = None
    offload: Offload | None = None
    rollout_tensor: int | None = None
    rollout_share: float | None = None


@dataclass(frozen=True)
class Job:
    """What is to be trained, and on what."""

    shape: ModelShape
    device: Accelerator
    num_devices: int = 1
    devices_per_host: int = 8
    algorithm: Algorithm = "sft"
    seq_len: int = 2048
    """Prompt and completion together."""
    completion_len: int | None = None
    """Part of it that is generated; None is half."""
    sequences_per_step: int = 64
    """Of an optimizer step, over all devices."""
    adapter: Adapter | None = None
    quantization: Quantization = "none"
    optimizer: Optimizer = "adamw"
    numbers: Numbers = "bf16"
    flash: bool = True
    """Whether attention keeps no matrix of tokens by tokens."""
    liger: bool = False
    """Whether norms, activation and rotation are Liger's kernels, which keep less."""
    kl: bool = True
    """Whether a reference model is kept."""
    critic: bool = True
    """Whether PPO trains a second model of the same size."""
    rollouts: Rollouts = "trainer"
    margin: float = MARGIN
    host_gib: float | None = None
    """Memory of a host; None is twice that of its devices, and 64 GiB at least, as such hosts are sold."""
    memory_ratio: float = 1.0
    """Measured by predicted memory of jobs like this one; all bytes are multiplied by it."""
    speed_ratio: float = 1.0
    """The same of tokens per second."""
    pins: Pins = field(default_factory=Pins)

    def __post_init__(self) -> None:
        for name in ("num_devices", "devices_per_host", "seq_len", "sequences_per_step"):
            if getattr(self, name) < 1:
                raise InvalidSpec(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.shape.family in _TWO_STACKS:
            raise InvalidSpec(
                "encoder-decoders are counted, and not planned: no program that is planned for trains them"
            )
        if self.quantization != "none" and self.adapter is None:
            raise InvalidSpec("quantized weights are not trained; add LoRA, or remove the quantization")
        if not 0 <= self.margin < 1:
            raise InvalidSpec(f"a margin of {self.margin:g} is no share of a device; it must lie between 0 and 1")
        if self.completion_len is not None and not 0 < self.completion_len < self.seq_len:
            raise InvalidSpec(
                f"a completion of {self.completion_len} tokens leaves no prompt within {self.seq_len}; "
                f"it must lie between 1 and {self.seq_len - 1}"
            )
        if self.rollouts == "apart" and self.algorithm in GENERATES and self.num_devices < 2:
            raise InvalidSpec("rollouts apart need a device that generates and one that trains; plan for 2 or more")
        self._check_device()
        self._check_pins()

    def _check_device(self) -> None:
        vendor, number = self.device.vendor, self.num_devices
        if self.quantization != "none" and vendor in WITHOUT_BITSANDBYTES:
            raise InvalidSpec(f"bitsandbytes does not run on {self.device.name}; plan without quantization")
        if number > 1 and vendor in ALONE:
            raise InvalidSpec(f"{self.device.name} trains alone; plan for one")
        if vendor in ("apple", "cpu", "google") and self.rollouts != "trainer" and self.algorithm in GENERATES:
            raise InvalidSpec(f"vLLM beside a trainer does not run on {self.device.name}; plan with rollouts: trainer")

    def _check_pins(self) -> None:
        pins, shape = self.pins, self.shape
        for name in ("tensor", "pipeline", "context", "expert", "micro_batch", "rollout_tensor"):
            value = getattr(pins, name)
            if value is not None and value < 1:
                raise InvalidSpec(f"{name} is {value}; it must be 1 or more")
        for name in ("tensor", "rollout_tensor"):
            size = getattr(pins, name) or 1
            if shape.heads % size:
                fitting = [one for one in (1, 2, 4, 8, 16) if shape.heads % one == 0]
                raise InvalidSpec(
                    f"tensor parallelism of {size} does not divide the model's {shape.heads} heads; "
                    f"{', '.join(map(str, fitting))} would"
                )
        if (pins.pipeline or 1) > shape.layers:
            raise InvalidSpec(f"{pins.pipeline} stages of a pipeline are more than the model's {shape.layers} layers")
        if shape.layers % (pins.pipeline or 1):
            fitting = [one for one in range(1, _MOST_STAGES + 1) if shape.layers % one == 0]
            raise InvalidSpec(
                f"{pins.pipeline} stages of a pipeline do not divide the model's {shape.layers} layers; "
                f"{', '.join(map(str, fitting))} would"
            )
        if (pins.expert or 1) > 1 and shape.experts is None:
            raise InvalidSpec(f"the model has no experts to divide over {pins.expert} devices; expert must be 1")
        if pins.rollout_share is not None and not 0 < pins.rollout_share < 1:
            raise InvalidSpec(f"rollout_share is {pins.rollout_share:g}; it must lie between 0 and 1")
        group = (pins.tensor or 1) * (pins.pipeline or 1) * (pins.context or 1)
        if self.num_devices % group:
            raise InvalidSpec(
                f"tensor x pipeline x context is {group}, which does not divide the {self.num_devices} devices"
            )

    @property
    def context_bytes(self) -> float:
        """Of driver, kernels, communicator and a sleeping engine, outside the allocator."""
        context = self.device.context_gib - (COMMUNICATOR_GIB if self.num_devices == 1 else 0.0)
        beside = LEFT_BY_ENGINE_GIB if self.algorithm in GENERATES and self.rollouts == "colocated" else 0.0
        return (max(0.0, context) + beside) * GIB

    @property
    def budget(self) -> float:
        """Bytes of a device that a job may allocate."""
        num_sharing = self.num_devices if self.device.vendor == "cpu" else 1
        return (self.device.total_bytes / num_sharing - self.context_bytes) * (1 - self.margin)

    @property
    def host_budget(self) -> float:
        """Bytes of a host that a job may take."""
        devices = min(self.devices_per_host, self.num_devices) * self.device.memory_gib
        return (max(64.0, 2 * devices) if self.host_gib is None else self.host_gib) * GIB

    @property
    def is_float32(self) -> bool:
        """Whether all is in 32 bits: as asked, and on a CPU."""
        return self.numbers == "fp32" or self.device.vendor == "cpu"

    @property
    def scales_loss(self) -> bool:
        """Whether all weights are trained on a device without bfloat16: float16 needs float32 weights and a scaled
        loss."""
        return self.precision == "fp16" and self.adapter is None

    @property
    def has_unscaled_adapters(self) -> bool:
        """Whether TRL alone cannot scale the loss: its adapters beside quantized weights are bfloat16. DeepSpeed casts
        them."""
        return self.precision == "fp16" and self.quantization != "none"

    @property
    def is_mixed(self) -> bool:
        """Whether 16 bits are computed in, and weights, gradients and states are in 32."""
        return self.numbers == "mixed" or self.scales_loss

    @property
    def precision(self) -> Precision:
        """That matrices are multiplied in."""
        if self.is_float32:
            return "fp32"
        return "bf16" if self.device.bf16 else "fp16" if self.device.fp16 else "fp32"

    @property
    def completion(self) -> int:
        """Tokens that are generated of each sequence."""
        return self.completion_len or max(1, self.seq_len // 2)

    @property
    def adapted(self) -> str:
        """What is trained beside frozen weights, in words; empty where all weights are trained."""
        if self.adapter is None:
            return ""
        bits = {"none": "", "int8": " on 8-bit weights"}.get(self.quantization, " on 4-bit weights")
        return f"{'DoRA' if self.adapter.decomposes else 'LoRA'}{bits}"


_TWO_STACKS: Final = frozenset({"t5", "mt5", "umt5"})
"""Families with an encoder."""


@dataclass(frozen=True)
class Layout:
    """How a job is divided."""

    sharding: Sharding
    split: Split
    num_generating: int = 0
    """Devices that only generate."""
    is_alone: bool = False
    """Whether TRL runs it without an engine of a job file, though one could."""

    @property
    def framework(self) -> Framework:
        return FRAMEWORKS[_FRAMEWORKS.get(self.sharding, "transformers")]


@dataclass(frozen=True)
class Seconds:
    """Of an optimizer step."""

    computing: float
    communicating: float
    """What is not hidden behind computing."""
    offloading: float
    generating: float
    waiting: float
    """In a pipeline, for the other stages."""

    @property
    def total(self) -> float:
        return self.computing + self.communicating + self.offloading + self.generating + self.waiting


@dataclass(frozen=True)
class Way:
    """One way to run a job."""

    job: Job
    layout: Layout
    micro_batch: int
    accumulation: int
    recomputation: Recomputation
    offload: Offload
    rollout: Rollout | None
    phases: tuple[Phase, ...]
    seconds: Seconds
    tokens_per_second: float
    """Trained on by all devices together."""
    engine: Engine
    host: float
    """Bytes of host memory, of one host."""

    @property
    def fullest(self) -> Phase:
        return fullest(self.phases)

    @property
    def fits(self) -> bool:
        return self.fullest.allocated <= self.job.budget and self.host <= self.job.host_budget

    @property
    def words(self) -> str:
        """The way in words."""
        split = self.layout.split
        shared = {
            "none": "one device",
            "ddp": "a copy on each device (DDP)",
            "zero1": "states divided (ZeRO 1)",
            "zero2": "states and gradients divided (ZeRO 2)",
            "zero3": "all divided (ZeRO 3)",
            "fsdp": "sharded (FSDP)",
            "megatron": "Megatron",
        }[self.layout.sharding]
        sizes = ((split.tensor, "TP"), (split.pipeline, "PP"), (split.context, "CP"), (split.expert, "EP"))
        if self.layout.sharding == "fsdp":
            sizes = ((split.context, "sequence"),)  # type: ignore[assignment]
        found = [self.job.adapted] if self.job.adapter is not None else []
        found.append(" ".join([shared, *(f"{name} {size}" for size, name in sizes if size > 1)]))
        found.append(f"micro batch {self.micro_batch} x {self.accumulation}")
        if self.recomputation != "none":
            found.append("recomputation" if self.recomputation == "full" else "selective recomputation")
        waits = {"optimizer": "states in host memory", "all": "states and weights in host memory"}
        if self.offload in waits:
            found.append(waits[self.offload])
        if self.offload == "between":
            found.append("offloaded during rollouts")
        if self.layout.num_generating:
            found.append(f"{self.layout.num_generating} devices generate")
        if self.rollout is not None and self.rollout.share is not None:
            found.append(f"vLLM TP {self.rollout.tensor}, {self.rollout.share:.0%} of memory")
        return ", ".join(found)


def step_of(job: Job, layout: Layout, micro_batch: int, accumulation: int, way: Recomputation, off: Offload) -> Step:
    """The training step of a way, on one device."""
    engine = engine_of(job, layout, off)
    framework = FRAMEWORKS["verl"] if engine == "verl" and layout.sharding == "fsdp" else layout.framework
    has_master = framework.master and job.adapter is None and not job.is_float32
    is_wide = (job.is_mixed or job.is_float32) and not has_master
    # Autocast keeps what it has cast for the backward pass, of all layers where none is computed again.
    has_casts = job.is_mixed and layout.split.zero == 0 and way == "none"
    adapter = job.adapter
    if adapter is not None and engine == "accelerate" and (job.quantization != "none" or layout.sharding in _ZERO):
        adapter = replace(adapter, bytes_per_weight=2.0)  # TRL casts them beside quantized weights, DeepSpeed all
    step = Step(
        job.shape,
        job.seq_len,
        micro_batch,
        weights=_weight_bytes(job, is_wide=is_wide, has_casts=has_casts),
        trained=4.0 if is_wide else 2.0,
        master=has_master,
        gradients=4.0 if is_wide else framework.gradients,
        optimizer=job.optimizer,
        adapter=adapter,
        quantization=job.quantization,
        recomputation=way,
        flash=job.flash,
        split=layout.split,
        kernels=_kernels(job, layout, framework, engine),
        keeps_gradients=framework.keeps_gradients,
        accumulates=accumulation > 1,
        compute=4.0 if job.is_float32 else 2.0,
        offload_optimizer=off in ("optimizer", "all"),
        offload_weights=off == "all",
    )
    shares_prompts = engine == "trl" and job.algorithm in GENERATES and way == "none"
    return _with_shared_prompts(job, step) if shares_prompts else step


def _with_shared_prompts(job: Job, step: Step) -> Step:
    """Engine trl computes each prompt of a pass once for its completions, unless it recomputes."""
    prompts = min(step.micro_batch, -(-job.sequences_per_step // GROUP))
    tokens = job.completion + -(-prompts * (job.seq_len - job.completion) // step.micro_batch)
    kernels = replace(step.kernels, logits=step.kernels.logits * job.seq_len / tokens)
    return cpu.with_cache(replace(step, seq_len=tokens, kernels=kernels), job.seq_len / tokens)


def _kernels(job: Job, layout: Layout, framework: Framework, engine: Engine) -> Kernels:
    found = framework.kernels.in_float32() if job.is_float32 else framework.kernels
    if layout.sharding == "fsdp":  # what is exported adds gradients up after each micro batch
        found = replace(found, whole_gradients="none")
    if job.liger and layout.sharding != "megatron":
        size = 4.0 if job.is_float32 else 2.0
        found = replace(found, norm=size, activation_function=size, rope_copies=False)
    if engine == "verl":
        return found
    share = job.completion / job.seq_len if job.algorithm in GENERATES else 1.0  # of the tokens, that have logits
    if job.device.vendor == "cpu":
        found = cpu.kernels(job.algorithm)
        return replace(found, logits=found.logits * share)
    if engine == "accelerate" and job.algorithm in _FUSED:
        found = replace(found, logits=0.0, head=_HEAD_BYTES)
    elif engine == "trl":
        found = loss_of_trl(found, job.algorithm)
        found = replace(found, logits=found.logits * share)
    workspace = found.workspace
    if layout.sharding == "ddp":  # DDP copies gradients to buckets; engine trl has one at a time
        trained = job.shape.parameters if job.adapter is None else job.adapter.size(job.shape)
        size = 4.0 if job.is_mixed or job.is_float32 else 2.0
        workspace += min(BUCKET_BYTES, 2 * trained * size) if engine == "trl" else trained * size
    # Both have fused optimizers (`adamw_torch_fused`).
    return replace(found, step=0.0, workspace=workspace)


def loss_of_trl(kernels: Kernels, algorithm: Algorithm) -> Kernels:
    """Kernels with what the loss of the engine trl keeps on a GPU, of tokens that are labelled.

    Args:
        kernels: Of the layers.
        algorithm: For preferences the loss is TRL's own, which is computed with the head.
    """
    if algorithm in ("dpo", "kto"):
        return replace(kernels, logits=0.0, head=_HEAD_BYTES)
    return replace(kernels, logits=_LOGITS_OF_ROLLOUTS) if algorithm in GENERATES else kernels


def _weight_bytes(job: Job, *, is_wide: bool, has_casts: bool) -> float:
    if job.is_float32:
        return 4.0
    if job.adapter is not None or not is_wide:
        return 2.0
    return 6.0 if has_casts else 4.0


def engine_of(job: Job, layout: Layout, offload: Offload) -> Engine:
    """What runs a way: what the engines of a job file refuse is left to accelerate."""
    is_scaled = job.precision == "fp16" and job.quantization == "none"  # which the engines do not
    is_refused = layout.is_alone or is_scaled or (job.algorithm == "reward" and job.quantization != "none")
    has_one_host = job.num_devices <= job.devices_per_host
    if layout.sharding in ("none", "ddp") and offload == "none" and _generates_itself(job) and has_one_host:
        return "accelerate" if is_refused else "trl"
    return "verl" if _is_verls(job, layout, offload) else "accelerate"


def _generates_itself(job: Job) -> bool:
    return job.algorithm not in GENERATES or job.rollouts == "trainer"


def _is_verls(job: Job, layout: Layout, offload: Offload) -> bool:
    if job.algorithm not in VERL_ALGORITHMS or job.quantization != "none" or job.device.vendor not in _OF_VERL:
        return False
    if job.precision == "fp16":
        return False
    if job.adapter is not None and (job.adapter.decomposes or job.algorithm == "ppo"):
        return False  # no DoRA under FSDP, and no critic with update matrices (verl 0.9.1)
    if job.algorithm in GENERATES and job.rollouts == "trainer":
        return False
    kinds = ("adamw", "sgd") if layout.sharding == "megatron" else ("adamw", "sgd", "adamw_8bit")
    return job.optimizer in kinds and layout.sharding in ("none", "fsdp", "megatron") and offload in ("none", "between")


def layouts(job: Job) -> Iterator[Layout]:
    """How the job can be divided over its devices, as its pins allow."""
    for num_generating in _numbers_that_generate(job):
        for layout in _divided(job, job.num_devices - num_generating):
            if not _is_wanted(job.pins, layout) or not _is_run_by_something(job, layout):
                continue
            yield replace(layout, num_generating=num_generating)
            is_left = job.has_unscaled_adapters or job.device.vendor == "cpu"
            if job.algorithm in _FUSED and engine_of(job, layout, "none") == "trl" and not is_left:
                yield replace(layout, is_alone=True)


def _numbers_that_generate(job: Job) -> list[int]:
    if job.rollouts != "apart" or job.algorithm not in GENERATES:
        return [0]
    number = job.num_devices
    return sorted({one for one in (number // 4, number // 2, 3 * number // 4) if 0 < one < number})


def _divided(job: Job, number: int) -> Iterator[Layout]:
    if number == 1:
        yield Layout("none", Split())
        if job.device.vendor in ("nvidia", "amd"):  # DeepSpeed on one device, for its offload
            yield Layout("zero2", Split(zero=2))
            yield Layout("zero3", Split(zero=3))
        return
    if job.device.vendor == "cpu":
        yield Layout("ddp", Split(data=number))
        return
    plain: tuple[tuple[Sharding, Literal[0, 1, 2, 3]], ...] = (("ddp", 0), ("zero1", 1), ("zero2", 2), ("zero3", 3))
    for sharding, stage in plain:
        yield Layout(sharding, Split(data=number, zero=stage))
    for context in (1, 2, 4, 8):
        if number % context or (context > 1 and not _can_divide_sequence(job, context)):
            continue
        yield Layout("fsdp", Split(data=number // context, context=context, zero=3))
    if job.adapter is None and job.algorithm in VERL_ALGORITHMS and not job.is_float32:
        yield from _megatron(job, number)


def _can_divide_sequence(job: Job, context: int) -> bool:
    """Ulysses divides heads; each part is worth its messages."""
    is_long = job.seq_len // context >= _SHORTEST_PART
    return job.shape.heads % context == 0 and job.seq_len % context == 0 and (is_long or job.pins.context == context)


def _megatron(job: Job, number: int) -> Iterator[Layout]:
    shape, pins = job.shape, job.pins
    is_mixture = shape.experts is not None
    for tensor in _powers(min(number, job.devices_per_host), pins.tensor):
        for pipeline in _powers(min(number // tensor, shape.layers, _MOST_STAGES), pins.pipeline):
            for context in _powers(min(8, number // (tensor * pipeline)), pins.context):
                group = tensor * pipeline * context
                if group == 1 or number % group or not _divides_heads(shape, tensor) or shape.layers % pipeline:
                    continue
                if context > 1 and (job.seq_len % (2 * context) or not _can_divide_sequence(job, context)):
                    continue
                data = number // group
                num = shape.experts.num if shape.experts is not None else 1
                for expert in _experts(job, min(data * context, num)) if is_mixture else (1,):
                    if (data * context) % expert or num % expert:
                        continue
                    yield Layout(
                        "megatron",
                        Split(data, tensor, pipeline, 1, context, expert, sequence=tensor > 1, zero=1),
                    )


def _divides_heads(shape: ModelShape, tensor: int) -> bool:
    """Megatron divides the heads of keys and values, too."""
    return shape.heads % tensor == 0 and (shape.latent is not None or shape.kv_heads % tensor == 0)


def _experts(job: Job, most: int) -> tuple[int, ...]:
    """Within a host, or over as many devices as can be."""
    if job.pins.expert is not None:
        return (job.pins.expert,)
    sizes = _powers(most, None)
    within = [size for size in sizes if size <= job.devices_per_host]
    return tuple(sorted({within[-1], sizes[-1]}))


def _powers(most: int, pinned: int | None) -> tuple[int, ...]:
    if pinned is not None:
        return (pinned,)
    return tuple(one for one in (1, 2, 4, 8, 16, 32, 64) if one <= max(1, most))


def _is_run_by_something(job: Job, layout: Layout) -> bool:
    """accelerate has neither Megatron nor Ulysses, and divides no weights of 8 bits."""
    is_verls_alone = layout.sharding == "megatron" or layout.split.context > 1
    if is_verls_alone and engine_of(job, layout, "none") != "verl":
        return False
    is_unscaled = job.has_unscaled_adapters and layout.sharding == "fsdp"
    return not is_unscaled and (job.quantization != "int8" or layout.split.zero < 3)  # 8 bits are not divided


def _is_wanted(pins: Pins, layout: Layout) -> bool:
    split = layout.split
    if pins.sharding is not None and pins.sharding != layout.sharding:
        return False
    pairs = ((pins.tensor, split.tensor), (pins.pipeline, split.pipeline), (pins.context, split.context))
    return all(pinned is None or pinned == size for pinned, size in (*pairs, (pins.expert, split.expert)))


def offloads(job: Job, layout: Layout) -> tuple[Offload, ...]:
    """What may wait in host memory, the least first."""
    found: list[Offload] = [] if layout.sharding in ("zero2", "zero3") and layout.split.data == 1 else ["none"]
    # DeepSpeed puts an AdamW of its own in place of others, and what has 8 bits runs on no CPU.
    if layout.sharding in _ZERO and job.optimizer == "adamw" and job.adapter is None:  # whose states are small
        found.append("optimizer")
    if layout.sharding == "zero3" and job.quantization == "none" and job.optimizer == "adamw":
        found.append("all")
    if layout.sharding == "fsdp" and job.optimizer in ("adamw", "sgd", "sgd_momentum", "adafactor"):
        found.append("all")
    if job.algorithm in GENERATES and job.rollouts == "colocated" and layout.sharding in ("none", "fsdp", "megatron"):
        found.append("between")
    pinned = job.pins.offload
    return tuple(one for one in found if pinned is None or one == pinned)


def rows(job: Job) -> int:
    """Sequences that the model meets for each of the batch: two where rows are pairs."""
    return 2 if job.algorithm in PAIRS else 1
