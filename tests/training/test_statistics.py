"""Statistics of tensors against what torch computes the slow way."""

import math

import pytest
import torch
from torch import Tensor

from finery.core.gradients import LOWEST_EXPONENT, NUM_OCTAVES, PERCENTILES
from finery.training.statistics import Statistics, combined, octaves, squared_norm, statistics


def of(tensor: Tensor) -> Statistics:
    return statistics([tensor])


def assert_right(found: Statistics, tensor: Tensor) -> None:
    values = tensor.double().flatten()
    finite = values[values.isfinite()]
    assert found.num == len(values)
    assert found.share_non_finite == pytest.approx(1 - len(finite) / len(values))
    assert found.norm == pytest.approx(finite.norm().item(), rel=1e-6)
    assert found.mean == pytest.approx(finite.mean().item(), rel=1e-5, abs=1e-7 * found.norm / len(finite))
    exact_variance = finite.var(unbiased=False).item()
    assert found.variance == pytest.approx(exact_variance, rel=1e-5, abs=1e-6 * found.mean**2)
    assert (found.min, found.max) == (finite.min().item(), finite.max().item())
    exact = [finite.sort().values[max(0, math.ceil(share / 100 * len(finite)) - 1)].item() for share in PERCENTILES]
    assert found.percentiles == pytest.approx(exact, rel=0.032, abs=1e-39)
    assert int(found.histogram.sum()) == len(values)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e20])
@pytest.mark.parametrize("shape", [(7,), (300, 1000), (3, 65536)])
def test_normal_values_of_any_size(scale: float, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scale

    found = of(tensor)

    values = tensor.double() / scale
    assert found.norm / scale == pytest.approx(values.norm().item(), rel=1e-6)
    assert found.std / scale == pytest.approx(values.std(unbiased=False).item(), rel=1e-5)
    exact = tensor.flatten().sort().values
    wanted = [exact[max(0, math.ceil(share / 100 * len(exact)) - 1)].item() for share in PERCENTILES]
    assert found.percentiles == pytest.approx(wanted, rel=0.032)


@pytest.mark.parametrize("kind", ["uniform", "heavy", "one sign", "sparse", "constant", "bfloat16", "odd layout"])
def test_other_distributions(kind: str) -> None:
    stream = torch.Generator().manual_seed(2)
    tensor = torch.randn(200_001, generator=stream)
    tensor = {
        "uniform": lambda: torch.rand(100_000, generator=stream) - 0.3,
        "heavy": lambda: tensor.pow(9),
        "one sign": lambda: -tensor.abs() - 1e-3,
        "sparse": lambda: tensor * (tensor.abs() > 2.9),
        "constant": lambda: torch.full((1000,), 0.37),
        "bfloat16": lambda: tensor.bfloat16(),
        "odd layout": lambda: tensor[:200_000].reshape(400, 500).t()[::2],
    }[kind]()

    assert_right(of(tensor), tensor)


def test_what_is_not_finite_is_counted_and_left_out_of_the_rest() -> None:
    tensor = torch.randn(150_000, generator=torch.Generator().manual_seed(3))
    tensor[70_000:70_010] = math.nan
    tensor[0], tensor[140_000], tensor[5] = math.inf, -math.inf, -math.nan

    assert_right(of(tensor), tensor)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_nothing_that_is_finite(value: float) -> None:
    found = of(torch.full((5,), value))

    assert (found.share_non_finite, found.norm, found.min, found.max, found.std) == (1, 0, 0, 0, 0)


def test_nothing_at_all() -> None:
    found = of(torch.zeros(0))

    assert (found.num, found.share_non_finite, found.norm) == (0, 0, 0)


def test_parts_make_up_the_whole_to_one_in_a_million() -> None:
    stream = torch.Generator().manual_seed(4)
    parts = [torch.randn(size, generator=stream) * scale + 0.1 for size, scale in ((50, 9.0), (90_000, 1e-3), (3, 1.0))]
    parts.append(torch.tensor([math.nan, 1.0]))
    parts.append(torch.full((4,), math.inf))

    whole, made = statistics(parts), combined(of(part) for part in parts)

    assert made.norm == pytest.approx(whole.norm, rel=1e-9)
    assert made.mean == pytest.approx(whole.mean, rel=1e-9)
    assert made.variance == pytest.approx(whole.variance, rel=1e-6)
    assert (made.num, made.min, made.max, made.percentiles) == (whole.num, whole.min, whole.max, whole.percentiles)
    assert made.share_non_finite == whole.share_non_finite
    assert torch.equal(made.histogram, whole.histogram)


def test_octaves_are_counts_by_powers_of_two() -> None:
    tensor = torch.tensor([0.0, -0.0, 1e-44, 1.0, 1.99, 2.0, -3.0, -0.25, math.nan, math.inf])

    found = octaves(of(tensor).histogram)

    counts = {int(place) + LOWEST_EXPONENT: tuple(found[:, place].tolist()) for place in found.sum(0).nonzero()[:, 0]}
    assert counts == {-127: (1, 2), -2: (1, 0), 0: (0, 2), 1: (1, 1)}
    assert found.shape == (2, NUM_OCTAVES)


@pytest.mark.parametrize("shape", [(0,), (7,), (1100, 1000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_squares_of_a_tensor_and_of_a_difference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(5)
    tensor = torch.randn(shape, generator=stream).to(dtype)
    other = tensor + (1e-3 * torch.randn(shape, generator=stream)).to(dtype)

    difference = (other.float() - tensor.float()).double()

    assert squared_norm(tensor).item() == pytest.approx(tensor.double().square().sum().item(), rel=1e-6)
    assert squared_norm(other, minus=tensor).item() == pytest.approx(difference.square().sum().item(), rel=1e-6)


def test_the_tensor_is_left_as_it_is_and_no_second_one_is_made() -> None:
    tensor = torch.randn(1 << 24)
    before = tensor.clone()

    with torch.profiler.profile(profile_memory=True) as seen:
        of(tensor)

    assert torch.equal(tensor, before)
    largest = max(event.cpu_memory_usage for event in seen.events())
    assert largest < tensor.nbytes / 4
