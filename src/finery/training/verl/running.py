"""Trains a policy with verl: from the job file to a trainer that runs."""

from pathlib import Path
from typing import Any

import transfer_queue as tq
from omegaconf import DictConfig
from verl.trainer.ppo.v1 import AgentLoopManagerTQ

from finery.core import parquet
from finery.core.rundir import Run
from finery.training import rows as data
from finery.training.verl import engine, ppo, prompts
from finery.training.verl.prompts import PolicyTask
from finery.training.verl.recorder import Recorder


def execute(task: PolicyTask, run: Run) -> None:
    """Train. Raises as `engine.execute`."""
    rows = data.read_rows(run, task.data.train)
    folder = engine.native(run)
    model = engine.prepared_model(task, run)
    train = folder / "train.parquet"
    parquet.write_rl(rows, train, data_source=task.data.train)
    config = engine.composed(task, run, model=model, train=train, more=_how_we_run(task, run, folder))
    config.transfer_queue.enable = True
    world_size = config.trainer.n_gpus_per_node * config.trainer.nnodes
    engine.check_resume(run, world_size)
    with engine.connected(run, config):
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
        format=engine.checkpoint_format(config.actor_rollout_ref.actor.strategy),
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


def _how_we_run(task: PolicyTask, run: Run, folder: Path) -> dict[str, Any]:
    """verl's keys for our rows, our reports and our checkpoints."""
    agents = folder / "agents.yaml"
    agents.write_text(f"- name: {prompts.AGENT}\n  _target_: {prompts.PromptLoop.__module__}.PromptLoop\n", "utf-8")
    agent = "actor_rollout_ref.rollout.agent"
    # Our servers on a CPU hold whole weights; vLLM takes the update beside them.
    folded = {"actor_rollout_ref.model.lora.merge": True} if task.model.lora and engine.device(run) == "cpu" else {}
    return {
        **folded,
        "data.custom_cls.path": f"pkg://{prompts.__name__}",
        "data.custom_cls.name": prompts.PromptDataset.__name__,
        f"{agent}.default_agent_loop": prompts.AGENT,
        f"{agent}.agent_loop_config_path": str(agents),
        "trainer.logger": [],
        "trainer.total_epochs": 1,
        "trainer.save_freq": -1,
        "trainer.test_freq": -1,
        "trainer.val_before_train": False,
    }
