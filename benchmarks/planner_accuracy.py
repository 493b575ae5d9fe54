"""How far predictions of the planner are from published measurements.

    python benchmarks/planner_accuracy.py --data measured_memory.csv

Each row with a measured peak is predicted from its columns; what is blank, or cannot be read, is the default of its
framework. Predicted is what PyTorch has allocated, what it has reserved, and what the device shows; a row is compared
with the one that its notes or its framework tell, else with what is reserved. Prints JSON.
"""

import argparse
import csv
import dataclasses
import json
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))  # planner_rows lies beside this file, wherever it is started from
import planner_rows as rows_of
from accelerate.commands.estimate import estimate_training_usage

try:
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as third
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as second
except ImportError:
    second = third = None

from finery.core.errors import FineryError
from finery.planner import accelerators, shapes
from finery.planner.efficiency import share
from finery.planner.frameworks import FRAMEWORKS, Framework, Meter, generic, left_out
from finery.planner.memory import GIB, Adapter, Kernels, Peak, Split, Step, peak
from finery.planner.phases import GENERATES, Rollout, timeline
from finery.planner.throughput import Precision, operations, tokens_per_second
from finery.planner.ways import COMMUNICATOR_GIB

Row = dict[str, str]
_SPEAKS: Final = (
    ("megatron-lm", "megatron"),
    ("megatron-bridge", "megatron-bridge"),
    ("nemo", "megatron-bridge"),
    ("verl", "verl"),
    ("litgpt", "litgpt"),
    ("lit-gpt", "litgpt"),
    ("fms-fsdp", "torchtitan"),
    ("fms", "fms"),
    ("swift", "swift"),
    ("torchtune", "torchtune"),
    ("torchtitan", "torchtitan"),
    ("llama-factory", "llama-factory"),
    ("llamafactory", "llama-factory"),
    ("llama_factory", "llama-factory"),
    ("llm-foundry", "llm-foundry"),
    ("composer", "llm-foundry"),
    ("internevo", "internevo"),
    ("openrlhf", "openrlhf"),
    ("unsloth", "unsloth"),
    ("deepspeed-chat", "deepspeed-chat"),
    ("deepspeed", "deepspeed"),
    ("megatron", "megatron-bridge"),
    ("trl", "trl"),
    ("peft", "peft"),
)
"""Part of a framework's name -> which of ours it is."""
_TRAINS: Final = (
    *(("llm-foundry", "llm-foundry"), ("internevo", "internevo"), ("xtuner", "xtuner"), ("fms-fsdp", "fms-fsdp")),
    *(("fms-hf", "fms"), ("torchtune", "torchtune"), ("peft", "peft"), ("megatron", "megatron"), ("nemo", "megatron")),
)
"""The same for the table of what share of a peak is reached."""
_METERS: Final[dict[Meter, str]] = {
    "allocated": r"alloc",
    "reserved": r"reserved",
    "device": r"(?:nvidia|rocm|npu)-?smi|nvml|device mem",
}
"""Words of notes -> what was read."""
_STRICT: Final = ("gpu_type", "num_gpus", "method", "precision", "micro_batch", "seq_len")
_USUAL_DEVICE: Final = "A100-80GB"
"""Of a row that names none."""
_USUAL_DEVICES: Final = 8
"""Of a row that divides work and does not say between how many."""


def framework_of(row: Row) -> Framework:
    """The framework of a row; one that is not known is taken for a generic one."""
    name = row["framework"].lower()
    known = next((ours for part, ours in _SPEAKS if part in name), None)
    if known is None or (known in ("verl", "swift") and "megatron" in f"{name} {row['parallelism'].lower()}"):
        return generic_of(row)
    return FRAMEWORKS[known]


def generic_of(row: Row) -> Framework:
    """What the framework of a row would be taken for if its name were not known."""
    words = f"{row['framework']} {row['parallelism']}".lower()
    said = rows_of.division(row["parallelism"])
    divides = said.is_parallel_model or "megatron" in words or "distributed opt" in words or "dist_opt" in words
    has_zero = bool(said.zero) and "fsdp" not in words and "shard" not in words
    return generic(divides_layers=divides, has_zero=has_zero)


def is_strict(row: Row) -> bool:
    """Whether everything that the bounds ask for is given."""
    return bool(row["model"] or row["params_b"]) and all(row[name] for name in _STRICT)


def shape_of(row: Row, framework: Framework, tensor: int) -> shapes.ModelShape:
    """The model: from sizes in the notes, the catalog, or the number of parameters."""
    try:
        return _told_shape(row, framework, tensor) or _known_shape(row, framework)
    except (FineryError, ValueError, ZeroDivisionError):
        return rows_of.usual_shape(row["model"], row["params_b"])


def _told_shape(row: Row, framework: Framework, tensor: int) -> shapes.ModelShape | None:
    """A shape of sizes that a row has in words."""
    told = re.search(r"\bL(\d+) h(\d+) heads(\d+) ffn(\S+?)[; ]", f"{row['notes']} ")
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
            "head_dim": max(1, hidden // heads),
            "intermediate_size": 4 * hidden if width == "4h" else int(width),
            "mlp_gated": is_gated,
            "vocab_size": -(-vocabulary // multiple) * multiple,
            "max_position_embeddings": rows_of.length(row["seq_len"]) or 1024,
        }
        num = re.search(r"experts(\d+)", row["notes"])
        if num and int(num[1]):
            fields |= {"num_experts": int(num[1]), "num_experts_per_tok": 2}
        return shapes.from_config(fields)
    small = re.search(r"\(h(\d+) L(\d+)\)", f"{row['notes']} {row['model']}")
    if not small:
        return None
    hidden, layers = int(small[1]), int(small[2])
    return shapes.from_config(
        {
            "model_type": "gpt2",
            "n_embd": hidden,
            "n_layer": layers,
            "n_head": max(1, hidden // 128),
            "vocab_size": 50257,
        }
    )


def _known_shape(row: Row, framework: Framework) -> shapes.ModelShape:
    """A shape of the catalog, or a usual one of the size that a row tells."""
    fields = rows_of.known_shape(row["model"])
    if fields is None:
        return rows_of.usual_shape(row["model"], row["params_b"])
    return shapes.from_config(fields if framework.ties else fields | {"tie_word_embeddings": False})


def split_of(row: Row, framework: Framework, said: rows_of.Division) -> Split:
    """How the work is divided, from words such as `tp2 pp4 dist_opt(zero1) sp`."""
    text = row["parallelism"].lower()
    tensor, pipeline, context, expert = said.tensor, said.pipeline, said.context, said.expert
    least = tensor * pipeline * context
    is_divided = least > 1 or bool(said.zero) or framework.vocabulary_multiple > 1 or "ddp" in text
    world = rows_of.whole(row["num_gpus"])
    if world is None:
        usual = max(least, pipeline * expert, _USUAL_DEVICES) if is_divided else 1
        world = least * said.data if said.data else usual
    if said.is_naive:
        pipeline, least = world, world
    data = max(1, world // least)
    batch = re.search(r"GBS (\d+)", row["notes"])
    if batch:
        data = max(1, min(data, int(batch[1]) // (rows_of.whole(row["micro_batch"]) or 1)))
    is_both = "fsdp" in text and "ddp" in text
    zero = said.zero if said.zero is not None else framework.zero
    if is_both:
        zero = 3 if rows_of.method(row["method"]).kind == "full" else 0
    if zero == 3 and "fsdp" in text and world == 1:
        zero = framework.zero
    virtual = said.virtual
    told = re.search(r"_vp(\d+)", row["model"]), re.search(r"\bL(\d+) ", row["notes"])
    if told[0] and told[1]:  # layers of a virtual stage, as Megatron's option has it
        virtual = max(1, int(told[1][1]) // pipeline // max(1, int(told[0][1])))
    return Split(
        data=data,
        tensor=tensor,
        pipeline=pipeline,
        context=context,
        expert=min(expert, data * context) if expert > 1 else 1,
        sequence=(framework.divides_sequence or said.sequence) and tensor > 1,
        virtual=virtual if pipeline > 1 else 1,
        zero=zero,
        stage="last",
    )


def fitting(split: Split, shape: shapes.ModelShape) -> Split:
    """The split that the shape allows: what divides no heads or layers divides data."""
    tensor = math.gcd(split.tensor, shape.heads)
    pipeline = min(split.pipeline, shape.layers)
    rest = split.tensor * split.pipeline // (tensor * pipeline)
    return dataclasses.replace(split, tensor=tensor, pipeline=pipeline, data=split.data * max(1, rest))


def kernels_of(row: Row, framework: Framework, split: Split) -> tuple[Kernels, bool]:
    """The kernel set that a row names, and whether its attention keeps no scores.

    Liger computes the loss with the head, in pieces; fused kernels of the loss work in place. Megatron's own attention
    keeps scores; that of Transformer Engine (`te`) does where it is told to be deterministic (`--attention-backend
    unfused`), as its tests are but for those that resume, and for long or divided sequences.
    """
    kernels, flash = framework.kernels, rows_of.is_yes(row["flash_attn"]) is not False and framework.flash
    words = f"{row['method']} {row['notes'] if 'liger' in row['notes'].lower() else ''} {row['framework']}".lower()
    if "liger" in words:
        kernels = dataclasses.replace(kernels, logits=0.0)
    elif "foak" in row["method"].lower() or "unsloth" in words:
        kernels = dataclasses.replace(kernels, logits=min(10.0, kernels.logits))
    if "megatron-lm" in row["framework"].lower():
        words_of = row["model"].lower().split("_")
        if "cross_entropy_loss_fusion" in row["model"]:
            kernels = dataclasses.replace(kernels, logits=10.0)
        is_own = ("mcore" in words_of or "bert" in words_of) and "te" not in words_of
        is_long = split.context > 1 or (rows_of.length(row["seq_len"]) or 0) >= 4096
        is_fused = is_long or {"resume", "nondeterministic"} & set(words_of)
        flash = flash and not is_own and bool(is_fused)
    return kernels, flash


def adapter_of(row: Row, framework: Framework, shape: shapes.ModelShape, method: rows_of.Method) -> Adapter | None:
    """What is trained in place of the weights."""
    if method.kind == "full":
        return None
    notes = f"{row['notes']} {method.words}"
    trained = re.search(r"trainable ([\d,]+)", notes)
    told = re.search(r"\br(?:ank)?[= ]?(\d+)\b", notes)
    rank = max(1, int(told[1])) if told else framework.rank
    known = {linear.name for linear in shape.linears}
    number = int(trained[1].replace(",", "")) if trained else None
    targets = targets_of(framework, known)
    is_all = "all" in method.words.partition(";")[0] or not targets or shape.family in framework.targets_by_family
    if number is not None and method.has_low_rank and targets:  # what is trained tells on how many matrices it is
        is_all = number > 0.6 * shape.adapter_parameters(rank)
    if not method.has_matrices:
        targets, is_all = (), False
    if is_all:
        targets = tuple(known - {"router"})
    return Adapter(
        rank=rank,
        targets=targets,
        bytes_per_weight=framework.adapter_bytes,
        parameters=number,
        dropout=framework.adapter_dropout and method.has_low_rank,
        decomposes="dora" in method.words or "use_dora=true" in row["notes"].lower(),
    )


def targets_of(framework: Framework, known: set[str]) -> tuple[str, ...]:
    """Matrices that a framework adapts by default; queries and values lie in one with the keys in some families."""
    if framework.targets == "all-linear":
        return ()
    found = [name for name in framework.targets if name in known]
    if not found and {"q_proj", "v_proj"} & set(framework.targets):
        found = [name for name in known if name in FUSED]
    return tuple(found)


FUSED: Final = frozenset({"query_key_value", "c_attn", "qkv_proj", "W_pack", "Wqkv", "wqkv"})


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


def recomputation_of(row: Row, framework: Framework, zero: int) -> Any:
    """What is computed again."""
    said = rows_of.recomputation(row["grad_ckpt"])
    if said is not None:
        return said
    return "full" if framework.recomputes_if_sharded and zero == 3 else framework.recomputation


def step_of(row: Row, framework: Framework | None = None) -> Step:
    """What a row has measured, with the defaults of its framework or of a given one."""
    framework = framework or framework_of(row)
    said = rows_of.division(row["parallelism"])
    split = split_of(row, framework, said)
    shape = shape_of(row, framework, split.tensor)
    split = fitting(split, shape)
    method = rows_of.method(row["method"], row["precision"])
    adapter = adapter_of(row, framework, shape, method)
    number = rows_of.numbers(row["precision"])
    updater = rows_of.updater(row["optimizer"], method.words, framework.optimizer)
    # `fp16` is a switch of trainers, whose scaler of losses works on float32 weights; `float16` is a type of weights.
    is_scaled = "fp16" in row["precision"].lower() and adapter is None and number.has_master is not False
    is_mixed = number.is_mixed or is_scaled or (framework.is_mixed and number.has_master is None)
    if updater.drops_gradients or framework.master or adapter is not None and not number.is_mixed or number.is_fp8:
        is_mixed = False
    is_wide = is_mixed or number.is_float32
    is_block = updater.block is not None
    has_master = (
        framework.master or (is_block and not updater.has_ends) if number.has_master is None else number.has_master
    )
    weights = (
        4.0 if number.is_float32 or (is_mixed and split.zero == 3 and split.shards > 1) else 6.0 if is_mixed else 2.0
    )
    kernels, flash = kernels_of(row, framework, split)
    seq_len = rows_of.length(row["seq_len"]) or framework.seq_len
    gradients = 0.0 if updater.drops_gradients else 4.0 if is_wide or is_block else framework.gradients
    quantization = rows_of.quantization(f"{row['method']} {row['precision']}") if adapter is not None else "none"
    is_upcast = framework.upcasts_ends and quantization in ("nf4", "nf4_double", "int8") and "gptq" not in row["method"]
    step = Step(
        shape=shape,
        seq_len=-(-seq_len // split.context) * split.context,
        micro_batch=rows_of.whole(row["micro_batch"]) or framework.micro_batch,
        weights=weights,  # autocast keeps what it has cast
        trained=4.0 if is_wide else 2.0,
        compute=4.0 if number.is_float32 else 2.0,
        master=has_master and not is_wide and adapter is None,
        gradients=gradients,
        optimizer=updater.name,
        adapter=adapter,
        quantization=quantization,
        ends=4.0 if is_upcast else None,
        residual=4.0 if is_upcast else None,
        recomputation=recomputation_of(row, framework, split.zero),
        flash=flash,
        split=split,
        kernels=kernels,
        keeps_gradients=framework.keeps_gradients and not is_block and not updater.drops_gradients,
        offload_activations=said.offloads_activations or "unsloth" in row["grad_ckpt"].lower(),
        offload_optimizer=said.offloads_optimizer,
        offload_weights=said.offloads_weights,
        block=updater.block,
        block_has_ends=updater.has_ends,
        subspace=updater.rank,
        has_backward=not updater.no_backward,
        input_bytes=1.0 if number.is_fp8 else None,
    )
    return with_techniques(step, row)


def peak_of(row: Row, framework: Framework, step: Step) -> Peak:
    """The peak of the device whose memory the framework tells."""
    found = peak(step)
    if framework.reports_last_stage or step.split.pipeline == 1 or "device_map" in row["parallelism"]:
        return found
    first = peak(dataclasses.replace(step, split=dataclasses.replace(step.split, stage="first")))
    return max(found, first, key=lambda one: one.allocated)


def rollout_of(row: Row, framework: Framework, step: Step, device: float) -> Rollout:
    """How a row generates its completions: an engine takes the share that the row or its program says."""
    words = f"{row['notes']} {row['parallelism']} {row['method']}".lower()
    told = re.search(r"(?:gpu_mem\w*|mem_fraction\w*)\D{0,4}(0?\.\d+)", words)
    has_engine = bool(re.search(r"vllm|sglang|lmdeploy|verl", f"{words} {row['framework'].lower()}"))
    if told:
        taken: float | None = float(told[1])
    else:
        taken = (framework.rollout_share or 0.3) if has_engine and "separate" not in words else None
    tensor = 1
    while taken and tensor < 4096 and step.shape.parameters * step.weights / tensor > 0.9 * taken * device:
        tensor *= 2  # an engine is divided until its weights leave room for a cache
    return Rollout(step.micro_batch, step.seq_len, has_own_weights=taken is not None, tensor=tensor, share=taken)


def meter_of(row: Row, framework: Framework) -> Meter:
    """Which memory a row tells: as its notes say, else as its program is known to tell, else what is reserved."""
    notes = row["notes"].lower()
    told = re.search(r"measured_peak_gb\s*(?:=|:|is|from)\s*([^;]*)", notes)
    measured = rows_of.measured(row["measured_peak_gb"])
    found = set()
    for name, pattern in _METERS.items():
        for one in re.finditer(rf"(?:{pattern})\S* ?(\d+\.\d+)?", told[1] if told else notes):
            if one[1] is None or float(one[1]) == measured:  # else it tells of another figure
                found.add(name)
    return found.pop() if len(found) == 1 else framework.meter


def meters(row: Row, framework: Framework | None = None) -> dict[Meter, float]:
    """What each meter would show of a row, in the row's unit: what PyTorch has given out, what it has reserved, and
    what the device shows, with driver and communicator."""
    framework = framework or framework_of(row)
    step = step_of(row, framework)
    algorithm = rows_of.method(row["method"]).algorithm
    found = peak_of(row, framework, step)
    device = accelerators.find(_USUAL_DEVICE) if (told := rows_of.device(row["gpu_type"])) is None else told
    total = float("inf") if told is None else float(device.total_bytes)
    allocated = found.allocated
    if algorithm not in ("sft", "pretrain"):
        room = float(device.total_bytes)
        rollout = rollout_of(row, framework, step, room) if algorithm in GENERATES else None
        critic = critic_of(row, framework, step) if algorithm == "ppo" else None
        phases = timeline(algorithm, step, rollout=rollout, critic=critic, device_bytes=room)  # type: ignore[arg-type]
        allocated = max(phase.allocated for phase in phases)
    allocated += framework.reduce_bucket
    reserved = allocated + found.reserved(total) - found.allocated
    context = device.context_gib - (COMMUNICATOR_GIB if step.split.devices == 1 else 0.0)
    shown = min(reserved + max(0.0, context) * GIB, max(total, allocated))
    unit = framework.unit
    return {"allocated": allocated / unit, "reserved": reserved / unit, "device": shown / unit}


def predicted(row: Row, framework: Framework | None = None) -> float:
    """What the row's own meter would show, in its unit."""
    framework = framework or framework_of(row)
    return meters(row, framework)[meter_of(row, framework)]


def critic_of(row: Row, framework: Framework, step: Step) -> Step | None:
    """A critic of its own, where a row names its model: `actor opt-1.3b + critic opt-350m`."""
    told = re.search(r"critic[ :=]+(\S+)", row["model"].lower())
    if told is None:
        return None
    shape = shape_of(row | {"model": told[1], "params_b": ""}, framework, step.split.tensor)
    kernels = dataclasses.replace(step.kernels, logits=0.0)
    return dataclasses.replace(step, shape=shape, split=fitting(step.split, shape), kernels=kernels)


def thumb(path: Path) -> dict[tuple[str, int], float]:
    """GB for each billion of parameters, over all devices, by what is trained and bits of a weight: the rows `xB` of a
    table of rules, such as `8x`."""
    found = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            said = re.fullmatch(r"(\d*)x(?:/(\d+))?", row["measured_peak_gb"])
            bits = re.match(r"(\d+) bits", row["precision"])
            if row["model"] == "xB" and said and bits:
                kind = row["method"].partition(" ")[0].partition("/")[0].partition(";")[0]
                kind = {"freeze": "lora"}.get(kind, kind)
                found[kind, int(bits[1])] = float(said[1] or 1) / float(said[2] or 1)
    return found


def peers(row: Row, rules: dict[tuple[str, int], float]) -> dict[str, float]:
    """What other estimators say of a row, in the unit of its meter, where they say anything.

    accelerate's own function is called on the size of the weights in float32, as its command does (the largest of its
    four phases; a model whose weights are frozen is loaded alone), DeepSpeed's own where it is installed, else its
    formulas (deepspeed/runtime/zero/{stage_1_and_2,stage3}.py).

    Args:
        row: Of measurements.
        rules: Of `thumb`.
    """
    step, unit = step_of(row), framework_of(row).unit
    number, devices = step.shape.parameters, max(1, step.split.devices)
    stored = {"none": step.weights, "int8": 1.0}.get(step.quantization, 0.5)
    is_wide = step.adapter is None and step.weights > 2
    if step.adapter is None:
        used = estimate_training_usage(4 * number, "float32" if is_wide else "bfloat16")
        found = {"accelerate": float(max(used.values()))}
        largest = max(step.shape.embedding, *(round(one.num_in * one.num_out) for one in step.shape.linears))
        found["deepspeed"] = _deepspeed(step, number, largest, devices)
    else:
        found = {"accelerate": number * stored}
    bits = {0.5: 4, 1.0: 8}.get(stored, 32 if is_wide or step.master else 16)
    kind = "full" if step.adapter is None else "lora" if bits >= 16 else "qlora"
    if (kind, bits) in rules:
        found["rule of thumb"] = rules[kind, bits] * number / devices
    return {name: value / unit for name, value in found.items()}


def _deepspeed(step: Step, number: int, largest: int, devices: int) -> float:
    has_zero = step.split.zero > 0
    devices, offload = devices if has_zero else 1, step.offload_optimizer
    if third is None:
        if step.split.zero == 3:
            return 4.0 * largest + (0.0 if offload else 18.0 * number / devices)
        return 2.0 * number + (0.0 if offload else 18.0 * number / devices)
    if step.split.zero == 3:
        return float(third(number, largest, devices, 1, offload, step.offload_weights)[1])
    return float(second(number, devices, 1, offload)[1])


def speed_of(row: Row, *, is_left_out: bool = False) -> float:
    """Tokens per second and device that a row is predicted to reach; `is_left_out` without its own framework's row."""
    framework = framework_of(row)
    shape = shape_of(row, framework, 1)
    said = rows_of.numbers(row["precision"])
    device = rows_of.device(row["gpu_type"]) or accelerators.find(_usual_device(said, row["precision"]))
    number: Precision = "bf16" if device.bf16 else "fp16" if device.fp16 else "fp32"
    if said.is_fp8 and device.fp8:
        number = "fp4" if said.is_fp4 else "fp8"
    seq_len = rows_of.length(row["seq_len"]) or framework.seq_len
    method = rows_of.method(row["method"], row["precision"])
    needed = operations(
        shape,
        seq_len,
        trained=1.0 if method.kind == "full" else 0.0,
        recomputation=rows_of.recomputation(row["grad_ckpt"]) or framework.recomputation,
    )
    name = next((ours for part, ours in _TRAINS if part in row["framework"].lower()), "transformers")
    reached = share(
        name,
        device,
        number,
        is_mixture=shape.experts is not None,
        without=name if is_left_out else "",
        active=shape.active_parameters,
        expert_width=shape.experts.intermediate if shape.experts else None,
        tokens=seq_len * (rows_of.whole(row["micro_batch"]) or framework.micro_batch),
    )
    return tokens_per_second(needed, device, number, efficiency=reached)


def _usual_device(said: rows_of.Numbers, precision: str) -> str:
    """What a row runs on that names no device: the oldest data-center one that has the number format."""
    if said.is_fp4 or "mx" in precision.lower():
        return "B200"
    return "H100" if said.is_fp8 else _USUAL_DEVICE


def throughput(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures of all rows that have a speed."""
    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        speed = rows_of.measured(row["tokens_per_s_per_gpu"])
        if speed is None:
            continue
        found = speed_of(row), speed_of(row, is_left_out=True)
        errors[row["source_repo"]].append((abs(found[0] / speed - 1), abs(found[1] / speed - 1)))
    everything = [one for each in errors.values() for one in each]
    return {
        "throughput.rows": len(everything),
        "throughput.skipped": 0,
        "throughput.median_abs_error": _median(one[0] for one in everything),
        "throughput.left_out_median_abs_error": _median(one[1] for one in everything),
        "throughput.by_source": {
            name: {
                "rows": len(each),
                "median": _median((one[0] for one in each), 3),
                "left_out_median": _median((one[1] for one in each), 3),
            }
            for name, each in sorted(errors.items())
        },
    }


def _median(values: Iterable[float], digits: int = 4) -> float | None:
    """None of nothing."""
    found = list(values)
    return round(statistics.median(found), digits) if found else None


def _p90(values: Iterable[float], digits: int = 4) -> float | None:
    found = list(values)
    return round(statistics.quantiles(found, n=10)[8], digits) if len(found) > 1 else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CSV of measurements")
    parser.add_argument("--rules", type=Path, help="CSV of rules of thumb; rule_of_thumb.csv beside the data")
    parser.add_argument("--show", default="", help="print the rows of frameworks that hold this word")
    args = parser.parse_args()
    with open(args.data, newline="", encoding="utf-8") as file:
        table = [rows_of.cleaned(row) for row in csv.DictReader(file)]
    beside = args.rules or args.data.with_name("rule_of_thumb.csv")
    rules = thumb(beside) if beside.is_file() else {}
    errors: dict[str, list[float]] = defaultdict(list)
    strict: dict[str, list[float]] = defaultdict(list)
    others: dict[str, list[float]] = defaultdict(list)
    by_meter: dict[str, list[float]] = defaultdict(list)
    blind: list[tuple[str, float]] = []
    for row in table:
        measured = rows_of.measured(row["measured_peak_gb"])
        if measured is None:
            continue
        found = predicted(row)
        error = abs(found / measured - 1)
        errors[row["source_repo"]].append(error)
        by_meter[meter_of(row, framework_of(row))].append(error)
        if is_strict(row):
            strict[row["source_repo"]].append(error)
            own = framework_of(row)
            unknown = predicted(row, left_out(own, generic_of(row)))
            blind.append((row["framework"], abs(unknown / measured - 1)))
            for name, said in peers(row, rules).items():
                others[name].append(abs(said / measured - 1))
        if args.show and args.show in row["framework"]:
            _print(row, found, measured)
    figures = summary(errors, strict)
    figures["memory.by_meter"] = {
        name: {"rows": len(each), "median": _median(each, 3)} for name, each in sorted(by_meter.items())
    }
    figures["memory.left_out"] = {
        "strict_rows": len(blind),
        "median": _median(error for _, error in blind),
        "p90": _p90(error for _, error in blind),
        "by_framework": {
            name: _median((error for other, error in blind if other == name), 3)
            for name in sorted({name for name, _ in blind})
        },
    }
    figures["memory.peers"] = {
        name: {"rows": len(each), "median": _median(each, 3), "p90": _p90(each, 3)}
        for name, each in sorted(others.items())
    }
    figures |= throughput(table)
    print(json.dumps(figures, indent=1))
    return 0


def _print(row: Row, found: float, measured: float) -> None:
    shown = dataclasses.asdict(peak(step_of(row)))
    parts = {name: round(value / 2**30, 2) for name, value in shown.items() if isinstance(value, float)}
    line = f"{found / measured - 1:+.0%} {found:.2f}/{measured:.2f} {row['model']} {row['method']}"
    more = f"{row['parallelism']} s{row['seq_len']} b{row['micro_batch']} n{row['num_gpus']}"
    print(line, more, parts, file=sys.stderr)


def summary(errors: dict[str, list[float]], strict: dict[str, list[float]]) -> dict[str, Any]:
    """The figures of a run."""
    everything = [error for each in strict.values() for error in each]
    medians = [statistics.median(each) for each in errors.values()]
    return {
        "memory.rows": sum(len(each) for each in errors.values()),
        "memory.skipped": [],
        "memory.strict_rows": len(everything),
        "memory.median_abs_error": _median(everything),
        "memory.p90_abs_error": _p90(everything),
        "memory.all_rows_median": _median(error for each in errors.values() for error in each),
        "memory.mean_of_sources": round(statistics.fmean(medians), 4) if medians else None,
        "memory.by_source": {
            name: {
                "rows": len(each),
                "median": _median(each, 3),
                "strict_rows": len(strict[name]),
                "strict_median": _median(strict[name], 3),
            }
            for name, each in sorted(errors.items())
        },
    }


if __name__ == "__main__":
    sys.exit(main())
