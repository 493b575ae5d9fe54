"""How sure an accuracy is, and whether two models differ on the same problems. Pure; standard library only.

Both models answer the same problems, so the comparison is paired: what counts is on which problems they disagree. A
test for independent samples would throw the pairing away and miss real differences.
"""

import math
from fractions import Fraction
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """A confidence interval, ends included."""

    low: float
    high: float


class PairedCounts(NamedTuple):
    """Problems by who solved them."""

    both_correct: int
    improved: int
    """Wrong in the baseline, right in the candidate."""
    regressed: int
    """Right in the baseline, wrong in the candidate."""
    both_wrong: int

    @property
    def total(self) -> int:
        return sum(self)


def wilson(num_correct: int, num_samples: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion. Never leaves [0, 1] and is right for 0 % and 100 % as well.

    Args:
        num_correct: Successes, from 0 to num_samples.
        num_samples: Trials; 0 tells nothing and gives [0, 1].
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: the counts cannot be.

    Source: E. B. Wilson, JASA 22 (1927) 209-212; as formula (4) of Brown, Cai, DasGupta, Stat. Sci. 16 (2001) 101-133.
    """
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"{num_correct} of {num_samples} is no proportion")
    if num_samples == 0:
        return Interval(0.0, 1.0)
    z = _z(confidence)
    share = num_correct / num_samples
    scale = 1 + z**2 / num_samples
    center = (share + z**2 / (2 * num_samples)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / num_samples + z**2 / (4 * num_samples**2))
    low = 0.0 if num_correct == 0 else max(0.0, center - half)
    high = 1.0 if num_correct == num_samples else min(1.0, center + half)
    return Interval(low, high)


def mcnemar_exact(improved: int, regressed: int) -> float:
    """Two-sided p-value: the chance of a split at least this uneven if each disagreement were a fair coin.

    Exact: twice the smaller tail of Binomial(improved + regressed, 1/2) in integers, at most 1. No disagreement is 1.

    Raises:
        ValueError: a count is negative.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; exact: A. Agresti, Categorical Data Analysis, 3rd ed., 11.1.1.
    """
    if min(improved, regressed) < 0:
        raise ValueError(f"counts must not be negative, got {improved} and {regressed}")
    discordant = improved + regressed
    term = tail = 1
    for k in range(min(improved, regressed)):
        term = term * (discordant - k) // (k + 1)
        tail += term
    return float(min(Fraction(1), Fraction(2 * tail, 2**discordant)))


def paired_difference(counts: PairedCounts, *, confidence: float = 0.95) -> Interval:
    """Interval of (candidate's accuracy - baseline's accuracy) over the same problems.

    Newcombe's method 10: the Wilson intervals of both accuracies, put together with the correlation of the pairs, which
    is made smaller by a continuity correction where it is positive.

    Args:
        counts: Problems by who solved them; none gives [-1, 1].
        confidence: Coverage, between 0 and 1.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998) 2635-2650, method 10.
    """
    n = counts.total
    if n == 0:
        return Interval(-1.0, 1.0)
    by_candidate = counts.both_correct + counts.improved
    by_baseline = counts.both_correct + counts.regressed
    candidate, baseline = by_candidate / n, by_baseline / n
    low1, high1 = wilson(by_candidate, n, confidence=confidence)
    low2, high2 = wilson(by_baseline, n, confidence=confidence)
    phi = _phi(counts)
    down1, up1, down2, up2 = candidate - low1, high1 - candidate, baseline - low2, high2 - baseline
    below = math.sqrt(max(0.0, down1**2 - 2 * phi * down1 * up2 + up2**2))
    above = math.sqrt(max(0.0, up1**2 - 2 * phi * up1 * down2 + down2**2))
    difference = (by_candidate - by_baseline) / n
    return Interval(max(-1.0, difference - below), min(1.0, difference + above))


def _phi(counts: PairedCounts) -> float:
    """Correlation of the two models' success over problems, corrected as in Newcombe's method 10."""
    a, b, c, d = counts.both_correct, counts.improved, counts.regressed, counts.both_wrong
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    product = float(a * d - b * c)
    if product > 0:
        product = max(product - counts.total / 2, 0.0)
    return product / math.sqrt(margins)


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
