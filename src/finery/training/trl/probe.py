"""Looks at the gradients of some steps, before they are clipped, and records what it sees.

Owns: which steps are probed and what a record is made of. The arithmetic is `training.statistics`, the file
`core.gradients`. The gradients of a step are averaged over its processes before, so that process 0 sees all of them and
alone computes and writes; the others take part where activations are asked for.

Dimensions: T tensors, W layers and groups.
"""

import math
import time
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer

from finery.core.gradients import FIELDS, NUM_OCTAVES, WHOLE, Counts, GradientWriter, Layout, TensorEntry
from finery.core.rundir import Run
from finery.training import anatomy
from finery.training.statistics import Statistics, combined, octaves, statistics
from finery.training.trl import world
from finery.training.trl.activations import Activations
from finery.training.trl.guards import is_out_of_memory
from finery.training.trl.updates import Updates

Row = NDArray[np.float64]

_MEASURED = FIELDS[: FIELDS.index("weight_norm")]
"""What is known of the gradients alone, in the order of `_row`."""
_MOST = 2**32 - 1
"""A count in a histogram."""


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
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._parameters = [parameter for _, parameter in named]
        self._run = run
        self._interval = interval
        self._layout = Layout(tensors=tuple(_entry(name, parameter) for name, parameter in named))
        self._writer = GradientWriter(run.dir.gradients, self._layout)
        modules = [model.get_submodule(name.rpartition(".")[0]) for name, _ in named]
        self._activations = Activations(modules) if with_activations else None
        self._is_first_of_module_T = np.array([modules.index(module) == n for n, module in enumerate(modules)])
        self._updates = Updates(self._parameters, optimizer) if optimizer and world.rank() == 0 else None
        self._membership_WT = np.array(
            [
                np.isin(np.arange(len(named)), self._layout.members(by, name))
                for by in ("layer", "group")
                for name in self._layout.names(by)
            ],
            dtype=np.float64,
        )
        self._values: NDArray[np.float64] | None = None
        self._histograms: Counts = np.zeros((len(named), 2, NUM_OCTAVES), dtype=np.uint32)

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
            self._values = self._gradients()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._run.note(f"gradients of step {step} were not looked at: there is no memory left for it", "warning")
            return
        if activations:
            counted = self._is_first_of_module_T
            squares, num = (self._with_wholes(sums, counted) for sums in np.array(activations).T)
            with np.errstate(invalid="ignore", divide="ignore"):
                self._put("activation_rms", np.sqrt(squares / num))
        if self._updates:
            self._updates.measure_next()

    def finish(self, step: int) -> dict[str, float]:
        """At the end of any step: write the record of one that was looked at.

        A full disk loses the record, never the run.

        Returns:
            Metrics of a probed step; nothing for another one.
        """
        updates = self._updates.take() if self._updates else None
        if self._values is None:
            return {}
        if updates:
            weights, changes = (self._with_wholes(squares) for squares in np.array(updates).T)
            self._put("weight_norm", np.sqrt(weights))
            with np.errstate(invalid="ignore", divide="ignore"):
                self._put("weight_update_ratio", np.sqrt(changes / weights))
        found = self._metrics()
        with np.errstate(over="ignore"):
            values, self._values = self._values.astype(np.float32), None
        try:
            offset = self._writer.append(step, time.time(), values, self._histograms)
        except OSError as error:
            self._run.note(f"statistics of the gradients of step {step} were not kept: {error}", "warning")
        else:
            self._run.gradients(self._writer.path, offset, step)
        return found

    def _metrics(self) -> dict[str, float]:
        """Of all tensors together, what is known."""
        assert self._values is not None
        whole = dict(zip(FIELDS, self._values[:, -1].tolist(), strict=True))
        found = {
            "grad_var": whole["std"] ** 2,
            "weight_norm": whole["weight_norm"],
            "weight_update_ratio": whole["weight_update_ratio"],
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def _gradients(self) -> NDArray[np.float64]:
        """(fields, columns) what is known of the gradients; takes the histograms aside."""
        values = np.full((len(FIELDS), self._layout.num_columns), np.nan)
        rows = values.T[:, : len(_MEASURED)]
        cells: list[tuple[str, str, Statistics]] = []
        for (layer, group), numbers in self._cells():
            parts = {number: self._look_at(number) for number in numbers}
            known = [(number, part) for number, part in parts.items() if part is not None]
            for number, part in known:
                rows[number] = _row(part)
            if known:
                cells.append((layer, group, combined(part for _, part in known)))
        for column, own in self._wholes(cells):
            if own:
                rows[column] = _row(combined(own))
        return values

    def _look_at(self, number: int) -> Statistics | None:
        gradient = self._parameters[number].grad
        self._histograms[number] = 0
        if gradient is None:
            return None
        found = statistics([gradient])
        self._histograms[number] = octaves(found.histogram).clamp(max=_MOST).numpy()
        return found

    def _cells(self) -> Iterator[tuple[tuple[str, str], list[int]]]:
        """Tensors of one layer and group that stand together: of no more are all histograms held at once."""
        tensors = self._layout.tensors
        for key, numbers in groupby(range(len(tensors)), lambda n: (tensors[n].layer, tensors[n].group)):
            yield key, list(numbers)

    def _wholes(self, cells: Sequence[tuple[str, str, Statistics]]) -> Iterator[tuple[int, list[Statistics]]]:
        """Column of each layer and group, and what it is made of."""
        for column, name in enumerate(self._layout.names("layer"), start=len(self._parameters)):
            yield column, [part for layer, _, part in cells if layer == name]
        first = self._layout.columns("group").start
        for column, name in enumerate(self._layout.names("group"), start=first):
            yield column, [part for _, group, part in cells if name in (group, WHOLE)]

    def _with_wholes(self, of_tensors: Row, is_counted: NDArray[np.bool_] | None = None) -> Row:
        """(columns) a number of each tensor, and its sum over the tensors of each layer and group that are counted."""
        counted = of_tensors if is_counted is None else np.where(is_counted, of_tensors, 0)
        return np.concatenate([of_tensors, self._membership_WT @ counted])

    def _put(self, field: str, row: Row) -> None:
        assert self._values is not None
        self._values[FIELDS.index(field)] = row


def _entry(name: str, parameter: torch.Tensor) -> TensorEntry:
    return TensorEntry(
        name=name, layer=anatomy.layer_of(name), group=anatomy.group_of(name), num_values=parameter.numel()
    )


def _row(found: Statistics) -> tuple[float, ...]:
    """One value for each of `_MEASURED`."""
    return (
        *(found.norm, found.mean, found.std, found.min, found.max),
        *found.percentiles,
        found.share_non_finite,
    )
