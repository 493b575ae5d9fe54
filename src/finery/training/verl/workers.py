"""verl's workers, with what a run that watches itself asks of them between steps.

Subclasses by verl's own seams: the actor's worker names the class of its inner worker, the trainer that of each role.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.tensordict_utils import assign_non_tensor
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker

from finery.training.verl import drawing  # noqa: F401 - registers the rollouts on a CPU
from finery.training.verl.cpu import adapt_engines
from finery.training.verl.shards import Probed, ShardProbe, local

LOSS_FIELDS: Final = {
    "entropy_coef": "entropy_coeff",
    "kl_coef": "kl_loss_coef",
    "clip_low": "clip_ratio_low",
    "clip_high": "clip_ratio_high",
}
"""Live setting -> field of the actor's config, which its loss reads at each step."""

if os.environ.get("VERL_PLATFORM") == "cpu":
    adapt_engines()


Loss = partial[tuple[Any, dict[str, Any]]]


def _of_no_token_zero(loss: Loss, *, model_output: Any, data: Any, dp_group: Any = None) -> tuple[Any, dict[str, Any]]:
    """verl divides by the number of tokens, and would train on NaN where all completions of a mini-batch are cut."""
    if not data["batch_num_tokens"]:
        assign_non_tensor(data, batch_num_tokens=1)
    return loss(model_output=model_output, data=data, dp_group=dp_group)


def _with_lora(build: Callable[[Any], Any], module: Any) -> Any:
    """verl gives all its models PEFT's form for models of language, which looks for this; a critic does not have it."""
    if not hasattr(module, "prepare_inputs_for_generation"):
        module.prepare_inputs_for_generation = None
    return build(module)


class WatchedTrainingWorker(TrainingWorker):
    """A worker that trains one model."""

    _probe: ShardProbe | None = None

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def reset(self) -> None:
        """Build the model and its optimizer; as of verl, but watched, and a critic may have update matrices."""
        if hasattr(self.engine, "_build_lora_module"):
            self.engine._build_lora_module = partial(_with_lora, self.engine._build_lora_module)
        self.engine.initialize()
        if hasattr(self.engine, "module") and not isinstance(self.engine.module, list):
            self._probe = ShardProbe(self.engine)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def probe_next(self) -> None:
        """Look at the gradients of the next step."""
        if self._probe is not None:
            self._probe.probe_next()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def take_probed(self) -> Probed | None:
        """What was seen of them; only the first rank tells."""
        found = self._probe.take() if self._probe is not None else None
        return found if self.rank == 0 else None

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.engine.optimizer.param_groups[0]["lr"])

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def scale_rate(self, factor: float) -> float:
        """Multiply the schedule of the learning rate, and tell the rate of the next step.

        Raises:
            ValueError: the schedule is Megatron's, which has no such lever.
        """
        scheduler = self.engine.lr_scheduler
        if not hasattr(scheduler, "base_lrs"):
            raise ValueError("the learning rate cannot be changed while verl trains with Megatron")
        scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
        for group in self.engine.optimizer.param_groups:
            group["lr"] = group["lr"] * factor
            group["initial_lr"] = group["initial_lr"] * factor
        scheduler._last_lr = [group["lr"] for group in self.engine.optimizer.param_groups]
        return float(scheduler._last_lr[0])

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def set_loss_fn(self, loss_fn: Loss) -> None:
        """The loss of each mini-batch, which may have no token that it is of."""
        self.loss_fn = partial(_of_no_token_zero, loss_fn)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def set_loss(self, values: Mapping[str, float]) -> None:
        """Change fields of the config that the loss reads."""
        config = self.loss_fn.args[0].keywords["config"]
        for name, value in values.items():
            object.__setattr__(config, name, value)  # verl freezes its configs once they are made

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def is_finite(self) -> bool:
        """Whether all weights that this rank holds are finite."""
        module = self.engine.module  # Megatron's is a list of the parts of its pipeline
        parts = module if isinstance(module, list) else [module]
        return all(bool(local(parameter).isfinite().all()) for part in parts for parameter in part.parameters())


class WatchedActorWorker(ActorRolloutRefWorker):
    """The worker that trains the policy, draws from it, and may hold the reference model."""

    actor_worker_cls = WatchedTrainingWorker

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def probe_next(self) -> None:
        """As of the worker within."""
        self.actor.probe_next()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def take_probed(self) -> Probed | None:
        """As of the worker within."""
        found: Probed | None = self.actor.take_probed()
        return found

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def rate(self) -> float:
        """As of the worker within."""
        return float(self.actor.rate())

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def scale_rate(self, factor: float) -> float:
        """As of the worker within."""
        return float(self.actor.scale_rate(factor))

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def set_loss(self, values: Mapping[str, float]) -> None:
        """As of the worker within."""
        self.actor.set_loss(values)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def is_finite(self) -> bool:
        """As of the worker within."""
        return bool(self.actor.is_finite())
