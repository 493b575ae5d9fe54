"""What the planner is asked and what it answers, as the API, the command and the page have it."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec, View
from finery.planner.memory import Optimizer, Quantization
from finery.planner.phases import Algorithm
from finery.planner.ways import Engine, Numbers, Offload, Rollouts, Sharding

ExportFormat = Literal["job", "verl", "trl", "accelerate", "deepspeed", "fsdp"]


class FixedSpec(Spec):
    """What is not searched. None is searched."""

    sharding: Sharding | None = None
    """How the model is divided: not (`none`), copies (`ddp`), DeepSpeed's stages, PyTorch's shards, or Megatron."""
    tensor: int | None = Field(None, ge=1, le=64)
    """Devices that share each layer."""
    pipeline: int | None = Field(None, ge=1, le=64)
    """Stages of layers."""
    context: int | None = Field(None, ge=1, le=64)
    """Devices that share each sequence."""
    expert: int | None = Field(None, ge=1, le=512)
    """Devices that share the experts of a mixture."""
    micro_batch: int | None = Field(None, ge=1, le=4096)
    """Rows of one forward and backward pass."""
    recomputation: Literal["none", "full"] | None = None
    """Whether layers are computed again in the backward pass (activation checkpointing)."""
    offload: Offload | None = None
    """What waits in host memory: states, all, or all that trains while completions are generated (`between`)."""
    rollout_tensor: int | None = Field(None, ge=1, le=64)
    """Devices that hold one copy of the model while they generate."""
    rollout_share: float | None = Field(None, gt=0, lt=1)
    """Share of a device that the engine takes while it generates."""


class PlanRequest(Spec):
    """What is to be trained, and on what."""

    model: str = Field("", max_length=500)
    """Name of a known model, such as `Qwen/Qwen2.5-7B`."""
    config: dict[str, Any] | None = None
    """The `config.json` of a model, in place of its name."""
    params: float | None = Field(None, gt=0, lt=10_000)
    """Billions of parameters, where nothing else is known."""
    gpu: str = Field("A100-80G", min_length=1, max_length=100)
    """What it runs on, such as `A100-80G`, `RTX 4090`, `MI300X`, `Ascend 910B`, `M3 Max 64GB`."""
    num_gpus: int = Field(1, ge=1, le=16_384)
    """How many of them, on all hosts."""
    gpus_per_host: int = Field(8, ge=1, le=1024, json_schema_extra=ADVANCED)
    """Devices of a host, between which messages are fast."""
    algorithm: Algorithm = "sft"
    """What is trained."""
    context: int = Field(2048, ge=2, le=10_000_000)
    """Tokens of a sequence, prompt and completion together."""
    completion: int | None = Field(None, ge=1, json_schema_extra=ADVANCED)
    """Tokens of it that are generated, where an algorithm generates; None is half."""
    batch: int = Field(64, ge=1, le=1_000_000)
    """Sequences of an optimizer step, over all devices."""
    lora: bool | None = None
    """Train update matrices in place of the weights; none where all weights do not fit."""
    rank: int = Field(16, ge=1, le=4096)
    """Of the update matrices."""
    dora: bool = False
    """Train the norm of each row of a matrix beside them (DoRA)."""
    quantize: Quantization = "none"
    """How frozen weights beside LoRA are held."""
    optimizer: Optimizer = Field("adamw", json_schema_extra=ADVANCED)
    """What changes the weights."""
    numbers: Numbers = Field("bf16", json_schema_extra=ADVANCED)
    """Weights, gradients and states in 16 bits (`bf16`); computed in 16 with all three in 32 (`mixed`); all in 32."""
    flash: bool = Field(True, json_schema_extra=ADVANCED)
    """Whether attention keeps no matrix of tokens by tokens (FlashAttention, SDPA)."""
    liger: bool = Field(False, json_schema_extra=ADVANCED)
    """Whether norms, activation and rotation are Liger's kernels, which keep less."""
    kl: bool = Field(True, json_schema_extra=ADVANCED)
    """Whether a reference model is kept, where an algorithm may have one."""
    critic: bool = Field(True, json_schema_extra=ADVANCED)
    """Whether PPO trains a second model."""
    rollouts: Rollouts = "trainer"
    """What generates completions: the model that is trained, an engine on the same devices, or one on devices of its
    own."""
    margin: float = Field(0.06, ge=0, lt=0.9, json_schema_extra=ADVANCED)
    """Share of a device that stays free."""
    host_gib: float | None = Field(None, gt=0, le=100_000, json_schema_extra=ADVANCED)
    """Memory of a host in GiB; None is twice that of its devices, and 64 at least."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps of the whole job."""
    tokens: float | None = Field(None, gt=0)
    """Tokens to train on, in millions, in place of `steps`."""
    hourly: float | None = Field(None, ge=0)
    """Price of a device for an hour."""
    calibrated: bool = False
    """Correct the answer by what finished jobs took, and say how far they were off."""
    fixed: FixedSpec = FixedSpec()
    """What is not searched."""

    @model_validator(mode="after")
    def _has_one_model(self) -> Self:
        given = [name for name in ("model", "config", "params") if getattr(self, name) not in ("", None)]
        if len(given) != 1:
            said = " and ".join(given) or "none of them"
            raise ValueError(f"name the model once, as model, config or params; given is {said}")
        if self.lora is False and self.dora:
            raise ValueError("dora is a kind of lora, which is off; leave one of them out")
        if self.steps is not None and self.tokens is not None:
            raise ValueError("steps and tokens both say how long the job is; give one of them")
        if self.completion is not None and self.completion >= self.context:
            raise ValueError(f"completion ({self.completion}) must be less than context ({self.context})")
        return self


class ExportRequest(Spec):
    """A plan as a file."""

    plan: PlanRequest
    format: ExportFormat
    """A job file; verl's overrides; TRL's arguments; accelerate's configuration of the sharding; DeepSpeed's JSON;
    PyTorch's FSDP as accelerate has it."""


class PartView(View):
    """Memory for one purpose."""

    name: str
    bytes: float


class PhaseView(View):
    """A part of a step on one device."""

    name: str
    bytes: float
    """All parts together."""
    parts: list[PartView]


class WayView(View):
    """One way to run the job."""

    words: str
    why_not: str
    """Why it is not the recommended one; empty for that."""
    fits: bool
    engine: Engine
    """What runs it: the engine of a job file, or TRL alone with accelerate's or DeepSpeed's configuration."""
    rank: int | None
    """Of the update matrices that are trained; None trains all weights."""
    quantize: Quantization
    """How frozen weights are held."""
    sharding: Sharding
    tensor: int
    pipeline: int
    context: int
    expert: int
    data: int
    """Replicas, or shards."""
    micro_batch: int
    accumulation: int
    recomputation: Literal["none", "full"]
    offload: Offload
    num_generating: int
    """Devices that only generate."""
    rollout_tensor: int | None
    rollout_share: float | None
    rollout_sequences: int | None
    """That have room in the cache of one copy at the same time."""
    peak_bytes: float
    reserved_bytes: float
    """With what PyTorch's allocator keeps of blocks that fit nothing later, as long as the device has room."""
    shown_bytes: float
    """What nvidia-smi shows at most: that, with driver and communicator."""
    peak_phase: str
    share_of_device: float
    """Of what can be used."""
    phases: list[PhaseView]
    tokens_per_second: float
    """Of all devices together."""
    seconds_per_step: float
    seconds: dict[str, float]
    """What a step is made of: computing, communicating, offloading, generating, waiting."""
    mfu: float
    """Operations that the mathematics needs, of the peak of all devices."""
    host_bytes: float
    """Memory of one host."""


class CurvePoint(View):
    """The recommended way at another context."""

    context: int
    bytes: float
    fits: bool


class ComparedView(View):
    """The same step in another form."""

    name: str
    bytes: float
    fits: bool
    parts: list[PartView]


class BandView(View):
    """How far predictions for such jobs were off."""

    num: int
    """Finished jobs that it rests on."""
    basis: str
    """What they have in common with this one."""
    ratio: float
    """Measured by predicted memory, the median."""
    low: float
    high: float
    """10th and 90th percentile."""
    speed_ratio: float | None
    """Measured by predicted tokens per second; None where it is not known."""


class CostView(View):
    """The whole job."""

    steps: int
    tokens: float
    hours: float
    device_hours: float
    price: float | None


class PlanView(View):
    """An answer."""

    model: str
    parameters: int
    active_parameters: int
    """That a token meets."""
    trained_parameters: int
    device: str
    num_gpus: int
    device_bytes: float
    context_bytes: float
    """Of driver and communicator, outside the allocator."""
    usable_bytes: float
    """Of a device, without these and the margin."""
    fits: bool
    best: WayView | None
    others: list[WayView]
    advice: list[str]
    """What would fit, where nothing does."""
    warnings: list[str]
    cost: CostView | None
    disk_bytes: float
    """The model and the checkpoints that are kept."""
    checkpoint_bytes: float
    longest_context: int | None
    """That fits the recommended way, in tokens."""
    curve: list[CurvePoint]
    stages: list[ComparedView]
    """ZeRO 0 to 3."""
    savings: list[ComparedView]
    """Full training, LoRA, LoRA on 8-bit and 4-bit weights."""
    band: BandView | None


class PlannerChoices(View):
    """Names to choose from."""

    models: list[str]
    accelerators: list[str]


class ExportView(View):
    """Files by name."""

    files: dict[str, str]
    notes: list[str]
