"""What ends a run that cannot go on: memory that has run out, and gradients that do not arrive."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finery.core.errors import FineryError
from finery.core.rundir import Run
from finery.training import memory, world
from finery.training.specs import TrainTask
from finery.training.trl.gate import FiniteGate

_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc", "out of memory")
"""What torch's RuntimeErrors say about it, whichever allocator has failed."""
_PATIENCE = 3
"""Steps (batches of rollouts) without a gradient before a run is stopped."""
_NOTHING = 1e-6
"""A loss this near to zero is what is left of zero after rounding: where all completions are masked, for instance."""


class NoGradient(FineryError):
    """Training would go on without changing anything."""

    code = "no_gradient"


@contextmanager
def memory_watched(task: TrainTask, while_: str) -> Iterator[None]:
    """Turn an allocation that fails into one error that names what would need less.

    Raises:
        OutOfMemory: of the GPU, or of the host as far as the allocator notices; the kernel's own killer is
            reported by the supervisor.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        peak, limit = _peak_and_limit(error)
        raise memory.error(
            task.model_dump(mode="json"), while_=while_, peak=peak, limit=limit, num_processes=world.size()
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation has failed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


def _peak_and_limit(error: BaseException) -> tuple[int, int]:
    if isinstance(error, torch.OutOfMemoryError):
        return torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    total = psutil.virtual_memory().total
    limit = total if soft == resource.RLIM_INFINITY else min(soft, total)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, limit


class GradientGuard(TrainerCallback):
    """Stops a run that no longer learns though it looks as if it did.

    A step may rightly have gradients of zero: a group whose rewards are equal has no advantage, and a batch all of
    whose ratios are clipped has none left. Then the graph is whole and each gradient is a tensor of zeros. So:

    * gradients that are all None mean that the loss does not reach the weights, which no algorithm intends: stop;
    * gradients that are all zero count only in steps whose loss is not zero, and only in a row: the patience is
      longer than the optimizer steps on one batch of rollouts, of which the first is never clipped.
    """

    def __init__(self, run: Run, task: TrainTask, gate: FiniteGate):
        self._run = run
        self._gate = gate
        self._patience = _PATIENCE * getattr(task, "steps_per_batch", 1)
        self._steps_in_vain = 0
        self._is_zero = False
        self._is_first = True

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.deepspeed:
            return  # it keeps gradients elsewhere
        if self._gate.was_closed:
            self._is_zero = False
            return
        trained = [(name, tensor) for name, tensor in kwargs["model"].named_parameters() if tensor.requires_grad]
        missing = [name for name, tensor in trained if tensor.grad is None]
        if len(missing) == len(trained):
            raise NoGradient(
                f"step {state.global_step + 1}: none of the {len(trained)} trained tensors got a gradient, so the loss "
                "does not reach them and training would change nothing; check model.quantize and "
                "model.lora.target_modules"
            )
        if missing and self._is_first:
            self._run.note(
                f"{len(missing)} of {len(trained)} trained tensors got no gradient, such as {missing[0]}", "warning"
            )
        self._is_first = False
        self._is_zero = not any(bool(tensor.grad.any()) for _, tensor in trained if tensor.grad is not None)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float | None] | None = None,
        **_: Any,
    ) -> None:
        if not self._is_zero:
            self._steps_in_vain = 0
        elif logs and abs(logs.get("loss") or 0.0) > _NOTHING:
            self._steps_in_vain += 1
        if self._steps_in_vain >= self._patience:
            raise NoGradient(
                f"step {state.global_step}: all trainable gradients have been zero for {self._steps_in_vain} steps in "
                "a row though the loss was not, so training changes nothing; check model.quantize, "
                "model.lora.target_modules and the weights of model.base"
            )
