"""How far predictions of the planner are from published measurements.

    python benchmarks/planner_accuracy.py --data measured_memory.csv

Each row with a measured peak is predicted from its columns; what is blank is the default of its framework. A row is
compared with the meter of its framework. Prints JSON.
"""

import argparse
import csv
import dataclasses
import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from finery.core.errors import FineryError
from finery.planner import accelerators, catalog, shapes
from finery.planner.efficiency import share
from finery.planner.frameworks import FRAMEWORKS, Framework
from finery.planner.memory import Adapter, Kernels, Quantization, Recomputation, Split, Step, peak
from finery.planner.throughput import Precision, operations, tokens_per_second

Row = dict[str, str]
_SPEAKS: Final = (
    ("megatron-lm", "megatron"),
    ("megatron-bridge", "megatron-bridge"),
    ("litgpt", "litgpt"),
    ("fms", "fms"),
    ("swift", "swift"),
    ("torchtune", "torchtune"),
    ("deepspeed-chat", "deepspeed-chat"),
    ("deepspeed", "deepspeed"),
    ("peft", "peft"),
)
"""Part of a framework's name -> which of ours it is."""
_TRAINS: Final = (
    *(("llm-foundry", "llm-foundry"), ("internevo", "internevo"), ("xtuner", "xtuner"), ("fms-fsdp", "fms-fsdp")),
    *(("fms-hf", "fms"), ("torchtune", "torchtune"), ("peft", "peft"), ("megatron", "megatron")),
)
"""The same for the table of what share of a peak is reached."""
_STRICT: Final = ("gpu_type", "num_gpus", "method", "precision", "micro_batch", "seq_len")


def framework_of(row: Row) -> Framework:
    """The framework of a row; one that is not known is taken for transformers."""
    name = row["framework"].lower()
    return FRAMEWORKS[next((ours for part, ours in _SPEAKS if part in name), "transformers")]


def is_strict(row: Row) -> bool:
    """Whether everything that the bounds ask for is given."""
    return bool(row["model"] or row["params_b"]) and all(row[name] for name in _STRICT)


def shape_of(row: Row, framework: Framework, tensor: int) -> shapes.ModelShape:
    """The model: from sizes in the notes, the catalog, or the number of parameters."""
    text = f"{row['notes']} {row['model']}"
    told = re.search(r"\bL(\d+) h(\d+) heads(\d+) ffn(\S+?)[; ]", row["notes"])
    if told:
        layers, hidden, heads = (int(told[number]) for number in (1, 2, 3))
        width = told[4]
        is_gated = "swiglu" in row["model"]
        vocabulary = 30_522 if "bert" in row["model"] else 50_257
        multiple = framework.vocabulary_multiple * tensor
        fields = {
            "model_type": "gpt2",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * hidden if width == "4h" else int(width),
            "mlp_gated": is_gated,
            "vocab_size": -(-vocabulary // multiple) * multiple,
            "max_position_embeddings": int(row["seq_len"] or 1024),
        }
        num = re.search(r"experts(\d+)", row["notes"])
        if num and int(num[1]):
            fields |= {"num_experts": int(num[1]), "num_experts_per_tok": 2}
        return shapes.from_config(fields)
    small = re.search(r"\(h(\d+) L(\d+)\)", text)
    if small:
        hidden, layers = int(small[1]), int(small[2])
        return shapes.from_config(
            {"model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": hidden // 128, "vocab_size": 50257}
        )
    try:
        fields = catalog.shape_fields(row["model"])
        return shapes.from_config(fields if framework.ties else fields | {"tie_word_embeddings": False})
    except FineryError:
        if not row["params_b"]:
            raise
    return shapes.from_parameters(float(row["params_b"]))


def split_of(row: Row, framework: Framework) -> Split:
    """How the work is divided, from words such as `tp2 pp4 dist_opt(zero1) sp`."""
    text = row["parallelism"].lower().replace("=", "")

    def number(name: str) -> int:
        found = re.search(rf"\b{name}(\d+)\b", text)
        return int(found[1]) if found else 1

    tensor, pipeline, context, expert = number("tp"), number("pp"), number("cp"), number("ep")
    world = int(row["num_gpus"] or (8 if framework.vocabulary_multiple > 1 else 1))
    if "device_map" in text:  # each device has some of the layers, and they work one after the other
        pipeline = world
    data = max(1, world // (tensor * pipeline * context))
    batch = re.search(r"GBS (\d+)", row["notes"])
    if batch:
        data = max(1, min(data, int(batch[1]) // int(row["micro_batch"] or 1)))
    stage = re.search(r"zero-?(\d)", text)
    is_sharded = "fsdp" in text and ("ddp" not in text or row["method"].startswith("full"))
    zero = int(stage[1]) if stage else 3 if is_sharded and world > 1 else framework.zero
    virtual = number("vpp")
    told = re.search(r"_vp(\d+)", row["model"]), re.search(r"\bL(\d+) ", row["notes"])
    if told[0] and told[1]:  # layers of a virtual stage, as Megatron's option has it
        virtual = max(1, int(told[1][1]) // pipeline // int(told[0][1]))
    return Split(
        data=data,
        tensor=tensor,
        pipeline=pipeline,
        context=context,
        expert=min(expert, data) if expert > 1 else 1,
        sequence=(framework.divides_sequence or bool(re.search(r"\bsp\b", text))) and tensor > 1,
        virtual=virtual if pipeline > 1 else 1,
        zero=zero,  # type: ignore[arg-type]
        stage="last",
    )


def kernels_of(row: Row, framework: Framework, split: Split) -> tuple[Kernels, bool]:
    """The kernel set that a row names, and whether its attention keeps no scores.

    Liger computes the loss with the head, in pieces; fused kernels of the loss work in place. Megatron's own attention
    keeps scores; that of Transformer Engine (`te`) does where it is told to be deterministic (`--attention-backend
    unfused`), as its tests are but for those that resume, and for long or divided sequences.
    """
    kernels, flash = framework.kernels, row["flash_attn"] != "no" and framework.flash
    method = row["method"].lower()
    if "liger" in method:
        kernels = dataclasses.replace(kernels, logits=0.0)
    elif "foak" in method or "unsloth" in method:
        kernels = dataclasses.replace(kernels, logits=10.0)
    if framework is FRAMEWORKS["megatron"]:
        words = row["model"].lower().split("_")
        if "cross_entropy_loss_fusion" in row["model"]:
            kernels = dataclasses.replace(kernels, logits=10.0)
        is_own = ("mcore" in words or "bert" in words) and "te" not in words
        is_fused = split.context > 1 or int(row["seq_len"] or 0) >= 4096 or {"resume", "nondeterministic"} & set(words)
        flash = flash and not is_own and bool(is_fused)
    return kernels, flash


def quantization_of(row: Row) -> Quantization:
    """How frozen weights are stored."""
    text = f"{row['method']} {row['precision']}".lower()
    if "nf4-dq" in text or ("bnb" in text and "nf4" not in text) or "4-bit" in text:
        return "nf4_double"
    if "nf4" in text or "qlora" in text and "int" not in text and "gptq" not in text:
        return "nf4" if "nf4" in text else "nf4_double"
    if "int8" in text:
        return "int8"
    return "int4" if "int4" in text or "gptq" in text else "none"


def adapter_of(row: Row, framework: Framework, shape: shapes.ModelShape) -> Adapter | None:
    """What is trained in place of the weights."""
    method = row["method"].partition(";")[0].lower()
    if method.startswith("full"):
        return None
    notes = f"{row['notes']} {method}"
    trained = re.search(r"trainable ([\d,]+)", notes)
    rank = re.search(r"\br(?:ank)?=(\d+)", notes)
    known = {linear.name for linear in shape.linears}
    targets = tuple(name for name in framework.targets if name in known) if framework.targets != "all-linear" else ()
    if "all" in method or not targets or shape.family in framework.targets_by_family:
        targets = tuple(known - {"router"})
    return Adapter(
        rank=int(rank[1]) if rank else framework.rank,
        targets=targets,
        bytes_per_weight=framework.adapter_bytes,
        parameters=int(trained[1].replace(",", "")) if trained else None,
    )


_TECHNIQUES: Final = (
    *("baseline", "packed dataset", "compile", "chunked cross entropy", "activation checkpointing"),
    *("fuse optimizer step into backward", "activation offloading", "8-bit adamw", "lora", "qlora"),
)
"""What rows of a table have that adds one after the other."""
_UNPACKED: Final = 512
"""Tokens of the longest sample of a batch where short instructions are not packed."""


def with_techniques(step: Step, row: Row) -> Step:
    """A step with what its row of a cumulative table says, and all rows before it."""
    told = re.search(r"cumulative technique row: \+? ?(.+)", row["notes"].lower())
    if told is None or told[1].strip() not in _TECHNIQUES:
        return step
    number = _TECHNIQUES.index(told[1].strip())
    kernels = dataclasses.replace(step.kernels, logits=14.0, step=0.0)
    changes: dict[str, Any] = {"recomputation": "none", "optimizer": "adamw"}
    if number < 1:
        changes |= {"seq_len": _UNPACKED}
    if number >= 2:  # compiled norms and activation functions keep their input alone
        kernels = dataclasses.replace(kernels, norm=2.0, activation_function=2.0, rope_copies=False)
    if number >= 3:
        kernels = dataclasses.replace(kernels, logits=FRAMEWORKS["torchtune"].kernels.logits)
    if number >= 4:
        changes |= {"recomputation": "full"}
    if number >= 5:
        changes |= {"gradients": 0.0}
    if number >= 6:
        changes |= {"offload_activations": True}
    if number >= 7:
        changes |= {"optimizer": "adamw_8bit"}
    return dataclasses.replace(step, kernels=kernels, **changes)


def step_of(row: Row) -> Step:
    """What a row has measured."""
    framework = framework_of(row)
    split = split_of(row, framework)
    shape = shape_of(row, framework, split.tensor)
    adapter = adapter_of(row, framework, shape)
    precision = row["precision"].lower()
    is_mixed = "mixed" in precision
    is_float32 = is_mixed or precision in ("fp32", "float32", "32", "32-true")
    said = row["grad_ckpt"]
    recomputation = "full" if said.startswith("yes") else "none" if said.startswith("no") else framework.recomputation
    if not said and framework.recomputes_if_sharded and split.zero == 3:
        recomputation = "full"
    optimizer = row["optimizer"].lower()
    kernels, flash = kernels_of(row, framework, split)
    lengths = [int(number) for number in re.findall(r"\d+", row["seq_len"])] or [framework.seq_len]
    step = Step(
        shape=shape,
        seq_len=sum(lengths),
        micro_batch=int(row["micro_batch"] or framework.micro_batch),
        weights=6.0 if is_mixed else 4.0 if is_float32 else 2.0,  # autocast keeps what it has cast
        trained=4.0 if is_float32 else 2.0,
        compute=4.0 if is_float32 and not is_mixed else 2.0,
        master=framework.master and not is_float32 and adapter is None and "bf16 master" not in precision,
        gradients=4.0 if is_float32 else framework.gradients,
        optimizer="muon" if "muon" in optimizer else "adamw_8bit" if "8bit" in optimizer else framework.optimizer,
        adapter=adapter,
        quantization=quantization_of(row) if adapter is not None else "none",
        recomputation=recomputation,  # type: ignore[arg-type]
        flash=flash,
        split=split,
        kernels=kernels,
        keeps_gradients=framework.keeps_gradients,
    )
    return with_techniques(step, row)


def predicted(row: Row) -> float:
    """What the row's meter would show, in its unit."""
    framework, step = framework_of(row), step_of(row)
    found = peak(step)
    if not framework.reports_last_stage and step.split.pipeline > 1 and "device_map" not in row["parallelism"]:
        first = peak(dataclasses.replace(step, split=dataclasses.replace(step.split, stage="first")))
        found = max(found, first, key=lambda one: one.allocated)
    if framework.meter == "allocated":
        return found.allocated / framework.unit
    try:
        total = float(accelerators.find(row["gpu_type"]).total_bytes)
    except FineryError:
        total = float("inf")
    return found.reserved(total) / framework.unit


def peers(row: Row) -> dict[str, float]:
    """What other estimators say of a row, in the unit of its meter, where they say anything.

    Rules as published: accelerate src/accelerate/commands/estimate.py (the largest of its four phases); DeepSpeed
    deepspeed/runtime/zero/{stage_1_and_2,stage3}.py (18 bytes a parameter, divided); LLaMA-Factory README.md (GB for
    each billion, over all devices).
    """
    step, unit = step_of(row), framework_of(row).unit
    number, devices = step.shape.parameters, max(1, step.split.devices)
    stored = {"none": step.weights, "int8": 1.0}.get(step.quantization, 0.5)
    found = {
        "accelerate": number * (stored if step.adapter else 4 * min(step.weights, 4.0) if step.weights > 2 else 8.0)
    }
    if step.adapter is None:
        largest = max(step.shape.embedding, *(round(one.num_in * one.num_out) for one in step.shape.linears))
        whole = 2.0 * number if step.split.zero < 3 else 4.0 * largest
        found["deepspeed"] = whole + 18.0 * number / (devices if step.split.zero else 1)
    rule = 0.5 if stored < 1 else 1.0 if stored == 1 else 2.0
    if step.adapter is None:
        rule = 18.0 if step.weights > 2 or step.master else 8.0
    found["llama-factory"] = rule * number / devices
    return {name: value / unit for name, value in found.items()}


def speed_of(row: Row, *, is_left_out: bool = False) -> float:
    """Tokens per second and device that a row is predicted to reach; `is_left_out` without its own framework's row."""
    framework = framework_of(row)
    device = accelerators.find(row["gpu_type"].partition(" (")[0])
    shape = shape_of(row, framework, 1)
    precision = row["precision"].lower()
    is_fp8 = "fp8" in precision or "fp4" in precision
    number: Precision = "fp8" if is_fp8 else "bf16" if device.bf16 else "fp16"
    said = row["grad_ckpt"]
    recomputation: Recomputation = framework.recomputation
    if said:
        recomputation = "full" if said.startswith("yes") else "selective" if said.startswith("sel") else "none"
    lengths = [int(one) for one in re.findall(r"\d+", row["seq_len"])] or [framework.seq_len]
    needed = operations(
        shape,
        sum(lengths),
        trained=1.0 if row["method"].startswith("full") else 0.0,
        recomputation=recomputation,
    )
    name = next((ours for part, ours in _TRAINS if part in row["framework"].lower()), "transformers")
    reached = share(name, device, number, is_mixture=shape.experts is not None, without=name if is_left_out else "")
    return tokens_per_second(needed, device, number, efficiency=reached)


def throughput(rows: list[Row]) -> dict[str, Any]:
    """The figures of all rows that have a speed."""
    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    num_skipped = 0
    for row in rows:
        try:
            measured = float(row["tokens_per_s_per_gpu"])
            found = speed_of(row), speed_of(row, is_left_out=True)
        except FineryError:
            num_skipped += 1
            continue
        errors[row["source_repo"]].append((abs(found[0] / measured - 1), abs(found[1] / measured - 1)))
    everything = [one for each in errors.values() for one in each]
    return {
        "throughput.rows": len(everything),
        "throughput.skipped": num_skipped,
        "throughput.median_abs_error": round(statistics.median(one[0] for one in everything), 4),
        "throughput.left_out_median_abs_error": round(statistics.median(one[1] for one in everything), 4),
        "throughput.by_source": {
            name: {
                "rows": len(each),
                "median": round(statistics.median(one[0] for one in each), 3),
                "left_out_median": round(statistics.median(one[1] for one in each), 3),
            }
            for name, each in sorted(errors.items())
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CSV of measurements")
    parser.add_argument("--show", default="", help="print the rows of frameworks that hold this word")
    args = parser.parse_args()
    with open(args.data, newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    rows = [row for row in table if row["measured_peak_gb"]]
    errors: dict[str, list[float]] = defaultdict(list)
    strict: dict[str, list[float]] = defaultdict(list)
    others: dict[str, list[float]] = defaultdict(list)
    skipped: list[dict[str, str]] = []
    for row in rows:
        try:
            found = predicted(row)
        except FineryError as error:
            skipped.append({"model": row["model"], "framework": row["framework"], "reason": str(error)})
            continue
        measured = float(row["measured_peak_gb"])
        error = abs(found / measured - 1)
        errors[row["source_repo"]].append(error)
        if is_strict(row):
            strict[row["source_repo"]].append(error)
            for name, said in peers(row).items():
                others[name].append(abs(said / measured - 1))
        if args.show and args.show in row["framework"]:
            shown = dataclasses.asdict(peak(step_of(row)))
            parts = {name: round(value / 2**30, 2) for name, value in shown.items() if isinstance(value, float)}
            line = f"{found / measured - 1:+.0%} {found:.2f}/{measured:.2f} {row['model']} {row['method']}"
            more = f"{row['parallelism']} s{row['seq_len']} b{row['micro_batch']} n{row['num_gpus']}"
            print(line, more, parts, file=sys.stderr)
    figures = summary(errors, strict, skipped, len(rows))
    figures["memory.peers"] = {
        name: {
            "rows": len(each),
            "median": round(statistics.median(each), 3),
            "p90": round(statistics.quantiles(each, n=10)[8], 3),
        }
        for name, each in sorted(others.items())
    }
    figures |= throughput([row for row in table if row["tokens_per_s_per_gpu"]])
    print(json.dumps(figures, indent=1))
    return 0


def summary(
    errors: dict[str, list[float]], strict: dict[str, list[float]], skipped: list[dict[str, str]], num_rows: int
) -> dict[str, Any]:
    """The figures of a run."""
    everything = [error for each in strict.values() for error in each]
    return {
        "memory.rows": num_rows - len(skipped),
        "memory.skipped": skipped,
        "memory.strict_rows": len(everything),
        "memory.median_abs_error": round(statistics.median(everything), 4),
        "memory.p90_abs_error": round(statistics.quantiles(everything, n=10)[8], 4),
        "memory.all_rows_median": round(statistics.median([error for each in errors.values() for error in each]), 4),
        "memory.mean_of_sources": round(statistics.fmean(statistics.median(each) for each in errors.values()), 4),
        "memory.by_source": {
            name: {
                "rows": len(each),
                "median": round(statistics.median(each), 3),
                "strict_rows": len(strict[name]),
                "strict_median": round(statistics.median(strict[name]), 3) if strict[name] else None,
            }
            for name, each in sorted(errors.items())
        },
    }


if __name__ == "__main__":
    sys.exit(main())
