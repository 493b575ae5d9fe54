"""Job files in verl's words."""

from typing import Any

import pytest

from finery.core import documents
from finery.core.errors import InvalidSpec
from finery.core.spec import parse
from finery.jobs import checking
from finery.jobs.specs import TrainJob

A = "actor_rollout_ref"


def read(overrides: dict[str, Any], base: str = "grpo_trainer", **more: Any) -> Any:
    raw = {
        "name": "sums",
        "kind": "train",
        "base_config": base,
        "overrides": {"model.path": "tiny-char", "data.train_files": "sums@1", **overrides},
        **({} if base.startswith("sft") else {"rewards": "math_equal,format"}),
        "resources": {"gpus": 8},
    }
    return parse(TrainJob, {**raw, **more})


def test_the_short_keys_are_understood() -> None:
    job = read(
        {"algorithm.kl_coef": 0.001, "rollout.n": 4, "actor.optim.lr": 1e-6, "trainer.total_training_steps": 100}
    )

    assert (job.task.algorithm, job.task.engine, job.task.model.base) == ("grpo", "verl", "tiny-char")
    assert (job.task.kl_coef, job.task.rollout.completions_per_prompt) == (0.001, 4)
    assert (job.task.optim.learning_rate, job.task.optim.steps) == (1e-6, 100)
    assert [reward.name for reward in job.task.rewards] == ["math_equal", "format"]


def test_nested_overrides_and_full_keys_are_the_same() -> None:
    short = read({"rollout.n": 4, "actor.clip_ratio": 0.1})
    full = read({A: {"rollout": {"n": 4}, "actor": {"clip_ratio": 0.1}}})

    assert short == full
    assert (short.task.clip_low, short.task.clip_high) == (0.1, 0.1)


def test_full_keys_without_a_field_of_ours_go_to_native() -> None:
    job = read({f"{A}.rollout.max_num_seqs": 64})

    assert job.task.native == {f"{A}.rollout.max_num_seqs": 64}


@pytest.mark.parametrize(
    ("overrides", "task"),
    [
        ({"actor.loss_agg_mode": "seq-mean-token-mean"}, {"algorithm": "grpo", "loss_type": "grpo"}),
        ({"actor.use_kl_loss": True, "actor.kl_loss_coef": 0.02}, {"algorithm": "grpo", "kl_coef": 0.02}),
        (
            {"algorithm.use_kl_in_reward": True, "algorithm.kl_coef": 0.02},
            {"algorithm": "policy_gradient", "advantage": "grpo", "kl_in": "reward", "kl_estimator": "k1"},
        ),
        ({"algorithm.adv_estimator": "opo"}, {"algorithm": "policy_gradient", "advantage": "opo"}),
        ({"algorithm.adv_estimator": "reinforce_plus_plus"}, {"algorithm": "reinforce_plus_plus"}),
        (
            {"actor.policy_loss.loss_mode": "clip_cov"},
            {"algorithm": "policy_gradient", "policy_loss": "clip_cov", "loss_aggregation": "token_mean"},
        ),
        (
            {"data.train_batch_size": 64, "actor.ppo_mini_batch_size": 16},
            {"algorithm": "policy_gradient", "prompts_per_step": 16, "mini_batches": 4},
        ),
        ({"data.train_batch_size": 64, "actor.ppo_mini_batch_size": 64}, {"algorithm": "grpo", "prompts_per_step": 64}),
    ],
)
def test_losses_become_ours_or_are_put_together_from_parts(overrides: dict[str, Any], task: dict[str, Any]) -> None:
    found = read(overrides).task

    assert {key: getattr(found, key) for key in task} == task


def test_verl_counts_batches_and_we_count_steps() -> None:
    sizes = {"data.train_batch_size": 64, "actor.ppo_mini_batch_size": 16, "trainer.save_freq": 5}

    job = read({**sizes, "trainer.total_training_steps": 10})

    assert (job.task.optim.steps, job.monitoring.checkpoint_interval) == (40, 20)


def test_ppo_has_a_critic_of_its_own() -> None:
    job = read(
        {
            "data.train_batch_size": 32,
            "actor.ppo_mini_batch_size": 8,
            "critic.optim.lr": 2e-5,
            "algorithm.kl_coef": 0.01,
            "trainer.nnodes": 2,
        },
        base="ppo_megatron_trainer",
    )

    assert (job.task.critic.kind, job.task.critic.learning_rate) == ("separate", 2e-5)
    assert (job.task.prompts_per_batch, job.task.mini_batch_size, job.task.kl_coef) == (32, 8, 0.01)
    assert (job.task.parallel.strategy, job.resources.nodes) == ("megatron", 2)


def test_supervised_jobs_have_their_own_keys() -> None:
    job = read({"optim.lr": 1e-4, "data.train_batch_size": 16, "data.max_length": 512}, base="sft_trainer_engine")

    assert (job.task.algorithm, job.task.batch_size) == ("sft", 16)
    assert (job.task.optim.learning_rate, job.task.data.max_tokens) == (1e-4, 512)


def test_our_own_words_stand_above_the_template() -> None:
    task = {"base_config": "grpo_trainer", "overrides": {"model.path": "x", "rollout.n": 4}}
    raw = {"name": "sums", "kind": "train", "resources": {"gpus": 8}}
    own = {"data": {"train": "sums@1"}, "rewards": ["exact"], "rollout": {"completions_per_prompt": 16}}

    job = parse(TrainJob, {**raw, "task": {**task, **own}})

    assert job.task.rollout.completions_per_prompt == 16
    assert job.task.data.train == "sums@1"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rollout.nn": 4}, r"rollout\.nn is not known; did you mean rollout\.n"),
        ({"rolout.n": 4}, r"did you mean rollout\.n"),
        ({"trainer.total_epochs": 3}, "total_training_steps"),
        ({"trainer.test_freq": 5}, r"monitoring\.evaluation"),
        ({"actor.use_kl_loss": True, "algorithm.use_kl_in_reward": True}, "twice"),
        ({"actor.kl_loss_type": "l2", "actor.use_kl_loss": True}, "KL estimator"),
        ({"data.train_batch_size": 10, "actor.ppo_mini_batch_size": 4}, "multiple"),
    ],
)
def test_what_is_not_known_is_said_with_the_way_out(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        read(overrides)


def test_a_base_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="did you mean grpo_trainer"):
        read({}, base="grop_trainer")


def test_a_file_in_the_words_of_verl_is_checked_whole() -> None:
    text = """
name: sums
kind: train
base_config: grpo_trainer
overrides: {model.path: tiny-char, actor.optim.lr: 1.0e-6, actor.ppo_micro_batch_size_per_gpu: 3}
task: {data: {train: sums@1}, rewards: [exact]}
resources: {gpus: 8}
"""

    found = checking.check(text)

    assert not found.is_valid
    assert "micro_batch_size" in found.problems[0].message


TEMPLATE = """
name: sums
kind: train
base_config: grpo_trainer
overrides:
  model.path: tiny-char
  data.train_files: sums@1
  rollout.n: 4
  actor:
    ppo_mini_batch_size: 8
  trainer.logger: [console]
rewards: [exact]
resources: {gpus: 2}
"""


def test_overrides_of_the_command_line_stand_above_the_template() -> None:
    document = documents.parse(TEMPLATE)

    document = checking.override(
        document, ["engine=verl", "model.base=other", "optim.steps=3", "overrides.rollout.n=6"]
    )
    job: Any = checking.read(document)

    assert (job.task.model.base, job.task.optim.steps) == ("other", 3)
    assert job.task.rollout.completions_per_prompt == 6
    assert [reward.name for reward in job.task.rewards] == ["exact"]


def test_a_job_in_a_pipeline_may_be_a_template() -> None:
    job = "\n".join(f"    {line}" for line in TEMPLATE.strip().splitlines()).replace("    name", "  - name", 1)
    document = documents.parse(f"name: two\nkind: pipeline\njobs:\n{job}\n")

    found = checking.override(document, [])

    assert found.lines["jobs.0.task.rollout.completions_per_prompt"] == 10
    assert found.notes[0].startswith("jobs.0.overrides.trainer.logger")
    assert checking.read(found).jobs[0].task.rollout.completions_per_prompt == 4


def test_what_a_template_sets_has_the_line_where_it_was_set() -> None:
    found = checking.override(documents.parse(TEMPLATE), [])

    assert found.lines["task.rollout.completions_per_prompt"] == 8
    assert found.lines["task.prompts_per_step"] == 10
    assert found.lines["task.rewards.0"] == 12
    assert found.lines["task.algorithm"] == found.lines["task.engine"] == 4
    assert "task.optim.learning_rate" not in found.lines


def test_keys_without_effect_are_named_with_what_holds_instead() -> None:
    found = checking.override(documents.parse(TEMPLATE), [])

    assert len(found.notes) == 1
    assert found.notes[0].startswith("overrides.trainer.logger has no effect: Finery records")


@pytest.mark.parametrize(
    ("before", "after", "path", "line"),
    [
        ("rollout.n: 4", "rollout.n: eight", "task.rollout.completions_per_prompt", 8),
        ("rollout.n: 4", "rollout.nn: 4", "overrides.rollout.nn", 8),
        ("ppo_mini_batch_size: 8", "ppo_mini_batch_size: eight", "overrides.actor.ppo_mini_batch_size", 10),
        ("ppo_mini_batch_size: 8", "ppo_mini_batch_size: 0", "overrides.actor.ppo_mini_batch_size", 10),
        ("grpo_trainer", "grop_trainer", "base_config", 4),
        ("rollout.n: 4", "trainer.n_gpus_per_node: 8", "overrides.trainer.n_gpus_per_node", 8),
    ],
)
def test_problems_of_a_template_have_key_and_line(before: str, after: str, path: str, line: int) -> None:
    with pytest.raises(InvalidSpec, match=f"line {line}") as caught:
        checking.read(documents.parse(TEMPLATE.replace(before, after)), name="sums.yaml")

    assert [(one.path, one.line) for one in caught.value.problems] == [(path, line)]


def test_only_training_jobs_are_templates() -> None:
    with pytest.raises(InvalidSpec) as caught:
        checking.read(documents.parse(TEMPLATE.replace("kind: train", "kind: evaluate")))

    assert "base_config" in {one.path for one in caught.value.problems}


def test_gpus_of_the_template_are_the_resources() -> None:
    text = TEMPLATE.replace("rollout.n: 4", "trainer.n_gpus_per_node: 8")
    alone = checking.read(documents.parse(text.replace("resources: {gpus: 2}", "")))
    overridden = checking.read(checking.override(documents.parse(text), ["resources.gpus=4"]))

    assert (alone.resources.gpus, overridden.resources.gpus) == (8, 4)


def test_ordinary_job_files_are_left_alone() -> None:
    raw = {"name": "a", "kind": "train", "task": {"algorithm": "sft", "model": {"base": "x"}, "data": {"train": "a@1"}}}

    assert parse(TrainJob, raw).task.engine == "auto"


@pytest.mark.parametrize(
    ("task", "resources", "field"),
    [
        ({"rollout": {"mode": "one_step_off"}}, {}, "task.rollout.mode"),
        ({"parallel": {"strategy": "fsdp2"}}, {}, "task.parallel.strategy"),
        ({}, {"nodes": 2}, "resources.nodes"),
        ({}, {"cluster": "lab"}, "resources.cluster"),
        ({"algorithm": "remax"}, {}, "algorithm remax"),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "trl"])
def test_the_other_engine_refuses_what_is_verls_alone(
    task: dict[str, Any], resources: dict[str, Any], field: str, engine: str
) -> None:
    own = {"algorithm": "grpo", "engine": engine, "model": {"base": "x"}, "data": {"train": "a@1"}}
    raw = {"name": "a", "kind": "train", "resources": {"gpus": 0, **resources}}

    with pytest.raises(InvalidSpec, match=f"only engine verl .*{field}"):
        checking.read(documents.Document({**raw, "task": {**own, "rewards": ["exact"], **task}}, {}))
