"""The benchmark reads rows as people write them, and predicts each."""

import importlib.util
import math
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from finery.planner import efficiency
from finery.planner.frameworks import FRAMEWORKS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


rows = _load("planner_rows")
accuracy = _load("planner_accuracy")


def row(**columns: str) -> dict[str, str]:
    usual = {
        "framework": "some trainer",
        "model": "Qwen/Qwen2.5-7B",
        "gpu_type": "A100-80GB",
        "num_gpus": "8",
        "method": "full;sft",
        "parallelism": "zero3",
        "precision": "bf16",
        "seq_len": "2048",
        "micro_batch": "1",
        "grad_ckpt": "yes",
    }
    return rows.cleaned(usual | columns)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4k", 4096),
        ("4096", 4096),
        ("2048+512", 2560),
        ("1,024", 1024),
        ("512-2048", 2048),
        ("128K", 131072),
        ("", None),
    ],
)
def test_lengths_are_read(text: str, expected: int | None) -> None:
    assert rows.length(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4 per gpu", 4), ("2x8", 16), ("2 nodes x 8", 16), ("16 (2 nodes)", 16), ("0", 1), ("auto", None)],
)
def test_counts_are_read(text: str, expected: int | None) -> None:
    assert rows.whole(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tp=8 pp=4 dp=2", {"tensor": 8, "pipeline": 4, "data": 2}),
        ("TP8/PP2", {"tensor": 8, "pipeline": 2}),
        ("8-way tensor", {"tensor": 8}),
        ("zero3", {"zero": 3}),
        ("ZeRO-3 offload", {"zero": 3, "offloads_optimizer": True, "offloads_weights": True}),
        ("zero2 optimizer offload", {"zero": 2, "offloads_optimizer": True, "offloads_weights": False}),
        ("deepspeed zero2", {"zero": 2}),
        ("fsdp", {"zero": 3}),
        ("fsdp:SHARD_GRAD_OP", {"zero": 2}),
        ("ddp", {"zero": 0}),
        ("zero1=-1 tp=4 pp=3 fsdp=False", {"zero": 1, "tensor": 4, "pipeline": 3}),
        ("zero1=8 tp=1", {"zero": 1}),
        ("tp2 +sp", {"tensor": 2, "sequence": True, "zero": None}),
        ("", {"zero": None, "tensor": 1}),
    ],
)
def test_divisions_are_read(text: str, expected: dict[str, Any]) -> None:
    found = rows.division(text)

    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "kind", "algorithm"),
    [
        ("lora", "adapter", "sft"),
        ("qlora", "adapter", "sft"),
        ("full", "full", "sft"),
        ("dpo lora", "adapter", "dpo"),
        ("grpo full", "full", "grpo"),
        ("ppo", "full", "ppo"),
        ("pretraining", "full", "pretrain"),
        ("full;rm", "full", "reward"),
        ("vera;sft", "adapter", "sft"),
    ],
)
def test_methods_are_read(text: str, kind: str, algorithm: str) -> None:
    found = rows.method(text)

    assert (found.kind, found.algorithm) == (kind, algorithm)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", "full"),
        ("yes", "full"),
        ("unsloth", "full"),
        ("yes(selective)", "selective"),
        ("no", "none"),
        ("", None),
    ],
)
def test_recomputation_is_read(text: str, expected: str | None) -> None:
    assert rows.recomputation(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adamw_8bit", "adamw_8bit"),
        ("paged_adamw_8bit", "adamw_paged_8bit"),
        ("adafactor", "adafactor"),
        ("lion", "lion"),
        ("sgd", "sgd"),
        ("SGD momentum", "sgd_momentum"),
        ("FusedAdam", "adamw"),
    ],
)
def test_optimizers_are_read(text: str, expected: str) -> None:
    assert rows.updater(text).name == expected


def test_optimizers_of_a_part_are_read() -> None:
    assert rows.updater("galore", "full+galore64").rank == 64
    assert rows.updater("BAdam").block == 1
    assert rows.updater("adamw", "full+lisa_4;sft").block == 4


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        ("x-30B-A3B", "", (30.0, 3.0)),
        ("tiny 350m", "", (0.35, None)),
        ("foo", "7.6", (7.6, None)),
        ("foo", "7000000000", (7.0, None)),
        ("foo", "", (None, None)),
    ],
)
def test_sizes_are_read(model: str, params: str, expected: tuple[float | None, float | None]) -> None:
    assert rows.billions(model, params) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8x H100", "h100"), ("NVIDIA A100-SXM4-80GB", "a100"), ("RTX 4090 24GB", "rtx"), ("H200 141GB", "h200")],
)
def test_devices_are_read(text: str, expected: str) -> None:
    found = rows.device(text)

    assert found is not None
    assert found.id.startswith(expected)
    assert rows.device("???") is None


@pytest.mark.parametrize(
    ("framework", "notes", "expected"),
    [
        ("some trainer", "", "reserved"),
        ("litgpt", "", "allocated"),
        ("litgpt", "peak as nvidia-smi shows it", "device"),
        ("peft", "nvidia-smi mem 20480 MiB; measured_peak_gb=peak torch alloc GiB", "allocated"),
        ("fms-hf-tuning", "steady torch alloc bytes n/a; measured_peak_gb from nvidia-smi MiB/1024", "device"),
        ("some trainer", "max_memory_allocated", "allocated"),
        ("some trainer", "max reserved 20.0 GB; allocated 17.5 GB", "reserved"),
        ("torchtune", "max reserved 25.0 GB", "allocated"),
    ],
)
def test_the_meter_of_a_row_is_what_its_notes_tell(framework: str, notes: str, expected: str) -> None:
    one = row(framework=framework, notes=notes, measured_peak_gb="20.0")
    assert accuracy.meter_of(one, accuracy.framework_of(one)) == expected


def test_each_meter_is_predicted_and_the_row_is_compared_with_its_own() -> None:
    found = accuracy.meters(row())
    assert found["allocated"] <= found["reserved"] < found["device"]
    assert accuracy.predicted(row(notes="max_memory_allocated")) == found["allocated"]
    assert accuracy.predicted(row()) == found["reserved"]
    assert accuracy.predicted(row(notes="as nvidia-smi shows")) == found["device"]
    alone = accuracy.meters(row(model="Qwen/Qwen2.5-0.5B", num_gpus="1", parallelism=""))
    assert 0 < alone["device"] - alone["reserved"] < found["device"] - found["reserved"]  # no communicator


def test_a_row_of_anything_is_predicted() -> None:
    choices = {
        "framework": ["", "Unsloth", "axolotl", "NeMo 2.0", "torchtitan", "verl(FSDP+vLLM)", "litgpt", "OpenRLHF"],
        "model": ["", "foo", "T5-11B", "gpt-oss-20b", "8x22B", "x-30B-A3B", "Qwen/Qwen2.5-0.5B", "zamba2"],
        "params_b": ["", "7", "350M", "0", "-1", "n/a"],
        "gpu_type": ["", "8x H100", "TPU v5e", "???", "some gpu 24GB"],
        "num_gpus": ["", "8x", "2x8", "0", "abc", "1024"],
        "method": ["", "qlora", "dpo lora", "grpo full", "ppo", "reward", "4bit lora", "orpo", "freeze"],
        "parallelism": ["", "ZeRO-3 offload", "tp=8 pp=4", "tp3", "pp99", "cp7", "ep64", "tp0", "fsdp cpu_offload"],
        "precision": ["", "bf16-mixed", "fp16", "nf4", "8bit", "fp32", "fp8", "nvfp4"],
        "seq_len": ["", "4k", "2048+512", "0", "abc", "1M"],
        "micro_batch": ["", "4 per gpu", "0", "auto", "-1"],
        "grad_ckpt": ["", "unsloth", "selective", "no", "1"],
        "optimizer": ["", "galore", "BAdam", "LOMO", "mezo", "paged_adamw_8bit", "adamw 4bit"],
        "notes": ["", "L0 h0 heads0 ffn0;", "vllm gpu_memory_utilization 0.6", "GBS 0"],
    }
    chosen = random.Random(7)
    for _ in range(400):
        one = row(**{name: chosen.choice(values) for name, values in choices.items()})
        for value in (
            accuracy.predicted(one),
            accuracy.speed_of(one),
            *accuracy.peers(one, {("full", 16): 8.0}).values(),
        ):
            assert math.isfinite(value), one
            assert value > 0, one


def test_what_is_offloaded_is_not_on_the_device() -> None:
    states = accuracy.predicted(row())
    optimizer = accuracy.predicted(row(parallelism="zero3 optimizer offload"))
    everything = accuracy.predicted(row(parallelism="zero3 offload", num_gpus="1"))

    assert optimizer < states
    assert everything < 0.5 * accuracy.predicted(row(parallelism="zero3 optimizer offload", num_gpus="1"))


def test_a_reference_and_an_engine_are_beside_the_step() -> None:
    alone = accuracy.predicted(row())

    assert accuracy.predicted(row(method="full;dpo")) > alone
    engine = row(framework="verl (FSDP+vLLM)", method="lora;grpo", notes="gpu_memory_utilization 0.7")
    assert accuracy.predicted(engine) > 0.7 * 79
    assert accuracy.predicted(engine | {"notes": "gpu_memory_utilization 0.4"}) < accuracy.predicted(engine)


def test_a_program_that_is_not_known_is_taken_for_one_of_its_kind() -> None:
    assert accuracy.framework_of(row(parallelism="tp8 pp2")).master
    assert accuracy.framework_of(row(parallelism="zero3")).master
    assert not accuracy.framework_of(row(parallelism="fsdp")).master
    assert accuracy.framework_of(row(framework="litgpt")) == FRAMEWORKS["litgpt"]


def test_what_adapters_are_on_follows_from_how_much_they_train() -> None:
    few = accuracy.step_of(row(method="lora", framework="litgpt", notes="trainable 2,523,136"))
    many = accuracy.step_of(row(method="lora", framework="litgpt", notes="trainable 20,185,088"))

    assert set(few.adapter.targets) == {"q_proj", "v_proj"}
    assert "down_proj" in many.adapter.targets


def test_a_speed_of_a_program_that_is_left_out_is_predicted_by_the_others() -> None:
    one = row(framework="peft", gpu_type="L40S", tokens_per_s_per_gpu="1")

    assert accuracy.speed_of(one) != accuracy.speed_of(one, is_left_out=True)
    assert {factor.framework for factor in efficiency.FACTORS} >= {"fms", "megatron", "peft"}
