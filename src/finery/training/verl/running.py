"""Trains a policy with verl: from the job file to a trainer that runs."""

from typing import Any

import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.v1 import AgentLoopManagerTQ

from finery.core.rundir import Run
from finery.datasets import parquet
from finery.training import rows as data
from finery.training.specs import PpoSpec
from finery.training.specs.groups import GroupSpec
from finery.training.verl import engine, ppo, prompts, rewards
from finery.training.verl.recorder import Recorder


def execute(task: GroupSpec | PpoSpec, run: Run) -> None:
    """Train. Raises as `engine.execute`."""
    rows = data.read_rows(run, task.data.train)
    folder = engine.native(run)
    model = engine.prepared_model(task, run)
    train = folder / "train.parquet"
    parquet.write_rl(rows, train, data_source=task.data.train)
    config = _composed(task, run, model, train)
    world_size = config.trainer.n_gpus_per_node * config.trainer.nnodes
    engine.check_resume(run, world_size)
    with engine.connected(run, config, on_cpu=config.trainer.device == "cpu"):
        tq.init(config.transfer_queue)
        try:
            _train(task, run, config, rows, world_size)
        finally:
            tq.close()


def _train(task: Any, run: Run, config: DictConfig, rows: list[dict[str, Any]], world_size: int) -> None:
    trainer = ppo.TRAINERS[config.trainer.v1.trainer_mode](config=config)
    trainer.finery_run, trainer.task, trainer.rows = run, task, rows
    trainer.recorder = Recorder(
        run,
        trainer,
        num_steps=task.optim.steps,
        steps_per_batch=task.steps_per_batch,
        world_size=world_size,
        format=engine.FORMATS.get(config.actor_rollout_ref.actor.strategy, "verl-fsdp"),
        settings=ppo.settings(task),
    )
    trainer.init()
    drawing = AgentLoopManagerTQ.create(
        config=config,
        llm_client=trainer.get_llm_client(),
        teacher_client=trainer.get_teacher_client(),
        reward_loop_worker_handles=trainer.get_reward_handles(),
    )
    trainer.fit(drawing)
    trainer.recorder.finish()


def _composed(task: GroupSpec | PpoSpec, run: Run, model: Any, train: Any) -> DictConfig:
    from hydra import compose, initialize_config_module

    A = "actor_rollout_ref"
    num = run.spec.job["resources"].get("processes") or 1
    agent = engine.native(run) / "agent.yaml"
    agent.write_text(f"- name: {prompts.AGENT}\n  _target_: finery.training.verl.prompts.PromptLoop\n")
    native = engine.native(run)
    s = {
        "algorithm.adv_estimator": "grpo", "data.train_files": train, "data.val_files": train,
        "data.train_batch_size": prompts.batch_size(task), "data.max_prompt_length": task.data.max_prompt_tokens,
        "data.max_response_length": task.rollout.max_new_tokens, "data.dataloader_num_workers": 0, "data.val_max_samples": 1, "data.shuffle": False,
        "data.custom_cls.path": "pkg://finery.training.verl.prompts", "data.custom_cls.name": "PromptDataset",
        f"{A}.model.path": model, f"{A}.model.use_remove_padding": False, f"{A}.model.enable_gradient_checkpointing": False,
        f"+{A}.model.override_config.attn_implementation": "sdpa",
        f"{A}.actor.strategy": "fsdp2", f"{A}.actor.ppo_mini_batch_size": prompts.batch_size(task), f"{A}.actor.ppo_micro_batch_size_per_gpu": prompts.batch_size(task)*task.rollout.completions_per_prompt//num,
        f"{A}.actor.optim.lr": task.optim.learning_rate, f"{A}.actor.use_kl_loss": task.kl_coef > 0, f"{A}.actor.kl_loss_coef": task.kl_coef, f"{A}.actor.entropy_coeff": task.entropy_coef,
        f"{A}.actor.calculate_entropy": True, f"{A}.actor.optim.weight_decay": 0.0,
        f"{A}.actor.use_torch_compile": False, f"{A}.actor.fsdp_config.use_torch_compile": False, f"{A}.actor.fsdp_config.model_dtype": "fp32",
        f"+{A}.actor.fsdp_config.mixed_precision.param_dtype": "fp32", f"+{A}.actor.fsdp_config.mixed_precision.reduce_dtype": "fp32",
        f"{A}.ref.log_prob_micro_batch_size_per_gpu": prompts.batch_size(task)*task.rollout.completions_per_prompt//num, f"{A}.ref.fsdp_config.use_torch_compile": False, f"{A}.ref.fsdp_config.model_dtype": "fp32",
        f"{A}.rollout.name": "hfcpu", f"{A}.rollout.n": task.rollout.completions_per_prompt, f"{A}.rollout.tensor_model_parallel_size": 1,
        f"{A}.rollout.log_prob_micro_batch_size_per_gpu": prompts.batch_size(task)*task.rollout.completions_per_prompt//num, f"{A}.rollout.agent.num_workers": 1, f"{A}.rollout.calculate_log_probs": True,
        f"{A}.rollout.free_cache_engine": False, f"{A}.rollout.n_gpus_per_node": num, f"{A}.rollout.seed": run.seed,
        f"{A}.rollout.agent.default_agent_loop": prompts.AGENT, f"{A}.rollout.agent.agent_loop_config_path": agent,
        "reward.num_workers": 1, "reward.custom_reward_function.path": rewards.__file__, "reward.custom_reward_function.name": "score",
        "trainer.logger": "[]", "trainer.nnodes": 1, "trainer.n_gpus_per_node": num, "trainer.device": "cpu", "trainer.total_training_steps": prompts.num_batches(task),
        "trainer.total_epochs": 1, "trainer.save_freq": -1, "trainer.test_freq": -1, "trainer.val_before_train": False, "trainer.default_local_dir": native / "checkpoints",
        "trainer.v1.trainer_mode": "sync", "trainer.resume_mode": "disable",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    }
    if run.resume_from:
        link = native / f"global_step_{int(run.resume_from.name.rpartition('-')[2]) // task.steps_per_batch}"
        link.unlink(missing_ok=True)
        link.symlink_to(run.resume_from)
        s |= {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": link}
    with initialize_config_module("verl.trainer.config", version_base=None):
        c = compose("ppo_trainer", overrides=[f"{k}={v}" for k, v in s.items()])
    OmegaConf.resolve(c)
    c.transfer_queue.enable = True
    return c
