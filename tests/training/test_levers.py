"""Levers of the engine: LoRA kinds, quantized weights, gradient checkpointing, optimizers, and what stops a run.

Slow for their number, and they earn it: a lever that trains nothing looks from outside like one that works.
"""

import sys
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from safetensors.torch import load_file

from finery.core.errors import InvalidSpec
from finery.core.spec import parse
from finery.models import caching, loading, quantization
from finery.models.generation import Sampling, generate
from finery.runtime import exits
from finery.runtime.supervisor import Supervisor
from finery.training import memory
from finery.training.specs import SftSpec, TrainTask
from finery.training.trl.guards import NoGradient
from finery.training.trl.logprobs import completion_logprobs
from tests.training import driver
from tests.training.driver import GRPO_ROWS, SFT_ROWS, Bench

OPTIM = {"steps": 6, "learning_rate": 3e-3}
SFT = {"algorithm": "sft", "optim": OPTIM, "batch_size": 6}
LORA = {"lora": {"rank": 8}}
GRPO = {
    "algorithm": "grpo",
    "optim": {"steps": 2, "learning_rate": 1e-3},
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "kl_coef": 0.1,
    "rewards": [{"name": "format", "params": {"pattern": r".*\d.*"}}],
}


def _falls(run_dir: driver.RunDir) -> bool:
    losses = [values["loss"] for values in driver.metrics(run_dir).values()]
    return losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora"])
def test_each_kind_of_lora_learns_and_can_be_used(bench: Bench, kind: str) -> None:
    run_dir = bench.attempt({**SFT, "model": {"lora": {"rank": 8, "kind": kind}}}, SFT_ROWS)

    driver.run_here(run_dir)

    assert _falls(run_dir)
    folder = driver.checkpoint(run_dir, 6)
    has_norms = any("magnitude" in name for name in load_file(folder / "adapter_model.safetensors"))
    assert has_norms == (kind == "dora")
    assert _loss_of(folder) == pytest.approx(_next_loss(bench, folder), rel=1e-4)


def test_rslora_scales_the_update_by_the_root_of_the_rank(bench: Bench) -> None:
    """At rank 16 its first step from zero is 4 times that of LoRA: alpha / 4 against alpha / 16."""
    runs = {}
    for kind in ("lora", "rslora"):
        task = {**SFT, "optim": {"steps": 1, "learning_rate": 1e-3}, "model": {"lora": {"rank": 16, "kind": kind}}}
        runs[kind] = bench.attempt(task, SFT_ROWS, name=kind)
        driver.run_here(runs[kind])

    norms = {kind: driver.metrics(run_dir)[1]["grad_norm"] for kind, run_dir in runs.items()}

    assert norms["rslora"] == pytest.approx(4 * norms["lora"], rel=1e-3)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantized_run_learns_and_its_checkpoint_is_folded_into_the_whole_base(bench: Bench, quantize: str) -> None:
    run_dir = bench.attempt({**SFT, "model": {**LORA, "quantize": quantize}}, SFT_ROWS)

    driver.run_here(run_dir)

    assert _falls(run_dir)
    folder = driver.checkpoint(run_dir, 6)
    adapter = load_file(folder / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    whole, base = loading.load_model(folder, dtype="float32"), loading.load_model(_base(bench), dtype="float32")
    assert not any(isinstance(module, Linear4bit | Linear8bitLt) for module in whole.modules())
    name = "model.layers.0.mlp.up_proj"
    prefix = f"base_model.model.{name}"
    update = 32 / 8 * adapter[f"{prefix}.lora_B.weight"] @ adapter[f"{prefix}.lora_A.weight"]
    expected = base.get_submodule(name).weight + update
    torch.testing.assert_close(whole.get_submodule(name).weight, expected, rtol=0, atol=1e-6)
    # The weights that the adapter was trained beside differ from the base's by the rounding to 4 or 8 bits.
    assert _loss_of(folder) == pytest.approx(driver.metrics(run_dir)[6]["loss"], rel=0.5)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantized_run_resumes_to_the_same_bytes(bench: Bench, quantize: str) -> None:
    task = {**SFT, "model": {"lora": {"rank": 8, "dropout": 0.1}, "quantize": quantize}}
    straight = bench.attempt(task, SFT_ROWS, name="straight", checkpoint_interval=3)
    driver.run_here(straight)
    resumed = bench.attempt(task, SFT_ROWS, name="resumed", resume_from=driver.checkpoint(straight, 3))

    driver.run_here(resumed)

    _assert_same_end(straight, resumed, "adapter_model.safetensors")


def test_a_quantized_run_starts_from_the_checkpoint_of_another(bench: Bench) -> None:
    task = {**SFT, "model": {**LORA, "quantize": "nf4"}}
    first = bench.attempt(task, SFT_ROWS, name="first")
    driver.run_here(first)
    second = bench.attempt(task, SFT_ROWS, name="second", base=driver.checkpoint(first, 6))

    driver.run_here(second)

    assert driver.metrics(second)[1]["loss"] < driver.metrics(first)[1]["loss"]
    assert _loss_of(driver.checkpoint(second, 6)) < _loss_of(driver.checkpoint(first, 6))


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_rollouts_leave_a_quantized_model_trainable(bench: Bench, quantize: str) -> None:
    run_dir = bench.attempt({**GRPO, "model": {**LORA, "quantize": quantize}}, GRPO_ROWS)

    driver.run_here(run_dir)

    assert all(values["grad_norm"] > 0 for values in driver.metrics(run_dir).values())


def test_quantized_weights_without_lora_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="model.quantize: nf4 freezes the weights.*add model.lora"):
        parse(SftSpec, {"algorithm": "sft", "model": {"base": "tiny-char", "quantize": "nf4"}, "data": {"train": "x"}})


def test_an_eval_pass_does_not_pack_4_bit_weights(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU with avx512_bf16 bitsandbytes packs at the first of them; the packing itself runs on every CPU."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    model = quantization.load_quantized(_base(bench), "nf4", dtype="float32", compute_dtype="float32").eval()

    with torch.no_grad():
        model(input_ids=torch.tensor([[1, 2, 3]]))

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert layers
    assert not any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers)


@pytest.mark.skipif(not has_avx512bf16(), reason="bitsandbytes packs 4-bit weights on CPUs with avx512_bf16 only")
def test_packed_4_bit_weights_stop_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap itself: layers are let pack again, an eval pass packs them, and no gradient reaches q_proj."""
    from finery.training.trl import setup

    load = setup.load_quantized

    def packed(*args: Any, **kwargs: Any) -> Any:
        model = load(*args, **kwargs)
        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = True
        model.eval()
        with torch.no_grad():
            model(input_ids=torch.tensor([[1, 2, 3]]))
        return model.train()

    monkeypatch.setattr(setup, "load_quantized", packed)
    task = {**SFT, "model": {"lora": {"rank": 8, "target_modules": ["q_proj"]}, "quantize": "nf4"}}

    with pytest.raises(NoGradient):
        driver.run_here(bench.attempt(task, SFT_ROWS))


def _dead_base(bench: Bench, folder: Path) -> Path:
    """A model whose attention adds nothing, so that no gradient reaches its queries."""
    path = _base(bench)
    model = loading.load_model(path, dtype="float32")
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
    model.save_pretrained(folder)
    loading.load_tokenizer(path).save_pretrained(folder)
    return folder


def test_a_run_whose_gradients_are_all_zero_is_stopped(bench: Bench, tmp_path: Path) -> None:
    base = _dead_base(bench, tmp_path / "dead")
    task = {**SFT, "model": {"lora": {"rank": 8, "target_modules": ["q_proj"]}}}
    run_dir = bench.attempt(task, SFT_ROWS)
    _start_from(run_dir, base)

    assert driver.run_child(run_dir) == exits.FAILED, driver.log_of(run_dir)

    told = driver.events(run_dir, "status")[-1]["message"]
    assert told.startswith(
        "step 3: all trainable gradients have been zero for 3 steps in a row though the loss was not"
    )


def test_groups_of_equal_rewards_are_no_reason_to_stop(bench: Bench) -> None:
    """Every completion matches, so there is no advantage, no loss and rightly no gradient."""
    task = {
        **GRPO,
        "kl_coef": 0.0,
        "optim": {"steps": 5, "learning_rate": 1e-3},
        "rewards": [{"name": "format", "params": {"pattern": r"(?s).*"}}],
    }
    run_dir = bench.attempt(task, GRPO_ROWS)

    driver.run_here(run_dir)

    assert [values["grad_norm"] for values in driver.metrics(run_dir).values()] == [0.0] * 5


@pytest.mark.parametrize(
    ("task", "model"), [(SFT, {}), (SFT, LORA), (SFT, {**LORA, "quantize": "nf4"}), (GRPO, {}), (GRPO, LORA)]
)
def test_gradient_checkpointing_does_not_change_the_mathematics(
    bench: Bench, task: dict[str, Any], model: dict[str, Any]
) -> None:
    rows = SFT_ROWS if task is SFT else GRPO_ROWS
    runs = []
    for checkpointing in (False, True):
        own = {**task, "model": {**model, "gradient_checkpointing": checkpointing}}
        runs.append(bench.attempt(own, rows, name=f"run-{checkpointing}"))
        driver.run_here(runs[-1])

    plain, checkpointed = (driver.metrics(run_dir) for run_dir in runs)

    assert any(values["grad_norm"] > 0 for values in plain.values())
    for step, values in plain.items():
        for name in ("loss", "grad_norm"):
            assert checkpointed[step][name] == pytest.approx(values[name], rel=1e-4, abs=1e-6), (step, name)


def test_log_probabilities_are_the_same_without_the_cache(bench: Bench) -> None:
    model = loading.load_model(_base(bench), dtype="float32")
    ids = torch.tensor([[0, 5, 6, 7, 8], [3, 5, 6, 9, 9], [3, 5, 6, 9, 4]])
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    model.train()
    expected = completion_logprobs(model, ids, mask, 2, 0.7, True)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert caching.drops_cache(model)

    found = completion_logprobs(model, ids, mask, 2, 0.7, True)
    with torch.no_grad():
        unwatched = completion_logprobs(model, ids, mask, 2, 0.7, True)

    counted = mask[:, -2:].bool()
    for with_cache, without, again in zip(expected, found, unwatched, strict=True):
        torch.testing.assert_close(without[counted], with_cache[counted], rtol=0, atol=1e-5)
        torch.testing.assert_close(again[counted], with_cache[counted], rtol=0, atol=1e-5)


def test_generation_is_the_same_under_gradient_checkpointing(bench: Bench) -> None:
    model = loading.load_model(_base(bench), dtype="float32").train()
    sampling = Sampling(max_new_tokens=8)
    expected = generate(model, [[1, 2, 3], [4, 5]], sampling)
    model.gradient_checkpointing_enable({"use_reentrant": False})

    found = generate(model, [[1, 2, 3], [4, 5]], sampling)

    assert found == expected
    assert caching.drops_cache(model)


@pytest.mark.parametrize(
    ("kind", "learning_rate"),
    [("adamw", 3e-3), ("adamw_8bit", 3e-3), ("lion", 1e-3), ("lion_8bit", 1e-3), ("adafactor", 1e-2), ("sgd", 0.3)],
)
def test_each_optimizer_learns_and_resumes_to_the_same_bytes(bench: Bench, kind: str, learning_rate: float) -> None:
    task = {**SFT, "optim": {"kind": kind, "steps": 6, "learning_rate": learning_rate, "weight_decay": 0.01}}
    straight = bench.attempt(task, SFT_ROWS, name="straight", checkpoint_interval=3)
    driver.run_here(straight)
    resumed = bench.attempt(task, SFT_ROWS, name="resumed", resume_from=driver.checkpoint(straight, 3))

    driver.run_here(resumed)

    assert _falls(straight)
    _assert_same_end(straight, resumed, "model.safetensors")


def test_8_bit_states_take_a_quarter_of_the_room(bench: Bench) -> None:
    sizes = {}
    for kind in ("adamw", "adamw_8bit"):
        run_dir = bench.attempt({**SFT, "optim": {"kind": kind, "steps": 1}}, SFT_ROWS, name=kind)
        driver.run_here(run_dir)
        sizes[kind] = (driver.checkpoint(run_dir, 1) / "optimizer.pt").stat().st_size

    assert sizes["adamw_8bit"] < sizes["adamw"] / 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"optim": {"kind": "paged_adamw_8bit"}}, "no GPU here; set optim.kind: adamw_8bit"),
        ({"model": {"liger": True}}, "model.liger: these kernels run on a GPU"),
    ],
)
def test_what_only_a_gpu_can_do_is_refused_without_one(bench: Bench, task: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        driver.run_here(bench.attempt({**SFT, **task}, SFT_ROWS))


LIMITED = """
import resource, sys
from pathlib import Path
from finery.runtime import __main__ as child
from finery.training.trl import engine, steps

begin = steps.StepCallback.on_train_begin

def limited(self, *args, **kwargs):
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**26, resource.RLIM_INFINITY))
    begin(self, *args, **kwargs)

steps.StepCallback.on_train_begin = limited
sys.exit(child.main(Path(sys.argv[1])))
"""


def test_memory_that_runs_out_ends_in_one_error_that_names_a_smaller_micro_batch(bench: Bench) -> None:
    rows = [{"prompt": "1" * 400, "response": "2" * 400}] * 64
    run_dir = bench.attempt({**SFT, "batch_size": 64}, rows)

    assert driver.run_child(run_dir, program=("-c", LIMITED)) == exits.FAILED, driver.log_of(run_dir)

    told = driver.events(run_dir, "status")[-1]["message"]
    assert told.startswith("out of memory while training at micro_batch_size: 64 (peak ")
    assert told.endswith(" GiB); try micro_batch_size: 32, or model.gradient_checkpointing: true, or model.lora: {}")


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"algorithm": "sft", "batch_size": 12}, "micro_batch_size: 6,"),
        ({"algorithm": "sft", "batch_size": 12, "micro_batch_size": 3}, "micro_batch_size: 1,"),
        ({"algorithm": "sft", "batch_size": 1}, "try model.gradient_checkpointing"),
        ({"algorithm": "sft", "batch_size": 9, "packing": True, "data": {"max_tokens": 100}}, "data.max_tokens: 50,"),
        (
            {"algorithm": "grpo", "prompts_per_step": 3, "rollout": {"completions_per_prompt": 4}},
            "micro_batch_size: 6,",
        ),
        ({"algorithm": "sft", "batch_size": 1, "model": {"lora": {}}}, "or model.quantize: nf4"),
    ],
)
def test_what_is_advised_divides_the_batch(task: dict[str, Any], told: str) -> None:
    assert told in memory.advice(_complete(task))


@pytest.mark.parametrize(
    ("task", "left_out"),
    [
        ({"algorithm": "kto", "batch_size": 8, "micro_batch_size": 2}, "micro_batch_size"),
        ({"algorithm": "dpo", "batch_size": 8, "loss_type": "aot"}, "micro_batch_size"),
        ({"algorithm": "reward", "model": {"lora": {}}}, "model.quantize"),
        ({"algorithm": "grpo", "kl_coef": 0.1, "sync_ref_model": True}, "model.lora"),
        ({"algorithm": "sft", "packing": True, "data": {"max_tokens": 2}}, "data.max_tokens"),
    ],
)
def test_what_the_task_cannot_have_is_not_advised(task: dict[str, Any], left_out: str) -> None:
    advice = memory.advice(_complete(task))

    assert left_out not in advice
    assert "model.gradient_checkpointing: true" in advice


def _complete(task: dict[str, Any]) -> dict[str, Any]:
    """A task as it stands in a run directory."""
    rewards = {"rewards": ["exact"]} if task["algorithm"] == "grpo" else {}
    model, data = {"base": driver.MODEL, **task.get("model", {})}, {"train": driver.DATA, **task.get("data", {})}
    found: dict[str, Any] = parse(TrainTask, {**task, **rewards, "model": model, "data": data}).model_dump(mode="json")
    return found


def test_a_run_that_the_kernel_killed_for_its_memory_is_told_what_needs_less(bench: Bench) -> None:
    supervisor = Supervisor(bench.attempt(SFT, SFT_ROWS), sys.executable, None)

    told = supervisor._cause(-9, "SIGKILL", 1)

    assert told.startswith("killed by the kernel, out of memory; try micro_batch_size: 3, or ")


def test_a_task_that_trains_nothing_gets_no_advice() -> None:
    assert memory.advice({"model": {"base": "tiny-char"}, "benchmark": {"name": "arithmetic"}}) == ""


def _base(bench: Bench) -> Path:
    return loading.materialize(bench.model, driver.MODEL)


def _start_from(run_dir: driver.RunDir, base: Path) -> None:
    """Name another model in spec.json, as a folder."""
    from finery.core.rundir import ResolvedInput
    from finery.models import resolving

    spec = run_dir.read_spec()
    found = ResolvedInput(kind="folder", path=str(base), sha256=resolving.folder_sha256(base))
    changed = spec.model_copy(update={"inputs": {**spec.inputs, driver.MODEL: found}})
    run_dir.spec.write_text(changed.model_dump_json())


def _loss_of(folder: Path) -> float:
    """Mean loss of the labels of all rows under a checkpoint."""
    from finery.training import rows as data

    model, tokenizer = loading.load_model(folder, dtype="float32"), loading.load_tokenizer(folder)
    examples, _ = data.examples(SFT_ROWS, tokenizer, loss_on="response", max_tokens=100)
    total, count = 0.0, 0
    for example in examples:
        labels = torch.tensor(example.labels)
        logits = model(torch.tensor([example.input_ids])).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum").item()
        count += int((labels[1:] != -100).sum())
    return total / count


def _next_loss(bench: Bench, folder: Path) -> float:
    """Loss of the first step of a run that goes on from a checkpoint."""
    run_dir = bench.attempt({**SFT, "optim": {"steps": 1}}, SFT_ROWS, name="next", base=folder)
    driver.run_here(run_dir)
    return driver.metrics(run_dir)[1]["loss"]


def _assert_same_end(straight: driver.RunDir, resumed: driver.RunDir, file: str) -> None:
    expected = {step: values for step, values in driver.metrics(straight).items() if step > 3}
    assert driver.metrics(resumed) == expected
    ends = [driver.checkpoint(run_dir, 6) / file for run_dir in (straight, resumed)]
    assert ends[0].read_bytes() == ends[1].read_bytes()
