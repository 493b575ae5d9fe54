"""The fastest way that fits, why others lost, and what would help where nothing fits."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from finery.cli.main import app
from finery.core.errors import InvalidSpec
from finery.planner import accelerators, catalog, shapes
from finery.planner.memory import GIB, Adapter
from finery.planner.phases import ALGORITHMS
from finery.planner.recommending import recommend
from finery.planner.ways import Job, Pins

QWEN = shapes.from_config(catalog.shape_fields("Qwen/Qwen2.5-7B"))
A100 = accelerators.find("A100-80G")
CARD = accelerators.find("RTX 4090")


def plan(*words: str) -> Any:
    return CliRunner().invoke(app, ["plan", *words])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_recommended_fits_and_is_the_fastest(algorithm: Any) -> None:
    found = recommend(Job(QWEN, A100, num_devices=8, algorithm=algorithm, seq_len=4096, adapter=Adapter(16)))

    assert found.best is not None
    assert found.best.fullest.allocated <= found.job.budget < A100.total_bytes
    for way, why in found.others:
        if way.fits:
            least = 0.95 / (1.15 if way.engine == "accelerate" != found.best.engine else 1)
            assert way.seconds.total >= least * found.best.seconds.total
            assert any(word in why for word in ("slower", "as fast", "faster, and runs with accelerate"))
        else:
            assert "needs" in why
            assert way.fullest.allocated > found.job.budget


def test_seven_billion_need_more_than_one_card_and_it_says_what_would_do() -> None:
    found = recommend(Job(QWEN, CARD))

    assert found.best is None
    assert "needs 122 GiB of host memory; 64 are assumed" in found.advice[0]
    assert "would fit: hosts with 128 GiB of memory" in found.advice
    assert "would fit: LoRA" in found.advice
    assert recommend(Job(QWEN, CARD, adapter=Adapter(16))).best is not None
    assert recommend(Job(QWEN, CARD, num_devices=8)).best is not None


def test_what_runs_here_is_worth_a_little_time() -> None:
    """TRL alone keeps no logits, so that it takes larger micro batches."""
    small = shapes.from_config(catalog.shape_fields("Qwen/Qwen2.5-0.5B"))
    found = recommend(Job(small, CARD))

    assert found.best is not None
    assert found.best.engine == "trl"
    faster = [
        (way, why) for way, why in found.others if way.fits and way.seconds.total < 0.95 * found.best.seconds.total
    ]
    assert faster
    for way, why in faster:
        assert way.engine == "accelerate"
        assert why.endswith("% faster, and runs with accelerate or DeepSpeed alone")
    large = recommend(Job(QWEN, CARD, adapter=Adapter(16)))
    assert large.best is not None
    assert large.best.layout.is_alone, "where it is a third faster"


def test_all_weights_are_trained_where_they_fit_and_lora_is_shown_beside() -> None:
    found = recommend(Job(QWEN, A100, num_devices=8), adapter=Adapter(16))

    assert found.best == recommend(Job(QWEN, A100, num_devices=8)).best
    assert found.best is not None
    adapted = [(way, why) for way, why in found.others if way.job.adapter is not None]
    assert len(adapted) == 1
    way, why = adapted[0]
    share = way.seconds.total / found.best.seconds.total
    assert share < 1
    assert why == f"trains update matrices alone, in {share:.0%} of the time"
    assert way.words.startswith("LoRA, ")


def test_what_is_trained_is_searched_where_not_all_can_be() -> None:
    found = recommend(Job(QWEN, CARD), adapter=Adapter(16))
    given = recommend(Job(QWEN, CARD, adapter=Adapter(16)))

    assert found.best == given.best
    assert found.job.adapter == Adapter(16)
    assert found.job.quantization == "none"
    assert found.warnings[0] == "training all weights does not fit; LoRA is planned"
    whole = [(way, why) for way, why in found.others if way.job.adapter is None]
    assert len(whole) == 1
    assert "needs" in whole[0][1]
    small = recommend(Job(QWEN, accelerators.find("RTX 4080"), pins=Pins(offload="none")), adapter=Adapter(16))
    assert small.job.quantization == "nf4_double"
    assert small.warnings[0] == "training all weights does not fit; LoRA on 4-bit weights is planned"


def test_nothing_that_is_searched_fits() -> None:
    large = shapes.from_config(catalog.shape_fields("Qwen/Qwen2.5-72B"))
    found = recommend(Job(large, CARD, host_gib=100_000, pins=Pins(offload="none")), adapter=Adapter(16))

    assert found.best is None
    assert found.advice[0].startswith("it does not fit, even with LoRA on 4-bit weights: at least ")


def test_seventy_two_billion_fit_one_card_in_no_way() -> None:
    large = shapes.from_config(catalog.shape_fields("Qwen/Qwen2.5-72B"))
    found = recommend(Job(large, CARD))

    assert found.best is None
    assert found.advice[1:] == (
        "would fit: LoRA on 4-bit weights and 2 devices",
        "would fit: hosts with 1280 GiB of memory",
    )


def test_more_devices_and_shorter_contexts_are_never_worse() -> None:
    steps = []
    for num_devices in (8, 16, 32):
        best = recommend(Job(QWEN, A100, num_devices=num_devices, devices_per_host=64, adapter=Adapter(16))).best
        assert best is not None
        steps.append(best.seconds.total)
    assert steps == sorted(steps, reverse=True)

    fitting = [recommend(Job(QWEN, CARD, seq_len=length, adapter=Adapter(16))).best for length in (512, 1 << 20)]
    assert fitting[0] is not None
    assert fitting[1] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_devices": 3}, "64 sequences a step must be a multiple of the 3 devices; 66 would be right"),
        ({"num_devices": 8, "pins": Pins(tensor=3)}, "does not divide the model's 28 heads; 1, 2, 4 would"),
        ({"num_devices": 8, "pins": Pins(tensor=4, pipeline=4)}, "is 16, which does not divide the 8 devices"),
        ({"num_devices": 8, "pins": Pins(micro_batch=3)}, "a micro batch of 3 does not divide the 64 sequences"),
        ({"num_devices": 32, "pins": Pins(pipeline=32)}, "more than the model's 28 layers"),
        ({"pins": Pins(expert=2)}, "has no experts"),
        ({"pins": Pins(rollout_share=1.0)}, "must lie between 0 and 1"),
        ({"margin": 1.0}, "a margin of 1 is no share"),
        ({"completion_len": 2048}, "leaves no prompt within 2048"),
        ({"algorithm": "grpo", "rollouts": "apart"}, "plan for 2 or more"),
        ({"sequences_per_step": 0}, "sequences_per_step is 0"),
        ({"quantization": "nf4"}, "quantized weights are not trained; add LoRA"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        recommend(Job(**{"shape": QWEN, "device": A100, **change}))


def test_the_command_says_what_fits_and_why_not() -> None:
    words = ["--gpu", "A100-80G", "--num-gpus", "8", "--context", "4096", "--algorithm", "grpo", "--lora"]
    result = plan("--model", "Qwen/Qwen2.5-7B", *words)

    assert result.exit_code == 0
    for part in ("7.62 billion", "Recommended", "generate", "update", "tokens/s", "Why not"):
        assert part in result.output


def test_the_document_has_what_is_shown_and_the_cost() -> None:
    result = plan("--model", "Qwen/Qwen2.5-7B", "--num-gpus", "8", "--tokens", "100", "--hourly", "2", "--json")

    document = json.loads(result.output)
    assert document["parameters"] == QWEN.parameters
    assert document["best"]["peak_bytes"] <= document["usable_bytes"] < 80 * GIB
    cost = document["cost"]
    assert cost["price"] == pytest.approx(2 * cost["device_hours"])
    assert cost["hours"] == pytest.approx(1e8 / document["best"]["tokens_per_second"] / 3600)


def test_a_job_that_does_not_fit_ends_with_one() -> None:
    result = plan("--model", "Qwen2.5-72B", "--gpu", "4090")

    assert result.exit_code == 1
    assert "would fit: LoRA on 4-bit weights and 2 devices" in result.output


def test_a_config_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(catalog.shape_fields("Qwen/Qwen2.5-7B")))
    broken = tmp_path / "broken.json"
    broken.write_text("{")

    assert "7.62 billion" in plan("--config", str(file), "--lora").output
    assert isinstance(plan("--config", str(broken)).exception, InvalidSpec)
    assert isinstance(plan("--config", str(tmp_path / "none.json")).exception, InvalidSpec)


@pytest.mark.parametrize(
    "words",
    [
        ["--params", "0"],
        ["--params", "7", "--algorithm", "magic"],
        ["--params", "7", "--gpu", "B9000"],
        ["--params", "7", "--model", "Qwen/Qwen2.5-7B"],
        [],
    ],
)
def test_wrong_words_are_refused(words: list[str]) -> None:
    assert isinstance(plan(*words).exception, InvalidSpec)
