"""Searches how to run a job on given devices: the fastest way that fits, and why each other way lost.

Pure. A way is a choice of sharding, micro batch and recomputation; it fits when its fullest phase leaves a margin of
the device. Owns: what is searched and how ways are ranked. Does not own: memory (phases) or speed (throughput).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from finery.core.errors import InvalidSpec
from finery.planner import efficiency
from finery.planner.accelerators import Accelerator
from finery.planner.frameworks import FRAMEWORKS
from finery.planner.memory import GIB, Adapter, Quantization, Recomputation, Split, Step
from finery.planner.phases import DRAWS, PAIRS, REFERS, Algorithm, Phase, Rollout, fullest, timeline
from finery.planner.shapes import ModelShape
from finery.planner.throughput import Precision, operations, tokens_per_second

_MARGIN: Final = 0.06
"""Share of the device that stays free: about the median error against published measurements. A tenth of jobs is off by
four times as much, so that a way close to the budget may still not fit."""
_COMMUNICATOR_GIB: Final = 1.5
"""Part of `Accelerator.context_gib` that a single device does not need."""
_MICRO_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
_HIDDEN: Final = 0.7
"""Share of the computing time behind which communication is hidden."""
Sharding = Literal["none", "ddp", "fsdp"]


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
    sequences_per_step: int = 64
    """Of an optimizer step, over all devices."""
    adapter: Adapter | None = None
    quantization: Quantization = "none"
    kl: bool = True
    """Whether a reference model is kept."""

    def __post_init__(self) -> None:
        for name in ("num_devices", "devices_per_host", "seq_len", "sequences_per_step"):
            if getattr(self, name) < 1:
                raise InvalidSpec(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.quantization != "none" and self.adapter is None:
            raise InvalidSpec("quantized weights are not trained; add LoRA, or remove the quantization")
        if self.sequences_per_step % self.num_devices:
            raise InvalidSpec(
                f"{self.sequences_per_step} sequences a step must be a multiple of the {self.num_devices} devices; "
                f"{self.num_devices * -(-self.sequences_per_step // self.num_devices)} would be right"
            )

    @property
    def budget(self) -> float:
        """Bytes of a device that a job may allocate."""
        context = self.device.context_gib - (_COMMUNICATOR_GIB if self.num_devices == 1 else 0.0)
        return (self.device.total_bytes - max(0.0, context) * GIB) * (1 - _MARGIN)


@dataclass(frozen=True)
class Way:
    """One way to run a job."""

    sharding: Sharding
    micro_batch: int
    accumulation: int
    recomputation: Recomputation
    phases: tuple[Phase, ...]
    seconds_per_step: float
    tokens_per_second: float
    """Trained on by all devices together."""
    budget: float

    @property
    def fullest(self) -> Phase:
        return fullest(self.phases)

    @property
    def fits(self) -> bool:
        return self.fullest.allocated <= self.budget

    @property
    def words(self) -> str:
        """The way in words."""
        shared = {"none": "one device", "ddp": "a copy on each device (DDP)", "fsdp": "sharded (FSDP, ZeRO 3)"}
        again = ", recomputation" if self.recomputation == "full" else ""
        return f"{shared[self.sharding]}, micro batch {self.micro_batch}, {self.accumulation} times{again}"


@dataclass(frozen=True)
class Recommendation:
    """The fastest way that fits, the others, and what to know."""

    job: Job
    best: Way | None
    others: tuple[tuple[Way, str], ...]
    """Each with why it lost."""
    advice: tuple[str, ...] = ()


def recommend(job: Job) -> Recommendation:
    """Search all ways.

    Raises:
        InvalidSpec: no peak of the device is known.
    """
    ways = sorted(_ways(job), key=lambda way: (not way.fits, way.seconds_per_step, way.fullest.allocated))
    best = ways[0] if ways[0].fits else None
    if best is None:
        smallest = min(ways, key=lambda way: way.fullest.allocated)
        return Recommendation(job, None, _lost(ways, smallest), _advice(job, smallest))
    return Recommendation(job, best, _lost(ways[1:], best))


def _lost(ways: list[Way], best: Way) -> tuple[tuple[Way, str], ...]:
    """Of each sharding and recomputation the best, and why it is not the one."""
    seen: set[tuple[str, str]] = {(best.sharding, best.recomputation)} if best.fits else set()
    found = []
    for way in ways:
        if (way.sharding, way.recomputation) in seen:
            continue
        seen.add((way.sharding, way.recomputation))
        if way.fits:
            slower = way.seconds_per_step / best.seconds_per_step - 1
            found.append((way, f"{slower:.0%} slower"))
            continue
        least = min(
            (one for one in ways if (one.sharding, one.recomputation) == (way.sharding, way.recomputation)),
            key=lambda one: one.fullest.allocated,
        )
        needs = (
            f"{least.fullest.allocated / GIB:.1f} GiB of {least.budget / GIB:.1f} while it has to {least.fullest.name}"
        )
        found.append((least, f"needs {needs}"))
    return tuple(found)


def _advice(job: Job, smallest: Way) -> tuple[str, ...]:
    found = [
        f"it does not fit: at least {smallest.fullest.allocated / GIB:.1f} GiB a device, of which "
        f"{job.budget / GIB:.1f} of {job.device.name} can be used"
    ]
    small = replace(job, adapter=job.adapter or Adapter(16))
    smaller = replace(small, quantization="nf4_double")
    changes = [(words, one) for words, one in (("LoRA", small), ("LoRA on 4-bit weights", smaller)) if one != job]
    for words, one in (("", job), ("LoRA on 4-bit weights and ", smaller)):
        for factor in (2, 4, 8):
            more = job.num_devices * factor
            sequences = -(-job.sequences_per_step // more) * more
            changes.append((f"{words}{more} devices", replace(one, num_devices=more, sequences_per_step=sequences)))
    if job.seq_len >= 1024:
        changes.append((f"a context of {job.seq_len // 2}", replace(job, seq_len=job.seq_len // 2)))
    fitting = [words for words, one in changes if any(way.fits for way in _ways(one))]
    least = [words for words in fitting if not any(words != other and words.startswith(other) for other in fitting)]
    return (*found, *(f"would fit: {words}" for words in least[:4]))


def _ways(job: Job) -> Iterator[Way]:
    each = job.sequences_per_step // job.num_devices
    shardings: tuple[Sharding, ...] = ("none",) if job.num_devices == 1 else ("ddp", "fsdp")
    for sharding in shardings:
        for recomputation in ("none", "full"):
            for micro_batch in _MICRO_BATCHES:
                if each % micro_batch == 0:
                    yield _way(job, sharding, recomputation, micro_batch, each // micro_batch)


def _way(job: Job, sharding: Sharding, recomputation: Recomputation, micro_batch: int, accumulation: int) -> Way:
    framework = FRAMEWORKS["transformers"]
    step = Step(
        job.shape,
        job.seq_len,
        micro_batch,
        adapter=job.adapter,
        quantization=job.quantization,
        recomputation=recomputation,
        keeps_gradients=accumulation > 1,
        split=Split(data=job.num_devices, zero=3 if sharding == "fsdp" else 0),
        kernels=framework.kernels,
    )
    rollout = Rollout(sequences=min(64, micro_batch * accumulation), seq_len=job.seq_len)
    phases = timeline(job.algorithm, step, rollout=rollout if job.algorithm in DRAWS else None, kl=job.kl)
    seconds = _seconds(job, sharding, recomputation, micro_batch, accumulation)
    tokens = job.sequences_per_step * job.seq_len * (2 if job.algorithm in PAIRS else 1)
    return Way(sharding, micro_batch, accumulation, recomputation, phases, seconds, tokens / seconds, job.budget)


def _seconds(job: Job, sharding: Sharding, recomputation: Recomputation, micro_batch: int, accumulation: int) -> float:
    """Of an optimizer step: computing, what communication is not hidden behind it, and drawing."""
    number: Precision = "bf16" if job.device.bf16 else "fp16" if job.device.fp16 else "fp32"
    is_mixture = job.shape.experts is not None
    reached = efficiency.share("transformers", job.device, number, is_mixture=is_mixture)
    # Small batches do not fill a device; half of what it can at 2,048 tokens.
    tokens = micro_batch * job.seq_len
    reached *= tokens / (tokens + 2048)
    trained = 1.0 if job.adapter is None else 0.0
    needed = operations(job.shape, job.seq_len, trained=trained, recomputation=recomputation)
    pairs = 2 if job.algorithm in PAIRS else 1
    speed = tokens_per_second(needed, job.device, number, efficiency=reached)
    num_tokens = tokens * accumulation * pairs
    computing = num_tokens / speed
    if job.algorithm in REFERS:  # log-probabilities of the reference, or before the step
        passes = (1 if job.algorithm in DRAWS else 0) + (1 if job.kl else 0)
        computing += passes * num_tokens * needed.forward / needed.executed / speed
    drawing = _drawing_seconds(job, accumulation * micro_batch) if job.algorithm in DRAWS else 0.0
    hidden = _HIDDEN * computing
    return computing + drawing + max(0.0, _talking(job, sharding, accumulation) - hidden)


def _talking(job: Job, sharding: Sharding, accumulation: int) -> float:
    """Seconds of communication: ZeRO, section 7: twice the gradients; weights twice more for each micro batch."""
    if sharding == "none":
        return 0.0
    rate = job.device.link_gb_s if job.num_devices <= job.devices_per_host else job.device.network_gb_s
    if not rate:
        raise InvalidSpec(f"how fast {job.device.name} talks to others is not known; plan for one device")
    trained = job.shape.parameters if job.adapter is None else job.shape.adapter_parameters(job.adapter.rank)
    volume = 2.0 * trained * 2
    if sharding == "fsdp":
        volume += 2 * 2.0 * job.shape.parameters * accumulation
    return volume * (job.num_devices - 1) / job.num_devices / (rate * 1e9)


def _drawing_seconds(job: Job, sequences: int) -> float:
    """Each token of a completion reads all weights and the cache once; half of the context is the completion."""
    at_once = min(64, sequences)
    read = 2.0 * job.shape.active_parameters
    cache = at_once * job.seq_len * job.shape.kv_elements_per_token
    length, rounds = job.seq_len / 2, -(-sequences // at_once)
    return rounds * length * (read + cache) / (job.device.bandwidth_gb_s * 1e9 * 0.6)
