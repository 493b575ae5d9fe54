"""How long an optimizer step of a way takes: computing, talking, moving to host memory, generating.

Pure. What is a property of hardware comes from the device's row; shares of peaks from `efficiency`. Constants of this
file are rules of thumb with their reason: they rank ways, and are not fitted to step times.
"""

from dataclasses import dataclass
from typing import Final

from finery.planner import efficiency
from finery.planner.memory import STATES, WEIGHT_BYTES, Recomputation, Split
from finery.planner.phases import GENERATES, REFERS, Rollout
from finery.planner.throughput import operations, peak_of, tokens_per_second
from finery.planner.ways import Job, Layout, Offload, Seconds, rows

_HIDDEN: Final = 0.7
"""Share of the computing time behind which communication of gradients and weights is hidden."""
_HOST_LINK_GB_S: Final = 25.0
"""Of one device to host memory, per direction: PCIe 4.0 with 16 lanes, 80 % of 31.5."""
_HOST_MEMORY_GB_S: Final = 140.0
"""Of a host: eight channels of DDR4-3200, 70 % of 204.8."""
_STATE_TRAFFIC: Final = 28.0
"""Bytes for each weight that AdamW reads and writes in host memory: gradient, master and two states in 32 bits."""
_DEQUANTIZING: Final = 1.25
"""Times as long with bitsandbytes: 13 speeds of fms-acceleration's `baseline-peft-bnb`, whose LoRA is right."""
_SHARE_OF_BANDWIDTH: Final = 0.6
"""Of the device's own memory, that decoding reaches."""
_SHARE_OF_PEAK: Final = 0.5
"""Of the peak, that decoding of very many sequences reaches."""
_LINKS: Final = ("nvlink", "xgmi", "infinity", "hccs", "ub")
"""Links between the devices of a host that are no PCIe."""
_LATENCY: Final = {True: 1.5e-5, False: 5e-5}
"""Seconds of a small sum over devices with such a link, and over PCIe."""
_OVERHEAD: Final = {"engine": 4e-5, "trainer": 8e-4}
"""Seconds of each layer and token before anything is computed: captured graphs, or Python."""


def seconds(
    job: Job,
    layout: Layout,
    micro_batch: int,
    accumulation: int,
    recomputation: Recomputation,
    offload: Offload,
    generating: float,
) -> Seconds:
    """The time of an optimizer step.

    Args:
        job: What is trained.
        layout: How it is divided.
        micro_batch: Rows of a pass of one replica.
        accumulation: Passes of a step.
        recomputation: What is computed again.
        offload: What waits in host memory.
        generating: Seconds for the completions of the step.
    """
    split = layout.split
    share_of_replica = split.tensor * split.pipeline * split.context
    framework = "megatron" if layout.sharding == "megatron" else "transformers"
    tokens = micro_batch * rows(job) * job.seq_len
    experts = job.shape.experts
    reached = efficiency.share(
        framework,
        job.device,
        job.precision,
        is_mixture=experts is not None,
        active=job.shape.active_parameters,
        expert_width=experts.intermediate if experts is not None else None,
        tokens=round(tokens / (split.tensor * split.context)) or 1,
    )
    needed = operations(
        job.shape, job.seq_len, trained=1.0 if job.adapter is None else 0.0, recomputation=recomputation
    )
    speed = tokens_per_second(needed, job.device, job.precision, efficiency=reached) * share_of_replica
    if job.quantization != "none":
        speed /= _DEQUANTIZING
    computing = tokens * accumulation / speed
    passes = 0
    if job.algorithm in REFERS:  # log-probabilities of the reference, or before the step
        passes = (1 if job.algorithm in GENERATES else 0) + (1 if job.kl else 0)
    only_forward = passes * tokens * accumulation * needed.forward / needed.executed / speed
    if _has_critic(job):
        computing *= 2
    waiting = computing * (split.pipeline - 1) / max(1, accumulation)
    hidden = _HIDDEN * (computing + only_forward)
    talking = max(0.0, _data_parallel(job, layout, accumulation, passes) - hidden)
    talking += _within_layers(job, layout, tokens * accumulation, recomputation)
    moving = _offloading(job, layout, accumulation, passes, offload)
    if layout.num_generating:  # both go on at the same time, one step apart
        generating = max(0.0, generating - (computing + only_forward + talking + moving + waiting))
    found = (computing + only_forward, talking, moving, generating, waiting)
    return Seconds(*(spent / job.speed_ratio for spent in found))


def decoding_seconds(job: Job, rollout: Rollout, num_devices: int) -> float:
    """Of all completions of a step: each token reads all weights and the cache once, and is computed.

    Args:
        job: What is trained.
        rollout: With `sequences` as many as are generated at the same time by one copy.
        num_devices: That generate.
    """
    shape = job.shape
    copies = max(1, num_devices // rollout.tensor)
    each = -(-job.sequences_per_step // copies)
    at_once = max(1, min(rollout.sequences, each))
    met = min(shape.parameters, shape.active_parameters * at_once)  # the more sequences, the more experts
    weights = (2.0 if rollout.has_own_weights or job.quantization == "none" else 1.0) * met
    cache = at_once * (job.seq_len - job.completion / 2) * shape.kv_elements_per_token * rollout.cache
    cache *= rollout.tensor / shape.cache_shares(rollout.tensor)  # read by each device
    tensor = rollout.tensor
    messages = 0.0
    if tensor > 1:  # two sums of a vector for each sequence in each layer
        moved = 2 * at_once * shape.hidden * 2.0 * 2 * (tensor - 1) / tensor
        is_linked = (job.device.link or "").lower().startswith(_LINKS) and tensor <= job.devices_per_host
        messages = shape.layers * (2 * _LATENCY[is_linked] + moved / _rate(job, tensor))
    reading = (weights + cache) / rollout.tensor / (job.device.bandwidth_gb_s * 1e9 * _SHARE_OF_BANDWIDTH)
    number = "fp32" if job.precision == "fp32" else job.precision
    computing = 2.0 * shape.active_parameters * at_once / rollout.tensor
    computing /= peak_of(job.device, number) * _SHARE_OF_PEAK
    overhead = _OVERHEAD["engine" if rollout.has_own_weights else "trainer"] * shape.layers
    prompt = each * (job.seq_len - job.completion) * 2.0 * shape.active_parameters / rollout.tensor
    prefill = prompt / (peak_of(job.device, number) * _SHARE_OF_PEAK)
    return prefill + each / at_once * job.completion * (max(reading, computing) + overhead + messages)


def _rate(job: Job, group: int) -> float:
    """Bytes per second between the devices of a group that lie side by side."""
    link, network = job.device.link_gb_s, job.device.network_gb_s
    rate = link if group <= job.devices_per_host else network
    # Where nothing is known, what hosts have at least: PCIe 3.0, or ten gigabits.
    return (rate or (12.0 if group <= job.devices_per_host else 1.2)) * 1e9


@dataclass(frozen=True)
class _Held:
    """Parameters of a device before ZeRO divides them: those of all layers but experts, or of its experts."""

    weights: float
    trained: float
    copies: int
    """Devices that have the same ones."""


def _held(job: Job, split: Split) -> tuple[_Held, _Held]:
    shape, share = job.shape, 1 / (split.tensor * split.pipeline)
    experts = shape.expert_parameters * share / split.expert
    dense = (shape.parameters - shape.expert_parameters) * share
    trained = (dense, experts) if job.adapter is None else (job.adapter.size(shape) * share, 0.0)
    copies = max(1, split.shards // split.expert)
    return _Held(dense, trained[0], split.shards), _Held(experts, trained[1], copies)


def _divided(job: Job, split: Split) -> tuple[float, float]:
    """Weights of a device as ZeRO leaves them, and those whose states it has."""
    parts = _held(job, split)
    weights = sum(part.weights / (part.copies if split.zero == 3 else 1) for part in parts)
    return weights, sum(part.trained / (part.copies if split.zero else 1) for part in parts)


def _has_critic(job: Job) -> bool:
    return job.algorithm == "ppo" and job.critic


def _has_reference(job: Job) -> bool:
    """Whether there is a reference model of its own weights."""
    return job.algorithm in REFERS and job.kl and job.adapter is None


def _data_parallel(job: Job, layout: Layout, accumulation: int, passes: int) -> float:
    """ZeRO (arXiv:1910.02054), section 7: gradients are scattered and what they change is gathered; where gradients are
    divided they are scattered after each micro batch, and where weights are, these are gathered twice in it, and once
    in each pass without gradients."""
    split = layout.split
    if split.shards == 1:
        return 0.0
    times = accumulation if split.zero >= 2 else 1
    volume = 0.0
    for part in _held(job, split):
        update = 2.0 * times * part.trained
        update += 2 * 2.0 * accumulation * part.weights if split.zero == 3 else 2.0 * part.trained
        before = 2.0 * accumulation * passes * part.weights if split.zero == 3 else 0.0
        volume += (update * (2 if _has_critic(job) else 1) + before) * (part.copies - 1) / part.copies
    return volume / _rate(job, split.shards * split.tensor)


def _within_layers(job: Job, layout: Layout, tokens: float, recomputation: Recomputation) -> float:
    """Messages that computing waits for. Tensor parallel: a layer gathers and scatters its input twice in each
    direction (arXiv:2205.05198, section 4.2.2). Context parallel: keys and values go around; Ulysses exchanges queries,
    keys, values and result (arXiv:2309.14509). Experts: tokens go there and back."""
    split, shape = layout.split, job.shape
    layers, size = shape.layers / split.pipeline, 2.0
    again = 3 if recomputation == "full" else 2
    found = 0.0
    if split.tensor > 1:
        moved = tokens / split.context * shape.hidden * size * 2 * 2 * (split.tensor - 1) / split.tensor
        found += again * layers * moved / _rate(job, split.tensor)
    if split.context > 1:
        width = 2 * shape.kv_heads * shape.head_dim / split.tensor
        if layout.sharding == "fsdp":
            width = 2 * (shape.heads + shape.kv_heads) * shape.head_dim / split.context
        moved = tokens / split.context * width * size * (split.context - 1)
        found += again * layers * moved / split.context / _rate(job, split.context * split.tensor)
    if split.expert > 1 and shape.experts is not None:
        moved = tokens / split.context / split.tensor * shape.experts.num_per_token * shape.hidden * size * 2
        share = shape.experts.num_layers / shape.layers
        group = split.expert * split.tensor
        found += again * layers * share * moved * (split.expert - 1) / split.expert / _rate(job, group)
    return found


def _offloading(job: Job, layout: Layout, accumulation: int, passes: int, offload: Offload) -> float:
    """Moving over the link of the host, and the update in host memory (arXiv:2101.06840)."""
    if offload == "none":
        return 0.0
    split = layout.split
    per_host = min(job.devices_per_host, max(1, job.num_devices))
    here, trained = _divided(job, split)
    link, models = _HOST_LINK_GB_S * 1e9, 2 if _has_critic(job) else 1
    if offload == "between":  # weights and states out and in; a reference in alone
        return (2 * models * (2.0 * here + 8.0 * trained) + (2.0 * here if _has_reference(job) else 0.0)) / link
    updating = _STATE_TRAFFIC * trained * per_host / (_HOST_MEMORY_GB_S * 1e9)
    found = updating + (2.0 + 2.0) * trained / link  # gradients out, weights in
    if offload == "all":
        found += (2 + passes / models) * 2.0 * here * accumulation / link
    return found * models


def host_bytes(job: Job, layout: Layout, offload: Offload) -> float:
    """Host memory of one host: what is offloaded, a process for each device, and the model while it is loaded.

    Args:
        job: What is trained.
        layout: How it is divided.
        offload: What waits in host memory.
    """
    split = layout.split
    per_host = min(job.devices_per_host, job.num_devices)
    stored = WEIGHT_BYTES.get(job.quantization, 4.0 if job.is_float32 else 2.0)
    here, trained = _divided(job, split)
    has_master = layout.framework.master and job.adapter is None
    number = 4.0 if has_master or job.is_mixed or job.is_float32 or job.adapter is not None else 2.0
    kept = 0.0
    if offload != "none":  # weights as they are changed, and states; gradients where the update is computed there
        kept = trained * number * (1 + STATES[job.optimizer] + (0 if offload == "between" else 1))
    if offload in ("all", "between") and (has_master or job.adapter is not None):
        kept += here * stored  # beside them, those that are computed with
    kept *= 2 if _has_critic(job) else 1
    if offload in ("all", "between") and _has_reference(job):
        kept += here * stored
    # FSDP's first process reads the whole model and sends it to the others; else a file at a time is read.
    loading = 2.0 * job.shape.parameters if layout.sharding == "fsdp" and job.quantization == "none" else _FILE_BYTES
    return per_host * (_PROCESS_BYTES + kept) + min(loading, 2.0 * job.shape.parameters)


_FILE_BYTES: Final = 5e9
"""Of a file of weights, as they are published."""
_PROCESS_BYTES: Final = 4.0 * 2**30
"""Of a training process on a host: interpreter, torch, its libraries for a GPU, pinned buffers and loaders."""
