"""Intervals and tests against published examples, hand-worked values and independent computation."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finery.evaluation.statistics import Interval, PairedCounts, mcnemar_exact, paired_difference, wilson

cells = st.integers(0, 60)
counts_ = st.builds(PairedCounts, cells, cells, cells, cells)


@pytest.mark.parametrize(
    ("num_correct", "num_samples", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_matches_the_published_examples(num_correct: int, num_samples: int, low: float, high: float) -> None:
    assert wilson(num_correct, num_samples) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_one_of_two_by_hand() -> None:
    # p = 1/2, n = 2: center is 1/2, half width is z/(1+z^2/2) * sqrt(1/8 + z^2/16), z = 1.959964
    z = 1.959963984540054
    half = z / (1 + z * z / 2) * math.sqrt(1 / 8 + z * z / 16)

    assert wilson(1, 2) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)


def test_nothing_tells_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert mcnemar_exact(0, 0) == 1.0
    assert paired_difference(PairedCounts(0, 0, 0, 0)) == (-1.0, 1.0)


@given(num_samples=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_solves_the_score_equation_and_holds_the_share(num_samples: int, share: float) -> None:
    num_correct = round(share * num_samples)
    found = num_correct / num_samples

    low, high = wilson(num_correct, num_samples)

    assert 0 <= low <= found <= high <= 1
    z = 1.959963984540054
    for bound in (low, high):
        if 0 < bound < 1:
            assert abs(found - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / num_samples), rel=1e-6)


@given(num_samples=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_is_the_mirror_image_for_the_failures(num_samples: int, share: float) -> None:
    num_correct = round(share * num_samples)
    low, high = wilson(num_correct, num_samples)

    assert wilson(num_samples - num_correct, num_samples) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_more_confidence_is_a_wider_interval() -> None:
    widths = [high - low for low, high in (wilson(40, 100, confidence=c) for c in (0.5, 0.9, 0.95, 0.99))]

    assert widths == sorted(widths)


@pytest.mark.parametrize(("num_correct", "num_samples"), [(-1, 5), (6, 5), (1, 0)])
def test_impossible_counts_are_an_error(num_correct: int, num_samples: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson(num_correct, num_samples)


@pytest.mark.parametrize(
    ("improved", "regressed", "p"),
    [
        (5, 0, 2 / 32),  # both tails of five equal coins
        (1, 0, 1.0),
        (3, 3, 1.0),
        (2, 1, 1.0),  # 2 * (1 + 3) / 8
        (7, 1, 0.0703125),  # Bentur et al. 2009, in Fagerland et al., BMC Med Res Methodol 13:91 (2013)
        (12, 2, 0.0129394),  # Armitage and Berry 1994, p. 127; StatsDirect gives 0.0129
        (10, 0, 2 / 1024),
    ],
)
def test_mcnemar_matches_worked_examples(improved: int, regressed: int, p: float) -> None:
    assert mcnemar_exact(improved, regressed) == pytest.approx(p, abs=1e-7)
    assert mcnemar_exact(regressed, improved) == mcnemar_exact(improved, regressed)


@given(improved=st.integers(0, 80), regressed=st.integers(0, 80))
def test_mcnemar_is_the_binomial_tail_summed_the_slow_way(improved: int, regressed: int) -> None:
    n = improved + regressed
    tail = sum(Fraction(math.comb(n, k), 2**n) for k in range(min(improved, regressed) + 1))

    assert mcnemar_exact(improved, regressed) == pytest.approx(float(min(Fraction(1), 2 * tail)), rel=1e-12)


@given(improved=st.integers(0, 200), regressed=st.integers(0, 200))
def test_a_more_uneven_split_is_never_less_significant(improved: int, regressed: int) -> None:
    if improved >= regressed > 0:
        assert mcnemar_exact(improved + 1, regressed - 1) <= mcnemar_exact(improved, regressed)


def test_large_counts_are_exact_too() -> None:
    assert mcnemar_exact(20_000, 20_000) == 1.0
    assert 0 < mcnemar_exact(10_300, 9_700) < 3e-5
    assert mcnemar_exact(5000, 0) == 0.0  # 2**-4999 is below the smallest float


def test_negative_counts_are_an_error() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Altman et al., Statistics with Confidence, 2nd ed. (2000), p. 52, table 6.2
        (PairedCounts(14, 5, 0, 22), 0.011, 0.226),
        # Newcombe 1998, method 10, the example 36, 12, 2, 0
        (PairedCounts(36, 12, 2, 0), 0.0569, 0.3404),
        # Bentur et al. 2009, in Fagerland et al., Statistical Analysis of Contingency Tables (2017), chapter 8
        (PairedCounts(1, 1, 7, 12), -0.507, -0.026),
    ],
)
def test_the_paired_interval_matches_the_published_examples(counts: PairedCounts, low: float, high: float) -> None:
    assert paired_difference(counts) == pytest.approx((low, high), abs=6e-4)


def test_the_paired_interval_by_hand() -> None:
    # 10 problems: 4 both, 3 improved, 1 regressed, 2 neither; so 7/10 against 5/10
    low1, high1 = wilson(7, 10)
    low2, high2 = wilson(5, 10)
    phi = (4 * 2 - 3 * 1 - 10 / 2) / math.sqrt(7 * 3 * 5 * 5)  # positive, so n/2 is taken off: it becomes 0
    assert phi == 0
    below = math.sqrt((0.7 - low1) ** 2 + (high2 - 0.5) ** 2)
    above = math.sqrt((high1 - 0.7) ** 2 + (0.5 - low2) ** 2)

    assert paired_difference(PairedCounts(4, 3, 1, 2)) == pytest.approx((0.2 - below, 0.2 + above), abs=1e-12)


def test_a_negative_correlation_is_not_corrected() -> None:
    # 1 both, 4 improved, 4 regressed, 1 neither: phi = (1 - 16) / 25
    low, high = wilson(5, 10)
    side = math.sqrt((0.5 - low) ** 2 + 2 * 0.6 * (0.5 - low) * (high - 0.5) + (high - 0.5) ** 2)

    assert paired_difference(PairedCounts(1, 4, 4, 1)) == pytest.approx((-side, side), abs=1e-12)


@given(counts=counts_)
def test_the_paired_interval_holds_the_difference_and_stays_possible(counts: PairedCounts) -> None:
    low, high = paired_difference(counts)

    assert -1 <= low <= high <= 1
    if counts.total:
        difference = (counts.improved - counts.regressed) / counts.total
        assert low - 1e-12 <= difference <= high + 1e-12


@given(counts=counts_)
def test_swapping_the_models_mirrors_the_interval(counts: PairedCounts) -> None:
    low, high = paired_difference(counts)
    swapped = counts._replace(improved=counts.regressed, regressed=counts.improved)

    assert paired_difference(swapped) == pytest.approx((-high, -low), abs=1e-12)


@settings(max_examples=50)
@given(counts=st.builds(PairedCounts, st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30)))
def test_more_of_the_same_makes_the_interval_narrower(counts: PairedCounts) -> None:
    low, high = paired_difference(counts)
    more = paired_difference(PairedCounts(*(8 * cell for cell in counts)))

    assert more[1] - more[0] < high - low


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    """Enumerates every outcome of 20 problems for one true model pair; nothing is drawn at random."""
    chances = (0.5, 0.2, 0.1, 0.2)
    true_difference = chances[1] - chances[2]
    n = 20
    covered = 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            for c in range(n + 1 - a - b):
                d = n - a - b - c
                ways = math.comb(n, a) * math.comb(n - a, b) * math.comb(n - a - b, c)
                weight = ways * math.prod(p**k for p, k in zip(chances, (a, b, c, d), strict=True))
                low, high = paired_difference(PairedCounts(a, b, c, d))
                covered += weight * (low <= true_difference <= high)

    assert 0.94 <= covered <= 0.98


def test_an_interval_is_a_pair() -> None:
    assert isinstance(wilson(1, 2), Interval)
