"""verl itself composes and validates every kind of job: minutes of imports once, so that the table is worth it."""

from typing import Any

import pytest

verl = pytest.importorskip("verl", reason="needs the environment of verl: make test-verl")

from finery.core.errors import InvalidSpec  # noqa: E402
from finery.training.verl import checking, translating  # noqa: E402
from finery.training.verl.composing import compose  # noqa: E402
from tests.training.jobs_of_verl import inputs, job  # noqa: E402

SEPARATE = {"critic": {"kind": "separate"}}
MEGATRON = {"parallel": {"strategy": "megatron", "tensor": 2, "pipeline": 2, "context": 1, "expert": 1}}
LORA = {"model": {"base": "tiny-char", "lora": {"rank": 8, "alpha": 16}}}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "sft": {"algorithm": "sft"},
    "grpo": {"algorithm": "grpo", "kl_coef": 0.01, "entropy_coef": 0.01},
    "dr_grpo": {"algorithm": "grpo", "loss_type": "dr_grpo", "scale_rewards": "none"},
    "cispo": {"algorithm": "grpo", "loss_type": "cispo"},
    "sapo": {"algorithm": "grpo", "loss_type": "sapo"},
    "gspo": {"algorithm": "gspo", "kl_coef": 0.01},
    "dapo": {"algorithm": "dapo", "overlong": "soft"},
    "rloo": {"algorithm": "rloo", "kl_coef": 0.05},
    "ppo": {"algorithm": "ppo", **SEPARATE, "mini_batch_size": 16, "kl_target": 0.1},
    "reinforce_plus_plus": {"algorithm": "reinforce_plus_plus", "kl_coef": 0.01, "kl_in": "reward"},
    "remax": {"algorithm": "remax"},
    **{
        f"policy_gradient-{advantage}": {"algorithm": "policy_gradient", "advantage": advantage}
        for advantage in ("grpo_vectorized", "grpo_passk", "gdpo", "gpg", "opo", "optimal_token_baseline")
    },
    **{
        f"loss-{loss}": {
            "algorithm": "policy_gradient",
            "advantage": "grpo",
            "policy_loss": loss,
            "loss_aggregation": "sequence_mean",
            **({"dro_beta": 0.1} if loss == "dro" else {}),
        }
        for loss in ("gspo", "sapo", "cispo", "geo_mean", "gpg", "clip_cov", "kl_cov", "dppo_tv", "dppo_kl", "dro")
    },
}
MODES: dict[str, dict[str, Any]] = {
    "colocated": {"mode": "colocated_async", "max_staleness": 2},
    "one_step_off": {"mode": "one_step_off", "gpus": 4},
    "disaggregated": {"mode": "disaggregated_async", "max_staleness": 4, "importance_correction": "token"},
    "filtered": {"group_filter": "reward", "oversample": 1},
    "sequence-corrected": {"importance_correction": "sequence", "importance_threshold": 3.0},
    "sglang": {"engine": "sglang", "tensor_parallel": 2},
}


def composed(task: dict[str, Any], device: Any = "cuda", processes: int = 8, nodes: int = 1, **more: Any) -> Any:
    given = inputs(device, processes, nodes, **more)
    translation = translating.translate(job(task), inputs=given)
    checking.check(translation, inputs=given, files=False)
    return compose(translation)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_verl_takes_each_algorithm(name: str, device: str) -> None:
    config = composed(ALGORITHMS[name], device, 2 if device == "cpu" else 8)

    assert config.trainer.device == device


@pytest.mark.parametrize("name", ["sft", "grpo", "ppo", "dapo"])
@pytest.mark.parametrize(
    "more",
    [
        {"parallel": {"strategy": "fsdp", "offload_parameters": True, "offload_optimizer": True}},
        {"parallel": {"strategy": "fsdp2", "sequence": 2, "fsdp_size": 4, "offload_reference": True}},
        MEGATRON,
        LORA,
        {**MEGATRON, **LORA},
        {"model": {"base": "tiny-char", "dtype": "bfloat16", "gradient_checkpointing": True}},
        {"optim": {"schedule": "cosine", "warmup_steps": 2, "max_grad_norm": 0, "steps": 8}},
        {"optim": {"kind": "sgd"}},
    ],
    ids=["fsdp", "fsdp2", "megatron", "lora", "megatron-lora", "bfloat16", "cosine", "sgd"],
)
def test_verl_takes_each_way_to_hold_a_model(name: str, more: dict[str, Any]) -> None:
    config = composed({**ALGORITHMS[name], **more}, is_ours=True)

    strategy = more.get("parallel", {}).get("strategy", "fsdp2")
    if name == "sft":  # which chooses the engine by its class
        assert ("Mcore" in config.engine._target_) == (strategy == "megatron")
    else:
        assert config.actor_rollout_ref.actor.strategy == strategy


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["grpo", "ppo"])
@pytest.mark.parametrize("device", ["cuda", "npu"])
def test_verl_takes_each_way_to_draw(mode: str, name: str, device: str) -> None:
    completions = {"completions_per_prompt": 4}

    config = composed({**ALGORITHMS[name], "rollout": {**completions, **MODES[mode]}}, device, nodes=2)

    assert config.trainer.nnodes == 2
    assert config.actor_rollout_ref.rollout.n == 4


def test_the_configuration_has_no_default_of_verl_where_ours_differs() -> None:
    config = composed({"algorithm": "grpo", "kl_coef": 0.01, "optim": {"max_grad_norm": 0}})
    actor = config.actor_rollout_ref.actor

    assert (actor.clip_ratio_c, actor.optim.clip_grad) == (1e9, 1e9)
    assert (actor.kl_loss_type, actor.use_kl_loss, config.algorithm.use_kl_in_reward) == ("low_var_kl", True, False)
    assert actor.optim.override_optimizer_config.eps == 1e-8
    assert actor.optim.weight_decay == 0.0
    assert config.data.truncation == "left"
    assert config.actor_rollout_ref.rollout.tensor_model_parallel_size == 1


def test_texts_arrive_whatever_they_hold() -> None:
    name = r"""it's "a" \ {name}, $HOME %x [1]"""
    given = inputs("cuda", 8)
    translation = translating.translate(job({"algorithm": "grpo"}), inputs=given)
    settings = {**translation.settings, "trainer.experiment_name": name, "trainer.project_name": "ends in \\"}
    changed = type(translation)(**{**vars(translation), "settings": settings})

    config = compose(changed)

    assert (config.trainer.experiment_name, config.trainer.project_name) == (name, "ends in \\")


def test_a_native_key_that_verl_does_not_have_is_named() -> None:
    native = {"trainer.nonsense": 1, "actor_rollout_ref": {"rollout": {"max_num_seq": 64}}, "+trainer.more": 1}

    with pytest.raises(InvalidSpec) as caught:
        composed({"algorithm": "grpo", "native": native})

    told = {one.path.removeprefix("task.native."): one.message for one in caught.value.problems}
    assert set(told) == {"trainer.nonsense", "actor_rollout_ref.rollout.max_num_seq"}
    assert "did you mean actor_rollout_ref.rollout.max_num_seqs" in told["actor_rollout_ref.rollout.max_num_seq"]
    assert "write +trainer.nonsense" in told["trainer.nonsense"]


def test_an_unknown_key_within_a_native_mapping_is_named() -> None:
    with pytest.raises(InvalidSpec) as caught:
        composed({"algorithm": "grpo", "native": {"ray_kwargs": {"ray_init": {"num_cpu": 4}}}})

    assert [one.path for one in caught.value.problems] == ["task.native.ray_kwargs.ray_init.num_cpu"]
    assert "did you mean ray_kwargs.ray_init.num_cpus" in caught.value.problems[0].message


def test_what_verl_refuses_names_the_field() -> None:
    given = inputs("cuda", 8)
    translation = translating.translate(job({"algorithm": "grpo"}), inputs=given)
    settings = {**translation.settings, "actor_rollout_ref.actor.loss_agg_mode": "median"}

    with pytest.raises(InvalidSpec, match="median") as caught:
        compose(type(translation)(**{**vars(translation), "settings": settings}))

    assert caught.value.problems[0].path == "task.loss_type"
