"""What is recorded of gradients: the right numbers for each algorithm and optimizer, and training goes on unchanged."""

import math
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from finery.core import gradients
from finery.core.gradients import GradientFile
from finery.core.rundir import RunDir
from finery.models import loading
from finery.runtime import exits
from finery.training import anatomy
from finery.training.trl import updates
from finery.training.trl.probe import Probe
from tests.training import driver
from tests.training.driver import GRPO_ROWS, PREFERENCE_ROWS, SFT_ROWS, Bench

OPTIM = {"steps": 3, "learning_rate": 1e-3}
SFT: dict[str, Any] = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4}
FORM = {"name": "format", "params": {"pattern": r".*[0-4].*"}}
GROUPS: dict[str, Any] = {
    "optim": OPTIM,
    "prompts_per_step": 3,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "rewards": [FORM],
}
PPO: dict[str, Any] = {
    "optim": OPTIM,
    "prompts_per_batch": 3,
    "rollout": {"completions_per_prompt": 2, "max_new_tokens": 6},
    "rewards": [FORM],
}
Seen = dict[int, dict[str, Tensor]]


def _recorded(run_dir: RunDir) -> GradientFile:
    found = GradientFile.open(run_dir.gradients)
    assert found is not None
    return found


def _by_name(run_dir: RunDir, field: str, by: gradients.By) -> dict[int, dict[str, float]]:
    """Step -> name -> value."""
    found = _recorded(run_dir)
    rows = zip(found.records["step"].tolist(), found.values(field, by).tolist(), strict=True)
    return {step: dict(zip(found.layout.names(by), row, strict=True)) for step, row in rows}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Copies of the gradients that a probe looked at, by step and name."""
    found: Seen = {}
    look = Probe.look

    def copied(probe: Probe, step: int) -> None:
        names = [tensor.name for tensor in probe._table.layout.tensors]
        pairs = zip(names, probe._parameters, strict=True)
        found[step] = {name: parameter.grad.clone() for name, parameter in pairs if parameter.grad is not None}
        look(probe, step)

    monkeypatch.setattr(Probe, "look", copied)
    return found


def _assert_right(run_dir: RunDir, seen: Seen) -> None:
    """Each tensor, layer and group against its gradients in float64."""
    layout = _recorded(run_dir).layout
    for by in ("tensor", "layer", "group"):
        fields = {field: _by_name(run_dir, field, by) for field in gradients.FIELDS}
        for step, own in seen.items():
            for name in layout.names(by):
                members = [layout.tensors[number].name for number in layout.members(by, name)]
                values = torch.cat([own[member].double().flatten() for member in members if member in own])
                found = {field: fields[field][step][name] for field in fields}
                assert found["norm"] == pytest.approx(values.norm().item(), rel=1e-6)
                assert found["mean"] == pytest.approx(values.mean().item(), rel=1e-4, abs=1e-7 * found["norm"])
                assert found["std"] == pytest.approx(values.std(unbiased=False).item(), rel=1e-5)
                assert (found["min"], found["max"]) == (values.min().item(), values.max().item())
                ordered = values.sort().values
                for share in gradients.PERCENTILES:
                    exact = ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)].item()
                    assert found[f"p{share}"] == pytest.approx(exact, rel=0.032, abs=1e-38)
                assert found["share_non_finite"] == 0


def test_every_tensor_layer_and_group_is_measured_before_clipping(bench: Bench, seen: Seen) -> None:
    task = {**SFT, "optim": OPTIM | {"max_grad_norm": 1e-3}}
    run_dir = bench.attempt(task, SFT_ROWS, gradient_interval=2)

    driver.run_here(run_dir)

    assert list(seen) == [1, 2]
    _assert_right(run_dir, seen)
    layers = _by_name(run_dir, "norm", "layer")
    assert list(layers[1]) == ["embedding", "0", "1", "2", "norm"]
    whole = {step: groups["all"] for step, groups in _by_name(run_dir, "norm", "group").items()}
    for step, norms in layers.items():
        assert math.hypot(*norms.values()) == pytest.approx(whole[step], rel=1e-6)
        assert driver.metrics(run_dir)[step]["grad_norm"] == pytest.approx(whole[step], rel=1e-5)
    values = driver.metrics(run_dir)
    assert values[1]["grad_var"] == pytest.approx(_by_name(run_dir, "std", "group")[1]["all"] ** 2, rel=1e-6)
    assert "grad_var" not in values[3]
    found = _recorded(run_dir)
    counts = found.histogram(0, found.layout.members("group", "all"))
    assert counts is not None
    assert counts.sum() == sum(tensor.num_values for tensor in found.layout.tensors)


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        pytest.param(SFT, SFT_ROWS, id="sft"),
        *(
            pytest.param({**SFT, "algorithm": name}, PREFERENCE_ROWS, id=name)
            for name in ("reward", "dpo", "kto", "orpo")
        ),
        *(pytest.param({**GROUPS, "algorithm": name}, GRPO_ROWS, id=name) for name in ("grpo", "gspo", "dapo", "rloo")),
        pytest.param({**PPO, "algorithm": "ppo", "critic": {"kind": "separate"}}, GRPO_ROWS, id="ppo"),
    ],
)
def test_every_algorithm_is_probed(
    bench: Bench, talkative: Any, seen: Seen, task: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    run_dir = bench.attempt(task, rows, base=talkative, gradient_interval=3, activations=True)

    driver.run_here(run_dir)

    _assert_right(run_dir, seen)
    values = driver.metrics(run_dir)
    for step, groups in _by_name(run_dir, "norm", "group").items():
        assert groups["all"] > 0
        assert values[step]["grad_norm"] == pytest.approx(groups["all"], rel=1e-5)
        assert values[step]["weight_update_ratio"] > 0
    assert sorted(_by_name(run_dir, "norm", "group")) == [1, 3]
    attention = _by_name(run_dir, "activation_rms", "group")[1]["attention"]
    assert math.isfinite(attention)
    assert attention > 0


def test_adapters_alone_are_probed_and_several_micro_batches_are_one_gradient(bench: Bench, seen: Seen) -> None:
    task = {**SFT, "model": {"lora": {"rank": 4}}, "micro_batch_size": 1}
    run_dir = bench.attempt(task, SFT_ROWS, gradient_interval=1)

    driver.run_here(run_dir)

    layout = _recorded(run_dir).layout
    assert all("lora_" in tensor.name for tensor in layout.tensors)
    assert layout.names("group") == ["attention", "ffn", "all"]
    _assert_right(run_dir, seen)


def test_two_processes_record_what_one_does(bench: Bench) -> None:
    task = {**SFT, "optim": OPTIM | {"epsilon": 1e-3}}
    one = bench.attempt(task, SFT_ROWS, name="one", gradient_interval=1, activations=True)
    two = bench.attempt(task, SFT_ROWS, name="two", gradient_interval=1, activations=True, processes=2)

    driver.run_here(one)
    assert driver.run_child(two) == exits.COMPLETED, driver.log_of(two)

    for field in ("norm", "weight_norm", "weight_update_ratio"):
        for step, expected in _by_name(one, field, "tensor").items():
            assert _by_name(two, field, "tensor")[step] == pytest.approx(expected, rel=2e-3), (field, step)
    # Rows are padded to the longest of a process, so that a little more or less is seen.
    expected, found = (_by_name(run_dir, "activation_rms", "layer")[1] for run_dir in (one, two))
    assert found == pytest.approx(expected, rel=0.1)
    for step, groups in _by_name(two, "norm", "group").items():
        parts = _by_name(two, "norm", "tensor")[step].values()
        assert math.hypot(*parts) == pytest.approx(groups["all"], rel=1e-6)
        assert driver.metrics(two)[step]["grad_norm"] == pytest.approx(groups["all"], rel=1e-5)
    assert [event["step"] for event in driver.events(two, "gradients")] == [1, 2, 3]


@pytest.mark.parametrize("kind", ["adamw", "adamw_8bit", "lion", "lion_8bit", "adafactor", "sgd"])
@pytest.mark.parametrize("model", [{}, {"lora": {"rank": 4}}], ids=["full", "lora"])
def test_updates_are_exact_and_the_weights_stay_the_same_to_the_bit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str, model: dict[str, Any]
) -> None:
    monkeypatch.setattr(updates, "_LEAST_BYTES", 0)
    task = {**SFT, "model": model, "optim": OPTIM | {"kind": kind, "weight_decay": 0.1}}
    plain = bench.attempt(task, SFT_ROWS, name="plain", gradient_interval=0, checkpoint_interval=1)
    probed = bench.attempt(task, SFT_ROWS, name="probed", gradient_interval=1, checkpoint_interval=1)

    driver.run_here(plain)
    driver.run_here(probed)

    assert not plain.gradients.exists()
    files = [sorted(driver.checkpoint(run_dir, 3).glob("*.safetensors")) for run_dir in (plain, probed)]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    before, after = (_tensors(probed, step) for step in (1, 2))
    norms, ratios = _by_name(probed, "weight_norm", "tensor")[2], _by_name(probed, "weight_update_ratio", "tensor")[2]
    for name, ratio in ratios.items():
        start, end = before[_saved(name)].double(), after[_saved(name)].double()
        assert norms[name] == pytest.approx(start.norm().item(), rel=1e-6)
        assert ratio == pytest.approx(((end - start).norm() / start.norm()).item(), rel=1e-5)
    start, end = (
        torch.cat([tensors[_saved(name)].double().flatten() for name in ratios]) for tensors in (before, after)
    )
    found = driver.metrics(probed)[2]
    assert found["weight_norm"] == pytest.approx(start.norm().item(), rel=1e-6)
    assert found["weight_update_ratio"] == pytest.approx(((end - start).norm() / start.norm()).item(), rel=1e-5)


def _saved(name: str) -> str:
    return name.replace(".default", "")


def _tensors(run_dir: RunDir, step: int) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    [file] = driver.checkpoint(run_dir, step).glob("*.safetensors")
    return load_file(file)


def test_beside_the_gradients_no_more_than_one_parameter_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "_LEAST_BYTES", 0)
    parameters = [torch.nn.Parameter(torch.randn(size)) for size in (10, 1000, 600, 300, 1, 700)]
    optimizer = torch.optim.AdamW(parameters, fused=True)
    measured = updates.Updates(parameters, optimizer)
    held: list[weakref.ref[Tensor]] = []
    sizes: list[int] = []
    copies = updates._copies

    def watched(part: Sequence[Tensor]) -> list[Tensor] | None:
        assert all(copy() is None for copy in held)
        made = copies(part)
        assert made is not None
        held.extend(map(weakref.ref, made))
        sizes.append(sum(copy.nbytes for copy in made))
        return made

    monkeypatch.setattr(updates, "_copies", watched)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)

    measured.measure_next()
    optimizer.step()

    assert sizes == [4 * size for size in (10, 1000, 901, 700)]
    found = measured.take()
    assert found is not None
    assert all(change > 0 for _, change in found)
    assert all(parameter.grad is not None for parameter in parameters)


def test_a_tensor_without_a_gradient_is_unknown_and_stays_where_it_is(bench: Bench, seen: Seen) -> None:
    torch.manual_seed(1)
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.ModuleDict({"mlp": torch.nn.Linear(3, 3)})])})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    run = driver.Run.open(bench.attempt(SFT, SFT_ROWS).path)
    probe = Probe(model, optimizer, run, interval=1, with_activations=False)
    layer = model["layers"][0]["mlp"]
    layer(torch.ones(3)).sum().backward()
    layer.bias.grad = None

    probe.begin(1)
    probe.look(1)
    optimizer.step()
    found = probe.finish(1)

    norms, ratios = (_by_name(run.dir, field, "tensor")[1] for field in ("norm", "weight_update_ratio"))
    assert norms["layers.0.mlp.weight"] == pytest.approx(3.0)
    assert math.isnan(norms["layers.0.mlp.bias"])
    assert ratios["layers.0.mlp.bias"] == 0
    assert ratios["layers.0.mlp.weight"] > 0
    assert found["weight_norm"] == pytest.approx(_whole_norm(model), rel=0.5)


def _whole_norm(model: torch.nn.Module) -> float:
    return math.hypot(*(parameter.norm().item() for parameter in model.parameters()))


@pytest.mark.parametrize("does_step", [True, False])
def test_gradients_that_are_no_numbers_are_recorded_whether_the_step_is_taken_or_not(
    bench: Bench, does_step: bool
) -> None:
    model = torch.nn.ModuleDict({"lm_head": torch.nn.Linear(2, 2, bias=False)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = driver.Run.open(bench.attempt(SFT, SFT_ROWS).path)
    probe = Probe(model, optimizer, run, interval=1, with_activations=False)
    for step, values in ((1, [[math.nan, 3.0], [math.inf, 4.0]]), (2, [[1.0, 1.0], [1.0, 1.0]])):
        model["lm_head"].weight.grad = torch.tensor(values)
        probe.begin(step)
        probe.look(step)
        if does_step or step == 2:
            optimizer.step()
        probe.finish(step)

    assert _by_name(run.dir, "share_non_finite", "group")[1]["all"] == 0.5
    assert _by_name(run.dir, "norm", "group")[1]["all"] == 5
    ratios = {step: groups["all"] for step, groups in _by_name(run.dir, "weight_update_ratio", "group").items()}
    assert math.isnan(ratios[1])
    assert math.isnan(ratios[2]) == does_step


def test_activations_are_those_of_the_passes_that_are_trained_on(bench: Bench) -> None:
    task = {**SFT, "micro_batch_size": 2, "data": {"shuffle": False}}
    run_dir = bench.attempt(task, SFT_ROWS, gradient_interval=100, activations=True)
    model = loading.load_model(loading.materialize(bench.model, driver.MODEL), dtype="float32")
    put_out: list[Tensor] = []
    model.model.layers[1].mlp.down_proj.register_forward_hook(lambda _, __, output: put_out.append(output.detach()))

    driver.run_here(run_dir)

    from finery.training import rows as data
    from finery.training.trl.sft import _Collator

    tokenizer = loading.load_tokenizer(loading.materialize(bench.model, driver.MODEL))
    examples, _ = data.examples(SFT_ROWS, tokenizer, loss_on="response", max_tokens=100)
    features = [{"input_ids": e.input_ids, "labels": e.labels} for e in examples]
    for start in (0, 2):
        batch = _Collator(tokenizer.pad_token_id)(features[start : start + 2])
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    values = torch.cat([output.flatten() for output in put_out])
    found = _by_name(run_dir, "activation_rms", "tensor")[1]["model.layers.1.mlp.down_proj.weight"]
    assert found == pytest.approx(values.double().square().mean().sqrt().item(), rel=1e-5)


def test_a_module_with_a_weight_and_a_bias_counts_once_in_its_layer(bench: Bench) -> None:
    torch.manual_seed(2)
    parts = {"attn": torch.nn.Linear(3, 5, bias=False), "mlp": torch.nn.Linear(5, 7)}
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.ModuleDict(parts)])})
    run = driver.Run.open(bench.attempt(SFT, SFT_ROWS).path)
    probe = Probe(model, None, run, interval=1, with_activations=True)

    probe.begin(1)
    first = parts["attn"](torch.randn(4, 3))
    second = parts["mlp"](first)
    with torch.no_grad():  # as when rollouts are drawn
        parts["mlp"](torch.full((9, 5), 100.0))
    second.sum().backward()
    probe.look(1)
    parts["mlp"](torch.full((9, 5), 100.0))  # of the next step
    probe.finish(1)

    together = torch.cat([first.detach().flatten(), second.detach().flatten()])
    layers, tensors = (_by_name(run.dir, "activation_rms", by)[1] for by in ("layer", "tensor"))
    assert layers == {"0": pytest.approx(together.square().mean().sqrt().item(), rel=1e-5)}
    assert tensors["layers.0.mlp.bias"] == tensors["layers.0.mlp.weight"]
    assert math.isnan(_by_name(run.dir, "weight_norm", "group")[1]["all"])


def test_what_a_resumed_run_records_lies_in_a_file_of_its_own(bench: Bench) -> None:
    first = bench.attempt(SFT, SFT_ROWS, name="first", gradient_interval=1, checkpoint_interval=2)
    driver.run_here(first)
    second = bench.attempt(SFT, SFT_ROWS, name="second", gradient_interval=1, resume_from=driver.checkpoint(first, 2))

    driver.run_here(second)

    assert list(_by_name(second, "norm", "layer")) == [3]
    assert _by_name(second, "norm", "layer")[3] == _by_name(first, "norm", "layer")[3]


def test_a_full_disk_loses_the_record_and_not_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS, gradient_interval=1)
    write, num = os.pwrite, 0

    def full(handle: int, data: bytes, at: int) -> int:
        nonlocal num
        num += 1
        if num in (4, 5):  # the statistics of the second step: half a record, then no room
            if num == 5:
                raise OSError(28, "No space left on device")
            return write(handle, data[:100], at)
        return write(handle, data, at)

    monkeypatch.setattr(gradients.os, "pwrite", full)

    driver.run_here(run_dir)

    assert _recorded(run_dir).records["step"].tolist() == [1, 3]
    assert [event["step"] for event in driver.events(run_dir, "gradients")] == [1, 3]
    [note] = [event["message"] for event in driver.events(run_dir, "log") if "not kept" in event["message"]]
    assert note.startswith("statistics of the gradients of step 2 were not kept")
    assert sorted(driver.metrics(run_dir)) == [1, 2, 3]


def test_memory_that_runs_out_loses_what_needed_it_and_not_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS, gradient_interval=1)
    counted = []

    def statistics(_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    look = Probe.look

    def failing(probe: Probe, step: int) -> None:
        counted.append(step)
        with monkeypatch.context() as patched:
            if step == 2:
                patched.setattr("finery.training.trl.probe.statistics", statistics)
            look(probe, step)

    monkeypatch.setattr(Probe, "look", failing)
    monkeypatch.setattr(updates, "_copies", lambda parameters: None)

    driver.run_here(run_dir)

    assert counted == [1, 2, 3]
    assert _recorded(run_dir).records["step"].tolist() == [1, 3]
    assert np.isnan(_recorded(run_dir).values("weight_update_ratio", "group")).all()
    assert "weight_norm" not in driver.metrics(run_dir)[1]


@pytest.mark.parametrize(
    ("name", "layer", "group"),
    [
        ("model.embed_tokens.weight", "embedding", "embedding"),
        ("model.layers.11.self_attn.q_proj.weight", "11", "attention"),
        ("model.layers.3.self_attn.q_norm.weight", "3", "norm"),
        ("model.layers.3.post_attention_layernorm.weight", "3", "norm"),
        ("model.layers.0.mlp.experts.gate_up_proj", "0", "ffn"),
        ("base_model.model.model.layers.2.mlp.up_proj.lora_B.default.weight", "2", "ffn"),
        ("base_model.model.score.modules_to_save.default.weight", "head", "head"),
        ("transformer.h.4.attn.c_attn.weight", "4", "attention"),
        ("transformer.ln_f.bias", "norm", "norm"),
        ("actor.lm_head.weight", "head", "head"),
        ("critic.head.weight", "critic.head", "head"),
        ("critic.trunk.layers.5.mlp.down_proj.weight", "critic.5", "ffn"),
        ("backbone.layers.1.mixer.conv1d.weight", "1", "other"),
    ],
)
def test_layer_and_group_come_from_the_name(name: str, layer: str, group: str) -> None:
    assert (anatomy.layer_of(name), anatomy.group_of(name)) == (layer, group)
