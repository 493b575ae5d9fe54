"""Looks at the gradients of some steps, before they are clipped, and records what it sees.

Owns: which steps are probed. What a record is made of is `training.gradients`, the file `core.gradients`. The gradients
of a step are averaged over its processes before, so that process 0 sees all of them and alone computes and writes; the
others take part where activations are asked for.

Dimensions: T tensors, W layers and groups.
"""

import time

import numpy as np
import torch
from torch.optim import Optimizer

from finery.core.gradients import GradientWriter
from finery.core.rundir import Run
from finery.training import world
from finery.training.gradients import GradientTable
from finery.training.statistics import Statistics, statistics
from finery.training.trl.activations import Activations
from finery.training.trl.guards import is_out_of_memory
from finery.training.trl.updates import Updates


class Probe:
    """The probe of one run: step 1, and each step that the interval divides.

    A step calls `begin`, `look` if it is due, and `finish`, in this order; the optimizer may step before `finish`.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: Optimizer | None, run: Run, *, interval: int, with_activations: bool
    ):
        """Hook into the optimizer; nothing else costs anything at steps that are not probed.

        Args:
            model: Its parameters that are trained are probed.
            optimizer: None, for one that is none of torch's, leaves updates unknown.
            run: Where records go.
            interval: Steps; 0 probes none.
            with_activations: Watch what modules put out, too.
        """
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._parameters = list(named.values())
        self._run = run
        self._interval = interval
        self._table = GradientTable({name: parameter.numel() for name, parameter in named.items()})
        self._writer = GradientWriter(run.dir.gradients, self._table.layout)
        modules = [model.get_submodule(name.rpartition(".")[0]) for name in named]
        self._activations = Activations(modules) if with_activations else None
        self._is_first_of_module_T = np.array([modules.index(module) == n for n, module in enumerate(modules)])
        self._updates = Updates(self._parameters, optimizer) if optimizer and world.rank() == 0 else None

    def is_due(self, step: int) -> bool:
        """Whether a step, counted from 1, is probed."""
        return bool(self._interval) and (step == 1 or step % self._interval == 0)

    def begin(self, step: int) -> None:
        """Before the first pass of any step."""
        if self._activations and self.is_due(step):
            self._activations.start()

    def look(self, step: int) -> None:
        """When the gradients of a step that is due are complete."""
        activations = self._activations.take() if self._activations else None
        if world.rank() > 0 or all(parameter.grad is None for parameter in self._parameters):
            return
        try:
            self._table.fill(self._look_at)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._run.note(f"gradients of step {step} were not looked at: there is no memory left for it", "warning")
            return
        if activations:
            counted = self._is_first_of_module_T
            squares, num = (self._table.with_wholes(sums, counted) for sums in np.array(activations).T)
            with np.errstate(invalid="ignore", divide="ignore"):
                self._table.put("activation_rms", np.sqrt(squares / num))
        if self._updates:
            self._updates.measure_next()

    def finish(self, step: int) -> dict[str, float]:
        """At the end of any step: write the record of one that was looked at.

        A full disk loses the record, never the run.

        Returns:
            Metrics of a probed step; nothing for another one.
        """
        updates = self._updates.take() if self._updates else None
        if self._table.values is None:
            return {}
        if updates:
            self._table.put_updates(updates)
        found = self._table.metrics()
        try:
            offset = self._writer.append(step, time.time(), self._table.take(), self._table.histograms)
        except OSError as error:
            self._run.note(f"statistics of the gradients of step {step} were not kept: {error}", "warning")
        else:
            self._run.gradients(self._writer.path, offset, step)
        return found

    def _look_at(self, number: int) -> Statistics | None:
        gradient = self._parameters[number].grad
        return None if gradient is None else statistics([gradient])
