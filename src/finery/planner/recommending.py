"""Searches how to run a job on given devices: the fastest way that fits, and why each other way lost.

Pure. A way fits when its fullest phase leaves a margin of the device. Owns: how ways are searched and ranked, and what
is said of them. Does not own: which ways there are (ways), memory (phases) or speed (timing).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import combinations
from typing import Final

from finery.core.errors import InvalidSpec
from finery.planner import cpu
from finery.planner.memory import GIB, Adapter, Recomputation, Step
from finery.planner.phases import GENERATES, Phase, Rollout, fullest, timeline
from finery.planner.timing import decoding_seconds, host_bytes, seconds
from finery.planner.ways import (
    ALONE,
    WITHOUT_BITSANDBYTES,
    Job,
    Layout,
    Offload,
    Rollouts,
    Seconds,
    Way,
    engine_of,
    layouts,
    offloads,
    rows,
    step_of,
)

_MICRO_BATCHES: Final = (64, 32, 16, 8, 4, 2, 1)
_RECOMPUTATIONS: Final[tuple[Recomputation, ...]] = ("none", "full")
_AT_ONCE: Final = 64
"""Sequences that a model generates at the same time where it has no engine to do so."""
_MOST_SHARE: Final = 0.9
"""Of a device, that an engine is given at most (vLLM's default)."""
_ENOUGH_SHARE: Final = 0.5
"""Of a device, with which an engine needs no room that something else could leave (verl's default)."""
_FILLED: Final = 4096
"""Tokens of a pass from which larger ones are hardly faster."""
_SHARES: Final = 0.05
"""Steps in which it is given."""
_PREFERENCE: Final = {"trl": 0, "verl": 1, "accelerate": 2}
"""Of ways that are as fast: what a job file runs first."""
_WATCHED: Final = 0.15
"""Share of its time that a way may be slower for being a job: watched, resumed, kept."""
_SIMPLE: Final = ("none", "ddp", "fsdp", "zero1", "zero2", "zero3", "megatron")
"""Of those, the simplest first."""
_MUCH: Final = 0.1
"""Share of a step from which it may be worth to have more devices."""
_MOST_CHANGES: Final = 3
"""That are proposed where a job cannot be divided."""
_ALIKE: Final = 0.05
"""Share by which two times differ that the model cannot tell apart: its error is larger than that."""

_Change = tuple[str, Callable[[Job], Job]]
"""Of what is asked, in words."""


@dataclass(frozen=True)
class Recommendation:
    """The fastest way that fits, the others, and what to know."""

    job: Job
    best: Way | None
    others: tuple[tuple[Way, str], ...]
    """Each with why it lost."""
    advice: tuple[str, ...] = ()
    """Where nothing fits: how much is missing, and what would fit."""
    warnings: tuple[str, ...] = ()
    """What may be a surprise of the best way."""


def recommend(job: Job, *, adapter: Adapter | None = None) -> Recommendation:
    """Search all ways.

    Args:
        job: With all that is asked.
        adapter: What may be trained where not all weights can be: alone, and if that does not fit either, beside
            weights of 4 bits. What trains more is preferred to what is faster, since it is another result. None leaves
            it out.

    Raises:
        InvalidSpec: no peak of the device is known, or the batch cannot be divided as is asked.
    """
    found = list(ways(job))
    for other in () if adapter is None else _adapted(job, adapter):
        if other.quantization == "none" or not any(way.fits for way in found):
            found += ways(other)
    if not found:
        raise InvalidSpec(_why_none(job))
    most = min((_left_out(way.job) for way in found if way.fits), default=0)
    fastest = min((_weighed(way) for way in found if way.fits and _left_out(way.job) == most), default=0.0)
    ranked = sorted(found, key=lambda way: _rank(way, fastest))
    best = ranked[0]
    if not best.fits:
        smallest = min(ranked, key=_least)
        return Recommendation(job, None, _lost(job, ranked, smallest), _advice(job, smallest))
    return Recommendation(best.job, best, _lost(best.job, ranked[1:], best), (), _warnings(job, best))


def _least(way: Way) -> tuple[bool, float]:
    """What is nearest to fitting: on the device, else on the host."""
    is_full = way.fullest.allocated > way.job.budget
    return is_full, way.fullest.allocated if is_full else way.host


def _adapted(job: Job, adapter: Adapter) -> Iterator[Job]:
    yield replace(job, adapter=adapter)
    if job.device.vendor not in WITHOUT_BITSANDBYTES:
        yield replace(job, adapter=adapter, quantization="nf4_double")


def _left_out(job: Job) -> int:
    """The less of a model is trained, the more."""
    return (job.adapter is not None) + (job.quantization != "none")


def ways(job: Job) -> Iterator[Way]:
    """Of each division, recomputation and offload the best micro batch: the one that fits and is fastest, else the
    smallest."""
    for layout in layouts(job):
        if job.sequences_per_step % layout.split.data:
            continue
        each = job.sequences_per_step // layout.split.data
        for offload in offloads(job, layout):
            rollout = _rollout(job, layout, offload)
            if job.algorithm in GENERATES and rollout is None:
                continue
            kinds = [
                _best_micro_batch(job, layout, each, recomputation, offload, rollout)
                for recomputation in _RECOMPUTATIONS
                if job.pins.recomputation in (None, recomputation)
            ]
            found = [way for way in kinds if way is not None]
            yield from found
            has_room = rollout is None or rollout.share is None or rollout.share >= _ENOUGH_SHARE
            is_filled = any(
                way.fits and way.recomputation == "none" and way.micro_batch * job.seq_len >= _FILLED for way in found
            )
            if offload == "none" and has_room and is_filled:
                break  # what waits in host memory is only slower


def _rank(way: Way, fastest: float) -> tuple[bool, int, float, int, int, float, float]:
    """Fits; trains all; fast; runs here; simple. Times that differ by next to nothing are the same."""
    slower = _weighed(way) / fastest - 1 if fastest else 0.0
    alike = 0.0 if slower < _ALIKE else slower
    simple = _SIMPLE.index(way.layout.sharding)
    trained = _left_out(way.job)
    return (not way.fits, trained, alike, _PREFERENCE[way.engine], simple, slower, way.fullest.allocated)


def _weighed(way: Way) -> float:
    """Seconds of a step, with what it is worth that a job file runs it."""
    return way.seconds.total * (1 + _WATCHED * (way.engine == "accelerate"))


def _best_micro_batch(
    job: Job, layout: Layout, each: int, recomputation: Recomputation, offload: Offload, rollout: Rollout | None
) -> Way | None:
    pinned = job.pins.micro_batch
    wanted = (pinned,) if pinned is not None else _MICRO_BATCHES
    least = 2 if job.algorithm == "kto" else 1  # its KL term compares the rows of a pass
    sizes = [size for size in wanted if each % size == 0 and size >= least]
    generating = (
        decoding_seconds(job, rollout, layout.num_generating or job.num_devices) if rollout is not None else 0.0
    )

    def phases(size: int) -> tuple[Phase, ...]:
        return phases_of(job, step_of(job, layout, size, each // size, recomputation, offload), rollout, offload)

    def spent(size: int) -> Seconds:
        return seconds(job, layout, size, each // size, recomputation, offload, generating)

    low, high = 0, len(sizes)  # the larger, the more it takes: sizes from `high` on fit
    taken: dict[int, tuple[Phase, ...]] = {}
    while low < high:
        middle = (low + high) // 2
        taken[sizes[middle]] = phases(sizes[middle])
        if fullest(taken[sizes[middle]]).allocated <= job.budget:
            high = middle
        else:
            low = middle + 1
    if not sizes:
        return None
    size = sizes[min(high, len(sizes) - 1)]
    took = spent(size)
    if layout.split.pipeline > 1 and high < len(sizes):  # smaller ones fill it better
        took, size = min(((spent(one), one) for one in sizes[high:]), key=lambda found: found[0].total)
    return Way(
        job=job,
        layout=layout,
        micro_batch=size,
        accumulation=each // size,
        recomputation=recomputation,
        offload=offload,
        rollout=rollout,
        phases=taken[size] if size in taken else phases(size),
        seconds=took,
        tokens_per_second=job.sequences_per_step * job.seq_len * rows(job) / took.total,
        engine=engine_of(job, layout, offload),
        host=host_bytes(job, layout, offload),
    )


def phases_of(job: Job, step: Step, rollout: Rollout | None, offload: Offload) -> tuple[Phase, ...]:
    """The timeline of a way; of a pipeline both ends, of which the fuller counts."""
    if step.split.pipeline == 1:
        return _timeline(job, step, rollout, offload)
    last = replace(step, split=replace(step.split, stage="last"))
    ends = (_timeline(job, step, rollout, offload), _timeline(job, last, rollout, offload))
    return max(ends, key=lambda phases: fullest(phases).allocated)


def _timeline(job: Job, step: Step, rollout: Rollout | None, offload: Offload) -> tuple[Phase, ...]:
    phases = timeline(
        job.algorithm,
        step,
        rollout=rollout,
        critic=_critic(step) if job.algorithm == "ppo" and job.critic else None,
        kl=job.kl,
        offloads_reference=offload == "all",
        offloads_between=offload == "between",
        device_bytes=float(job.device.total_bytes),
    )
    if job.device.vendor == "cpu":
        phases = tuple(cpu.completed(phase, step) for phase in phases)
    if job.memory_ratio == 1.0:
        return phases
    return tuple(
        Phase(phase.name, {name: size * job.memory_ratio for name, size in phase.parts.items()}) for phase in phases
    )


def _critic(step: Step) -> Step:
    """A model of the same shape with a head of one value."""
    return replace(step, kernels=replace(step.kernels, logits=0.0))


def _rollout(job: Job, layout: Layout, offload: Offload) -> Rollout | None:
    """How completions are generated fastest in the memory that is left, or None where not one sequence has room."""
    if job.algorithm not in GENERATES:
        return None
    per_sequence = job.seq_len * job.shape.kv_elements_per_token * 2.0  # bytes of the cache
    trained_by = job.num_devices - layout.num_generating
    if job.rollouts == "trainer":
        left = job.budget - _beside_rollout(job, layout, offload)
        each = -(-job.sequences_per_step // layout.split.data)
        at_once = min(_AT_ONCE, each, int(left / per_sequence * job.shape.cache_shares(layout.split.tensor)))
        return Rollout(max(1, at_once), job.seq_len, tensor=layout.split.tensor)
    devices = layout.num_generating or trained_by
    left = job.budget - (0.0 if layout.num_generating else _beside_rollout(job, layout, offload))
    share = job.pins.rollout_share
    if share is None:
        share = min(_MOST_SHARE, int(left / job.device.total_bytes / _SHARES) * _SHARES)
    found: list[Rollout] = []
    for tensor in (1, 2, 4, 8, 16, 32):
        if job.pins.rollout_tensor not in (None, tensor) or devices % tensor or job.shape.heads % tensor:
            continue
        cache = share * job.device.total_bytes - job.shape.parameters * 2.0 / tensor
        num = int(cache * job.shape.cache_shares(tensor) / per_sequence)
        if num >= 1:
            found.append(
                Rollout(
                    num,
                    job.seq_len,
                    has_own_weights=True,
                    tensor=tensor,
                    share=round(share, 2),
                    num_devices=layout.num_generating,
                )
            )
    return min(found, key=lambda one: decoding_seconds(job, one, devices), default=None)


def _beside_rollout(job: Job, layout: Layout, offload: Offload) -> float:
    """What lies on a device while completions are generated, without the cache and an engine's weights."""
    step = step_of(job, layout, 1, 2, "full", offload)
    parts = phases_of(job, step, Rollout(1, 1), offload)[0].parts
    engines = {"cache"} if job.rollouts == "trainer" else {"cache", "rollout weights"}
    return sum(size for name, size in parts.items() if name not in engines)


def _why_none(job: Job) -> str:
    """What stands in the way of any, and what would be right; each was tried."""
    number, batch, micro = job.num_devices, job.sequences_per_step, job.pins.micro_batch or 1
    pair, multiple, full = 2 * number, number * -(-batch // number), number * micro
    if job.algorithm == "kto" and batch < pair and _can(job, _with_batch(pair)):
        return f"kto compares the rows of a pass: it needs 2 on each device; {pair} sequences a step would be right"
    if batch % number and _can(job, _with_batch(multiple)):
        return f"{batch} sequences a step must be a multiple of the {number} devices; {multiple} would be right"
    if batch % full and _can(job, _with_batch(full)):
        return (
            f"a micro batch of {micro} does not divide the {batch} sequences of a step over {number} devices; {full} "
            "sequences would be right"
        )
    kinds = [(layout, offload) for layout in layouts(job) for offload in offloads(job, layout)]
    if kinds and job.algorithm in GENERATES and all(_rollout(job, *kind) is None for kind in kinds):
        what = "device" if job.pins.rollout_share is None else f"share of {job.pins.rollout_share:g}"
        over = "" if job.pins.rollout_tensor is None else f" over {job.pins.rollout_tensor} devices"
        return f"no {what} holds the rollout engine's weights and one sequence{over}; more devices, or a smaller model"
    changes = _changes(job)
    would = f"{', or '.join(changes)} would be right" if changes else "give fewer of these"
    return f"{job.algorithm} on {number} x {job.device.name} cannot be divided as asked ({_asked(job)}); {would}"


def _changes(job: Job) -> list[str]:
    """Each makes room for a way: what else could be asked, alone or two at once, and which pin could be left out."""
    others: list[_Change] = []
    if job.adapter is not None:
        others.append(("all weights", partial(replace, adapter=None, quantization="none")))
    if job.quantization != "none":
        others.append(("without quantization", partial(replace, quantization="none")))
    if job.algorithm in GENERATES:
        kinds: tuple[Rollouts, ...] = ("trainer", "colocated", "apart")
        others += [(f"rollouts: {kind}", partial(replace, rollouts=kind)) for kind in kinds if kind != job.rollouts]
    if job.optimizer != "adamw":
        others.append(("optimizer: adamw", partial(replace, optimizer="adamw")))
    if job.numbers == "fp32":
        others.append(("numbers: bf16", partial(replace, numbers="bf16")))
    given = [name for name, value in vars(job.pins).items() if value is not None]
    pins: list[_Change] = [(f"without {name}", partial(_unpinned, name)) for name in given]
    found = (_that_do(job, others, 1) or _that_do(job, others, 2))[:_MOST_CHANGES] + _that_do(job, pins, 1)
    return (found or _that_do(job, [*pins, *others], 2))[:_MOST_CHANGES]


def _with_batch(sequences: int) -> Callable[[Job], Job]:
    return partial(replace, sequences_per_step=sequences)


def _unpinned(name: str, job: Job) -> Job:
    return replace(job, pins=replace(job.pins, **{name: None}))


def _that_do(job: Job, changes: list[_Change], number: int) -> list[str]:
    """Of all sets of `number` changes those after which there is any way, in words."""
    return [
        " and ".join(words for words, _ in chosen)
        for chosen in combinations(changes, number)
        if _can(job, *(change for _, change in chosen))
    ]


def _can(job: Job, *changes: Callable[[Job], Job]) -> bool:
    """Whether there is any way after the changes; it need not fit."""
    try:
        return next(ways(reduce(lambda changed, change: change(changed), changes, job)), None) is not None
    except InvalidSpec:
        return False


def _asked(job: Job) -> str:
    given = [f"{name}: {value}" for name, value in vars(job.pins).items() if value is not None]
    if job.algorithm in GENERATES:
        given.append(f"rollouts: {job.rollouts}")
    if job.optimizer != "adamw":
        given.append(f"optimizer: {job.optimizer}")
    if job.numbers == "fp32":
        given.append(f"numbers: {job.numbers}")
    return ", ".join([*given, job.adapted] if job.adapted else given)


def _lost(job: Job, ranked: list[Way], best: Way) -> tuple[tuple[Way, str], ...]:
    """Of each sharding, recomputation and offload the best, and why it is not the one; where something else is trained
    than in the job, one way of that."""
    seen = {_key(job, best)} if best.fits else set()
    found = []
    for way in ranked:
        key = _key(job, way)
        if key in seen:
            continue
        seen.add(key)
        if way.fits:
            found.append((way, _slower(way, best)))
            continue
        least = min((one for one in ranked if _key(job, one) == key), key=lambda one: one.fullest.allocated)
        found.append((least, _needs(least)))
    return tuple(found)


def _needs(way: Way) -> str:
    taken, job = way.fullest.allocated, way.job
    if taken > job.budget:
        return f"needs {taken / GIB:.1f} GiB of {job.budget / GIB:.1f} to {way.fullest.name}"
    has = f"{job.host_budget / GIB:,.0f} are assumed" if job.host_gib is None else f"a host has {job.host_gib:,.0f}"
    return f"needs {way.host / GIB:,.0f} GiB of host memory; {has} (host_gib)"


def _key(job: Job, way: Way) -> tuple[str, ...]:
    if way.job is not job:
        return (way.job.adapted,)
    return (way.layout.sharding, way.engine, way.recomputation, way.offload)


def _slower(way: Way, best: Way) -> str:
    slower = way.seconds.total / best.seconds.total - 1
    if way.job is not best.job:
        return f"trains update matrices alone, in {1 + slower:.0%} of the time"
    if slower <= -_ALIKE:
        return f"{-slower:.0%} faster, and runs with accelerate or DeepSpeed alone"
    if slower < _ALIKE:
        if way.engine == "accelerate" != best.engine:
            return "as fast, and runs with accelerate or DeepSpeed alone"
        is_simpler = _SIMPLE.index(best.layout.sharding) < _SIMPLE.index(way.layout.sharding)
        by = f"{slower:+.0%}".replace("-0%", "+0%")
        return f"as fast ({by}), and {'harder to run' if is_simpler else 'not better'}"
    parts = {
        "computes longer": way.seconds.computing - best.seconds.computing,
        "waits for messages": way.seconds.communicating - best.seconds.communicating,
        "moves to host memory": way.seconds.offloading - best.seconds.offloading,
        "generates slower": way.seconds.generating - best.seconds.generating,
        "waits in the pipeline": way.seconds.waiting - best.seconds.waiting,
    }
    return f"{slower:.0%} slower: {max(parts, key=lambda name: parts[name])}"


def _warnings(job: Job, best: Way) -> tuple[str, ...]:
    found, spent = [], best.seconds
    if best.job is not job:
        found.append(f"training all weights does not fit; {best.job.adapted} is planned")
        job = best.job
    is_filled = best.rollout is not None and best.rollout.share is not None  # an engine takes what is left
    taken = max(phase.allocated for phase in best.phases if not (is_filled and phase.name == "generate"))
    left = (job.budget - taken) / GIB
    if taken > 0.93 * job.budget:
        found.append(f"only {left:.1f} GiB are left beside the margin of {job.margin:.0%}; try it before it is queued")
    found += _of_numbers(job, best) + _of_batch(job, best)
    if spent.generating > 0.6 * spent.total:
        engine = "; an engine (vLLM) is faster than the trainer" if job.rollouts == "trainer" else ""
        found.append(f"{spent.generating / spent.total:.0%} of a step is rollouts{engine}")
    if spent.communicating > 0.25 * spent.total:
        found.append(f"{spent.communicating / spent.total:.0%} of a step waits for messages between devices")
    if spent.waiting > 0.2 * spent.total:
        found.append(f"{spent.waiting / spent.total:.0%} of a step waits in the pipeline; larger batches fill it")
    if best.offload in ("optimizer", "all"):
        share = spent.offloading / spent.total
        more = "; more devices may be cheaper" if share >= _MUCH else ""
        found.append(
            f"states wait in host memory: {best.host / GIB:,.0f} GiB of a host, and {share:.0%} of a step{more}"
        )
    if job.num_devices > 1 and job.device.link_gb_s is None:
        found.append(f"how fast {job.device.name} talks to others is not known; 12 GB/s is assumed")
    return (*found, *_of_cache(job, best))


def _of_numbers(job: Job, best: Way) -> list[str]:
    name = job.device.name
    if job.scales_loss:
        wide = "weights and states are float32, and float16 is computed in with a scaled loss"
        return [f"{name} has no bfloat16: {wide}"]
    if job.device.bf16 is None and not job.is_float32:
        return [f"{name} has no bfloat16; float16 needs a scaled loss"]
    if _is_narrow(job, best):
        return ["weights and states are in bfloat16, where small updates get lost; numbers: mixed keeps 32 bits"]
    return []


def _of_batch(job: Job, best: Way) -> list[str]:
    number, batch = job.num_devices, job.sequences_per_step
    if batch % number == 0 or batch < number or best.layout.num_generating:
        return []
    less, more = batch // number * number, (batch // number + 1) * number
    return [
        f"{batch:,} sequences a step are no multiple of the {number:,} devices, so that copies and whole shards are "
        f"left out; {less:,} or {more:,} would be"
    ]


def _is_narrow(job: Job, best: Way) -> bool:
    """Whether trained weights exist in 16 bits alone."""
    has_master = best.layout.framework.master or job.adapter is not None
    return job.numbers == "bf16" and not job.is_mixed and not has_master and not job.is_float32


def _of_cache(job: Job, best: Way) -> tuple[str, ...]:
    rollout = best.rollout
    if rollout is None or not rollout.has_own_weights:
        return ()
    copies = max(1, (best.layout.num_generating or job.num_devices) // rollout.tensor)
    each = -(-job.sequences_per_step // copies)
    if rollout.sequences >= each:
        return ()
    return (f"the cache holds {rollout.sequences} of the {each} sequences of a step that an engine generates",)


def _advice(job: Job, smallest: Way) -> tuple[str, ...]:
    found = [f"it does not fit: {smallest.words} {_needs(smallest)}"]
    if smallest.fullest.allocated > job.budget:
        even = "" if smallest.job is job else f", even with {smallest.job.adapted}"
        found = [
            f"it does not fit{even}: at least {smallest.fullest.allocated / GIB:.1f} GiB a device, of which "
            f"{job.budget / GIB:.1f} of {job.device.name} can be used"
        ]
    small = replace(job, adapter=job.adapter or Adapter(16))
    adapted = [("LoRA", small)] if small != job else []
    has_bits = job.device.vendor not in WITHOUT_BITSANDBYTES
    smaller = replace(small, quantization="nf4_double") if has_bits else small
    adapted += [("LoRA on 4-bit weights", smaller)] if has_bits and smaller != job else []
    fitting = next(([words] for words, one in adapted if _fits(one)), [])
    fitting += _with_more_devices("", job)
    if has_bits and not any("LoRA" in words for words in fitting):
        fitting += _with_more_devices("LoRA on 4-bit weights and ", smaller)
    if not job.liger and _fits(replace(job, liger=True)):
        fitting.append("Liger's kernels")
    for shorter in (job.seq_len // 2, job.seq_len // 4, job.seq_len // 8):
        if shorter < 256:
            break
        completion = min(job.completion, shorter - 1) if job.completion_len else None
        if _fits(replace(job, seq_len=shorter, completion_len=completion)):
            fitting.append(f"a context of {shorter}")
            break
    if smallest.fullest.allocated <= job.budget:
        fitting.append(f"hosts with {math.ceil(smallest.host / GIB / 64) * 64} GiB of memory")
    return (*found, *(f"would fit: {words}" for words in fitting))


def _with_more_devices(words: str, job: Job) -> list[str]:
    """The least doubling of the devices with which it fits."""
    if job.device.vendor in ALONE:
        return []
    for factor in (2, 4, 8):
        more = job.num_devices * factor
        sequences = -(-job.sequences_per_step // more) * more
        if _fits(replace(job, num_devices=more, sequences_per_step=sequences)):
            return [f"{words}{more} devices"]
    return []


def _fits(job: Job) -> bool:
    return any(way.fits for way in ways(job))
