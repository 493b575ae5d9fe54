"""From job files to estimates."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from finery.core import documents, refs
from finery.core.spec import parse
from finery.jobs import checking, estimating
from finery.jobs.estimating import Estimate, Lengths, estimate, shape_of
from finery.jobs.specs import JobSpec, PipelineSpec, TrainJob
from finery.models import builtin
from finery.planner import accelerators, catalog, cpu, planning
from finery.planner.exports import export
from finery.planner.memory import GIB
from finery.planner.phases import GENERATES
from finery.planner.specs import PlanRequest

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
CPU = accelerators.find("CPU 32GB")
GPU = accelerators.find("A100-80G")
BIG = "Qwen/Qwen2.5-7B"
SMALL = "smollm2-135m-instruct"


def job(
    algorithm: str = "sft", base: str = SMALL, *, resources: Any = None, model: Any = None, **task: Any
) -> TrainJob:
    defaults: dict[str, Any] = {"data": {"train": "rows", "max_tokens": 512}}
    if algorithm in ("grpo", "ppo", "rloo"):
        defaults |= {"rewards": "length", "data": {"train": "rows", "max_prompt_tokens": 128}}
    raw = {"algorithm": algorithm, "model": {"base": base, **(model or {})}, **defaults, **task}
    return parse(TrainJob, {"name": "a", "kind": "train", "task": raw, "resources": resources or {}})


def planned(spec: TrainJob, device: accelerators.Accelerator = GPU, num: int = 1, **lengths: int) -> Estimate:
    found = estimate(spec, shape_of(spec.task.model.base), device, num, lengths=Lengths(**lengths))
    assert found.reason == ""
    return found


def part(found: Estimate, name: str, phase: str = "update") -> float:
    [parts] = [one.parts for one in found.phases if one.name == phase]
    return parts.get(name, 0.0)


def peak(found: Estimate) -> float:
    assert found.peak_bytes is not None
    return found.peak_bytes


def bases(spec: JobSpec | PipelineSpec) -> dict[str, str]:
    """Name of a job of a pipeline -> the model that it starts from."""
    jobs = spec.jobs if isinstance(spec, PipelineSpec) else (spec,)
    return {one.name: one.task.model.base for one in jobs}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_training_job_of_every_recipe_has_an_estimate_or_says_why_not(path: Path) -> None:
    raw = yaml.safe_load(path.read_text())
    spec: JobSpec | PipelineSpec = parse(checking.JobFile, raw)
    named = bases(spec)
    for one in spec.jobs if isinstance(spec, PipelineSpec) else (spec,):
        if not isinstance(one, TrainJob):
            continue
        base = one.task.model.base
        while (ref := refs.checkpoint(base)) is not None:
            base = named[ref.job]
        device = CPU if one.resources.gpus == 0 else GPU
        found = estimate(one, shape_of(base), device, one.resources.num_processes)
        if one.task.engine == "verl" and device is CPU:
            assert "Ray" in found.reason
            continue
        assert found.reason == ""
        assert 1e7 < peak(found) < 200 * GIB
        assert found.phases[-1].name == "update"


def test_the_recipe_of_a_quantized_32b_takes_what_its_comment_computes() -> None:
    """About 30 GB, of which 16.1 + 3.1 are weights, and 8.6 the cache of 32 completions of 1,024 tokens."""
    raw = yaml.safe_load((RECIPES[0].parent / "qwen3_32b_grpo_4bit.yaml").read_text())
    found = planned(
        parse(TrainJob, raw | {"task": raw["task"] | {"model": raw["task"]["model"] | {"dtype": "bfloat16"}}})
    )

    assert part(found, "weights", "generate") == pytest.approx(19.2e9 + 0.5e9, rel=0.05)
    assert part(found, "cache", "generate") == pytest.approx(8.6e9, rel=0.01)
    assert peak(found) == pytest.approx(30e9, rel=0.15)


def test_adamw_in_float32_takes_sixteen_bytes_a_weight() -> None:
    """Weights, gradients and two states of 4 bytes; the embedding is a tenth of that on a CPU once more."""
    parameters = shape_of(SMALL).parameters
    found = planned(job(batch_size=1, data={"train": "rows", "max_tokens": 8}, model={"dtype": "float32"}), CPU)

    held = sum(part(found, name) for name in ("weights", "gradients", "optimizer"))
    assert held == pytest.approx(16 * parameters)
    assert part(found, "interpreter") == cpu.INTERPRETER_BYTES


@pytest.mark.parametrize(
    ("kind", "bytes_each"),
    [("adamw", 8.0), ("adamw_8bit", 2.03), ("lion", 4.0), ("paged_adamw", 0.0), ("sgd", 0.0), ("adafactor", 0.04)],
)
def test_states_of_each_optimizer(kind: str, bytes_each: float) -> None:
    found = planned(job(model={"dtype": "float32"}, optim={"kind": kind}))
    assert part(found, "optimizer") == pytest.approx(bytes_each * shape_of(SMALL).parameters, rel=0.01, abs=1)


def test_bfloat16_halves_what_float32_takes() -> None:
    half = planned(job(base=BIG, model={"dtype": "bfloat16"}, batch_size=1))
    whole = planned(job(base=BIG, model={"dtype": "float32"}, batch_size=1))
    for name in ("weights", "optimizer"):
        assert part(whole, name) == 2 * part(half, name)


def test_an_average_takes_four_bytes_a_weight_and_with_lora_of_the_update_alone() -> None:
    shape = shape_of(SMALL)
    full, lora = (planned(job(model=model, optim={"ema_decay": 0.9})) for model in ({}, {"lora": {"rank": 8}}))
    assert part(full, "average") == 4 * shape.parameters
    assert part(lora, "average") == 4 * shape.adapter_parameters(8)


def test_quantized_weights_take_about_half_a_byte() -> None:
    found = planned(job(base=BIG, model={"lora": {}, "quantize": "nf4", "dtype": "bfloat16"}))
    linear = shape_of(BIG).parameters - 2 * shape_of(BIG).embedding
    ends = 2 * 2 * shape_of(BIG).embedding
    adapter = 4 * shape_of(BIG).adapter_parameters(16)
    assert part(found, "weights") == pytest.approx(0.516 * linear + ends + adapter, rel=0.01)


def test_micro_batches_divide_activations_and_keep_gradients() -> None:
    whole, parts = planned(job(batch_size=8)), planned(job(batch_size=8, micro_batch_size=2))
    assert part(parts, "activations") == pytest.approx(part(whole, "activations") / 4)
    assert part(whole, "gradients") == 0
    assert part(parts, "gradients") == 4 * shape_of(SMALL).parameters


def test_processes_of_engine_trl_each_hold_everything_and_share_the_rows() -> None:
    one, four = (planned(job(batch_size=8, resources={"gpus": num}), num=num) for num in (1, 4))
    assert part(four, "optimizer") == part(one, "optimizer")
    assert part(four, "activations") == pytest.approx(part(one, "activations") / 4)
    assert part(four, "communication") > 0
    assert four.usable_bytes < one.usable_bytes


def test_processes_on_a_cpu_share_its_memory() -> None:
    spec = job(resources={"gpus": 0, "processes": 2})
    one, two = (estimate(spec, shape_of(SMALL), CPU, num).usable_bytes for num in (1, 2))
    assert two == one / 2


def test_a_packed_pass_is_as_long_as_the_data_may_be() -> None:
    packed = planned(job(packing=True, batch_size=32, data={"train": "rows", "max_tokens": 512}))
    row = planned(job(batch_size=1, data={"train": "rows", "max_tokens": 512}))
    assert part(packed, "activations") == part(row, "activations")


def test_shorter_rows_than_allowed_take_less() -> None:
    allowed, known = planned(job()), planned(job(), total=128)
    assert part(known, "activations") == pytest.approx(part(allowed, "activations") / 4)


def test_a_reference_is_a_second_model_unless_an_adapter_is_trained() -> None:
    weights = 4 * shape_of(SMALL).parameters
    model = {"dtype": "float32"}
    assert part(planned(job("dpo", model=model)), "reference") == weights
    assert part(planned(job("dpo", model=model | {"lora": {}})), "reference") == 0
    assert part(planned(job("grpo", model=model)), "reference") == 0
    assert part(planned(job("grpo", model=model, kl_coef=0.1)), "reference") == weights


def test_a_separate_critic_is_trained_beside_the_policy() -> None:
    shared = planned(job("ppo", model={"dtype": "float32"}))
    separate = planned(job("ppo", model={"dtype": "float32"}, critic={"kind": "separate"}))
    assert [phase.name for phase in separate.phases].count("update critic") == 1
    assert part(separate, "critic") >= 12 * shape_of(SMALL).parameters
    assert peak(separate) > peak(shared)


def test_all_completions_of_a_batch_are_in_the_cache_at_once() -> None:
    shape = shape_of(SMALL)
    rollout = {"completions_per_prompt": 4, "max_new_tokens": 72}
    found = planned(job("grpo", model={"dtype": "float32"}, prompts_per_step=8, rollout=rollout))
    assert part(found, "cache", "generate") == 32 * (128 + 72) * shape.kv_elements_per_token * 4


VERL: dict[str, Any] = {"engine": "verl", "prompts_per_step": 32, "micro_batch_size": 1}


def test_verl_divides_weights_states_and_gradients_over_its_shards() -> None:
    found = planned(job("grpo", BIG, resources={"gpus": 8}, **VERL), num=8)
    shards = 4 * shape_of(BIG).parameters / 8
    assert part(found, "weights") == pytest.approx(shards)
    assert part(found, "optimizer", "generate") == pytest.approx(2 * shards)
    assert part(found, "optimizer") == pytest.approx(3 * shards)  # torch's AdamW takes a copy for a moment


def test_what_verl_offloads_is_gone_while_it_generates() -> None:
    away = {"offload_parameters": True, "offload_optimizer": True}
    here = planned(job("grpo", BIG, resources={"gpus": 8}, **VERL), num=8)
    gone = planned(job("grpo", BIG, resources={"gpus": 8}, parallel=away, **VERL), num=8)
    assert part(gone, "weights", "generate") == part(gone, "optimizer", "generate") == 0
    assert part(gone, "optimizer") == part(here, "optimizer") > 0


def test_an_engine_for_rollouts_takes_its_share_of_the_device() -> None:
    spec = job("grpo", BIG, resources={"gpus": 8}, rollout={"gpu_memory_utilization": 0.4}, **VERL)
    found = planned(spec, num=8)
    taken = part(found, "rollout weights", "generate") + part(found, "cache", "generate")
    assert taken == pytest.approx(0.4 * GPU.total_bytes)


def test_megatron_divides_layers_over_tensor_and_pipeline() -> None:
    parallel = {"strategy": "megatron", "tensor": 4, "pipeline": 2}
    found = planned(job("grpo", BIG, resources={"gpus": 8}, parallel=parallel, **VERL), num=8)
    assert part(found, "weights") == pytest.approx(2 * shape_of(BIG).parameters / 8, rel=0.1)


def test_megatron_keeps_float32_weights_and_gradients_in_one_buffer() -> None:
    """2 bytes of a weight, 4 of its gradient, and of 4 each master weight and two states."""
    parallel = {"strategy": "megatron", "tensor": 4}
    found = planned(job("sft", BIG, resources={"gpus": 4}, engine="verl", parallel=parallel, batch_size=1), num=4)
    weights = part(found, "weights")
    assert part(found, "gradients") == 2 * weights
    assert part(found, "optimizer") == 6 * weights


@pytest.mark.parametrize("parallel", [{"offload_parameters": True}, {"offload_optimizer": True}])
def test_what_is_offloaded_alone_is_here_where_it_is_worked_with(parallel: dict[str, bool]) -> None:
    critic = {"critic": {"kind": "separate"}, "engine": "verl", "resources": {"gpus": 8}, "prompts_per_batch": 32}
    here = planned(job("ppo", BIG, **critic), num=8)
    gone = planned(job("ppo", BIG, parallel=parallel, **critic), num=8)
    name = "weights" if "offload_parameters" in parallel else "optimizer"
    size = part(here, name, "generate")

    assert size > 0
    assert part(gone, name, "generate") == 0
    for phase in ("generate", "update"):
        assert part(gone, "critic", phase) == pytest.approx(part(here, "critic", phase) - size)
    assert part(gone, "weights", "score") == part(here, "weights", "score") > 0
    for phase in ("update critic", "update"):
        assert part(gone, name, phase) == part(here, name, phase) > 0
    assert part(gone, "policy", "update critic") == pytest.approx(part(here, "policy", "update critic") - size)


@pytest.mark.parametrize("mode", ["one_step_off", "disaggregated_async"])
def test_devices_that_only_generate_do_not_train(mode: str) -> None:
    def of(gpus: int | None) -> Estimate:
        rollout = {"mode": mode, "gpus": gpus, "gpu_memory_utilization": 0.5}
        spec = job("grpo", BIG, resources={"gpus": 8, "nodes": 2}, rollout=rollout, **VERL)
        return estimate(spec, shape_of(BIG), GPU, 16)

    params = shape_of(BIG).parameters
    for gpus, training in ((2, 12), (None, 8), (6, 4)):
        assert part(of(gpus), "weights") == pytest.approx(4 * params / training)
        assert of(gpus).phases[0].allocated == pytest.approx(0.5 * GPU.total_bytes)
    assert "task.rollout.gpus" in of(8).reason
    together = planned(job("grpo", BIG, resources={"gpus": 8}, **VERL), num=8)
    assert of(2).usable_bytes - together.usable_bytes == pytest.approx(0.94 * GIB)


def test_a_speed_is_of_the_number_format_that_is_computed_in() -> None:
    half, wide = (planned(job(base=BIG, model={"dtype": name})).tokens_per_second for name in ("bfloat16", "float32"))
    narrow = planned(job(base=BIG, model={"dtype": "float16"}), accelerators.find("V100"))
    assert half is not None
    assert wide is not None
    assert 10 < half / wide < 25  # 312 and 19.5 TFLOPS, with the shares of them that are reached
    assert narrow.tokens_per_second is not None


SIZES: dict[str, dict[str, Any]] = {
    "trl single": {"model": "Qwen/Qwen2.5-0.5B", "num_gpus": 1, "fixed": {"sharding": "none"}},
    "trl ddp": {"model": "Qwen/Qwen2.5-0.5B", "num_gpus": 4, "fixed": {"sharding": "ddp"}},
    "trl lora, mixed": {
        **{"model": "Qwen/Qwen2.5-0.5B", "num_gpus": 1, "lora": True, "numbers": "mixed"},
        "fixed": {"sharding": "none"},
    },
    "trl on a cpu": {"model": "Qwen/Qwen2.5-0.5B", "num_gpus": 1, "gpu": "cpu", "context": 512, "batch": 16},
    "verl fsdp": {"fixed": {"sharding": "fsdp"}},
    "verl fsdp in 32 bits": {"numbers": "mixed", "fixed": {"sharding": "fsdp"}},
    "verl fsdp all in 32 bits": {"numbers": "fp32", "fixed": {"sharding": "fsdp"}},
    "verl ulysses": {"context": 4096, "fixed": {"sharding": "fsdp", "context": 2}},
    "verl megatron": {"fixed": {"sharding": "megatron", "tensor": 4, "pipeline": 1}},
    "verl megatron in stages": {"fixed": {"sharding": "megatron", "tensor": 2, "pipeline": 2}},
    "verl megatron with a full last stage": {
        "model": "Qwen/Qwen2.5-0.5B",
        "fixed": {"sharding": "megatron", "tensor": 1, "pipeline": 2, "recomputation": "full"},
    },
    "between": {"fixed": {"sharding": "fsdp", "offload": "between"}},
    "between megatron": {"fixed": {"sharding": "megatron", "offload": "between"}},
    "apart": {"rollouts": "apart", "fixed": {"sharding": "fsdp"}},
    "apart megatron": {"num_gpus": 16, "rollouts": "apart", "fixed": {"sharding": "megatron", "tensor": 2}},
    "apart on two hosts": {"num_gpus": 16, "rollouts": "apart", "fixed": {"sharding": "fsdp"}},
}
OF_TRL = ("sft", "reward", "dpo", "kto", "orpo", "grpo", "ppo", "rloo")
LOGITS_OF_COMPLETIONS = frozenset({"sft", "dpo", "kto", "orpo"})


def combinations() -> list[tuple[str, str]]:
    """Size and algorithm, of those that a job file can say."""
    found = []
    for size in SIZES:
        kinds = OF_TRL if size.startswith("trl") else ("sft", "grpo", "ppo", "rloo")
        found += [(size, kind) for kind in kinds if kind != "sft" or not size.startswith(("between", "apart"))]
    return found


@pytest.mark.parametrize(("size", "algorithm"), combinations())
def test_a_plan_and_the_estimate_of_its_job_file_agree(size: str, algorithm: str) -> None:
    request = {"model": BIG, "gpu": "H100", "num_gpus": 8, "context": 1024, "algorithm": algorithm, **SIZES[size]}
    if not size.startswith("trl") and algorithm in GENERATES:
        request = {"rollouts": "colocated", **request}
    found = planning.find(PlanRequest(**request))
    job_, way = found.recommendation.job, found.recommendation.best
    assert way is not None
    read = documents.parse(export(found, "job").files["job.yaml"])
    lengths = Lengths(prompt=job_.seq_len - job_.completion, total=job_.seq_len)
    made = estimate(parse(TrainJob, read.value), job_.shape, job_.device, job_.num_devices, lengths=lengths)

    assert made.reason == ""
    assert made.engine == way.engine == size.split()[0].replace("between", "verl").replace("apart", "verl")
    assert made.usable_bytes == pytest.approx(way.job.budget)
    assert [phase.name for phase in made.phases] == [phase.name for phase in way.phases]
    for mine, planned_ in zip(made.phases, way.phases, strict=True):
        expected, allowed = planned_.allocated, 0.02
        if way.engine == "trl" and algorithm in LOGITS_OF_COMPLETIONS and planned_.name == "update":
            # The plan has logits of whole rows, while TRL computes none of prompts, which here are half of a row.
            expected -= 0.5 * planned_.parts["logits"]
        elif way.engine == "trl" and planned_.name == "generate":
            continue  # the plan generates some sequences at once, the job all of a batch
        # Beside that, buckets of DDP and a copy of the weights for AdamW, which in engine trl is fused.
        assert mine.allocated == pytest.approx(expected, rel=allowed), mine.name


def test_what_cannot_be_estimated_says_why() -> None:
    assert "not known" in estimate(job(), None, GPU).reason
    on_ray = job("grpo", engine="verl", resources={"gpus": 0})
    assert "Ray" in estimate(on_ray, shape_of(SMALL), CPU).reason
    assert estimate(job(), None, GPU).fits is None
    raw = {
        "name": "a",
        "kind": "evaluate",
        "task": {"model": {"base": SMALL}, "benchmark": {"name": "math"}, "data": "d"},
    }
    spec: JobSpec = parse(JobSpec, raw)
    assert "kind train" in estimate(spec, None, GPU).reason


def test_a_speed_is_told_where_nothing_is_generated() -> None:
    fast, slow = planned(job(base=BIG)).tokens_per_second, planned(job(base=BIG), CPU).tokens_per_second
    assert fast == pytest.approx(4000, rel=0.9)
    assert slow is not None
    assert 0 < slow < fast / 100
    assert planned(job("grpo")).tokens_per_second is None


def test_advice_names_what_really_fits_and_least_first() -> None:
    spec = job(base=BIG, batch_size=8, model={"dtype": "bfloat16"}, data={"train": "rows", "max_tokens": 4096})
    shape = shape_of(BIG)
    assert planned(spec).fits is False

    found = estimating.would_fit(spec, shape, GPU)

    assert found
    for words in found:
        changes = dict(part.split(": ", 1) for part in words.split(" and "))
        made = estimating._changed(spec, {f"task.{key}": yaml.safe_load(value) for key, value in changes.items()})
        assert made is not None
        assert estimate(made, shape, GPU).fits
    assert "micro_batch_size" in found[0]
    assert "nf4" not in found[0]
    told = estimating.warning(planned(spec), found)
    assert f"would fit: {found[0]}" in told
    assert "GiB of NVIDIA A100" in told


def test_where_nothing_helps_the_warning_says_so() -> None:
    spec = job(base="Qwen/Qwen2.5-72B", batch_size=1)
    tiny = accelerators.find("RTX 4090")
    assert estimating.would_fit(spec, shape_of("Qwen/Qwen2.5-72B"), tiny) == ()
    made = estimate(spec, shape_of("Qwen/Qwen2.5-72B"), tiny)
    assert "no setting of the job file makes it fit" in estimating.warning(made, ())


def test_a_folder_says_the_shape_of_its_model_and_an_adapter_that_of_its_base(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    builtin.build("tiny-char", base)
    (adapter / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{base}"}}')

    assert shape_of("job:1/last", base) == shape_of("job:1/last", adapter)
    assert shape_of("job:1/last", base).parameters == shape_of("tiny-char").parameters
    assert shape_of("tiny-char").vocabulary == shape_of("./folder", base).vocabulary


def test_names_of_hubs_are_found_with_their_revision() -> None:
    expected = catalog.shape_fields(BIG)["parameters"]
    for name in (BIG, f"{BIG}@main", f"modelscope:{BIG}"):
        assert shape_of(name).parameters == pytest.approx(expected, rel=1e-3)
