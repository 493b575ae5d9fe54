"""Metrics of one optimizer step, gathered over its micro batches so that their sizes do not weigh."""


class Tally:
    """Means, sums and maxima that are added to piece by piece."""

    def __init__(self) -> None:
        self._totals: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._highest: dict[str, float] = {}

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
        """Name -> value, and begin anew. A mean of nothing is left out."""
        means = {name: total / self._counts[name] for name, total in self._totals.items() if self._counts[name]}
        found = {**means, **self._sums, **self._highest}
        self._totals, self._counts, self._sums, self._highest = {}, {}, {}, {}
        return found
