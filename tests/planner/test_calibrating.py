"""Corrections from jobs that have ended."""

import pytest

from finery.core.errors import InvalidSpec
from finery.planner.calibrating import Seen, choose, correct


def seen(ratio: float, *, device: str = "a", engine: str = "trl", algorithm: str = "sft") -> Seen:
    return Seen(device, engine, algorithm, 100.0, 100.0 * ratio)


def test_a_correction_is_the_median_with_the_band_of_the_tenths() -> None:
    found = correct([(10.0, 10.0 + number) for number in range(11)])

    assert found.ratio == pytest.approx(1.5)
    assert (found.low, found.high) == (pytest.approx(1.1), pytest.approx(1.9))
    assert found.num == 11


def test_one_outlier_does_not_move_the_correction() -> None:
    assert correct([(1.0, 1.1), (1.0, 1.1), (1.0, 50.0)]).ratio == pytest.approx(1.1)


def test_a_single_pair_is_its_own_band() -> None:
    found = correct([(4.0, 5.0)])
    assert (found.ratio, found.low, found.high) == (1.25, 1.25, 1.25)


@pytest.mark.parametrize("pairs", [[], [(0.0, 1.0)]])
def test_what_has_no_ratio_is_refused(pairs: list[tuple[float, float]]) -> None:
    with pytest.raises(InvalidSpec, match="at least one pair"):
        correct(pairs)


def test_the_jobs_most_like_the_new_one_speak_for_it() -> None:
    alike = [seen(1.2)] * 3
    others = [seen(2.0, algorithm="dpo")] * 5 + [seen(3.0, engine="verl")] * 9 + [seen(9.0, device="b")] * 9

    found = choose([*alike, *others], device="a", engine="trl", algorithm="sft")

    assert found is not None
    assert (found.ratio, found.num, found.scope) == (pytest.approx(1.2), 3, "device, engine and algorithm")


def test_where_too_few_are_alike_those_of_the_engine_and_then_of_the_device_speak() -> None:
    of_engine = [seen(1.2), seen(1.2), seen(2.0, algorithm="dpo")]
    found = choose(of_engine, device="a", engine="trl", algorithm="sft")
    assert found is not None
    assert (found.scope, found.num) == ("device and engine", 3)

    found = choose([*of_engine[:2], seen(4.0, engine="verl")], device="a", engine="trl", algorithm="sft")
    assert found is not None
    assert (found.scope, found.ratio) == ("device", pytest.approx(1.2))


def test_two_jobs_say_nothing() -> None:
    assert choose([seen(1.2)] * 2 + [seen(1.0, device="b")] * 9, device="a", engine="trl", algorithm="sft") is None
