"""Answers to requests: what is shown beside the recommended way, and what must hold for every request."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finery.core.errors import InvalidSpec, NotFound
from finery.core.spec import parse
from finery.planner import accelerators, catalog, planning, shapes
from finery.planner.memory import GIB, Adapter, Split, Step, peak
from finery.planner.phases import ALGORITHMS, GENERATES
from finery.planner.recommending import phases_of, recommend, ways
from finery.planner.specs import BandView, PlanRequest, PlanView
from finery.planner.throughput import operations, peak_of
from finery.planner.timing import decoding_seconds, host_bytes, seconds
from finery.planner.ways import BUCKET_BYTES, Job, Layout, Pins, Way, step_of

QWEN = shapes.from_config(catalog.shape_fields("Qwen/Qwen2.5-7B"))
MIXTURE = shapes.from_config(catalog.shape_fields("Qwen/Qwen3-30B-A3B"))
A100 = accelerators.find("A100-80G")
H100 = accelerators.find("H100")


def answer(**request: Any) -> PlanView:
    return planning.plan(PlanRequest(**{"model": "Qwen/Qwen2.5-7B", "num_gpus": 8, **request}))


def test_an_answer_has_all_that_the_page_shows() -> None:
    found = answer(context=4096, algorithm="grpo", lora=True, steps=100, hourly=2.0)

    assert found.best is not None
    assert found.best.peak_bytes == max(phase.bytes for phase in found.best.phases) <= found.usable_bytes
    assert all(phase.bytes == pytest.approx(sum(part.bytes for part in phase.parts)) for phase in found.best.phases)
    assert found.best.peak_bytes <= found.best.reserved_bytes < found.best.shown_bytes <= found.device_bytes
    assert sum(found.best.seconds.values()) == pytest.approx(found.best.seconds_per_step)
    assert found.cost is not None
    assert found.cost.hours == pytest.approx(100 * found.best.seconds_per_step / 3600)
    assert found.cost.price == pytest.approx(found.cost.hours * 8 * 2)
    assert [stage.name for stage in found.stages] == ["ZeRO 0", "ZeRO 1", "ZeRO 2", "ZeRO 3"]
    assert [one.name for one in found.savings] == ["full", "lora", "lora 8-bit", "qlora 4-bit"]
    assert found.disk_bytes > 2 * found.parameters


def test_stages_and_savings_fall_and_the_curve_rises() -> None:
    found = answer(num_gpus=64, batch=128)

    for compared in (found.stages, answer(num_gpus=1, gpu="H200", batch=1, context=512).savings):
        sizes = [one.bytes for one in compared]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > 2 * sizes[-1]
    sizes = [point.bytes for point in found.curve]
    assert sizes == sorted(sizes)
    assert [point.fits for point in found.curve] == [size <= found.usable_bytes for size in sizes]


def test_the_longest_context_fits_and_more_does_not() -> None:
    found = answer(lora=True, context=2048)
    assert found.best is not None
    assert found.longest_context is not None
    fixed = {
        "sharding": found.best.sharding,
        "micro_batch": found.best.micro_batch,
        "recomputation": found.best.recomputation,
        "offload": found.best.offload,
    }

    longest = answer(lora=True, context=found.longest_context, fixed=fixed).best
    longer = answer(lora=True, context=found.longest_context + 256, fixed=fixed).best
    assert longest is not None
    assert longest.engine == found.best.engine == "trl"
    assert longer is None or longer.engine == "accelerate", "TRL alone, which keeps no logits"


def test_mfu_is_what_the_mathematics_needs_of_the_peak() -> None:
    best = answer().best
    assert best is not None
    needed = operations(QWEN, 2048).model * best.tokens_per_second / 8

    assert best.mfu == pytest.approx(needed / peak_of(A100, "bf16"))
    assert 0.05 < best.mfu < 0.7


def test_a_context_beyond_the_learned_positions_is_said() -> None:
    found = answer(model="meta-llama/Llama-2-7b-hf", context=8192, lora=True)

    assert any("beyond the 4,096 positions" in line for line in found.warnings)
    assert not any("positions" in line for line in answer(context=2048).warnings)


def test_a_family_that_is_not_known_is_said() -> None:
    fields = {**catalog.shape_fields("Qwen/Qwen2.5-0.5B"), "model_type": "foobar"}
    found = answer(model="", config=fields, num_gpus=1)

    assert "model_type foobar is not known; its layers are taken for Llama's" in found.warnings


def test_what_is_fixed_is_not_searched() -> None:
    found = answer(fixed={"sharding": "zero2", "micro_batch": 1, "recomputation": "full"})

    assert found.best is not None
    assert (found.best.sharding, found.best.micro_batch, found.best.recomputation) == ("zero2", 1, "full")
    assert {way.sharding for way in found.others} <= {"zero2"}
    divided = answer(num_gpus=16, fixed={"tensor": 4, "pipeline": 2}).best
    assert divided is not None
    assert (divided.sharding, divided.tensor, divided.pipeline, divided.data) == ("megatron", 4, 2, 2)


def test_experts_are_divided_where_there_are_some() -> None:
    job = Job(MIXTURE, H100, num_devices=16, sequences_per_step=256, seq_len=4096)
    found = list(ways(job))

    assert {way.layout.split.expert for way in found if way.layout.sharding == "megatron"} > {8}
    assert all(MIXTURE.experts.num % way.layout.split.expert == 0 for way in found if MIXTURE.experts)
    assert {way.layout.split.expert for way in ways(Job(QWEN, H100, num_devices=16, sequences_per_step=256))} == {1}


def test_one_card_that_is_too_small_needs_host_memory() -> None:
    """Two cards of 24 GB cannot hold 7.6 billion weights with states, gradients and all; host memory can."""
    found = answer(gpu="RTX 4090", num_gpus=2)

    assert found.best is not None
    assert found.best.offload == "all"
    assert found.best.host_bytes > 7.6e9 * (2 + 4 + 2)
    assert found.best.seconds["offloading"] > 0
    assert any("host memory" in line for line in found.warnings)
    small = answer(gpu="RTX 4090", num_gpus=2, host_gib=32, lora=False)
    assert not small.fits
    assert "GiB of host memory; a host has 32" in small.advice[0]


def test_an_engine_generates_faster_than_the_trainer_and_takes_its_share() -> None:
    request = {"algorithm": "grpo", "batch": 512, "context": 4096}
    trainer, engine, apart = (answer(**request, rollouts=one).best for one in ("trainer", "colocated", "apart"))

    assert trainer is not None
    assert engine is not None
    assert apart is not None
    assert engine.seconds["generating"] < trainer.seconds["generating"] / 2
    assert engine.rollout_share is not None
    assert 0 < engine.rollout_share <= 0.9
    assert apart.num_generating > 0
    assert answer(**request, rollouts="colocated", fixed={"rollout_share": 0.25, "rollout_tensor": 2}).best is not None


def test_more_sequences_at_once_are_generated_in_less_time_until_the_device_is_full() -> None:
    job = Job(QWEN, A100, algorithm="grpo", sequences_per_step=256, rollouts="colocated", num_devices=8)
    rollouts = [way.rollout for way in ways(job)]
    first = next(one for one in rollouts if one is not None)
    took = [decoding_seconds(job, type(first)(number, 2048, has_own_weights=True), 8) for number in (1, 4, 16, 32)]

    assert took == sorted(took, reverse=True)
    assert took[0] > 4 * took[-1]


def test_a_pipeline_waits_less_the_more_micro_batches_there_are() -> None:
    def waiting(batch: int) -> float:
        pins = Pins(pipeline=4, tensor=1, micro_batch=1)
        best = recommend(Job(QWEN, H100, num_devices=8, sequences_per_step=batch, pins=pins)).best
        assert best is not None
        return best.seconds.waiting / best.seconds.total

    assert waiting(16) > waiting(64) > waiting(512)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"model": "Qwen/Qwen9-7B"}, "is no model of the catalog"),
        ({"gpu": "B9000"}, "accelerator 'B9000' is not known"),
        ({"model": "", "config": {"model_type": "llama"}}, "the config has no hidden_size"),
        ({"num_gpus": 7}, "64 sequences a step must be a multiple of the 7 devices; 70 would be right"),
        ({"fixed": {"tensor": 3}}, "does not divide the model's 28 heads"),
        ({"fixed": {"sharding": "megatron"}, "lora": True}, "all weights, or without sharding would be right"),
        (
            {"algorithm": "ppo", "fixed": {"sharding": "megatron"}, "lora": True, "num_gpus": 8},
            r"\(sharding: megatron, rollouts: trainer, LoRA\); all weights and rollouts: colocated, or all",
        ),
        ({"fixed": {"sharding": "fsdp"}, "num_gpus": 1}, r"\(sharding: fsdp\); without sharding would"),
        (
            {"fixed": {"sharding": "fsdp", "offload": "between"}, "num_gpus": 1},
            "without sharding and without offload would be right",
        ),
        (
            {"optimizer": "adafactor", "fixed": {"sharding": "zero2", "offload": "optimizer"}},
            r"offload: optimizer, optimizer: adafactor\); optimizer: adamw, or without offload would be right",
        ),
        ({"num_gpus": 8, "fixed": {"sharding": "zero2", "micro_batch": 16}}, "128 sequences would be right"),
        ({"quantize": "nf4", "fixed": {"micro_batch": 5}}, "a micro batch of 5 does not divide"),
        (
            {"algorithm": "grpo", "rollouts": "colocated", "model": "deepseek-ai/DeepSeek-V3", "num_gpus": 1},
            "no device",
        ),
    ],
)
def test_what_cannot_be_answered_says_what_would_be_right(request_: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidSpec, NotFound), match=message):
        answer(**request_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": 7.0}, "name the model once"),
        ({"model": ""}, "name the model once, as model, config or params; given is none"),
        ({"steps": 5, "tokens": 5.0}, "give one of them"),
        ({"completion": 4096}, "must be less than context"),
        ({"batch": 0}, "greater than or equal to 1"),
        ({"num_gpus": -1}, "greater than or equal to 1"),
        ({"context": 10**9}, "less than or equal"),
        ({"algorithm": "magic"}, "algorithm"),
        ({"fixed": {"sharding": "magic"}}, "fixed.sharding"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        parse(PlanRequest, {"model": "Qwen/Qwen2.5-7B", **change}, what="the plan")


def devices_of(found: list[Way]) -> list[int]:
    return [way.layout.split.devices + way.layout.num_generating for way in found]


REQUESTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B", "Qwen/Qwen3-30B-A3B", "gpt2"]),
        "gpu": st.sampled_from(["A100-80G", "RTX 4090", "MI300X", "Ascend 910B", "V100", "M3 Max 64GB"]),
        "num_gpus": st.sampled_from([1, 2, 4, 8, 16]),
        "context": st.sampled_from([256, 1024, 4096]),
        "algorithm": st.sampled_from(ALGORITHMS),
        "batch": st.sampled_from([16, 64, 256]),
        "lora": st.booleans(),
        "optimizer": st.sampled_from(["adamw", "adamw_8bit", "lion", "muon", "adafactor", "sgd"]),
        "numbers": st.sampled_from(["bf16", "mixed", "fp32"]),
        "rollouts": st.sampled_from(["trainer", "colocated", "apart"]),
    }
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS)
def test_every_request_has_an_answer_that_is_true_to_itself(raw: dict[str, Any]) -> None:
    try:
        found = planning.find(PlanRequest(**raw))
    except InvalidSpec:
        return
    job, best = found.recommendation.job, found.recommendation.best
    everything = list(ways(job))
    assert set(devices_of(everything)) == {job.num_devices}
    for way in everything:
        per_step = way.micro_batch * way.accumulation * way.layout.split.data
        assert per_step == job.sequences_per_step
        assert way.seconds.total > 0
    if best is None:
        assert not any(way.fits for way in everything)
        assert found.recommendation.advice[0].startswith("it does not fit")
    else:
        fastest = min(way.seconds.total for way in everything if way.fits)
        assert best.fits
        assert best.seconds.total <= 1.05 * 1.15 * fastest, "a way that runs here may be slower"
    planning.answer(found)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["sft", "dpo", "grpo", "ppo"]),
    st.sampled_from([512, 1024, 3000, 8192]),
    st.sampled_from([1.25, 2.0, 4.0]),
    st.booleans(),
    st.sampled_from(["none", "all"]),
)
def test_more_tokens_never_need_less(algorithm: Any, context: int, factor: float, lora: bool, offload: Any) -> None:
    pins = Pins(micro_batch=1, offload=offload)

    def least(length: int) -> float:
        adapter = Adapter(16) if lora else None
        job = Job(QWEN, A100, 8, algorithm=algorithm, seq_len=length, adapter=adapter, pins=pins)
        return min(way.fullest.allocated for way in ways(job) if way.layout.sharding == "fsdp")

    assert least(int(context * factor)) >= least(context)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([algorithm for algorithm in ALGORITHMS if algorithm not in GENERATES]),
    st.sampled_from(["adamw", "lion", "muon"]),
    st.sampled_from(["none", "full"]),
    st.integers(min_value=1, max_value=6),
)
def test_more_devices_never_need_more_of_each_under_zero_3(
    algorithm: Any, optimizer: Any, recomputation: Any, power: int
) -> None:
    job = Job(QWEN, A100, algorithm=algorithm, optimizer=optimizer)

    def taken(number: int) -> float:
        layout = Layout("zero3", Split(data=number, zero=3))
        step: Step = step_of(job, layout, 1, 1, recomputation, "none")
        return max(phase.allocated for phase in phases_of(job, step, None, "none"))

    assert taken(2 ** (power + 1)) <= taken(2**power)


def test_what_earlier_jobs_took_corrects_the_answer() -> None:
    request = PlanRequest(model="Qwen/Qwen2.5-7B", num_gpus=8, fixed={"sharding": "fsdp", "micro_batch": 1})
    band = BandView(num=5, basis="device", ratio=1.25, low=1.1, high=1.4, speed_ratio=0.5)
    plain, corrected = planning.plan(request), planning.plan(request, band=band)

    assert plain.best is not None
    assert corrected.best is not None
    assert corrected.best.peak_bytes == pytest.approx(1.25 * plain.best.peak_bytes)
    assert corrected.best.tokens_per_second == pytest.approx(plain.best.tokens_per_second / 2)
    assert corrected.usable_bytes == plain.usable_bytes
    assert corrected.band == band
    assert plain.band is None


def test_what_is_free_on_a_device_is_not_more_than_there_is() -> None:
    job = Job(QWEN, A100, num_devices=8)

    assert job.budget < A100.total_bytes - job.context_bytes < 80 * GIB


def test_messages_are_those_of_the_paper_on_zero() -> None:
    """arXiv:1910.02054, section 7.2: stages 1 and 2 send as much as plain copies, stage 3 half as much again."""

    def sent(zero: Any, accumulation: int = 1) -> float:
        sharding = "ddp" if zero == 0 else f"zero{zero}"
        slow = replace(H100, link_gb_s=1e-3)  # so that next to nothing of it is hidden behind computing
        job = Job(QWEN, slow, num_devices=8, seq_len=1, sequences_per_step=8 * accumulation)
        layout = Layout(sharding, Split(data=8, zero=zero))  # type: ignore[arg-type]
        return seconds(job, layout, 1, accumulation, "none", "none", 0.0).communicating

    assert sent(1) == pytest.approx(sent(0))
    assert sent(2) == pytest.approx(sent(0))
    assert sent(3) == pytest.approx(1.5 * sent(0), rel=1e-3)
    assert sent(3, 4) == pytest.approx(4 * sent(3), rel=1e-3)
    assert sent(0, 4) == pytest.approx(sent(0), rel=1e-3)


def test_an_engine_beside_shards_needs_no_room_for_gathered_weights() -> None:
    """Shards are gathered where the trainer itself generates; an engine has weights of its own."""
    request = {"model": "Qwen/Qwen2.5-72B", "algorithm": "grpo", "lora": True, "batch": 512}
    found = answer(**request, rollouts="colocated", fixed={"sharding": "fsdp", "offload": "none"}).best

    assert found is not None
    generate = found.phases[0]
    held = {part.name: part.bytes / GIB for part in generate.parts}
    assert held["weights"] == pytest.approx(72.7e9 * 2 / 8 / GIB, rel=0.05)
    assert found.rollout_share is not None
    assert found.rollout_share * 79.2 == pytest.approx(held["rollout weights"] + held["cache"], rel=0.02)
    rest = sum(size for name, size in held.items() if name not in ("rollout weights", "cache"))
    assert (found.rollout_share + 0.05) * 79.2 + rest > 71.4, "all that is left is the engine's"
    alone = answer(**request, rollouts="trainer", fixed={"sharding": "fsdp"})
    assert not alone.fits


def test_experts_are_gathered_by_those_that_have_the_same() -> None:
    """Each device sends the experts that it has, and to their copies alone."""
    slow = replace(H100, link_gb_s=1e-3, network_gb_s=1e-3)
    job = Job(MIXTURE, slow, num_devices=64, seq_len=1, sequences_per_step=64)

    def sent(expert: int) -> float:
        split = Split(data=64, zero=1, expert=expert)
        without = Layout("megatron", replace(split, data=1))  # tokens that go to their experts and back
        between = seconds(job, without, 1, 1, "none", "none", 0.0).communicating
        return seconds(job, Layout("megatron", split), 1, 1, "none", "none", 0.0).communicating - between

    experts, dense = MIXTURE.expert_parameters, MIXTURE.parameters - MIXTURE.expert_parameters
    expected = (dense * 63 / 64 + experts / 8 * 7 / 8) / (MIXTURE.parameters * 63 / 64)
    assert sent(8) / sent(1) == pytest.approx(expected, rel=0.02)


def test_passes_without_gradients_gather_weights_too() -> None:
    slow = replace(H100, link_gb_s=1e-3)

    def sent(algorithm: Any, **more: Any) -> float:
        job = Job(QWEN, slow, num_devices=8, seq_len=2, sequences_per_step=8, algorithm=algorithm, **more)
        return seconds(job, Layout("zero3", Split(data=8, zero=3)), 1, 1, "none", "none", 0.0).communicating

    assert sent("grpo") / sent("sft") == pytest.approx((6 + 2 * 2) / 6, rel=1e-2)  # scores and a reference
    assert sent("grpo", kl=False) / sent("sft") == pytest.approx((6 + 2) / 6, rel=1e-2)
    assert sent("ppo") / sent("sft") == pytest.approx((2 * 6 + 2 * 2) / 6, rel=1e-2)  # a critic beside


@pytest.mark.parametrize("sharding", ["fsdp", "megatron"])
def test_all_that_waits_in_host_memory_is_counted(sharding: Any) -> None:
    """During rollouts: policy with states, the critic with its own, and the reference."""

    def held(algorithm: Any, **more: Any) -> float:
        job = Job(QWEN, H100, num_devices=8, algorithm=algorithm, rollouts="colocated", **more)
        layout = Layout(sharding, Split(data=8, zero=3) if sharding == "fsdp" else Split(4, pipeline=2, zero=1))
        return host_bytes(job, layout, "between") - host_bytes(job, layout, "none")

    number = QWEN.parameters
    if sharding == "fsdp":
        assert held("grpo", kl=False) == pytest.approx(number * 6)  # bfloat16 weights, and both states
        assert held("grpo") == pytest.approx(number * 8)
        assert held("ppo") == pytest.approx(number * 14)
    else:  # weights of 16 bits are on each of the four copies
        assert held("grpo", kl=False) == pytest.approx(number * (12 + 4 * 2))
        assert held("grpo") == pytest.approx(number * (12 + 8 * 2))
        assert held("ppo") == pytest.approx(number * (24 + 12 * 2))


def test_a_device_without_bfloat16_trains_float32_weights_with_a_scaled_loss() -> None:
    request = {"model": "Qwen/Qwen2.5-1.5B", "gpu": "V100", "num_gpus": 1, "context": 1024, "batch": 16}
    whole = answer(**request, lora=False)

    assert whole.best is not None
    assert whole.best.engine == "accelerate"
    assert "weights and states are float32, and float16 is computed in with a scaled loss" in whole.warnings[0]
    parts = {part.name: part.bytes for part in whole.best.phases[0].parts}
    assert parts["optimizer"] == pytest.approx(1.5437e9 * 8, rel=0.01)
    engines = {}
    for quantize in ("none", "nf4"):
        adapted = answer(**request, lora=True, quantize=quantize, fixed={"sharding": "none"}).best
        assert adapted is not None
        engines[quantize] = adapted.engine
    assert engines == {"none": "accelerate", "nf4": "trl"}, "TRL's bfloat16 adapters cannot be scaled"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"algorithm": "kto", "batch": 8}, "needs 2 on each device; 16 sequences a step would be right"),
        ({"num_gpus": 12, "fixed": {"micro_batch": 1}}, "must be a multiple of the 12 devices; 72 would be right"),
        ({"gpu": "MI308X"}, "the peak of AMD Instinct MI308X 192GB is not known"),
        ({"lora": False, "dora": True}, "dora is a kind of lora, which is off"),
    ],
)
def test_what_is_wrong_is_said(request_: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidSpec, ValueError), match=message):
        answer(**request_)


def test_what_cannot_be_had_is_no_advice() -> None:
    found = answer(model="meta-llama/Llama-3.1-70B", gpu="M3 Max", num_gpus=1, batch=8, lora=True)
    assert not found.fits
    assert not any("devices" in line or "4-bit" in line for line in found.advice[1:])


def test_a_batch_that_leaves_ways_out_is_said() -> None:
    assert any("no multiple of the 8 devices" in line and "56 or 64" in line for line in answer(batch=60).warnings)
    assert not any("multiple" in line for line in answer(batch=64).warnings)


def test_copies_over_hosts_are_not_for_the_engine_of_one_host() -> None:
    within, beyond = (answer(model="Qwen/Qwen2.5-0.5B", num_gpus=n, fixed={"sharding": "ddp"}).best for n in (8, 16))
    assert within is not None
    assert beyond is not None
    assert (within.engine, beyond.engine) == ("trl", "accelerate")


def test_trl_alone_computes_losses_with_the_head_and_holds_its_gradient() -> None:
    """trl/kernels/chunked_logprob.py: the gradient of the head in float32, and as it is cast."""
    small = shapes.from_config(catalog.shape_fields("google/gemma-2-2b"))
    job = Job(small, A100, num_devices=4)
    step = step_of(job, Layout("zero2", Split(data=4, zero=2)), 1, 16, "full", "none")
    found = peak(step)
    assert found.moment == "loss"
    assert found.logits == pytest.approx(6 * small.embedding)
    adapted = peak(
        step_of(replace(job, adapter=Adapter(16)), Layout("ddp", Split(data=4), 0, True), 1, 16, "full", "none")
    )
    assert adapted.logits == 0


def test_copies_have_buckets_for_their_gradients() -> None:
    """DDP's are as large as all gradients (`gradient_as_bucket_view` is off); engine trl has one at a time."""
    small = shapes.from_config(catalog.shape_fields("Qwen/Qwen2.5-1.5B"))
    job = Job(small, A100, num_devices=2)

    def workspace(**layout: Any) -> float:
        return peak(step_of(job, Layout("ddp", Split(data=2), **layout), 1, 32, "full", "none")).workspace

    assert workspace(is_alone=True) - workspace() == pytest.approx(2 * small.parameters - BUCKET_BYTES)


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "lion", "sgd", "adafactor"])
def test_only_adamw_waits_in_host_memory_with_deepspeed(optimizer: Any) -> None:
    """accelerate puts DeepSpeed's own in place of others, with states in float32."""
    job = Job(QWEN, A100, num_devices=4, optimizer=optimizer)
    for way in ways(job):
        assert way.offload == "none" or way.layout.sharding == "fsdp"
    assert any(way.offload == "optimizer" for way in ways(replace(job, optimizer="adamw")))


def test_weights_of_4_bits_are_slower_and_weights_of_the_host_pass_for_each_pass() -> None:
    layout = Layout("none", Split())
    plain = Job(QWEN, A100, adapter=Adapter(16), sequences_per_step=16)
    narrow = replace(plain, quantization="nf4_double")
    took = [seconds(job, layout, 1, 16, "full", "none", 0.0).computing for job in (plain, narrow)]
    assert took[1] == pytest.approx(1.25 * took[0])
    zero = Layout("zero3", Split(zero=3))
    moved = {
        algorithm: seconds(replace(plain, algorithm=algorithm), zero, 1, 16, "full", "all", 0.0).offloading
        for algorithm in ("sft", "dpo")
    }
    assert moved["dpo"] / moved["sft"] == pytest.approx(1.5, rel=0.01)


def test_adapters_are_in_the_number_format_of_their_program() -> None:
    """TRL casts them to bfloat16 beside quantized weights, DeepSpeed with all else; engine trl keeps float32."""
    plain, narrow = Job(QWEN, A100, 2, adapter=Adapter(16)), Job(QWEN, A100, 2, adapter=Adapter(16), quantization="nf4")

    def bytes_of(job: Job, layout: Layout) -> float:
        adapter = step_of(job, layout, 1, 32, "none", "none").adapter
        assert adapter is not None
        return adapter.bytes_per_weight

    copies = Layout("ddp", Split(data=2))
    assert bytes_of(plain, copies) == bytes_of(narrow, copies) == 4
    assert bytes_of(plain, replace(copies, is_alone=True)) == 4
    assert bytes_of(narrow, replace(copies, is_alone=True)) == 2
    assert bytes_of(plain, Layout("zero2", Split(data=2, zero=2))) == 2


def test_stages_that_do_not_divide_the_layers_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="8 stages of a pipeline do not divide the model's 28 layers; 1, 2, 4, 7, 14"):
        answer(fixed={"sharding": "megatron", "pipeline": 8})
