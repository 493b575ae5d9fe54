"""Packed rows are the rows: none sees another, and training is the same to rounding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3ForCausalLM

from finery.core.errors import InvalidSpec
from finery.core.rundir import ResolvedInput
from finery.models import chat, loading, resolving
from finery.training.trl import packing
from tests.training import driver
from tests.training.driver import Bench

ROWS = [
    {"prompt": f"{a}+{b}=", "response": str(a + b)}
    for a, b in ((1, 2), (3333, 9), (40, 8), (777777, 7), (95, 99999999), (6, 0), (12345678, 87654321), (5, 5))
]
OPTIM = {"steps": 4, "learning_rate": 1e-3, "epsilon": 1e-3}
SFT = {"algorithm": "sft", "optim": OPTIM, "batch_size": 6}
PACKED = {**SFT, "packing": True, "data": {"max_tokens": 40}}


@pytest.mark.parametrize(
    ("lengths", "max_rows", "expected"),
    [
        ([5, 5, 5, 5], None, [[0, 1], [2, 3]]),
        ([9, 2, 8, 1, 1], None, [[0, 3], [2, 1]]),
        ([3, 3, 3], 1, [[0], [1], [2]]),
        ([10], None, [[0]]),
    ],
)
def test_each_row_goes_where_it_leaves_the_least_room(
    lengths: list[int], max_rows: int | None, expected: list[list[int]]
) -> None:
    found = packing.bins(lengths, max_tokens=10, max_rows=max_rows)

    assert found[: len(expected)] == expected
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in rows) <= 10 for rows in found)


def test_a_row_longer_than_a_pass_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 11 tokens does not fit into a pass of 10"):
        packing.bins([3, 11], max_tokens=10)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"micro_batch_size": 2},
        {"loss_on": "all"},
        {"model": {"lora": {"rank": 4}}},
        {"model": {"gradient_checkpointing": True}},
    ],
)
def test_packed_training_is_unpacked_training(bench: Bench, changes: dict[str, Any]) -> None:
    plain, packed = (bench.attempt(task, ROWS, name=name) for name, task in _pair(changes))

    driver.run_here(plain)
    driver.run_here(packed)

    expected, found = driver.metrics(plain), driver.metrics(packed)
    assert sorted(found) == [1, 2, 3, 4]
    for step, values in expected.items():
        for name in ("loss", "grad_norm", "entropy", "token_accuracy", "tokens_seen"):
            assert found[step][name] == pytest.approx(values[name], rel=1e-5, abs=1e-6), (step, name)
    file = "adapter_model.safetensors" if "lora" in changes.get("model", {}) else "model.safetensors"
    before, after = (driver.load_file(driver.checkpoint(run_dir, 4) / file) for run_dir in (plain, packed))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-5)


def _pair(changes: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    whole = {name: value for name, value in changes.items() if name != "micro_batch_size"}
    return [("plain", {**SFT, "data": {"max_tokens": 40}, **whole}), ("packed", {**PACKED, **changes})]


@pytest.mark.parametrize(
    "changes", [{"micro_batch_size": 2}, {**PACKED, "micro_batch_size": 2}], ids=["rows", "packed"]
)
def test_each_label_weighs_the_same_in_a_model_that_does_not_count_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Such as those that also read images: their own loss is a mean over what they are given."""
    task = {**SFT, "data": {"max_tokens": 40}}
    expected = bench.attempt(task, ROWS, name="expected")
    driver.run_here(expected)
    monkeypatch.setattr(Qwen3ForCausalLM, "accepts_loss_kwargs", False, raising=False)
    run_dir = bench.attempt({**task, **changes}, ROWS)

    driver.run_here(run_dir)

    found = driver.metrics(run_dir)
    for step, values in driver.metrics(expected).items():
        for name in ("loss", "grad_norm"):
            assert found[step][name] == pytest.approx(values[name], rel=1e-5), (step, name)


def test_what_comes_first_in_a_row_is_no_label_of_any_model(bench: Bench, tmp_path: Path) -> None:
    """GPT-2 does not say what kind of loss it has."""
    tokenizer = loading.load_tokenizer(loading.materialize(bench.model, driver.MODEL))
    config = AutoConfig.for_model(
        "gpt2",
        vocab_size=len(tokenizer),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        eos_token_id=1,
        bos_token_id=1,
    )
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0
    folder = tmp_path / "gpt2"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    bench.model = ResolvedInput(kind="folder", path=str(folder), sha256=resolving.folder_sha256(folder))
    total, num = 0.0, 0
    for row in ROWS[:6]:
        conversation = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
        ids = torch.tensor(chat.render_example(tokenizer, conversation)[0])
        with torch.no_grad():
            logprobs = model.eval()(ids[None]).logits[0, :-1].log_softmax(dim=-1)
        total -= logprobs.gather(1, ids[1:, None]).sum().item()
        num += len(ids) - 1
    task = {**SFT, "optim": {"steps": 1}, "loss_on": "all", "data": {"max_tokens": 40, "shuffle": False}}
    run_dir = bench.attempt(task, ROWS)

    driver.run_here(run_dir)

    assert driver.metrics(run_dir)[1]["loss"] == pytest.approx(total / num, rel=1e-5)


def test_gradients_of_packed_rows_are_those_of_the_rows(bench: Bench) -> None:
    """By hand, without a trainer: the sum over rows, each alone, against one pass with all of them."""
    path = loading.materialize(bench.model, driver.MODEL)
    alone, packed = (loading.load_model(path, dtype="float32") for _ in range(2))
    packing.prepare(packed)
    rows = [torch.randint(0, alone.config.vocab_size, (length,)) for length in (3, 11, 1, 7)]

    for row in rows:
        alone(input_ids=row[None], use_cache=False).logits.square().sum().backward()
    packed(
        input_ids=torch.cat(rows)[None],
        position_ids=packing.positions([3, 11, 1, 7]),
        packed_lengths=[3, 11, 1, 7],
        use_cache=False,
    ).logits.square().sum().backward()

    gradients = dict(packed.named_parameters())
    for name, parameter in alone.named_parameters():
        scale = parameter.grad.abs().max()
        assert scale > 0
        assert (gradients[name].grad - parameter.grad).abs().max() <= 1e-5 * scale, name


def test_a_model_that_cannot_keep_rows_apart_is_refused() -> None:
    """A state-space model carries its state from row to row, whatever attention it is given."""
    config = AutoConfig.for_model(
        "mamba", vocab_size=32, hidden_size=16, num_hidden_layers=1, state_size=4, use_mambapy=False
    )
    model = AutoModelForCausalLM.from_config(config)

    with pytest.raises(InvalidSpec, match="rows of a MambaForCausalLM would see each other"):
        packing.prepare(model)


def test_a_row_longer_than_the_models_window_is_refused() -> None:
    config = AutoConfig.for_model(
        "mistral",
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=8,
    )
    model = AutoModelForCausalLM.from_config(config)
    packing.prepare(model)

    with pytest.raises(InvalidSpec, match="set packing: false"):
        model(input_ids=torch.zeros(1, 9, dtype=torch.long), position_ids=packing.positions([9]), packed_lengths=[9])


def test_a_resumed_packed_run_ends_in_the_same_bytes(bench: Bench) -> None:
    task = {**PACKED, "model": {"lora": {"rank": 4, "dropout": 0.1}}}
    straight = bench.attempt(task, ROWS, name="straight", checkpoint_interval=2)
    driver.run_here(straight)
    resumed = bench.attempt(task, ROWS, name="resumed", resume_from=driver.checkpoint(straight, 2))

    assert driver.run_child(resumed) == 0, driver.log_of(resumed)

    expected = {step: values for step, values in driver.metrics(straight).items() if step > 2}
    assert driver.metrics(resumed) == expected
    ends = [driver.checkpoint(run_dir, 4) / "adapter_model.safetensors" for run_dir in (straight, resumed)]
    assert ends[0].read_bytes() == ends[1].read_bytes()
