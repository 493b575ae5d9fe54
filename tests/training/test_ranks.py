"""Several processes train one task as one does: the same curve, one story, one end.

Slow, since processes must meet, and earns it: a rank that goes its own way is seen by nothing else.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from finery.core import checkpoints
from finery.core.errors import InvalidSpec
from finery.core.rundir import ResolvedInput, RunDir
from finery.core.spec import parse
from finery.jobs.specs import JobSpec
from finery.models import chat, loading
from finery.runtime import exits
from tests.training import driver
from tests.training.driver import GRPO_ROWS, PREFERENCE_ROWS, SFT_ROWS, Bench

# A large epsilon keeps AdamW from blowing the rounding of gradients near zero up to whole steps.
OPTIM = {"steps": 4, "learning_rate": 1e-3, "epsilon": 1e-3, "warmup_steps": 1, "schedule": "linear"}
SFT: dict[str, Any] = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4}
FORM = {"name": "format", "params": {"pattern": r".*[0-4].*"}}
GROUPS: dict[str, Any] = {
    "optim": OPTIM,
    "prompts_per_step": 3,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "rewards": [FORM],
}
PPO: dict[str, Any] = {
    "algorithm": "ppo",
    "optim": OPTIM,
    "prompts_per_batch": 6,
    "rollout": {"completions_per_prompt": 2, "max_new_tokens": 6},
    "num_iterations": 2,
    "rewards": [FORM],
}


def _end(run_dir: RunDir, code: int = exits.COMPLETED) -> RunDir:
    assert driver.run_child(run_dir) == code, driver.log_of(run_dir)
    return run_dir


def _failure(run_dir: RunDir) -> str:
    status = driver.events(run_dir, "status")[-1]
    assert status["status"] == "failed"
    return str(status["message"])


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        pytest.param({**SFT, "micro_batch_size": 1}, SFT_ROWS, id="sft"),
        pytest.param({**SFT, "packing": True, "model": {"lora": {"rank": 4}}}, SFT_ROWS, id="sft-packed-lora"),
        pytest.param({**SFT, "algorithm": "reward"}, PREFERENCE_ROWS, id="reward"),
        pytest.param({**SFT, "algorithm": "dpo"}, PREFERENCE_ROWS, id="dpo"),
        pytest.param({**SFT, "algorithm": "kto"}, PREFERENCE_ROWS, id="kto"),
        pytest.param({**SFT, "algorithm": "orpo", "micro_batch_size": 1}, PREFERENCE_ROWS, id="orpo"),
        # With one possible token at a time both draw the same.
        pytest.param({**PPO, "rollout": PPO["rollout"] | {"top_k": 1}, "kl_target": 0.01}, GRPO_ROWS, id="ppo"),
    ],
)
def test_two_processes_train_as_one_does(
    bench: Bench, talkative: Path, task: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    one = bench.attempt({**task, "micro_batch_size": None}, rows, name="one", base=talkative)
    two = bench.attempt(task, rows, name="two", base=talkative, processes=2)
    driver.order(one, "set", learning_rate=5e-4)
    driver.order(two, "set", learning_rate=5e-4)

    driver.run_here(one)
    _end(two)

    expected, found = driver.metrics(one), driver.metrics(two)
    assert sorted(found) == [1, 2, 3, 4]
    for step, values in expected.items():
        assert values["grad_norm"] > 0
        assert found[step] == pytest.approx(values, rel=1e-3, abs=1e-5), step
    same, other = (_weights(run_dir) for run_dir in (one, two))
    assert same.keys() == other.keys()
    for name, tensor in same.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=2e-5)
    manifests = [checkpoints.read_manifest(driver.checkpoint(run_dir, 4)) for run_dir in (one, two)]
    assert [manifest.world_size for manifest in manifests] == [1, 2]
    assert [event["step"] for event in driver.events(two, "metrics")] == [1, 2, 3, 4]
    assert driver.log_of(two).count("step 4/4") == 1


def _weights(run_dir: RunDir) -> dict[str, torch.Tensor]:
    """All trained tensors of the last checkpoint."""
    files = driver.checkpoint(run_dir, 4).rglob("*.safetensors")
    return {f"{file.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def test_the_gradient_of_a_group_that_two_processes_share_is_that_of_all_its_completions(
    bench: Bench, talkative: Path
) -> None:
    rate = 0.05
    task = {
        **GROUPS,
        "algorithm": "grpo",
        "optim": {"steps": 1, "kind": "sgd", "learning_rate": rate, "max_grad_norm": 0},
        "prompts_per_step": 1,
        "rollout": {"completions_per_prompt": 6, "max_new_tokens": 6, "top_k": 4},
        "rewards": [{"name": "length", "params": {"min": 6, "slack": 6}}],
        "micro_batch_size": 1,
    }

    run_dir = _end(bench.attempt(task, GRPO_ROWS, base=talkative, processes=2))

    records = driver.rollouts(run_dir)
    [values] = driver.metrics(run_dir).values()
    assert len(records) == 6
    assert len({record["reward"] for record in records}) > 1
    assert fmean(record["advantage"] for record in records) == pytest.approx(0, abs=1e-6)
    assert values["reward_mean"] == pytest.approx(fmean(record["reward"] for record in records))
    assert values["response_length_mean"] == pytest.approx(fmean(record["length"] for record in records))
    model, tokenizer = loading.load_model(talkative, dtype="float32"), loading.load_tokenizer(talkative)
    total = sum(_policy_loss(model, tokenizer, record) for record in records)
    (total / sum(record["length"] for record in records)).backward()
    after = driver.weights(run_dir, 1)
    gradients = {name: tensor.grad for name, tensor in model.named_parameters()}
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert values["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    for name, tensor in model.named_parameters():
        if name in after:
            torch.testing.assert_close(after[name], tensor.detach() - rate * gradients[name], rtol=0, atol=1e-6)


def _policy_loss(model: Any, tokenizer: Any, record: dict[str, Any]) -> torch.Tensor:
    """-advantage * log-probability of a recorded completion, from the full logits of it alone."""
    prompt = chat.render_prompt(tokenizer, record["prompt"])
    completion = tokenizer(record["completion"], add_special_tokens=False)["input_ids"]
    completion += [] if record["is_truncated"] else [tokenizer.eos_token_id]
    assert len(completion) == record["length"]
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    chosen = logits.log_softmax(dim=-1)[range(len(completion)), completion]
    return -record["advantage"] * chosen.sum()


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ({**SFT, "model": {"lora": {"rank": 4, "dropout": 0.3}}}, SFT_ROWS),
        ({**GROUPS, "algorithm": "gspo", "num_iterations": 4, "kl_coef": 0.01, "micro_batch_size": 2}, GRPO_ROWS),
        ({**GROUPS, "algorithm": "rloo", "num_iterations": 4, "kl_coef": 0.01}, GRPO_ROWS),
        ({**GROUPS, "algorithm": "dapo", "num_iterations": 3, "dynamic_sampling_rounds": 4}, GRPO_ROWS),
        ({**PPO, "mini_batch_size": 4, "num_iterations": 3}, GRPO_ROWS),
    ],
    ids=["sft", "gspo", "rloo", "dapo", "ppo"],
)
def test_a_resumed_run_of_two_processes_is_the_uninterrupted_one(
    bench: Bench, talkative: Path, task: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    straight = bench.attempt(task, rows, name="straight", base=talkative, processes=2, checkpoint_interval=2)
    _end(straight)
    middle = driver.checkpoint(straight, 2)
    resumed = bench.attempt(task, rows, name="resumed", base=talkative, processes=2, resume_from=middle)
    _end(resumed)

    expected = driver.metrics(straight)
    assert driver.metrics(resumed) == {3: expected[3], 4: expected[4]}
    same, other = _weights(straight), _weights(resumed)
    assert all(torch.equal(tensor, other[name]) for name, tensor in same.items())
    if task["algorithm"] != "sft":
        num = task.get("prompts_per_step", 6) * task["rollout"]["completions_per_prompt"]
        first = [record for record in driver.rollouts(straight) if record["step"] == 1]
        assert len(first) == num
        assert expected[1]["reward_mean"] == pytest.approx(fmean(record["reward"] for record in first), rel=1e-6)
        assert expected[1]["response_length_max"] == max(record["length"] for record in first)


def test_a_checkpoint_of_two_processes_is_not_gone_on_with_by_another_number(bench: Bench) -> None:
    before = _end(bench.attempt(SFT, SFT_ROWS, name="before", processes=2))
    resumed = bench.attempt(SFT, SFT_ROWS, name="after", resume_from=driver.checkpoint(before, 4))

    with pytest.raises(InvalidSpec, match="saved by 2 processes and this attempt has 1; set resources.processes: 2"):
        driver.run_here(resumed)


@pytest.mark.parametrize(("command", "code"), [("pause", exits.PAUSED), ("cancel", exits.CANCELLED)])
def test_all_processes_stop_at_the_step_of_the_first(bench: Bench, command: str, code: int) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS, processes=2)
    driver.order(run_dir, command)

    _end(run_dir, code)

    assert sorted(driver.metrics(run_dir)) == [1]
    driver.checkpoint(run_dir, 1)


def _with_a_reward_for_one_of_two_prompts(bench: Bench, on_error: str) -> RunDir:
    """Of two prompts each process has one, and the reward fails for that of the second."""
    file = bench.folder / "reward.py"
    file.write_text(
        "def reward(prompts, completions, **columns):\n"
        "    if any('1+2' not in prompt for prompt in prompts):\n"
        "        raise ValueError('no such sum')\n"
        "    return [float(len(completion)) for completion in completions]\n"
    )
    name = str(file)
    task = {
        **GROUPS,
        "algorithm": "grpo",
        "optim": OPTIM | {"steps": 1},
        "prompts_per_step": 2,
        "data": {"shuffle": False},
        "rewards": [{"name": "python_file", "on_error": on_error, "params": {"path": name}}],
    }
    inputs = {name: ResolvedInput(kind="file", path=name, sha256=checkpoints.file_sha256(file))}
    return bench.attempt(task, GRPO_ROWS, more_inputs=inputs, processes=2)


def test_a_reward_that_fails_in_another_process_ends_the_run_with_its_words(bench: Bench) -> None:
    run_dir = _end(_with_a_reward_for_one_of_two_prompts(bench, "fail"), exits.FAILED)

    message = _failure(run_dir)
    assert message.startswith("rank 1 of 2 processes failed: the reward python_file")
    assert "no such sum" in message


def test_completions_that_one_process_leaves_out_are_left_out_of_what_both_report(bench: Bench) -> None:
    run_dir = _end(_with_a_reward_for_one_of_two_prompts(bench, "skip"))

    [values] = driver.metrics(run_dir).values()
    scored = [record for record in driver.rollouts(run_dir) if record["reward"] is not None]
    assert len(scored) == 4
    assert values["reward_errors"] == 4
    assert values["reward_mean"] == pytest.approx(fmean(record["reward"] for record in scored))
    [alert] = driver.events(run_dir, "alert", writer="rank1")
    assert "no such sum" in alert["message"]
    assert (run_dir.samples / "rank1" / "reward_errors.jsonl").read_text().count("no such sum") == 4


def test_a_killed_process_ends_the_run_with_one_error_that_names_it(bench: Bench) -> None:
    run_dir = bench.attempt({**SFT, "optim": {"steps": 100_000}}, SFT_ROWS, processes=2)
    started = time.monotonic()
    killer = threading.Thread(target=_kill_when_it_trains, args=(run_dir, 1))
    killer.start()

    _end(run_dir, exits.FAILED)
    killer.join()

    assert _failure(run_dir) == "rank 1 of 2 processes was killed by SIGKILL"
    assert time.monotonic() - started < 60
    assert _holder(run_dir, 0) is None


def test_the_other_processes_end_with_the_first(bench: Bench) -> None:
    run_dir = bench.attempt({**SFT, "optim": {"steps": 100_000}}, SFT_ROWS, processes=2)
    killer = threading.Thread(target=_kill_when_it_trains, args=(run_dir, 0))
    killer.start()

    _end(run_dir, -signal.SIGKILL)
    killer.join()

    _wait(lambda: _holder(run_dir, 1) is None)


def _kill_when_it_trains(run_dir: RunDir, rank: int) -> None:
    _wait(lambda: (run_dir.events / "rank0.jsonl").exists() and len(driver.events(run_dir, "metrics")) > 2)
    process = _holder(run_dir, rank)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def _holder(run_dir: RunDir, rank: int) -> psutil.Process | None:
    """The process that writes the events of a rank."""
    stream = str(run_dir.events / f"rank{rank}.jsonl")
    for process in psutil.process_iter():
        try:
            if any(found.path == stream for found in process.open_files()):
                return process
        except psutil.Error:
            continue
    return None


def _wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("changes", "resources", "expected"),
    [
        ({"batch_size": 5}, {"gpus": 2}, r"task.batch_size \(5\) must be a multiple of the number of processes \(2\)"),
        ({"micro_batch_size": 4}, {"gpus": 0, "processes": 2}, "2 for each, which must be a multiple of micro_batch"),
        ({}, {"gpus": 4, "processes": 2}, r"processes \(2\) must be as many as gpus \(4\)"),
        ({}, {"processes": 2}, r"processes \(2\) must be as many as gpus \(1\).*gpus: 0"),
        ({"algorithm": "dpo", "loss_type": "aot"}, {"gpus": 2}, "sorts the rows that are computed together"),
        ({"algorithm": "kto", "batch_size": 2}, {"gpus": 2}, "at least 4 for 2 processes"),
    ],
)
def test_what_cannot_be_split_is_refused_with_a_way_out(
    changes: dict[str, Any], resources: dict[str, Any], expected: str
) -> None:
    task = {**SFT, "model": {"base": "tiny-char"}, "data": {"train": "sums"}, **changes}

    with pytest.raises(InvalidSpec, match=expected):
        parse(JobSpec, {"kind": "train", "name": "a", "task": task, "resources": resources})


def test_only_training_takes_several_processes() -> None:
    raw = {
        "kind": "evaluate",
        "name": "a",
        "task": {"model": {"base": "tiny-char"}, "benchmark": {"name": "arithmetic"}, "data": "problems"},
        "resources": {"gpus": 2},
    }

    with pytest.raises(InvalidSpec, match="only jobs of kind train run in several processes"):
        parse(JobSpec, raw)
