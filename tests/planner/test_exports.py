"""Plans in the words of those that run them, each read by the program that it is for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from finery.cli.main import app
from finery.core import documents
from finery.core.errors import InvalidSpec
from finery.core.spec import parse
from finery.jobs.specs import JobSpec, TrainJob
from finery.planner import planning
from finery.planner.exports import export
from finery.planner.specs import ExportFormat, ExportView, PlanRequest

MODEL = "Qwen/Qwen2.5-7B"


def made(to: ExportFormat, **request: Any) -> ExportView:
    return export(planning.find(PlanRequest(**{"model": MODEL, "num_gpus": 8, **request})), to)


def job_of(**request: Any) -> TrainJob:
    read = documents.parse(made("job", **request).files["job.yaml"])
    found = parse(JobSpec, read.value, lines=read.lines)
    assert isinstance(found, TrainJob)
    return found


@pytest.mark.parametrize("algorithm", ["pretrain", "sft", "reward", "dpo", "kto", "orpo", "ppo", "grpo", "rloo"])
@pytest.mark.parametrize("lora", [True, False])
def test_a_job_file_says_what_was_planned(algorithm: str, lora: bool) -> None:
    request: dict[str, Any] = {"algorithm": algorithm, "lora": lora, "context": 1024, "batch": 32, "steps": 7}
    if not lora:  # what is trained whole needs shards, and only engine verl has these
        request |= {"gpu": "B200", "rollouts": "trainer"}
    found = planning.find(PlanRequest(model=MODEL, num_gpus=8, **request))
    job = job_of(**request)

    assert job.task.algorithm == ("sft" if algorithm == "pretrain" else algorithm)
    assert job.task.optim.steps == 7
    assert (job.task.model.lora is not None) is lora
    assert job.resources.gpus == 8
    best = found.recommendation.best
    assert best is not None
    assert job.task.micro_batch_size == best.micro_batch
    assert job.task.model.gradient_checkpointing is (best.recomputation == "full")
    sequences = getattr(job.task, "batch_size", None)
    if sequences is None:
        prompts = getattr(job.task, "prompts_per_step", None) or job.task.prompts_per_batch  # type: ignore[union-attr]
        sequences = prompts * job.task.rollout.completions_per_prompt  # type: ignore[union-attr]
        assert job.task.data.max_prompt_tokens + job.task.rollout.max_new_tokens == 1024  # type: ignore[union-attr]
    assert sequences == 32


def test_shards_and_a_rollout_engine_are_verls_words() -> None:
    request = {"algorithm": "grpo", "rollouts": "colocated", "batch": 1024, "num_gpus": 16, "steps": 100}
    job = job_of(**request)

    assert job.task.engine == "verl"
    assert job.resources.nodes == 2
    rollout = job.task.rollout  # type: ignore[union-attr]
    best = planning.find(PlanRequest(model=MODEL, **request)).recommendation.best
    assert best is not None
    assert best.rollout is not None
    assert (rollout.engine, rollout.tensor_parallel) == ("vllm", best.rollout.tensor)
    assert rollout.gpu_memory_utilization == best.rollout.share


@pytest.mark.parametrize(
    "request_",
    [
        {"algorithm": "sft"},
        {"algorithm": "sft", "lora": True, "fixed": {"sharding": "fsdp"}},
        {"algorithm": "sft", "fixed": {"sharding": "megatron", "tensor": 2, "pipeline": 2}},
        {"algorithm": "sft", "context": 32768, "fixed": {"sharding": "fsdp", "context": 4}},
        {"algorithm": "grpo", "rollouts": "colocated", "batch": 512},
        {"algorithm": "grpo", "rollouts": "colocated", "batch": 512, "fixed": {"offload": "between"}},
        {"algorithm": "grpo", "rollouts": "apart", "batch": 512},
        {"algorithm": "rloo", "rollouts": "colocated", "batch": 512, "lora": True},
        {"algorithm": "ppo", "rollouts": "colocated", "batch": 512, "gpu": "H200"},
        {"algorithm": "grpo", "rollouts": "colocated", "batch": 512, "optimizer": "adamw_8bit", "lora": True},
        {"algorithm": "grpo", "rollouts": "colocated", "batch": 512, "numbers": "mixed", "gpu": "H200"},
    ],
)
def test_what_verl_is_told_is_what_its_engine_takes(request_: dict[str, Any]) -> None:
    """The translator and the checks of the engine run; they raise for what verl would refuse."""
    files = made("verl", **{"num_gpus": 8, **request_}).files

    lines = dict(line.split("=", 1) for line in files["overrides.txt"].splitlines())
    assert lines["trainer.n_gpus_per_node"] in ("8", "4", "6", "2")
    assert "python -m verl" in files["run.sh"] or "torchrun" in files["run.sh"]
    tensor = (request_.get("fixed") or {}).get("tensor")
    if tensor:
        assert lines["engine.tensor_model_parallel_size"] == str(tensor)
    if request_["algorithm"] == "grpo":
        assert lines["algorithm.adv_estimator"] == "grpo"


def config_class(algorithm: str) -> Any:
    import trl

    names = {"sft": "SFTConfig", "dpo": "DPOConfig", "kto": "KTOConfig", "reward": "RewardConfig", "grpo": "GRPOConfig"}
    return getattr(trl, names.get(algorithm, "RLOOConfig"))


@pytest.mark.parametrize("algorithm", ["sft", "reward", "dpo", "kto", "grpo", "rloo"])
@pytest.mark.parametrize("change", [{}, {"lora": True, "quantize": "nf4_double"}, {"numbers": "mixed", "gpu": "H200"}])
def test_trl_reads_its_arguments(algorithm: str, change: dict[str, Any]) -> None:
    from trl import ModelConfig, ScriptArguments

    files = made("trl", algorithm=algorithm, **change).files
    settings = yaml.safe_load(files["trl.yaml"])
    assert settings.pop("accelerate_config") in files
    config = config_class(algorithm)
    mine = {field.name for one in (config, ModelConfig, ScriptArguments) for field in dataclasses.fields(one)}

    assert settings.keys() <= mine
    ours = {name: value for name, value in settings.items() if name in {f.name for f in dataclasses.fields(config)}}
    parsed = config(**{**ours, "bf16": False})  # refused where there is no GPU
    assert parsed.per_device_train_batch_size * parsed.gradient_accumulation_steps * 8 == 64


def test_shards_are_told_to_add_gradients_up_after_each_micro_batch() -> None:
    """Trainer defers it otherwise and keeps whole gradients, for which the plan has no room."""
    from accelerate.utils import GradientAccumulationPlugin

    request: dict[str, Any] = {"gpu": "H100", "fixed": {"sharding": "fsdp", "micro_batch": 2}, "lora": False}
    several = made("trl", **request)
    settings = yaml.safe_load(several.files["trl.yaml"])
    assert settings["gradient_accumulation_steps"] == 4
    told = config_class("sft")(accelerator_config=settings["accelerator_config"], bf16=False).accelerator_config
    assert GradientAccumulationPlugin(num_steps=4, **told.gradient_accumulation_kwargs).sync_each_batch
    assert not any("sync_each_batch" in note for note in several.notes)
    assert any("sync_each_batch" in note for note in made("fsdp", **request).notes)
    once = made("trl", batch=16, **request)
    assert "accelerator_config" not in yaml.safe_load(once.files["trl.yaml"])


@pytest.mark.parametrize(("sharding", "kind"), [("ddp", "MULTI_GPU"), ("fsdp", "FSDP"), ("zero2", "DEEPSPEED")])
def test_accelerate_reads_its_configuration(sharding: str, kind: str, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    files = made("accelerate", lora=True, fixed={"sharding": sharding}).files
    path = tmp_path / "accelerate.yaml"
    path.write_text(files["accelerate.yaml"])

    found = load_config_from_file(str(path))
    assert str(getattr(found.distributed_type, "value", found.distributed_type)) == kind
    assert found.num_processes == 8
    assert ("deepspeed.json" in files) is (sharding == "zero2")


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeeds_batches_are_the_plans(stage: int) -> None:
    settings = json.loads(made("deepspeed", lora=True, fixed={"sharding": f"zero{stage}"}).files["deepspeed.json"])

    assert settings["zero_optimization"]["stage"] == stage
    product = settings["train_micro_batch_size_per_gpu"] * settings["gradient_accumulation_steps"] * 8
    assert product == settings["train_batch_size"] == 64


def test_what_waits_in_host_memory_is_said_to_each() -> None:
    request = {"gpu": "RTX 4090", "num_gpus": 2, "host_gib": 512, "fixed": {"offload": "all"}}
    zero = json.loads(made("deepspeed", **request).files["deepspeed.json"])["zero_optimization"]
    shards = yaml.safe_load(made("fsdp", **request).files["accelerate.yaml"])

    assert zero["offload_param"]["device"] == zero["offload_optimizer"]["device"] == "cpu"
    assert shards["fsdp_config"]["fsdp_offload_params"] is True


@pytest.mark.parametrize(
    ("to", "request_", "message"),
    [
        ("job", {"num_gpus": 1, "gpu": "RTX 4090", "lora": False}, "there is no plan to export: it does not fit"),
        (
            "fsdp",
            {"num_gpus": 1, "lora": True},
            "no way that fits can be exported as fsdp: accelerate's FSDP needs several devices",
        ),
        ("verl", {"algorithm": "dpo", "lora": True}, "verl runs sft, ppo, grpo and rloo"),
        ("trl", {"algorithm": "ppo", "lora": True}, "TRL's command line has no ppo"),
        ("job", {"optimizer": "muon", "lora": True}, "a job file has no optimizer muon"),
        ("job", {"algorithm": "grpo", "batch": 9, "num_gpus": 1, "lora": True}, "plan for a multiple of 8"),
        ("job", {"lora": True, "num_gpus": 16, "fixed": {"sharding": "ddp"}}, "copies on one host .engine trl."),
    ],
)
def test_what_cannot_be_said_is_refused(to: Any, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        made(to, **request_)


def test_the_command_writes_files_and_overwrites_none(tmp_path: Path) -> None:
    words = ["plan", "--model", MODEL, "--num-gpus", "8", "--lora", "--export", "trl", "--out", str(tmp_path / "out")]
    first = CliRunner().invoke(app, words)
    second = CliRunner().invoke(app, words)

    assert first.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["accelerate.yaml", "trl.yaml"]
    assert isinstance(second.exception, InvalidSpec)
    assert "exist already" in str(second.exception)
    nonsense = CliRunner().invoke(app, ["plan", "--params", "7", "--export", "toml"])
    assert "there is no such format" in str(nonsense.exception)
