"""What verl takes though it is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec, Problem
from finery.training.verl import checking, translating
from finery.training.verl.sheet import Inputs
from tests.training.jobs_of_verl import inputs, job

A = "actor_rollout_ref"
PG: dict[str, Any] = {"algorithm": "policy_gradient", "advantage": "grpo"}
PPO: dict[str, Any] = {"algorithm": "ppo", "critic": {"kind": "separate"}}


def problems(task: dict[str, Any], given: Inputs, *, files: bool = False, **changed: Any) -> tuple[Problem, ...]:
    translation = translating.translate(job(task), inputs=given)
    settings = {**translation.settings, **{key.replace("__", "."): value for key, value in changed.items()}}
    try:
        checking.check(replace(translation, settings=settings), inputs=given, files=files)
    except InvalidSpec as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    ("task", "device", "processes"),
    [
        ({"algorithm": "grpo"}, "cpu", 2),
        ({"algorithm": "sft"}, "cpu", 1),
        (PPO, "cuda", 8),
        ({"algorithm": "grpo", "parallel": {"strategy": "megatron", "tensor": 2, "pipeline": 2}}, "cuda", 8),
        ({"algorithm": "grpo", "rollout": {"mode": "one_step_off"}}, "npu", 8),
    ],
)
def test_what_is_right_passes(task: dict[str, Any], device: Any, processes: int) -> None:
    assert problems(task, inputs(device, processes)) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("algorithm.adv_estimator", "foo"),
        (f"{A}.actor.strategy", "foo"),
        (f"{A}.actor.policy_loss.loss_mode", "foo"),
        (f"{A}.rollout.name", "foo"),
        (f"{A}.rollout.mode", "sync"),
        ("trainer.resume_mode", "foo"),
        ("trainer.v1.trainer_mode", "async"),
        (f"{A}.actor.optim.lr", "abc"),
        ("trainer.save_freq", 2.5),
        (f"{A}.actor.use_kl_loss", "yes"),
        (f"{A}.actor.clip_ratio_c", 0.5),
    ],
)
def test_values_that_verl_would_take_are_refused(key: str, value: Any) -> None:
    found = problems({"algorithm": "grpo"}, inputs(), **{key: value})

    assert len(found) == 1
    assert key in found[0].message or "max_ratio" in found[0].message


def test_a_near_name_is_suggested() -> None:
    found = problems({"algorithm": "grpo"}, inputs(), **{"algorithm.adv_estimator": "rlo"})

    assert found[0].path == "task.algorithm"
    assert "did you mean rloo" in found[0].message


def test_native_values_are_checked_like_ours() -> None:
    native = {"native": {"critic.optim.lr": "abc", f"{A}.rollout.max_num_seqs": 64}}

    found = problems({"algorithm": "grpo", **native}, inputs())

    assert [one.path for one in found] == ["task.native.critic.optim.lr"]


@pytest.mark.parametrize(
    ("task", "given", "field", "right"),
    [
        ({"algorithm": "grpo"}, inputs("cuda", 3), "task.prompts_per_step", "6 or 9 prompts"),
        ({"algorithm": "grpo", "prompts_per_step": 1}, inputs("cuda", 16), "task.prompts_per_step", "2 prompts would"),
        (
            {"algorithm": "grpo", "prompts_per_step": 3, "rollout": {"completions_per_prompt": 3}},
            inputs("cpu", 2),
            "task.prompts_per_step",
            "2 or 4 prompts",
        ),
        (
            {**PG, "prompts_per_step": 3, "mini_batches": 2, "rollout": {"completions_per_prompt": 3}},
            inputs("cuda", 4),
            "task.prompts_per_step",
            "2 or 4 prompts",
        ),
        ({"algorithm": "grpo", "micro_batch_size": 32}, inputs("cuda", 8), "task.micro_batch_size", "set 8"),
        (
            {"algorithm": "grpo", "rollout": {"tensor_parallel": 3}},
            inputs("cuda", 8),
            "task.rollout.tensor_parallel",
            "set 2",
        ),
        (
            {"algorithm": "grpo", "parallel": {"strategy": "megatron", "tensor": 3}},
            inputs("cuda", 8),
            "task.parallel.tensor",
            "8 processes",
        ),
        ({"algorithm": "grpo", "parallel": {"sequence": 3}}, inputs("cuda", 8), "task.parallel.sequence", "divide"),
        ({"algorithm": "grpo", "parallel": {"fsdp_size": 3}}, inputs("cuda", 8), "task.parallel.fsdp_size", "set 2"),
        ({"algorithm": "sft"}, inputs("cuda", 3), "task.batch_size", "6 or 9"),
        ({"algorithm": "sft", "micro_batch_size": 4}, inputs("cuda", 4), "task.micro_batch_size", "set 2"),
        ({**PPO, "mini_batch_size": 4}, inputs("cuda", 8), "task.mini_batch_size", "8 completions would"),
        ({"algorithm": "grpo"}, inputs("cuda", 8, num_rows=5), "task.prompts_per_step", "5 at most"),
    ],
)
def test_numbers_must_divide(task: dict[str, Any], given: Inputs, field: str, right: str) -> None:
    found = problems(task, given)

    assert [one.path for one in found] == [field]
    assert right in found[0].message


def test_offloading_twice_is_refused() -> None:
    task = {"algorithm": "grpo", "parallel": {"offload_parameters": True}}
    native = {"native": {f"{A}.actor.fsdp_config.offload_policy": True}}

    found = problems({**task, **native}, inputs("cuda", 8))

    assert [one.path for one in found] == [f"task.native.{A}.actor.fsdp_config.offload_policy"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    given = replace(inputs(), model=tmp_path, resume_from=tmp_path / "step-3")

    found = problems({"algorithm": "grpo"}, given, files=True)

    assert [one.path for one in found] == ["task.model.base", "task.data.train", "task.rewards", ""]


def test_files_that_are_there_pass(tmp_path: Path) -> None:
    for name in ("config.json", "train.parquet", "rewards.py"):
        (tmp_path / name).touch()
    given = replace(inputs(), model=tmp_path, train=tmp_path / "train.parquet", reward_file=tmp_path / "rewards.py")

    assert problems({"algorithm": "grpo"}, given, files=True) == ()
