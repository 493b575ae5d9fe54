"""The record of a probed step: what is known of each tensor, and from it of each layer and group.

Owns: how the cells of a record come about from statistics of tensors. Which gradients are looked at, and by whom, is
the engines' business; the arithmetic is `training.statistics`, the file `core.gradients`.

Dimensions: T tensors, W layers and groups.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from finery.core.gradients import FIELDS, NUM_OCTAVES, WHOLE, Counts, Floats32, Layout, TensorEntry
from finery.training import anatomy
from finery.training.statistics import Statistics, combined, octaves

Row = NDArray[np.float64]

_MEASURED = FIELDS[: FIELDS.index("weight_norm")]
"""What is known of the gradients alone, in the order of `_row`."""
_MOST = 2**32 - 1
"""A count in a histogram."""


class GradientTable:
    """The columns of the records of one run, filled anew for each probed step."""

    def __init__(self, sizes: dict[str, int]):
        """Lay out the columns.

        Args:
            sizes: Name of each trained tensor -> number of its values, in the order of the model.
        """
        self.layout = Layout(tensors=tuple(_entry(name, num) for name, num in sizes.items()))
        self.values: Row | None = None
        """(fields, columns) of the present step; None where it is not probed."""
        self.histograms: Counts = np.zeros((len(sizes), 2, NUM_OCTAVES), dtype=np.uint32)
        self._membership_WT = np.array(
            [
                np.isin(np.arange(len(sizes)), self.layout.members(by, name))
                for by in ("layer", "group")
                for name in self.layout.names(by)
            ],
            dtype=np.float64,
        )

    def fill(self, look: Callable[[int], Statistics | None]) -> None:
        """Ask for the statistics of each tensor by its number, in order, and sum up layers and groups."""
        values = np.full((len(FIELDS), self.layout.num_columns), np.nan)
        rows = values.T[:, : len(_MEASURED)]
        cells: list[tuple[str, str, Statistics]] = []
        for (layer, group), numbers in self._cells():
            parts = {number: self._looked_at(number, look) for number in numbers}
            known = [(number, part) for number, part in parts.items() if part is not None]
            for number, part in known:
                rows[number] = _row(part)
            if known:
                cells.append((layer, group, combined(part for _, part in known)))
        for column, own in self._wholes(cells):
            if own:
                rows[column] = _row(combined(own))
        self.values = values

    def put(self, field: str, row: Row) -> None:
        """Set a field of all columns."""
        assert self.values is not None
        self.values[FIELDS.index(field)] = row

    def put_updates(self, squares: Sequence[tuple[float, float]]) -> None:
        """Set what the optimizer did.

        Args:
            squares: (T) sums of squares of each tensor before the step, and of its change.
        """
        weights, changes = (self.with_wholes(column) for column in np.array(squares).T)
        self.put("weight_norm", np.sqrt(weights))
        with np.errstate(invalid="ignore", divide="ignore"):
            self.put("weight_update_ratio", np.sqrt(changes / weights))

    def with_wholes(self, of_tensors: Row, is_counted: NDArray[np.bool_] | None = None) -> Row:
        """(columns) a number of each tensor, and its sum over the tensors of each layer and group that are counted."""
        counted = of_tensors if is_counted is None else np.where(is_counted, of_tensors, 0)
        return np.concatenate([of_tensors, self._membership_WT @ counted])

    def metrics(self) -> dict[str, float]:
        """Of all tensors together, what is known."""
        assert self.values is not None
        whole = dict(zip(FIELDS, self.values[:, -1].tolist(), strict=True))
        found = {
            "grad_var": whole["std"] ** 2,
            "weight_norm": whole["weight_norm"],
            "weight_update_ratio": whole["weight_update_ratio"],
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def take(self) -> Floats32:
        """(fields, columns) what was found, as it is written; the next step begins with nothing."""
        assert self.values is not None
        with np.errstate(over="ignore"):
            found, self.values = self.values.astype(np.float32), None
        return found

    def _looked_at(self, number: int, look: Callable[[int], Statistics | None]) -> Statistics | None:
        found = look(number)
        self.histograms[number] = 0 if found is None else octaves(found.histogram).clamp(max=_MOST).numpy()
        return found

    def _cells(self) -> Iterator[tuple[tuple[str, str], list[int]]]:
        """Tensors of one layer and group that stand together: of no more are all histograms held at once."""
        tensors = self.layout.tensors
        for key, numbers in groupby(range(len(tensors)), lambda n: (tensors[n].layer, tensors[n].group)):
            yield key, list(numbers)

    def _wholes(self, cells: Sequence[tuple[str, str, Statistics]]) -> Iterator[tuple[int, list[Statistics]]]:
        """Column of each layer and group, and what it is made of."""
        for column, name in enumerate(self.layout.names("layer"), start=len(self.layout.tensors)):
            yield column, [part for layer, _, part in cells if layer == name]
        first = self.layout.columns("group").start
        for column, name in enumerate(self.layout.names("group"), start=first):
            yield column, [part for _, group, part in cells if name in (group, WHOLE)]


def _entry(name: str, num_values: int) -> TensorEntry:
    return TensorEntry(name=name, layer=anatomy.layer_of(name), group=anatomy.group_of(name), num_values=num_values)


def _row(found: Statistics) -> tuple[float, ...]:
    """One value for each of `_MEASURED`."""
    return (
        *(found.norm, found.mean, found.std, found.min, found.max),
        *found.percentiles,
        found.share_non_finite,
    )
