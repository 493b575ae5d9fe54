"""Operations of a step against the formulas of the papers, and the share of a peak that is expected."""

import dataclasses

import pytest

from finery.core.errors import InvalidSpec
from finery.planner import accelerators, efficiency, shapes
from finery.planner.throughput import Operations, operations, peak_of, tokens_per_second

GPT3 = shapes.from_config(
    {"model_type": "gpt2", "n_embd": 12288, "n_layer": 96, "n_head": 96, "vocab_size": 51200, "n_positions": 2048}
)
LLAMA = shapes.from_parameters(8)
A100 = accelerators.find("A100-80G")


def test_operations_of_gpt3_are_those_of_the_paper_on_recomputation() -> None:
    """arXiv:2205.05198, appendix A: 72 BLsh^2 (1 + s/6h + v/12hL), whose attention is not halved for causality."""
    h, layers, s, v = 12288, 96, 2048, 51200
    paper = 72 * layers * h**2 * (1 + s / (6 * h) / 2 + v / (12 * h * layers))

    # Biases, norms and positions, which the paper leaves out, are a thousandth.
    assert operations(GPT3, s).model == pytest.approx(paper, rel=2e-3)


def test_recomputation_costs_what_the_paper_says() -> None:
    """Section 6.3: full recomputation a forward pass, a third of the model's; selective s/6h of it, here halved."""
    none, selective, full = (operations(GPT3, 2048, recomputation=kind) for kind in ("none", "selective", "full"))

    assert none.executed == none.model == selective.model == full.model
    assert full.executed / full.model == pytest.approx(4 / 3, rel=0.01)
    assert selective.executed / selective.model == pytest.approx(1 + 2048 / (6 * 12288) / 3 * 0.5, rel=0.02)


def test_frozen_weights_have_no_gradient() -> None:
    whole, frozen = operations(LLAMA, 1), operations(LLAMA, 1, trained=0.0)

    assert frozen.model / whole.model == pytest.approx(2 / 3, rel=1e-3)


def test_a_mixture_computes_what_a_token_meets() -> None:
    config = {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
    found = operations(shapes.from_config(config), 1)

    assert found.model == pytest.approx(6 * 12.9e9, rel=0.03), "12.9 billion of its 46.7 (arXiv:2401.04088)"


def test_speed_is_the_peaks_share_of_what_a_token_needs() -> None:
    needed = Operations(forward=2e9, backward=4e9, again=2e9)

    assert tokens_per_second(needed, A100, "bf16", efficiency=0.5) == pytest.approx(0.5 * 312e12 / 8e9)
    with pytest.raises(InvalidSpec, match="no share of a peak"):
        tokens_per_second(needed, A100, "bf16", efficiency=1.2)


def test_a_device_without_a_number_format_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="no peak of NVIDIA T4"):
        peak_of(accelerators.find("T4"), "bf16")


def test_a_program_is_expected_to_do_what_it_did_else_what_others_do_there() -> None:
    assert efficiency.share("fms-fsdp", A100, "bf16") == 0.57
    others = efficiency.share("fms-fsdp", A100, "bf16", without="fms-fsdp")
    assert others != 0.57
    assert 0.4 < others < 0.7
    assert efficiency.share("never seen", A100, "bf16") == efficiency.share("another", A100, "bf16")
    assert efficiency.share("megatron", accelerators.find("H100"), "bf16", is_mixture=True) == 0.21


def test_usual_shares_follow_what_limits_a_device() -> None:
    """Larger models, wider experts and fuller batches reach more; eight bits are faster, and less of their peak."""
    h100, usual = accelerators.find("H100"), efficiency.usual

    assert usual(A100, "bf16") > usual(h100, "bf16"), "H100 has more operations for each byte"
    assert usual(A100, "bf16", active=1e9) < usual(A100, "bf16", active=70e9)
    assert usual(A100, "bf16", "mixture", expert_width=512) < usual(A100, "bf16", "mixture", expert_width=14336)
    assert usual(A100, "bf16", tokens=1024) == pytest.approx(usual(A100, "bf16") / 2)
    eight, sixteen = usual(h100, "fp8") * peak_of(h100, "fp8"), usual(h100, "bf16") * peak_of(h100, "bf16")
    assert eight == pytest.approx(1.6 * sixteen)
    assert peak_of(accelerators.find("B200"), "fp4") == 2 * peak_of(accelerators.find("B200"), "fp8")


def test_a_program_is_as_fast_as_it_was_elsewhere() -> None:
    known, unknown = (efficiency.share(name, A100, "bf16", active=7e9) for name in ("torchtune", "never seen"))
    torchtune = next(one for one in efficiency.FACTORS if one.framework == "torchtune")

    assert known == pytest.approx(torchtune.factor * efficiency.usual(A100, "bf16", active=7e9))
    assert unknown != known
    assert efficiency.share("torchtune", A100, "bf16", active=7e9, without="torchtune") != known


def test_few_layers_with_attention_compare_few_tokens() -> None:
    shape = dataclasses.replace(LLAMA, attention_layers=LLAMA.layers // 2)

    saved = operations(LLAMA, 8192).forward - operations(shape, 8192).forward
    assert saved == pytest.approx(LLAMA.layers * 8192 * LLAMA.heads * LLAMA.head_dim)


def test_each_measured_share_has_a_source_and_a_device_that_exists() -> None:
    known = {accelerators.find(name).id.partition("-")[0] for name in accelerators.names()}
    for row in efficiency.TABLE:
        assert row.device in known
        assert 0 < row.share < 1
        assert "/" in row.source


def test_longer_sequences_never_need_less() -> None:
    found = [operations(LLAMA, length).executed for length in (1, 512, 4096, 32768)]

    assert found == sorted(found)
    windowed = dataclasses.replace(LLAMA, window=4096)
    assert operations(windowed, 32768).executed == operations(LLAMA, 4096).executed
