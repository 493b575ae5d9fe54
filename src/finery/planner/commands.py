"""`finery plan`: whether a job fits on devices, and how it runs fastest."""

import json
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from finery.core import console
from finery.core.errors import InvalidSpec
from finery.planner import accelerators, catalog, shapes
from finery.planner.memory import GIB, Adapter
from finery.planner.phases import ALGORITHMS, Algorithm
from finery.planner.recommending import Job, Recommendation, Way, recommend


def plan(
    model: Annotated[str, typer.Option(help="Name of a known model, such as Qwen/Qwen2.5-7B.")] = "",
    config: Annotated[Path | None, typer.Option(help="The config.json of a model, in place of its name.")] = None,
    params: Annotated[float | None, typer.Option(help="Billions of parameters, where nothing else is known.")] = None,
    gpu: Annotated[str, typer.Option(help="What it runs on, such as A100-80G, 4090, MI300X.")] = "A100-80G",
    num_gpus: Annotated[int, typer.Option(help="How many of them.", min=1)] = 1,
    context: Annotated[int, typer.Option(help="Tokens of a sequence, prompt and completion together.", min=1)] = 2048,
    algorithm: Annotated[str, typer.Option(help=f"One of {', '.join(ALGORITHMS)}.")] = "sft",
    batch: Annotated[int, typer.Option(help="Sequences of an optimizer step, over all devices.", min=1)] = 64,
    lora: Annotated[bool, typer.Option("--lora", help="Train update matrices in place of the weights.")] = False,
    rank: Annotated[int, typer.Option(help="Of the update matrices.", min=1)] = 16,
    qlora: Annotated[bool, typer.Option("--qlora", help="The same on weights of 4 bits (nf4).")] = False,
    hourly: Annotated[float | None, typer.Option(help="Price of a device for an hour, for the cost.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Tokens to train on, in millions, for time and cost.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say before a device is rented whether a job fits, how it runs fastest, and what it takes."""
    if algorithm not in get_args(Algorithm):
        raise InvalidSpec(f"--algorithm {algorithm}: there is none of that name; one of {', '.join(ALGORITHMS)}")
    job = Job(
        shape=_shape(model, config, params),
        device=accelerators.find(gpu),
        num_devices=num_gpus,
        algorithm=algorithm,  # type: ignore[arg-type]
        seq_len=context,
        sequences_per_step=batch,
        adapter=Adapter(rank) if lora or qlora else None,
        quantization="nf4_double" if qlora else "none",
    )
    found = recommend(job)
    if as_json:
        console.say(json.dumps(_document(found, hourly, tokens), indent=1))
    else:
        _show(found, model or (str(config) if config else f"{params:g}B"), hourly, tokens)
    if found.best is None:
        raise typer.Exit(1)


def _shape(model: str, config: Path | None, params: float | None) -> shapes.ModelShape:
    given = [
        name
        for name, one in (("--model", model or None), ("--config", config), ("--params", params))
        if one is not None
    ]
    if len(given) != 1:
        said = " and ".join(given) or "none of them"
        raise InvalidSpec(f"name the model once, with --model, --config or --params; given is {said}")
    if params is not None:
        return shapes.from_parameters(params)
    if config is None:
        return shapes.from_config(catalog.shape_fields(model))
    try:
        fields = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSpec(f"--config {config}: {error}; it must be the config.json of a model") from None
    if not isinstance(fields, dict):
        raise InvalidSpec(f"--config {config}: no JSON object; it must be the config.json of a model")
    return shapes.from_config(fields.get("text_config") or fields)


def _show(found: Recommendation, name: str, hourly: float | None, tokens: float | None) -> None:
    job = found.job
    billions = job.shape.parameters / 1e9
    console.say(f"{name}: {billions:.2f} billion parameters, {job.algorithm}, {job.seq_len} tokens a sequence")
    console.say(f"{job.num_devices} x {job.device.name}, {job.budget / GIB:.1f} GiB of each can be used")
    if found.best is not None:
        best = found.best
        console.say(f"\nFastest that fits: {best.words}")
        for phase in best.phases:
            parts = ", ".join(f"{what} {size / GIB:.1f}" for what, size in phase.parts.items() if size >= 0.05 * GIB)
            mark = "*" if phase is best.fullest and len(best.phases) > 1 else " "
            console.say(f" {mark} {phase.name:14} {phase.allocated / GIB:6.1f} GiB   {parts}")
        console.say(f"   {best.tokens_per_second:,.0f} tokens/s, {best.seconds_per_step:.3g} s a step")
        for line in _spent(best, job, hourly, tokens):
            console.say(f"   {line}")
    for line in found.advice:
        console.say(line)
    if found.others:
        console.say("\nWhy not:")
        for way, why in found.others:
            console.say(f"   {way.words}: {why}")


def _hours(way: Way, millions: float) -> float:
    return millions * 1e6 / way.tokens_per_second / 3600


def _spent(best: Way, job: Job, hourly: float | None, tokens: float | None) -> list[str]:
    if tokens is None:
        return []
    hours = _hours(best, tokens)
    spent = f"{hours:.3g} h for {tokens:g} million tokens, {hours * job.num_devices:.3g} device-hours"
    return [spent + (f", {hours * job.num_devices * hourly:.2f} at {hourly:g} an hour" if hourly else "")]


def _document(found: Recommendation, hourly: float | None, tokens: float | None) -> dict[str, Any]:
    job = found.job
    document: dict[str, Any] = {
        "parameters": job.shape.parameters,
        "device": job.device.id,
        "num_devices": job.num_devices,
        "usable_bytes": round(job.budget),
        "fits": found.best is not None,
        "best": None if found.best is None else _way(found.best),
        "others": [{**_way(way), "why_not": why} for way, why in found.others],
        "advice": list(found.advice),
    }
    if found.best is not None and tokens is not None:
        hours = _hours(found.best, tokens)
        document |= {"hours": hours, "device_hours": hours * job.num_devices}
        document |= {"cost": hours * job.num_devices * hourly} if hourly else {}
    return document


def _way(way: Way) -> dict[str, Any]:
    return {
        "sharding": way.sharding,
        "micro_batch": way.micro_batch,
        "accumulation": way.accumulation,
        "recomputation": way.recomputation,
        "tokens_per_second": way.tokens_per_second,
        "seconds_per_step": way.seconds_per_step,
        "peak_bytes": round(way.fullest.allocated),
        "peak_phase": way.fullest.name,
        "phases": {phase.name: {what: round(size) for what, size in phase.parts.items()} for phase in way.phases},
    }
