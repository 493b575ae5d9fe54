"""The memory model against worked examples of the papers that it comes from, and where physics is monotone."""

import dataclasses
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.planner import catalog, shapes
from finery.planner.memory import GIB, WEIGHT_BYTES, Adapter, Kernels, Split, Step, layer_activations, peak

MEGATRON = Kernels(norm=2.0, rope_copies=False, logits=4.0, workspace=0.0, step=0.0)
"""As the paper on recomputation counts: 16-bit inputs of every operation."""


def gpt(layers: int, hidden: int, heads: int, vocabulary: int = 51_200) -> shapes.ModelShape:
    """A model of the GPT-2 kind, with dropout."""
    return shapes.from_config(
        {"model_type": "gpt2", "n_layer": layers, "n_embd": hidden, "n_head": heads, "vocab_size": vocabulary}
    )


def llama(**changes: Any) -> Step:
    shape = shapes.from_parameters(7)
    return Step(**{"shape": shape, "seq_len": 2048, "micro_batch": 2, **changes})


@pytest.mark.parametrize(
    ("billions", "zero", "devices", "expected"),
    [
        (7.5, 0, 64, 120.0),
        (7.5, 1, 64, 31.4),
        (7.5, 2, 64, 16.6),
        (7.5, 3, 64, 1.88),
        (7.5, 1, 4, 52.5),
        (7.5, 2, 16, 21.6),
        (7.5, 3, 1024, 0.12),
        (128, 1, 16, 608),
        (128, 2, 1024, 257),
        (128, 3, 64, 32),
    ],
)
def test_model_states_are_those_of_the_table_of_zero(billions: float, zero: Any, devices: int, expected: float) -> None:
    """arXiv:1910.02054, table 1, GB of model states per device: 16 bytes each, divided by stage."""
    shape = dataclasses.replace(shapes.from_parameters(billions), linears=(), other=0, vocabulary=int(billions * 1e9))
    shape = dataclasses.replace(shape, is_tied=True, embedding_dim=1)
    step = Step(
        shape=shape,
        seq_len=1,
        micro_batch=1,
        master=True,
        keeps_gradients=True,
        split=Split(data=devices, zero=zero),
        kernels=dataclasses.replace(MEGATRON, logits=0.0),
    )

    found = peak(step)

    states = found.weights + found.gradients + found.optimizer
    assert states / 1e9 == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "tensor", "micro_batch"),
    [(48, 6144, 64, 8, 4), (96, 12288, 96, 8, 1), (105, 20480, 128, 8, 1), (128, 25600, 160, 8, 1)],
    ids=["22B", "175B", "530B", "1T"],
)
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("recomputation", ["none", "selective"])
def test_activations_of_a_layer_are_those_of_the_paper_on_recomputation(
    layers: int, hidden: int, heads: int, tensor: int, micro_batch: int, sequence: bool, recomputation: Any
) -> None:
    """arXiv:2205.05198, table 2: sbh (10 + 24/t + 5as/ht), the first term divided with sequence parallelism."""
    s, t = 2048, tensor
    step = Step(
        shape=gpt(layers, hidden, heads),
        seq_len=s,
        micro_batch=micro_batch,
        recomputation=recomputation,
        flash=False,
        split=Split(tensor=t, sequence=sequence),
        kernels=MEGATRON,
    )

    scores = 0 if recomputation == "selective" else 5 * heads * s / (hidden * t)
    expected = s * micro_batch * hidden * ((10 / t if sequence else 10) + 24 / t + scores)
    assert layer_activations(step) == pytest.approx(expected, rel=1e-9)


def test_the_first_stage_of_a_pipeline_holds_all_layers() -> None:
    """arXiv:2205.05198, table 3 and section 4.2.3: 530B, 8-way tensor, 35 stages of 3 virtual ones: 114 GiB in all."""
    step = Step(
        shape=gpt(105, 20480, 128),
        seq_len=2048,
        micro_batch=1,
        flash=False,
        split=Split(tensor=8, pipeline=35, virtual=3),
        kernels=MEGATRON,
    )

    layers = 105 * (1 + 34 / (35 * 3))
    assert peak(step).activations == pytest.approx(layers * layer_activations(step))
    # The paper adds the embedding's dropout, 2 % of these: 114.0 with it.
    assert peak(step).activations / GIB == pytest.approx(112, rel=0.02)


def test_quantized_weights_take_what_qlora_says() -> None:
    """arXiv:2305.14314, section 3: constants of 0.5 bit, or 0.127 bit with double quantization; 3 GB at 65B."""
    assert 8 * WEIGHT_BYTES["nf4"] == 4.5
    assert 8 * WEIGHT_BYTES["nf4_double"] == pytest.approx(4.127, abs=1e-3)
    assert 65e9 * (WEIGHT_BYTES["nf4"] - WEIGHT_BYTES["nf4_double"]) / 1e9 == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize(
    "change",
    [
        {"seq_len": 4096},
        {"micro_batch": 4},
        {"keeps_gradients": True},
        {"master": True},
        {"flash": False},
        {"compute": 4.0},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("recomputation", ["none", "full"])
def test_more_of_anything_never_takes_less(change: dict[str, Any], recomputation: Any) -> None:
    assert (
        peak(llama(recomputation=recomputation, **change)).allocated
        >= peak(llama(recomputation=recomputation)).allocated
    )


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_more_devices_never_take_more_each(zero: Any) -> None:
    found = [peak(llama(split=Split(data=data, zero=zero))).allocated for data in (2, 4, 8, 64)]

    assert found == sorted(found, reverse=True)


def test_recomputation_and_adapters_save_what_they_are_for() -> None:
    whole = peak(llama(micro_batch=8))

    assert peak(llama(micro_batch=8, recomputation="full")).activations < 0.2 * whole.activations
    small = peak(llama(micro_batch=1, recomputation="full", adapter=Adapter(16), quantization="nf4_double"))
    assert small.weights < 0.35 * whole.weights
    assert small.optimizer < 0.05 * peak(llama(seq_len=1, micro_batch=1)).optimizer


def test_offload_leaves_what_computes() -> None:
    """ZeRO-Offload (arXiv:2101.06840): states to the host; with weights, two layers at a time (arXiv:2104.07857)."""
    small = {"micro_batch": 1, "seq_len": 128, "recomputation": "full", "master": True, "split": Split(data=8, zero=2)}
    here, states = peak(llama(**small)), peak(llama(**small, offload_optimizer=True))
    everything = peak(llama(**small, offload_optimizer=True, offload_weights=True))

    assert here.optimizer > 0
    assert states.optimizer == 0
    assert states.weights == here.weights
    assert everything.weights < 0.1 * here.weights
    assert everything.allocated < states.allocated < here.allocated


def test_a_block_of_layers_has_states_of_its_own_alone() -> None:
    """BAdam, arXiv:2404.02827, section 2.2: 2M + 16M/D gigabytes for M billions in D blocks."""
    step = llama(seq_len=1, micro_batch=1, master=True, gradients=4.0, block=1.0, recomputation="full")
    found, model = peak(step), step.shape
    bytes_all = found.weights + found.gradients + found.optimizer
    per_layer = model.per_layer

    assert found.optimizer <= 16 * per_layer
    assert bytes_all == pytest.approx(2 * model.parameters + 16 * per_layer, rel=0.03)
    with_ends = peak(dataclasses.replace(step, block_has_ends=True))
    assert with_ends.optimizer > found.optimizer


def test_states_in_a_subspace_are_small() -> None:
    """GaLore, arXiv:2403.03507, table 1: mn + mr + 2nr elements for a matrix of m x n, of which mn are weights."""
    whole, low = llama(), llama(subspace=128)
    shape = whole.shape
    states = sum(128 * (min(one.num_in, one.num_out) + 2 * max(one.num_in, one.num_out)) for one in shape.linears)
    outside = 2 * (shape.parameters - shape.layers * shape.per_layer)

    still = dataclasses.replace(low, kernels=Kernels(step=0.0))
    assert peak(still).optimizer == pytest.approx(2 * (shape.layers * states + outside), rel=1e-6)
    assert peak(low).allocated < peak(whole).allocated


def test_gradients_that_are_added_up_late_lie_undivided() -> None:
    """FSDP under `no_sync`: those of what is trained, or of frozen weights in the same flat parameter, too."""

    def taken(kind: Any, adapter: Adapter | None = None) -> float:
        kernels = Kernels(whole_gradients=kind)
        step = llama(split=Split(data=8, zero=3), kernels=kernels, adapter=adapter, keeps_gradients=True)
        return peak(step).gradients

    number = shapes.from_parameters(7).parameters
    assert taken("none") == pytest.approx(2 * number / 8)
    assert taken("trained") == taken("all") == pytest.approx(2 * number)
    adapter = Adapter(16)
    assert taken("trained", adapter) == pytest.approx(8 * taken("none", adapter))
    assert taken("all", adapter) == pytest.approx(2 * number + 4 * adapter.size(llama().shape))


def test_gradients_that_are_used_at_once_leave_no_copy() -> None:
    """LOMO, arXiv:2306.09782, table 1: 7 billion in 14.6 GB, states and gradients of no matter."""
    found = peak(llama(gradients=0.0, optimizer="sgd", recomputation="full", micro_batch=1, seq_len=512))

    assert found.allocated < 1.15 * found.weights


def test_without_a_backward_pass_there_is_little_but_weights() -> None:
    """MeZO, arXiv:2305.17333: as much as inference."""
    found = peak(llama(has_backward=False, micro_batch=1))

    assert found.gradients == 0
    assert found.optimizer == 0
    assert found.weights > 0.7 * found.allocated


def test_frozen_matrices_keep_no_input() -> None:
    """The gradient of an input needs the weights alone; that of a weight needs the input."""
    frozen = llama(adapter=Adapter(8, ("q_proj",), bytes_per_weight=2.0))
    both = llama(adapter=Adapter(8, ("q_proj", "gate_proj"), bytes_per_weight=2.0))
    none = llama(adapter=Adapter(8, ()))
    token = frozen.shape.hidden * 2.0

    num_tokens = frozen.seq_len * frozen.micro_batch
    assert layer_activations(both) - layer_activations(frozen) == pytest.approx(num_tokens * token)
    assert layer_activations(frozen) - layer_activations(none) == pytest.approx(num_tokens * token)
    assert layer_activations(llama()) > layer_activations(both)
    dropped = dataclasses.replace(frozen, adapter=dataclasses.replace(frozen.adapter, dropout=True))
    assert layer_activations(dropped) - layer_activations(frozen) == pytest.approx(num_tokens * 1.5 * token)


def test_states_of_experts_are_divided_between_their_own_copies() -> None:
    """Megatron's distributed optimizer: with as many expert ranks as data ranks, experts have no copy to share with."""
    shape = shapes.from_parameters(30, active=3)
    alone = Step(shape, 64, 1, master=True, split=Split(data=8, zero=1, expert=8))
    dense = dataclasses.replace(alone, split=Split(data=8, zero=1, expert=1))

    experts = shape.expert_parameters
    expected = 12 * (experts / 8 + (shape.parameters - experts) / 8)
    without_copies = dataclasses.replace(alone, kernels=Kernels(step=0.0))
    assert peak(without_copies).optimizer == pytest.approx(expected, rel=0.02)
    assert peak(alone).weights < peak(dense).weights


def test_selective_recomputation_of_outputs_keeps_less_than_half() -> None:
    """torchtitan, docs/performance.md: between no recomputation and that of whole layers."""
    kernels = Kernels(selects_outputs=True)
    some, none, whole = (
        peak(llama(recomputation=kind, kernels=kernels, micro_batch=8)) for kind in ("selective", "none", "full")
    )

    assert whole.activations < some.activations < 0.6 * none.activations


def test_eight_bits_keep_smaller_inputs() -> None:
    assert layer_activations(llama(input_bytes=1.0)) < layer_activations(llama())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"split": Split(tensor=3)}, "tensor parallelism of 3 does not divide"),
        ({"split": Split(pipeline=99)}, "99 stages of a pipeline are more than"),
        ({"split": Split(context=3)}, "context parallelism of 3 does not divide 2048 tokens"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        llama(**change)


def test_dora_trains_rows_norms_and_keeps_what_it_scales() -> None:
    """Llama 3.2 3B, rank 32 on q and v: 9,289,728 trained, as PEFT's comparison on MetaMathQA prints it; there 22.8 GiB
    against 20.8 of LoRA, with the difference in results of matrices that are kept."""
    shape = shapes.from_config(catalog.shape_fields("meta-llama/Llama-3.2-3B"))
    targets = ("q_proj", "v_proj")
    lora, dora = (Adapter(32, targets, decomposes=decomposes) for decomposes in (False, True))
    assert (lora.size(shape), dora.size(shape)) == (9_175_040, 9_289_728)

    step = Step(shape, 768, 4, adapter=lora)
    more = peak(dataclasses.replace(step, adapter=dora)).allocated - peak(step).allocated
    assert more / GIB == pytest.approx(22.848 - 20.762, rel=0.1)


def test_norms_of_queries_and_keys_and_after_blocks_are_kept() -> None:
    """Each norm keeps its input, and what computing in float32 leaves; Gemma 2 has four of the hidden size in a layer,
    Qwen 3 one of the queries and one of the keys."""
    kernels = Kernels()
    qwen = shapes.from_config(catalog.shape_fields("Qwen/Qwen3-8B"))
    gemma = shapes.from_config(catalog.shape_fields("google/gemma-2-9b"))
    assert (qwen.norms, qwen.has_qk_norm, gemma.norms, gemma.has_qk_norm) == (2, True, 4, False)

    def kept(shape: shapes.ModelShape) -> float:
        return layer_activations(Step(shape, 1024, 1, kernels=kernels)) / 1024

    plain = dataclasses.replace(qwen, has_qk_norm=False)
    assert kept(qwen) - kept(plain) == pytest.approx(kernels.norm * (32 + 8) * 128)
    two = dataclasses.replace(gemma, norms=2)
    assert kept(gemma) - kept(two) == pytest.approx(2 * kernels.norm * 3584)
