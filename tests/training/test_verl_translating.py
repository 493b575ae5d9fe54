"""What each field of a job file is in verl's words, and what verl cannot honour."""

from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.training.verl import translating
from tests.training.jobs_of_verl import inputs, job, translated

A = "actor_rollout_ref"
ACTOR = f"{A}.actor"
SEPARATE: dict[str, Any] = {"algorithm": "ppo", "critic": {"kind": "separate"}}
PG: dict[str, Any] = {"algorithm": "policy_gradient", "advantage": "grpo"}


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ({"loss_type": "dapo"}, {"loss_agg_mode": "token-mean", "policy_loss.loss_mode": "vanilla"}),
        ({"loss_type": "grpo"}, {"loss_agg_mode": "seq-mean-token-mean", "loss_scale_factor": None}),
        ({"loss_type": "dr_grpo"}, {"loss_agg_mode": "seq-mean-token-sum-norm", "loss_scale_factor": 96}),
        ({"loss_type": "sapo"}, {"policy_loss.loss_mode": "sapo", "tau_pos": 1.0, "tau_neg": 1.05}),
        ({"loss_type": "cispo", "clip_high": 3.0}, {"clip_ratio_low": 1.0, "clip_ratio_high": 3.0}),
        ({"loss_type": "grpo", "ratio_level": "sequence"}, {"policy_loss.loss_mode": "gspo"}),
        ({"max_ratio": 4.0}, {"clip_ratio_c": 4.0}),
        ({}, {"clip_ratio_c": 1e9, "clip_ratio_low": 0.2, "clip_ratio_high": 0.2, "use_kl_loss": False}),
        ({"kl_coef": 0.04}, {"use_kl_loss": True, "kl_loss_coef": 0.04, "kl_loss_type": "low_var_kl"}),
        ({"num_iterations": 3}, {"ppo_epochs": 3, "ppo_mini_batch_size": 8, "shuffle": False}),
        ({"micro_batch_size": 4}, {"ppo_micro_batch_size_per_gpu": 4}),
        ({}, {"ppo_micro_batch_size_per_gpu": 64, "use_dynamic_bsz": False}),
        ({"optim": {"max_grad_norm": 0}}, {"optim.clip_grad": 1e9, "grad_clip": 1e9}),
        ({"optim": {"beta2": 0.95, "epsilon": 1e-6}}, {"optim.betas": [0.9, 0.95]}),
        ({"optim": {"epsilon": 1e-6}}, {"optim.override_optimizer_config": {"eps": 1e-6}}),
    ],
)
def test_grpo_is_passed_with_every_semantic_value(task: dict[str, Any], settings: dict[str, Any]) -> None:
    found = translated({"algorithm": "grpo", **task}).settings

    assert {key: found[f"{ACTOR}.{key}"] for key in settings} == settings


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ({"algorithm": "grpo"}, {"algorithm.adv_estimator": "grpo", "algorithm.norm_adv_by_std_in_grpo": True}),
        ({"algorithm": "grpo", "scale_rewards": "none"}, {"algorithm.norm_adv_by_std_in_grpo": False}),
        (
            {"algorithm": "gspo"},
            {f"{ACTOR}.policy_loss.loss_mode": "gspo", f"{ACTOR}.loss_agg_mode": "seq-mean-token-mean"},
        ),
        (
            {"algorithm": "dapo", "overlong": "keep"},
            {"algorithm.filter_groups.enable": True, "algorithm.filter_groups.metric": "reward"},
        ),
        (
            {"algorithm": "dapo", "overlong": "keep", "dynamic_sampling_rounds": 1},
            {"algorithm.filter_groups.enable": False, f"{ACTOR}.clip_ratio_high": 0.28},
        ),
        (
            {"algorithm": "dapo", "overlong": "soft"},
            {"reward.reward_manager.name": "dapo", "+reward.reward_kwargs.max_resp_len": 96},
        ),
        (
            {"algorithm": "rloo", "kl_coef": 0.05},
            {
                "algorithm.adv_estimator": "rloo",
                "algorithm.use_kl_in_reward": True,
                "algorithm.kl_penalty": "kl",
                "algorithm.kl_ctrl.kl_coef": 0.05,
                f"{ACTOR}.use_kl_loss": False,
                f"{ACTOR}.loss_agg_mode": "seq-mean-token-sum",
            },
        ),
        (
            {**SEPARATE, "mini_batch_size": 16, "num_iterations": 2, "kl_estimator": "k2", "value_clip": None},
            {
                "algorithm.adv_estimator": "gae",
                "algorithm.kl_penalty": "mse",
                "data.train_batch_size": 64,
                f"{ACTOR}.ppo_mini_batch_size": 16,
                f"{ACTOR}.shuffle": True,
                "critic.ppo_epochs": 2,
                "critic.cliprange_value": 1e9,
                "critic.optim.lr": 1e-5,
            },
        ),
        (
            {**SEPARATE, "kl_target": 0.2, "kl_horizon": 500},
            {"algorithm.kl_ctrl.type": "adaptive", "algorithm.kl_ctrl.target_kl": 0.2},
        ),
        ({"algorithm": "reinforce_plus_plus"}, {"algorithm.adv_estimator": "reinforce_plus_plus"}),
        ({"algorithm": "remax"}, {"algorithm.adv_estimator": "remax", "trainer.use_v1": False}),
        (
            {**PG, "advantage": "gdpo"},
            {"+algorithm.gdpo_reward_keys": ["math_equal", "format"], "+algorithm.gdpo_reward_weights": [1.0, 0.2]},
        ),
        (
            {**PG, "mini_batches": 4, "kl_coef": 0.1, "kl_in": "reward"},
            {"data.train_batch_size": 32, f"{ACTOR}.ppo_mini_batch_size": 8, "algorithm.use_kl_in_reward": True},
        ),
        (
            {"algorithm": "sft", "packing": True},
            {"data.use_dynamic_bsz": True, "data.max_token_len_per_gpu": 1024, "data.truncation": "right"},
        ),
        ({"algorithm": "sft", "batch_size": 8, "micro_batch_size": 2}, {"data.micro_batch_size_per_gpu": 2}),
    ],
)
def test_each_algorithm_is_what_verl_calls_it(task: dict[str, Any], settings: dict[str, Any]) -> None:
    found = translated(task).settings

    assert {key: found[key] for key in settings} == settings


def test_a_cpu_gets_what_draws_and_holds_there() -> None:
    found = translated({"algorithm": "grpo"}, "cpu", 2)

    assert found.settings[f"{A}.rollout.name"] == "hfcpu"
    assert found.settings[f"{ACTOR}.strategy"] == "fsdp2"
    assert found.settings[f"{A}.model.use_remove_padding"] is False
    assert found.settings[f"{ACTOR}.fsdp_config.use_torch_compile"] is False
    assert found.settings[f"+{ACTOR}.fsdp_config.mixed_precision"]["param_dtype"] == "fp32"
    assert found.settings[f"{ACTOR}.ppo_micro_batch_size_per_gpu"] == 32
    assert found.environment["VERL_PLATFORM"] == "cpu"
    assert not any("ray" in key for key in found.settings)


def test_gpus_keep_float32_weights_and_compute_in_bfloat16() -> None:
    found = translated({"algorithm": "grpo"}, "cuda", 8).settings

    assert found[f"{ACTOR}.fsdp_config.model_dtype"] == "fp32"
    assert found[f"+{ACTOR}.fsdp_config.mixed_precision"]["param_dtype"] == "bf16"
    assert (found[f"{A}.rollout.name"], found[f"{A}.rollout.dtype"]) == ("vllm", "bfloat16")


def test_ascend_is_a_device_of_its_own() -> None:
    found = translated({"algorithm": "grpo"}, "npu", 8)

    assert found.settings["trainer.device"] == "npu"
    assert found.settings[f"{ACTOR}.use_torch_compile"] is False
    assert "HCCL_CONNECT_TIMEOUT" in found.environment


def test_steps_are_counted_in_batches_of_rollouts() -> None:
    task = {"algorithm": "grpo", "num_iterations": 4, "optim": {"steps": 20, "warmup_steps": 8}}

    found = translating.translate(job(task, monitoring={"checkpoint_interval": 10}), inputs=inputs())

    assert found.settings["trainer.total_training_steps"] == 5
    assert found.settings["trainer.save_freq"] == 3
    assert found.settings[f"{ACTOR}.optim.lr_warmup_steps"] == 2
    assert "moves once per batch" in found.notes[0]


def test_gpus_that_only_draw_do_not_train() -> None:
    task = {"algorithm": "grpo", "rollout": {"mode": "disaggregated_async", "gpus": 2, "max_staleness": 3}}

    found = translated(task, "cuda", 8).settings

    assert (found["trainer.n_gpus_per_node"], found[f"{A}.rollout.n_gpus_per_node"]) == (6, 2)
    assert found["trainer.v1.sampler.max_off_policy_threshold"] == 4  # versions spanned, the newest among them
    assert found[f"{A}.hybrid_engine"] is False


def test_lora_has_two_forms() -> None:
    lora = {"model": {"base": "tiny-char", "lora": {"rank": 8, "alpha": 16}}}
    sharded = translated({"algorithm": "grpo", **lora}, "cuda", 8).settings
    split = translated({"algorithm": "grpo", **lora, "parallel": {"strategy": "megatron"}}, "cuda", 8).settings

    assert (sharded[f"{A}.model.lora_rank"], sharded[f"{A}.model.lora_alpha"]) == (8, 16)
    assert (split[f"{A}.model.lora.rank"], split[f"{A}.model.lora.alpha"]) == (8, 16.0)


def test_update_matrices_of_a_critic_are_of_its_head_too() -> None:
    lora = {"model": {"base": "tiny-char", "lora": {"target_modules": ["q_proj", "v_proj"]}}}

    found = translated({**SEPARATE, **lora}, is_ours=True).settings

    assert found[f"{A}.model.target_modules"] == ["q_proj", "v_proj"]
    assert found["critic.model.target_modules"] == ["q_proj", "v_proj", "score"]


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ({"loss_type": "bnpo"}, "task.loss_type"),
        ({"loss_type": "luspo", "ratio_level": "sequence"}, "task.loss_type"),
        ({"scale_rewards": "batch"}, "task.scale_rewards"),
        ({"top_entropy_quantile": 0.5}, "task.top_entropy_quantile"),
        ({"loss_type": "grpo", "entropy_coef": 0.01}, "task.entropy_coef"),
        ({"mask_truncated": True}, "task.mask_truncated"),
        ({"kl_coef": 0.1, "sync_ref_model": True}, "task.sync_ref_model"),
        ({"optim": {"kind": "lion"}}, "task.optim.kind"),
        ({"optim": {"schedule": "linear"}}, "task.optim.schedule"),
        ({"optim": {"ema_decay": 0.9}}, "task.optim.ema_decay"),
        ({"model": {"base": "x", "lora": {}, "quantize": "nf4"}}, "task.model.quantize"),
        ({"model": {"base": "x", "dtype": "float16"}}, "task.model.dtype"),
        ({"model": {"base": "x", "lora": {"dropout": 0.1}}}, "task.model.lora.dropout"),
        ({"rollout": {"engine": "vllm"}}, "task.rollout.engine"),
        ({"rollout": {"mode": "colocated_async"}}, "task.rollout.mode"),
        ({"rollout": {"max_staleness": 2}}, "task.rollout.max_staleness"),
        ({"rollout": {"partial_rollout": True}}, "task.rollout.partial_rollout"),
        ({"rollout": {"oversample": 1}}, "task.rollout.oversample"),
        ({"rollout": {"group_filter": "beauty"}}, "task.rollout.group_filter"),
        ({"parallel": {"strategy": "megatron"}}, "task.parallel.strategy"),
        ({"parallel": {"offload_parameters": True}}, "task.parallel.offload_parameters"),
        ({"algorithm": "dapo"}, "task.overlong"),
        ({"algorithm": "rloo", "num_iterations": 2}, "task.num_iterations"),
        ({"algorithm": "rloo", "normalize_advantages": True}, "task.normalize_advantages"),
        ({"algorithm": "ppo"}, "task.critic.kind"),
        ({**SEPARATE, "whiten_advantages": False}, "task.whiten_advantages"),
        ({**SEPARATE, "whiten_rewards": True}, "task.whiten_rewards"),
        ({**SEPARATE, "missing_eos_penalty": 1.0}, "task.missing_eos_penalty"),
        ({**SEPARATE, "value_coef": 0.5}, "task.value_coef"),
        (
            {**SEPARATE, "rollout": {"completions_per_prompt": 4}, "prompts_per_batch": 3, "mini_batch_size": 6},
            "task.mini_batch_size",
        ),
        ({**SEPARATE, "model": {"base": "x", "lora": {}}}, "task.model.lora"),
        ({"algorithm": "remax", "rollout": {"group_filter": "reward"}}, "task.rollout.group_filter"),
        ({"algorithm": "sft", "loss_on": "all"}, "task.loss_on"),
        ({"rewards": [{"name": "exact", "on_error": "skip"}]}, "task.rewards.0.on_error"),
        ({"algorithm": "sft", "data": {"train": "a@1", "shuffle": False}}, "task.data.shuffle"),
    ],
)
def test_what_verl_cannot_honour_is_refused_by_field(task: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        translated({"algorithm": "grpo", **task})

    assert field in {problem.path for problem in caught.value.problems}


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidSpec) as caught:
        translated({"algorithm": "grpo", "scale_rewards": "batch", "optim": {"schedule": "linear", "kind": "lion"}})

    assert len(caught.value.problems) == 3


def test_activations_are_not_measured() -> None:
    watched = job({"algorithm": "grpo"}, monitoring={"activations": True})

    with pytest.raises(InvalidSpec, match=r"monitoring\.activations"):
        translating.translate(watched, inputs=inputs())


def test_an_algorithm_that_verl_lacks_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="no algorithm dpo"):
        translating.translate(job({"algorithm": "dpo"}), inputs=inputs())


def test_native_keys_pass_through() -> None:
    found = translated({"algorithm": "grpo", "native": {f"{A}.rollout.max_num_seqs": 64, "+trainer.x": 1}})

    assert (found.settings[f"{A}.rollout.max_num_seqs"], found.settings["+trainer.x"]) == (64, 1)
    assert found.origins[f"{A}.rollout.max_num_seqs"] == f"task.native.{A}.rollout.max_num_seqs"


def test_native_keys_may_be_nested() -> None:
    nested = {"actor_rollout_ref": {"rollout": {"max_num_seqs": 64}, "actor": {"fo": {"a": 3}}}}

    found = translated({"algorithm": "grpo", "native": nested})

    assert found.settings[f"{A}.rollout.max_num_seqs"] == 64
    assert found.settings[f"{ACTOR}.fo"] == {"a": 3}  # nothing of ours lies in it
    assert found.origins[f"{ACTOR}.fo"] == f"task.native.{ACTOR}.fo"


def test_nested_native_keys_of_our_fields_are_refused_by_their_own_names() -> None:
    native = {"actor_rollout_ref": {"actor": {"optim": {"lr": 3}}, "rollout": {"max_num_seqs": 64}}}

    with pytest.raises(InvalidSpec, match=r"task\.optim\.learning_rate") as caught:
        translated({"algorithm": "grpo", "native": native})

    assert [one.path for one in caught.value.problems] == [f"task.native.{ACTOR}.optim.lr"]


def test_native_may_set_what_changes_no_mathematics() -> None:
    found = translated({"algorithm": "grpo", "native": {"trainer.logger": ["console", "file"]}})

    assert found.settings["trainer.logger"] == ["console", "file"]


@pytest.mark.parametrize(
    ("key", "field"),
    [(f"{ACTOR}.optim.lr", "task.optim.learning_rate"), (f"{ACTOR}.optim", "task.optim"), ("+trainer.nnodes", "nodes")],
)
def test_native_keys_of_our_fields_are_refused(key: str, field: str) -> None:
    with pytest.raises(InvalidSpec, match=field):
        translated({"algorithm": "grpo", "native": {key: 3}})
