"""From a request to an answer: finds model and device, has the ways searched, and adds what a person wants beside.

Pure. Owns: curves, comparisons, cost and disk. Does not own: the search (recommending).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from finery.planner import accelerators, catalog, shapes
from finery.planner.memory import STATES, Adapter, Quantization, Split, peak
from finery.planner.phases import Phase, fullest
from finery.planner.recommending import Recommendation, phases_of, recommend
from finery.planner.shapes import ModelShape
from finery.planner.specs import (
    BandView,
    ComparedView,
    CostView,
    CurvePoint,
    PartView,
    PhaseView,
    PlanRequest,
    PlanView,
    WayView,
)
from finery.planner.throughput import operations, peak_of
from finery.planner.ways import WITHOUT_BITSANDBYTES, Job, Layout, Pins, Way, step_of

_CHECKPOINTS: Final = 3
"""That a job keeps (`monitoring.keep_checkpoints`)."""
_LONGEST: Final = 1 << 20
"""Tokens up to which a context is looked for."""
_STATES_OF_8_BIT: Final = {"adamw_8bit": 2.0, "adamw_paged_8bit": 2.0, "adamw_4bit": 1.0, "lion_8bit": 1.0}
"""Bytes for each weight."""
_OTHERS: Final = 24
"""Ways that lost, at most."""


@dataclass(frozen=True)
class Found:
    """A request with all that it names."""

    request: PlanRequest
    name: str
    fields: Mapping[str, Any]
    """Of the model's config; empty where only a size is known."""
    recommendation: Recommendation


def job_of(request: PlanRequest) -> tuple[str, Mapping[str, Any], Job]:
    """What a request names: the model's name, the fields of its config, and the job.

    Raises:
        InvalidSpec: impossible; says what would be right.
        NotFound: there is no such model.
    """
    name, fields, shape = _model(request)
    has_adapter = request.lora if request.lora is not None else request.dora or request.quantize != "none"
    pins = Pins(**{one: getattr(request.fixed, one) for one in Pins.__dataclass_fields__})
    job = Job(
        shape=shape,
        device=accelerators.find(request.gpu),
        num_devices=request.num_gpus,
        devices_per_host=request.gpus_per_host,
        algorithm=request.algorithm,
        seq_len=request.context,
        completion_len=request.completion,
        sequences_per_step=request.batch,
        adapter=Adapter(request.rank, decomposes=request.dora) if has_adapter else None,
        quantization=request.quantize,
        optimizer=request.optimizer,
        numbers=request.numbers,
        flash=request.flash,
        liger=request.liger,
        kl=request.kl,
        critic=request.critic,
        rollouts=request.rollouts,
        margin=request.margin,
        host_gib=request.host_gib,
        pins=pins,
    )
    return name, fields, job


def find(request: PlanRequest, *, band: BandView | None = None) -> Found:
    """Search all ways of a request.

    Args:
        request: Valid.
        band: How far estimates for such jobs were off: what is found is corrected by it.

    Raises:
        InvalidSpec: impossible; says what would be right.
        NotFound: there is no such model.
    """
    name, fields, job = job_of(request)
    if band is not None:
        job = replace(job, memory_ratio=band.ratio, speed_ratio=band.speed_ratio or 1.0)
    may_adapt = request.lora is None and job.adapter is None
    return Found(request, name, fields, recommend(job, adapter=Adapter(request.rank) if may_adapt else None))


def plan(request: PlanRequest, *, band: BandView | None = None) -> PlanView:
    """The answer to a request.

    Args:
        request: Valid.
        band: How far predictions for such jobs were off, where that is asked for and known.

    Raises:
        InvalidSpec: impossible; says what would be right.
        NotFound: there is no such model.
    """
    return answer(find(request, band=band), band=band)


def answer(found: Found, *, band: BandView | None = None) -> PlanView:
    """What was found, with curve, comparisons, cost and disk."""
    recommendation, request = found.recommendation, found.request
    best = recommendation.best
    shown = best or min((way for way, _ in recommendation.others), key=lambda way: way.fullest.allocated)
    job = shown.job
    checkpoint = _checkpoint_bytes(job, shown)
    return PlanView(
        model=found.name,
        parameters=job.shape.parameters,
        active_parameters=job.shape.active_parameters,
        trained_parameters=_num_trained(job),
        device=job.device.name,
        num_gpus=job.num_devices,
        device_bytes=float(job.device.total_bytes),
        context_bytes=job.context_bytes,
        usable_bytes=job.budget,
        fits=best is not None,
        best=None if best is None else _view(best, ""),
        others=[_view(way, why) for way, why in recommendation.others[:_OTHERS]],
        advice=list(recommendation.advice),
        warnings=[*recommendation.warnings, *_of_positions(found)],
        cost=None if best is None else _cost(request, job, best),
        disk_bytes=2.0 * job.shape.parameters + _CHECKPOINTS * checkpoint,
        checkpoint_bytes=checkpoint,
        longest_context=_longest_context(job, shown),
        curve=_curve(job, shown),
        stages=_stages(job, shown) if job.num_devices - shown.layout.num_generating > 1 else [],
        savings=_savings(job, shown),
        band=band,
    )


def _model(request: PlanRequest) -> tuple[str, Mapping[str, Any], ModelShape]:
    if request.params is not None:
        return f"{request.params:g}B", {}, shapes.from_parameters(request.params)
    if request.config is not None:
        fields = shapes.text_fields(request.config)
        return str(request.config.get("_name_or_path") or "config"), fields, shapes.from_config(fields)
    fields = catalog.shape_fields(request.model)
    return str(fields["id"]), fields, shapes.from_config(fields)


def _of_positions(found: Found) -> list[str]:
    if found.recommendation.job.shape.assumed and found.fields:
        return [f"model_type {found.fields.get('model_type')} is not known; its layers are taken for Llama's"]
    learned = found.fields.get("max_position_embeddings") or found.fields.get("learned_position_embeddings")
    context = found.request.context
    if not isinstance(learned, int | float) or context <= learned:
        return []
    return [f"a context of {context:,} is beyond the {int(learned):,} positions that the model has learned"]


def _view(way: Way, why_not: str) -> WayView:
    job, layout, split = way.job, way.layout, way.layout.split
    step = step_of(job, layout, way.micro_batch, way.accumulation, way.recomputation, way.offload)
    needed = operations(job.shape, job.seq_len, trained=1.0 if job.adapter is None else 0.0)
    rollout, trained = way.rollout, peak(step)
    room = job.device.total_bytes - job.context_bytes
    kept = way.fullest.allocated + (trained.other_moment + trained.waste) * job.memory_ratio
    reserved = max(way.fullest.allocated, min(kept, room))
    return WayView(
        words=way.words,
        why_not=why_not,
        fits=way.fits,
        engine=way.engine,
        rank=None if job.adapter is None else job.adapter.rank,
        quantize=job.quantization,
        sharding=layout.sharding,
        tensor=split.tensor,
        pipeline=split.pipeline,
        context=split.context,
        expert=split.expert,
        data=split.data,
        micro_batch=way.micro_batch,
        accumulation=way.accumulation,
        recomputation=way.recomputation,
        offload=way.offload,
        num_generating=layout.num_generating,
        rollout_tensor=rollout.tensor if rollout is not None and rollout.has_own_weights else None,
        rollout_share=rollout.share if rollout is not None else None,
        rollout_sequences=rollout.sequences if rollout is not None else None,
        peak_bytes=way.fullest.allocated,
        reserved_bytes=reserved,
        shown_bytes=reserved + job.context_bytes,
        peak_phase=way.fullest.name,
        share_of_device=way.fullest.allocated / job.budget,
        phases=[_phase(phase) for phase in way.phases],
        tokens_per_second=way.tokens_per_second,
        seconds_per_step=way.seconds.total,
        seconds=dict(vars(way.seconds)),
        mfu=needed.model * way.tokens_per_second / (job.num_devices * peak_of(job.device, job.precision)),
        host_bytes=way.host,
    )


def _phase(phase: Phase) -> PhaseView:
    return PhaseView(name=phase.name, bytes=phase.allocated, parts=_parts(phase))


def _parts(phase: Phase) -> list[PartView]:
    return [PartView(name=name, bytes=size) for name, size in phase.parts.items() if size > 0]


def _num_trained(job: Job) -> int:
    if job.adapter is None:
        return job.shape.parameters
    return job.adapter.size(job.shape)


def _checkpoint_bytes(job: Job, way: Way) -> float:
    """Weights that are trained, with what the optimizer has of them, and the weights that are computed with beside."""
    number = _num_trained(job)
    has_master = way.layout.framework.master and job.adapter is None and not job.is_float32
    each = 4.0 if has_master or job.adapter is not None or job.is_mixed or job.is_float32 else 2.0
    states = _STATES_OF_8_BIT.get(job.optimizer, STATES[job.optimizer] * each)
    found = number * (each + states + (2.0 if has_master else 0.0))
    return found * (2 if job.algorithm == "ppo" and job.critic else 1)


def _cost(request: PlanRequest, job: Job, best: Way) -> CostView | None:
    per_step = best.tokens_per_second * best.seconds.total
    if request.steps is not None:
        steps = request.steps
    elif request.tokens is not None:
        steps = max(1, round(request.tokens * 1e6 / per_step))
    else:
        return None
    tokens = request.tokens * 1e6 if request.tokens is not None else steps * per_step
    hours = tokens / best.tokens_per_second / 3600
    price = None if request.hourly is None else hours * job.num_devices * request.hourly
    return CostView(steps=steps, tokens=tokens, hours=hours, device_hours=hours * job.num_devices, price=price)


def _at(job: Job, way: Way, layout: Layout) -> Phase:
    """The fullest phase of a way, for a job that differs a little."""
    step = step_of(job, layout, way.micro_batch, way.accumulation, way.recomputation, way.offload)
    rollout = None if way.rollout is None else replace(way.rollout, seq_len=job.seq_len)
    return fullest(phases_of(job, step, rollout, way.offload))


def _with_context(job: Job, context: int) -> Job:
    completion = None if job.completion_len is None else min(job.completion_len, context - 1)
    return replace(job, seq_len=context, completion_len=completion)


def _curve(job: Job, way: Way) -> list[CurvePoint]:
    grain = way.layout.split.context
    contexts = sorted({*(1 << power for power in range(9, 18)), job.seq_len})
    found = []
    for context in contexts:
        if context % grain or context < 2:
            continue
        taken = _at(_with_context(job, context), way, way.layout).allocated
        found.append(CurvePoint(context=context, bytes=taken, fits=taken <= job.budget))
    return found


def _longest_context(job: Job, way: Way) -> int | None:
    """By bisection, in steps of 256 tokens."""
    grain = 256 * way.layout.split.context
    low, high = 0, _LONGEST // grain + 1
    while high - low > 1:
        middle = (low + high) // 2
        if _at(_with_context(job, middle * grain), way, way.layout).allocated <= job.budget:
            low = middle
        else:
            high = middle
    return low * grain or None


def _stages(job: Job, way: Way) -> list[ComparedView]:
    """The same step with DeepSpeed's four stages over all devices that train."""
    if way.layout.split.tensor * way.layout.split.pipeline * way.layout.split.context > 1:
        way = replace(way, micro_batch=1)
    number = job.num_devices - way.layout.num_generating
    names: tuple[tuple[Literal[0, 1, 2, 3], Any], ...] = ((0, "ddp"), (1, "zero1"), (2, "zero2"), (3, "zero3"))
    found = []
    for stage, sharding in names:
        layout = Layout(sharding, Split(data=number, zero=stage), way.layout.num_generating)
        # Master weights are DeepSpeed's also where nothing is divided, so that the stages can be compared.
        one = replace(layout, sharding="zero1") if stage == 0 else layout
        phase = _at(job, replace(way, offload="none"), one)
        found.append(_compared(f"ZeRO {stage}", phase, job.budget))
    return found


def _savings(job: Job, way: Way) -> list[ComparedView]:
    """The same step with all weights trained, with LoRA, and with LoRA on quantized weights. On many devices LoRA can
    take more: next to nothing is left to save, and PEFT keeps a float32 copy of each matrix's input."""
    if way.layout.sharding == "megatron":  # which trains no adapters here
        split = Split(data=job.num_devices - way.layout.num_generating, zero=3)
        way = replace(way, layout=Layout("fsdp", split, way.layout.num_generating), micro_batch=1)
    rank = job.adapter.rank if job.adapter is not None else 16
    kinds: tuple[tuple[str, Adapter | None, Quantization], ...] = (
        ("full", None, "none"),
        ("lora", Adapter(rank), "none"),
        ("lora 8-bit", Adapter(rank), "int8"),
        ("qlora 4-bit", Adapter(rank), "nf4_double"),
    )
    found = []
    for name, adapter, quantization in kinds:
        if quantization != "none" and job.device.vendor in WITHOUT_BITSANDBYTES:
            continue
        phase = _at(replace(job, adapter=adapter, quantization=quantization), way, way.layout)
        found.append(_compared(name, phase, job.budget))
    return found


def _compared(name: str, phase: Phase, budget: float) -> ComparedView:
    return ComparedView(name=name, bytes=phase.allocated, fits=phase.allocated <= budget, parts=_parts(phase))
