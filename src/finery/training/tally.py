"""Metrics of one optimizer step, gathered over its micro batches and processes so that their sizes do not weigh."""

from finery.training import world


class Tally:
    """Means, sums and maxima that are added to piece by piece."""

    def __init__(self) -> None:
        self._begin()

    def add(self, name: str, total: float, count: float = 1.0) -> None:
        """Add to a mean: `total` is a sum over `count` things."""
        self._totals[name] = self._totals.get(name, 0.0) + total
        self._counts[name] = self._counts.get(name, 0.0) + count

    def increase(self, name: str, by: float) -> None:
        """Add to a sum."""
        self._sums[name] = self._sums.get(name, 0.0) + by

    def raise_to(self, name: str, value: float) -> None:
        """Take part in a maximum."""
        self._highest[name] = max(value, self._highest.get(name, value))

    def take(self) -> dict[str, float]:
        """Name -> value over all processes, and begin anew. A mean of nothing is left out."""
        for other in self._gathered():
            for name, total in other._totals.items():
                self.add(name, total, other._counts[name])
            for name, part in other._sums.items():
                self.increase(name, part)
            for name, value in other._highest.items():
                self.raise_to(name, value)
        means = {name: total / self._counts[name] for name, total in self._totals.items() if self._counts[name]}
        found = {**means, **self._sums, **self._highest}
        self._begin()
        return found

    def _gathered(self) -> "list[Tally]":
        """Those of all processes in place of this one; none where there is one."""
        if world.size() == 1:
            return []
        found = world.gathered([self])
        self._begin()
        return found

    def _begin(self) -> None:
        self._totals: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._highest: dict[str, float] = {}
