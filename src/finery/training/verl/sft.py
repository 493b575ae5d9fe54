"""Supervised fine-tuning on verl's training workers.

The loop is ours, since that of verl 0.9.1 cannot be stopped, watched or begun in the middle of an epoch; the workers,
the loss, sharding, batching and checkpoints are verl's.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from omegaconf import DictConfig
from tensordict.tensorclass import NonTensorData
from verl.single_controller.ray import RayClassWithInitArgs, RayResourcePool, RayWorkerGroup
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.dataset.dataset_utils import DatasetPadMode, SFTTensorCollator
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions
from verl.workers.engine_workers import TrainingWorkerConfig
from verl.workers.utils.losses import sft_loss

from finery.core import checkpoints, parquet
from finery.core.rundir import Run
from finery.models import loading
from finery.training import rows as data
from finery.training.rows import Example
from finery.training.specs import SftSpec
from finery.training.verl import engine, metrics
from finery.training.verl.recorder import Recorder
from finery.training.verl.shards import Probed
from finery.training.verl.workers import WatchedTrainingWorker


def execute(task: SftSpec, run: Run) -> None:
    """Train. Raises as `engine.execute`."""
    model = engine.prepared_model(task, run)
    rows = data.read_rows(run, task.data.train)
    train = engine.native(run) / "train.parquet"
    parquet.write_sft(rows, train)  # nothing reads it but verl's checks: the ranks are fed with our own tokens
    examples, num_dropped = data.examples(
        rows,
        loading.load_tokenizer(model),
        loss_on=task.loss_on,
        max_tokens=task.data.max_tokens,
        ref=task.data.train,
    )
    if num_dropped:
        run.note(f"{num_dropped} rows were left out: data.max_tokens cuts all of their response", "warning")
    config = engine.composed(task, run, model=model, train=train, more={})
    world_size = config.trainer.n_gpus_per_node * config.trainer.nnodes
    engine.check_resume(run, world_size)
    with engine.connected(run, config):
        _Trainer(task, run, config, examples, world_size).train()


class _Trainer:
    """Ranks, and the loop that feeds them."""

    def __init__(self, task: SftSpec, run: Run, config: DictConfig, examples: list[Example], world_size: int):
        self._task, self._run, self._config, self._examples = task, run, config, examples
        self._visits = data.visits(
            run.spec, len(examples), num=task.optim.steps, size=task.batch_size, shuffle=task.data.shuffle
        )
        self._collate = SFTTensorCollator(DatasetPadMode.NO_PADDING)
        self._ranks = _started_ranks(config)
        self._recorder = Recorder(
            run,
            self,
            num_steps=task.optim.steps,
            steps_per_batch=1,
            world_size=world_size,
            format=engine.checkpoint_format(config.engine.strategy),
            settings={"learning_rate": task.optim.learning_rate},
        )

    def train(self) -> None:
        """Train to the last step. Raises `Stopped`."""
        begun = 0
        if self._run.resume_from is not None:
            manifest = checkpoints.read_manifest(self._run.resume_from)
            assert manifest is not None
            begun = manifest.step
            self._ranks.load_checkpoint(str(self._run.resume_from))
        self._recorder.begin(begun)
        tokens_seen = 0
        for step in range(begun + 1, self._task.optim.steps + 1):
            started = time.perf_counter()
            batch, num_tokens = self._batch(step)
            waited = time.perf_counter() - started
            found = tu.get(self._ranks.train_batch(batch).get(), "metrics")
            seconds = time.perf_counter() - started
            tokens_seen += num_tokens
            values = metrics.ours({f"train/{name}": value for name, value in found.items()})
            values |= {
                "seconds_per_step": seconds,
                "seconds_data": waited,
                "tokens_seen": float(tokens_seen),
                "tokens_per_second": num_tokens / seconds,
            }
            self._recorder.step(step, values)
        self._recorder.finish()

    def save(self, step: int, path: Path) -> None:
        """Have the ranks write their shards."""
        self._ranks.save_checkpoint(str(path), None, step, None)

    def is_finite(self) -> bool:
        """Whether all weights are."""
        return all(self._ranks.is_finite())

    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._ranks.rate()[0])

    def scale_rate(self, factor: float) -> float:
        """Multiply the schedule of the learning rate."""
        return float(self._ranks.scale_rate(factor)[0])

    def set_loss(self, name: str, value: float) -> None:
        """There is nothing to set."""
        raise ValueError(f"{name} is no setting of sft")

    def probe_next(self) -> None:
        """Look at the gradients of the next step."""
        self._ranks.probe_next()

    def take_probed(self) -> Probed | None:
        """What was seen of them."""
        found: Probed | None = self._ranks.take_probed()[0]
        return found

    def _batch(self, step: int) -> tuple[Any, int]:
        """The rows of a step, dealt to the ranks so that each has about as much to compute; and their tokens."""
        size = self._task.batch_size
        rows = [self._examples[row] for row in self._visits[(step - 1) * size : step * size]]
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        num_ranks = max(self._ranks._query_dispatch_info("train")) + 1
        shares = get_seqlen_balanced_partitions(calculate_workload(lengths), k_partitions=num_ranks, equal_size=True)
        rows = [rows[number] for share in shares for number in share]
        batch = tu.get_tensordict(
            tensor_dict=self._collate([_tensors(row) for row in rows]),
            non_tensor_dict={
                "use_remove_padding": self._config.model.use_remove_padding,
                "use_dynamic_bsz": self._config.data.use_dynamic_bsz,
                "max_token_len_per_gpu": self._config.data.max_token_len_per_gpu,
                "micro_batch_size_per_gpu": self._config.data.micro_batch_size_per_gpu,
                "temperature": 1.0,
                "global_batch_size": size,
                "pad_mode": DatasetPadMode.NO_PADDING,
                "pad_token_id": 0,
            },
        )
        numbers = NonTensorData([len(row.input_ids) for row in rows])
        tu.assign_non_tensor(batch, update_lr_scheduler=True, global_token_num=numbers)
        return batch, int(lengths.sum())


def _tensors(row: Example) -> dict[str, torch.Tensor]:
    """A row as verl wants it. The first token is predicted by nothing and carries no loss."""
    has_loss = [0, *(int(label != -100) for label in row.labels[1:])]
    return {
        "input_ids": torch.tensor(row.input_ids),
        "position_ids": torch.arange(len(row.input_ids)),
        "loss_mask": torch.tensor(has_loss),
    }


def _started_ranks(config: DictConfig) -> Any:
    """Ranks with the model loaded."""
    own = omega_conf_to_dataclass(config.engine)
    optimizer = omega_conf_to_dataclass(config.optim)
    optimizer.total_training_steps = config.trainer.total_training_steps
    worker = TrainingWorkerConfig(
        model_type="language_model",
        model_config=omega_conf_to_dataclass(config.model),
        engine_config=own,
        optimizer_config=optimizer,
        checkpoint_config=omega_conf_to_dataclass(config.checkpoint),
        profiler_config=omega_conf_to_dataclass(config.profiler),
    )
    ranks = RayWorkerGroup(
        resource_pool=RayResourcePool(process_on_nodes=[config.trainer.n_gpus_per_node] * config.trainer.nnodes),
        ray_cls_with_init=RayClassWithInitArgs(ray.remote(WatchedTrainingWorker), config=worker),
        device_name=config.trainer.device,
    )
    ranks.set_loss_fn(loss_fn=partial(sft_loss, config=None))
    ranks.reset()
    return ranks
