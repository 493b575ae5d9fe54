"""Phases of algorithms: which models are there, and which phase is the fullest."""

from dataclasses import replace
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.planner import catalog, shapes
from finery.planner.memory import GIB, Adapter, Split, Step, peak
from finery.planner.phases import ALGORITHMS, Phase, Rollout, fullest, timeline

QWEN = shapes.from_config(catalog.shape_fields("Qwen/Qwen2.5-7B"))
STEP = Step(QWEN, 4096, 1, recomputation="full", split=Split(data=8, zero=3))
ROLLOUT = Rollout(sequences=32, seq_len=4096)


def names(phases: tuple[Phase, ...]) -> list[str]:
    return [phase.name for phase in phases]


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("sft", ["update"]),
        ("reward", ["update"]),
        ("orpo", ["update"]),
        ("dpo", ["reference", "update"]),
        ("kto", ["reference", "update"]),
        ("grpo", ["generate", "score", "reference", "update"]),
        ("rloo", ["generate", "score", "reference", "update"]),
        ("ppo", ["generate", "score", "reference", "update"]),
    ],
)
def test_an_algorithm_has_its_phases_in_their_order(algorithm: Any, expected: list[str]) -> None:
    assert names(timeline(algorithm, STEP, rollout=ROLLOUT)) == expected


def test_a_supervised_step_is_the_step_of_the_model() -> None:
    [only] = timeline("sft", STEP)

    assert only.allocated == pytest.approx(peak(STEP).allocated)


def test_a_reference_is_a_second_model_and_an_adapter_needs_none() -> None:
    with_reference = timeline("dpo", STEP)[-1]
    paired = peak(replace(STEP, micro_batch=2))

    assert with_reference.allocated == pytest.approx(paired.allocated + paired.weights)
    assert timeline("dpo", STEP, kl=False)[-1].allocated == pytest.approx(paired.allocated)
    lora = replace(STEP, adapter=Adapter(16))
    assert "reference" not in timeline("dpo", lora)[-1].parts
    waits = timeline("dpo", STEP, offloads_reference=True)
    assert "reference" in waits[0].parts
    assert "reference" not in waits[-1].parts


def test_a_separate_critic_trains_beside_the_policy() -> None:
    phases = timeline("ppo", STEP, rollout=ROLLOUT, critic=STEP)

    assert names(phases) == ["generate", "score", "reference", "update critic", "update"]
    states = peak(STEP).weights + peak(replace(STEP, seq_len=1)).optimizer
    assert phases[-1].parts["critic"] == pytest.approx(states, rel=0.35)
    assert phases[-1].allocated > timeline("ppo", STEP, rollout=ROLLOUT)[-1].allocated


def test_a_cache_is_as_large_as_its_sequences() -> None:
    """Qwen2.5-7B: 28 layers, 4 heads of 128 for keys and as many for values, 2 bytes: 56 KiB a token."""
    [generating, *_] = timeline("grpo", STEP, rollout=ROLLOUT)

    assert generating.parts["cache"] == 32 * 4096 * 56 * 1024
    assert generating.parts["rollout weights"] == pytest.approx(QWEN.parameters * 2), "gathered to generate with them"


def test_an_engine_has_16_bits_whatever_the_trainer_has() -> None:
    engine = replace(ROLLOUT, has_own_weights=True, tensor=4)
    [wide, *_] = timeline("grpo", replace(STEP, weights=6.0), rollout=engine)
    assert wide.parts["rollout weights"] == pytest.approx(QWEN.parameters * 2 / 4)


def test_a_cache_is_divided_by_heads_of_keys_and_not_where_attention_is_latent() -> None:
    """vLLM: each device has whole heads of keys and values, and all of a latent vector."""
    deepseek = shapes.from_config(catalog.shape_fields("deepseek-ai/DeepSeek-V3"))

    def cached(shape: shapes.ModelShape, tensor: int) -> float:
        engine = replace(ROLLOUT, has_own_weights=True, tensor=tensor)
        return timeline("grpo", replace(STEP, shape=shape), rollout=engine)[0].parts["cache"]

    assert cached(QWEN, 4) == cached(QWEN, 1) / 4 == cached(QWEN, 8)
    assert cached(deepseek, 1) == cached(deepseek, 8)


def test_gradients_are_gone_during_rollouts_but_for_buffers() -> None:
    engine = replace(ROLLOUT, has_own_weights=True)
    added = timeline("grpo", replace(STEP, keeps_gradients=False, accumulates=True), rollout=engine)
    buffers = timeline("grpo", replace(STEP, keeps_gradients=True), rollout=engine)
    assert "gradients" not in added[0].parts
    assert added[-1].parts["gradients"] == buffers[0].parts["gradients"] == buffers[-1].parts["gradients"] > 0


def test_an_engine_with_a_share_takes_that_of_the_device() -> None:
    device = 79.2 * GIB
    [generating, *_] = timeline(
        "grpo", STEP, rollout=replace(ROLLOUT, has_own_weights=True, share=0.5), device_bytes=device
    )

    assert generating.parts["cache"] + generating.parts["rollout weights"] == pytest.approx(device / 2)
    with pytest.raises(InvalidSpec, match="needs the device's memory"):
        timeline("grpo", STEP, rollout=replace(ROLLOUT, share=0.5))


def test_the_fullest_phase_decides() -> None:
    short = timeline("grpo", STEP, rollout=replace(ROLLOUT, sequences=1))
    many = timeline("grpo", STEP, rollout=replace(ROLLOUT, sequences=512))

    assert fullest(many).name == "generate"
    assert fullest(short).name in ("update", "generate")
    assert fullest(many).allocated > fullest(short).allocated


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name in ("ppo", "grpo", "rloo")])
def test_what_generates_must_say_how_much(algorithm: Any) -> None:
    with pytest.raises(InvalidSpec, match="generates completions"):
        timeline(algorithm, STEP)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_longer_context_never_takes_less(algorithm: Any) -> None:
    found = [
        fullest(timeline(algorithm, replace(STEP, seq_len=length), rollout=replace(ROLLOUT, seq_len=length))).allocated
        for length in (512, 2048, 8192, 32768)
    ]

    assert found == sorted(found)


def test_what_is_offloaded_during_rollouts_leaves_room_for_the_engine() -> None:
    engine = replace(ROLLOUT, has_own_weights=True)
    [here, *_], [away, *rest] = (
        timeline("grpo", STEP, rollout=engine, offloads_between=between) for between in (False, True)
    )

    freed = here.allocated - away.allocated
    assert freed == pytest.approx(here.parts["weights"] + here.parts["optimizer"] + here.parts["reference"])
    assert away.parts["cache"] == here.parts["cache"]
    assert rest[-1].allocated == pytest.approx(peak(STEP).allocated), "all is there again for the update"


def test_devices_that_only_generate_hold_nothing_else() -> None:
    apart = replace(ROLLOUT, has_own_weights=True, share=0.9, num_devices=4)
    generating, *others = timeline("grpo", STEP, rollout=apart, device_bytes=80.0 * GIB)

    assert set(generating.parts) == {"rollout weights", "cache"}
    assert generating.allocated == pytest.approx(72 * GIB)
    assert all("cache" not in phase.parts for phase in others)


def test_states_and_weights_can_wait_in_host_memory() -> None:
    [all_here] = timeline("sft", STEP)
    [states] = timeline("sft", replace(STEP, offload_optimizer=True))
    [both] = timeline("sft", replace(STEP, offload_optimizer=True, offload_weights=True))

    assert states.parts["optimizer"] == both.parts["weights"] == 0.0
    assert all_here.allocated > states.allocated > both.allocated
    [alone] = timeline("sft", replace(STEP, split=Split(), offload_optimizer=True, offload_weights=True))
    assert 0 < alone.parts["weights"] < peak(replace(STEP, split=Split())).weights / 4, "the layers that are worked on"
