"""The export target `mindrlhf`: what is written, and what is refused."""

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from finery.core.errors import InvalidSpec
from finery.jobs.specs import TrainJob
from finery.training.exporters import registry

TASK: dict[str, Any] = {
    "algorithm": "grpo",
    "engine": "verl",
    "model": {"base": "Qwen/Qwen2.5-7B-Instruct"},
    "data": {"train": "gsm8k@1", "max_prompt_tokens": 256},
    "rewards": [{"name": "math_equal"}, {"name": "format", "weight": 0.5}],
    "loss_type": "grpo",
    "optim": {"learning_rate": 5e-7, "steps": 20, "warmup_steps": 3, "schedule": "cosine", "weight_decay": 0.1},
    "kl_coef": 0.01,
    "prompts_per_step": 16,
    "rollout": {"completions_per_prompt": 8, "max_new_tokens": 512, "temperature": 0.8},
    "sync_ref_model": True,
    "ref_model_sync_steps": 50,
    "ref_model_mixup_alpha": 1.0,
}
ROWS = [{"prompt": f"{number}+1=", "answer": str(number + 1), "level": 1} for number in range(100)]
# Of mindrlhf/configs/grpo_configs.py: a key that is none of the class's fields is a TypeError there.
RL_KEYS = """
    model_name deterministic align_type dataset_file tokenizer_type tokenizer_dir epochs batch_size sink_size
    seq_length use_parallel load_ckpt_format parallel_mode enable_compile_cache save_strategy_dir save_data_file
    packing pack_num save_prompt_completions_data save_prompt_completions_interval save_prompt_completions_dir
    reshard_mem_opt_level reshard_mode save_ckpt_interval save_max_ckpt_num save_ckpt_format
    enable_reshard_optimizer tensorboard tensorboard_dir tensorboard_queue_size enable_full_monitor
    calculate_entropy save_checkpoint_dir performance_stats micro_batch_interleaved beta num_generations
    num_rollouts chunk_size gen_experience_kwargs num_iterations epsilon_low epsilon_high enable_oldpolicy seed
"""


def job(changes: dict[str, Any] | None = None, **resources: Any) -> TrainJob:
    raw = {"name": "sums", "kind": "train", "task": TASK | (changes or {}), "resources": {"gpus": 8, **resources}}
    return TrainJob.model_validate(raw)


def export(made: TrainJob, out: Path, rows: list[dict[str, Any]] | None = ROWS) -> dict[str, Any]:
    out.mkdir()
    written = registry.get("mindrlhf").target(made, out, data_rows=None if rows is None else iter(rows))
    assert all(path.is_file() for path in written)
    found: dict[str, Any] = yaml.safe_load((out / "run_qwen_grpo.yaml").read_text())
    return found


def test_the_fields_of_the_job_become_those_of_mindrlhf(tmp_path: Path) -> None:
    found = export(job(), tmp_path / "out")

    rl = found["rl_config"]
    assert set(rl) <= set(RL_KEYS.split())
    assert (rl["beta"], rl["num_generations"], rl["epsilon_low"], rl["epsilon_high"]) == (0.01, 8, 0.2, 0.2)
    assert rl["epochs"] == 4  # of 6 steps each: at least 20
    assert found["actor_config"]["lr_schedule"] == {
        "lr_decay_style": "cosine",
        "lr": 5e-7,
        "min_lr": 1e-10,
        "warmup_step": 3,
        "decay_steps": 20,
    }
    assert (found["ref_config"]["sync_ref_model"], found["ref_config"]["ref_model_sync_steps"]) == (True, 50)
    assert found["reward_config"] == {
        "verifier_function": ["qwen_accuracy_reward", "format_reward"],
        "verifier_weight": [1.0, 0.5],
    }
    assert rl["seq_length"] >= 256 + 512 + 2
    assert found["generate_config"]["max_prompt_length"] == 256
    sampling = found["generate_config"]["sampling_config"]
    assert (sampling["max_tokens"], sampling["temperature"], sampling["top_k"]) == (512, 0.8, -1)


@pytest.mark.parametrize("size", ["0.5B", "1.5B", "3B", "7B", "14B", "32B", "72B"])
@pytest.mark.parametrize(("cards", "nodes"), [(2, 1), (8, 1), (8, 2)])
def test_cards_and_batches_come_out_even(tmp_path: Path, size: str, cards: int, nodes: int) -> None:
    changes = {"model": {"base": f"Qwen/Qwen2.5-{size}"}, "micro_batch_size": 2}

    found = export(job(changes, gpus=cards, nodes=nodes), tmp_path / "out")

    rl, training = found["rl_config"], found["actor_config"]["parallel_config"]
    whole = found["generate_config"]["parallel_config"]
    network = yaml.safe_load((tmp_path / "out" / "finetune_qwen2_5.yaml").read_text())["model"]["model_config"]
    assert training["data_parallel"] * training["model_parallel"] * training["pipeline_stage"] == cards * nodes
    assert whole["data_parallel"] * whole["model_parallel"] == cards * nodes
    assert whole["pipeline_stage"] == 1, "generation knows no stages"
    assert network["num_heads"] % whole["model_parallel"] == network["n_kv_heads"] % whole["model_parallel"] == 0
    assert rl["chunk_size"] * rl["num_rollouts"] * whole["data_parallel"] == 16
    assert rl["batch_size"] * training["micro_batch_num"] * training["data_parallel"] == 16 * 8


def test_scripts_are_shell_and_name_cards_functions_and_weights(tmp_path: Path) -> None:
    export(job(nodes=2), tmp_path / "out")

    scripts = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.sh")}
    for name in scripts:
        subprocess.run(["bash", "-n", tmp_path / "out" / name], check=True)
    assert "msrun --worker_num=16 --local_worker_num=8" in scripts["run_grpo.sh"]
    assert (
        '--verifier_function "qwen_accuracy_reward,format_reward" --verifier_weight "1.0,0.5"' in scripts["run_grpo.sh"]
    )
    assert "convert_weight.py --torch_ckpt_dir" in scripts["convert_model.sh"]
    assert "--max-prompt-tokens 256 --max-tokens 896" in scripts["convert_data.sh"]


def test_rows_are_written_as_they_are(tmp_path: Path) -> None:
    export(job(), tmp_path / "out")

    lines = (tmp_path / "out" / "data" / "train.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line) for line in lines] == ROWS


def test_without_rows_the_readme_says_where_they_belong(tmp_path: Path) -> None:
    export(job(), tmp_path / "out", rows=None)

    assert "put the rows of gsm8k@1 into data/train.jsonl" in (tmp_path / "out" / "README.md").read_text()


def test_a_constant_rate_stays_just_above_the_last_one(tmp_path: Path) -> None:
    found = export(job({"optim": TASK["optim"] | {"schedule": "constant"}}), tmp_path / "out")

    schedule = found["actor_config"]["lr_schedule"]
    assert schedule["min_lr"] < schedule["lr"]
    assert schedule["min_lr"] == pytest.approx(schedule["lr"], rel=2e-6)


def test_the_shape_of_a_model_on_this_machine_is_its_own(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shape = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 384,
        "eos_token_id": 7,
        "pad_token_id": 5,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_theta": 5000.0},
    }
    (model / "config.json").write_bytes(orjson.dumps(shape))

    found = export(job({"model": {"base": str(model)}}), tmp_path / "out", rows=None)

    network = yaml.safe_load((tmp_path / "out" / "finetune_qwen2_5.yaml").read_text())["model"]["model_config"]
    assert (network["hidden_size"], network["num_layers"], network["vocab_size"]) == (64, 2, 384)
    assert (network["theta"], network["tie_word_embeddings"]) == (5000.0, True)
    sampling = found["generate_config"]["sampling_config"]
    assert (sampling["eos_token_id"], sampling["pad_token_id"], sampling["bos_token_id"]) == ([7], 5, 7)
    assert found["actor_config"]["parallel_config"]["model_parallel"] == 2


def test_all_that_cannot_be_honoured_is_said_at_once(tmp_path: Path) -> None:
    changes = {
        "loss_type": "dapo",
        "entropy_coef": 0.1,
        "rewards": ["exact", {"name": "format", "params": {"pattern": "x"}}],
        "optim": TASK["optim"] | {"weight_decay": 0.0},
    }

    with pytest.raises(InvalidSpec) as caught:
        export(job(changes, gpus=4), tmp_path / "out")

    assert {problem.path for problem in caught.value.problems} == {
        "task.loss_type",
        "task.entropy_coef",
        "task.optim.weight_decay",
        "task.rewards.0",
        "task.rewards.1.params",
        "resources.gpus",
    }
    assert "set grpo" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "rows", "complaint"),
    [
        ({"model": {"base": "Qwen/Qwen3-8B"}}, ROWS, "Qwen2.5 family"),
        ({"prompts_per_step": 15}, ROWS, "set a multiple of 2"),
        ({}, [{"prompt": "a", "answer": "blue"}] * 100, "row 1 of gsm8k@1 has the answer 'blue'"),
        ({}, ROWS[:5], "has 5 rows"),
        ({}, [], "has no rows"),
    ],
)
def test_what_would_fail_there_fails_here(
    tmp_path: Path, changes: dict[str, Any], rows: list[dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(InvalidSpec, match=complaint):
        export(job(changes), tmp_path / "out", rows)


def test_a_batch_that_does_not_fill_the_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="task.micro_batch_size: 128 completions"):
        export(job({"micro_batch_size": 128}, gpus=None), tmp_path / "out")


def test_another_algorithm_is_refused(tmp_path: Path) -> None:
    raw = {
        "name": "a",
        "kind": "train",
        "task": {"algorithm": "sft", "model": {"base": "tiny-char"}, "data": {"train": "a"}},
    }

    with pytest.raises(InvalidSpec, match=r"task\.algorithm: MindRLHF trains with grpo, this job with sft"):
        export(TrainJob.model_validate(raw), tmp_path / "out")


def test_the_recipe_for_ascend_can_be_exported(tmp_path: Path) -> None:
    recipe = yaml.safe_load((Path(__file__).parents[2] / "recipes" / "ascend_grpo.yaml").read_text())

    found = export(TrainJob.model_validate(recipe), tmp_path / "out")

    assert found["rl_config"]["epochs"] == 67  # of 3 steps each: at least 200
