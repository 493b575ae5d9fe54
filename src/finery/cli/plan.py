"""`finery plan`: whether a job fits on devices, and how it runs fastest."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer

from finery.cli import trying
from finery.core import console
from finery.core.client import connect
from finery.core.errors import InvalidSpec
from finery.core.spec import parse
from finery.planner import accelerators, exports, planning
from finery.planner.memory import GIB
from finery.planner.phases import ALGORITHMS
from finery.planner.specs import ExportFormat, FixedSpec, PhaseView, PlanRequest, PlanView, WayView

_SHOWN: Final = 8
"""Ways that lost, in the output for people."""


def plan(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields of --job to change, such as task.micro_batch_size=2.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name of a known model, such as Qwen/Qwen2.5-7B.")] = "",
    config: Annotated[Path | None, typer.Option(help="The config.json of a model, in place of its name.")] = None,
    params: Annotated[float | None, typer.Option(help="Billions of parameters, where nothing else is known.")] = None,
    gpu: Annotated[
        str, typer.Option(help="What it runs on, such as A100-80G (the default), 4090, MI300X.", show_default=False)
    ] = "",
    num_gpus: Annotated[int, typer.Option(help="How many of them, on all hosts.")] = 1,
    gpus_per_host: Annotated[int, typer.Option(help="Devices of a host.")] = 8,
    context: Annotated[int, typer.Option(help="Tokens of a sequence, prompt and completion together.")] = 2048,
    completion: Annotated[int | None, typer.Option(help="Tokens of it that are generated; half without this.")] = None,
    algorithm: Annotated[str, typer.Option(help=f"One of {', '.join(ALGORITHMS)}.")] = "sft",
    batch: Annotated[int, typer.Option(help="Sequences of an optimizer step, over all devices.")] = 64,
    lora: Annotated[
        bool | None,
        typer.Option(
            "--lora/--all-weights",
            help="Train update matrices, or all weights; without either all weights where they fit.",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[int, typer.Option(help="Of the update matrices.")] = 16,
    dora: Annotated[bool, typer.Option("--dora", help="The same with the norms of rows trained beside.")] = False,
    qlora: Annotated[bool, typer.Option("--qlora", help="The same on weights of 4 bits (nf4).")] = False,
    optimizer: Annotated[str, typer.Option(help="adamw, adamw_8bit, adafactor, lion, sgd, muon, ...")] = "adamw",
    numbers: Annotated[str, typer.Option(help="bf16 (all in 16 bits), mixed (states in 32), fp32.")] = "bf16",
    liger: Annotated[
        bool, typer.Option("--liger", help="Norms, activation and rotation are Liger's kernels, which keep less.")
    ] = False,
    rollouts: Annotated[
        str, typer.Option(help="What generates completions: trainer, colocated (an engine beside it), apart.")
    ] = "trainer",
    host_gib: Annotated[
        float | None, typer.Option(help="Memory of a host in GiB; without this twice that of its devices.")
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(help=f"Do not search this: NAME=VALUE, such as tensor=2; {', '.join(FixedSpec.model_fields)}."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps of the job, for time and cost.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Tokens to train on, in millions, in place of --steps.")] = None,
    hourly: Annotated[float | None, typer.Option(help="Price of a device for an hour, for the cost.")] = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Correct the answer by what jobs took that have ended on the server.")
    ] = False,
    job: Annotated[
        Path | None,
        typer.Option(help="A job file: what it will take of this machine, or of --gpu, in place of a plan."),
    ] = None,
    is_tried: Annotated[
        bool, typer.Option("--try", help="Run two real steps of --job on its longest rows, and compare.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    export: Annotated[
        str, typer.Option(help=f"Print the plan as a file in place of the answer: {', '.join(get_args(ExportFormat))}.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="A folder for the files of --export.")] = None,
) -> None:
    """Say before a device is rented whether a job fits, how it runs fastest, and what it takes."""
    if job is not None:
        others = {"--model": model, "--config": config, "--params": params, "--export": export, "--fix": fix}
        given = [name for name, value in others.items() if value] + (["--calibrated"] if calibrated else [])
        if given:
            raise InvalidSpec(f"--job is a whole job already; leave out {', '.join(given)}")
        _job(job, overrides or [], gpu, is_tried=is_tried, as_json=as_json)
        return
    if is_tried or overrides:
        said = "--try" if is_tried else " ".join(overrides or [])
        raise InvalidSpec(f"{said}: only a job file is tried or changed; name it with --job FILE")
    raw = {
        "model": model,
        "config": None if config is None else _read(config),
        "params": params,
        "gpu": gpu or "A100-80G",
        "num_gpus": num_gpus,
        "gpus_per_host": gpus_per_host,
        "context": context,
        "completion": completion,
        "algorithm": algorithm,
        "batch": batch,
        "lora": lora if lora is not None else (qlora or dora) or None,
        "dora": dora,
        "rank": rank,
        "quantize": "nf4_double" if qlora else "none",
        "optimizer": optimizer,
        "numbers": numbers,
        "liger": liger,
        "rollouts": rollouts,
        "host_gib": host_gib,
        "steps": steps,
        "tokens": tokens,
        "hourly": hourly,
        "calibrated": calibrated,
        "fixed": _fixed(fix or []),
    }
    _check(raw, export, out)
    request: PlanRequest = parse(PlanRequest, raw, what="the plan")
    if export:
        _export(request, export, out)
        return
    found = _from_server(request) if calibrated else planning.plan(request)
    if as_json:
        console.say(found.model_dump_json(indent=1))
    else:
        _show(found, request)
    if not found.fits:
        raise typer.Exit(1)


def _check(raw: dict[str, Any], export: str, out: Path | None) -> None:
    """Refuse what would be ignored, and numbers that are none."""
    for name in ("params", "tokens", "hourly", "host_gib"):
        if raw[name] is not None and not math.isfinite(raw[name]):
            raise InvalidSpec(f"--{name.replace('_', '-')} {raw[name]}: it must be a finite number")
    if raw["hourly"] is not None and raw["steps"] is None and raw["tokens"] is None:
        raise InvalidSpec("--hourly: say how long the job is, with --steps or --tokens")
    if out is not None and not export:
        raise InvalidSpec("--out is for the files of --export; name a format, such as --export job")


def _from_server(request: PlanRequest) -> PlanView:
    """The answer of the server, which knows what its jobs took."""
    with connect() as client:
        answer = client.post("/plan", request.model_dump(mode="json"))
    found = PlanView.model_validate(answer)
    if found.band is None:
        console.warn(
            "not calibrated: fewer than three jobs have ended on such a device with an estimate and a measured peak"
        )
    return found


def _job(path: Path, overrides: list[str], gpu: str, *, is_tried: bool, as_json: bool) -> None:
    """What a job file will take of this machine, or of such devices, as estimated or as tried."""
    if is_tried and gpu:
        raise InvalidSpec("--try runs on this machine; leave out --gpu")
    if is_tried:
        trial = trying.try_job(path, overrides=overrides)
        if as_json:
            console.emit(trying.document(trial))
        else:
            trying.show(trial)
        if trial.fits is False or trial.state != "completed":
            raise typer.Exit(1)
        return
    found = trying.estimates(path, overrides=overrides, device=accelerators.find(gpu) if gpu else None)
    if as_json:
        console.emit([{"job": name, **trying.estimated(made, changes)} for name, made, changes in found])
    else:
        for name, made, changes in found:
            if len(found) > 1:
                console.say(f"{name}:")
            trying.show_estimate(made, changes)
    if any(made is not None and made.fits is False for _, made, _ in found):
        raise typer.Exit(1)


def _export(request: PlanRequest, to: str, out: Path | None) -> None:
    if to not in get_args(ExportFormat):
        raise InvalidSpec(f"--export {to}: there is no such format; one of {', '.join(get_args(ExportFormat))}")
    made = exports.export(planning.find(request), to)  # type: ignore[arg-type]
    if out is None:
        for name, text in made.files.items():
            if len(made.files) > 1:
                console.say(f"# --- {name}")
            console.say(text.rstrip("\n"))
    else:
        taken = [name for name in made.files if (out / name).exists()]
        if taken:
            raise InvalidSpec(f"--out {out}: {', '.join(taken)} exist already; name another folder")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSpec(f"--out {out}: {error.strerror}; name a folder that can be made") from None
        for name, text in made.files.items():
            (out / name).write_text(text, "utf-8")
            console.say(str(out / name))
    for note in made.notes:
        console.warn(note)


def _read(config: Path) -> dict[str, Any]:
    try:
        fields = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSpec(f"--config {config}: {error}; it must be the config.json of a model") from None
    if not isinstance(fields, dict):
        raise InvalidSpec(f"--config {config}: no JSON object; it must be the config.json of a model")
    return fields


def _fixed(given: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or name not in FixedSpec.model_fields:
            known = ", ".join(FixedSpec.model_fields)
            raise InvalidSpec(f"--fix {item}: write NAME=VALUE, such as tensor=2; names are {known}")
        if name in found:
            raise InvalidSpec(f"--fix {item}: {name} is fixed to {found[name]} already")
        found[name] = value
    return found


def _show(found: PlanView, request: PlanRequest) -> None:
    size = (
        f"{found.parameters / 1e9:.2f} billion" if found.parameters >= 1e8 else f"{found.parameters / 1e6:.2f} million"
    )
    active = f" ({found.active_parameters / 1e9:.2f} active)" if found.active_parameters != found.parameters else ""
    trained = ""
    if found.trained_parameters != found.parameters:
        trained = f", {found.trained_parameters / 1e6:.1f} million of them trained"
    console.say(f"{found.model}: {size} parameters{active}{trained}")
    console.say(f"{request.algorithm}, {request.context:,} tokens a sequence, {request.batch:,} sequences a step")
    console.say(
        f"{found.num_gpus} x {found.device}: {_gib(found.usable_bytes)} GiB of each {_gib(found.device_bytes)} can be "
        f"used ({_gib(found.context_bytes)} for driver and communicator, {request.margin:.0%} margin)"
    )
    if found.band is not None:
        band = found.band
        console.say(
            f"corrected by {band.num} jobs of the same {band.basis}: they took {band.ratio:.2f} of what was predicted "
            f"({band.low:.2f} to {band.high:.2f})"
        )
    if found.best is not None:
        _show_best(found, found.best)
    for line in found.advice:
        console.say(line)
    for line in found.warnings:
        console.say(f"! {line}")
    if found.others:
        console.say("\nWhy not:")
        rank = None if found.best is None else found.best.rank
        shown = [way for n, way in enumerate(found.others) if n < _SHOWN or (way.fits and way.rank != rank)]
        for way in shown:
            console.say(f"   {way.words} [{way.engine}]: {way.why_not}")
        if len(found.others) > len(shown):
            console.say(f"   and {len(found.others) - len(shown)} more; --json has them all")


def _show_best(found: PlanView, best: WayView) -> None:
    console.say(f"\nRecommended: {best.words}   [{best.engine}]")
    for phase in best.phases:
        mark = "*" if phase.name == best.peak_phase and len(best.phases) > 1 else " "
        console.say(f" {mark} {phase.name:14} {_gib(phase.bytes):>6} GiB   {_in_parts(phase)}")
    console.say(
        f"   PyTorch keeps up to {_gib(best.reserved_bytes)} GiB of it in its cache, which it gives back when needed; "
        f"the device shows up to {_gib(best.shown_bytes)}"
    )
    spent = ", ".join(
        f"{name} {_short(took)}" for name, took in best.seconds.items() if took >= 0.01 * best.seconds_per_step
    )
    step = f"{_short(best.seconds_per_step)} s a step ({spent})"
    console.say(f"   {best.tokens_per_second:,.0f} tokens/s, {step}, MFU {best.mfu:.0%}")
    fits = "" if found.longest_context is None else f"   contexts up to {found.longest_context:,} fit this way"
    console.say(
        f"{fits}\n   host memory {_gib(best.host_bytes)} GiB, disk {_gib(found.disk_bytes)} GiB "
        f"({_gib(found.checkpoint_bytes)} a checkpoint)"
    )
    if found.cost is not None:
        cost = found.cost
        price = "" if cost.price is None else f", costs {cost.price:,.2f}"
        console.say(
            f"   {cost.steps:,} steps, {_short(cost.tokens / 1e6)} million tokens: {_short(cost.hours)} h, "
            f"{_short(cost.device_hours)} device-hours{price}"
        )


def _in_parts(phase: PhaseView) -> str:
    return ", ".join(f"{part.name} {_gib(part.bytes)}" for part in phase.parts if part.bytes >= 0.05 * GIB)


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f}"
