"""Linear layers in parts side by side: the same sums, and the layers are themselves again afterwards."""

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from finery.models.skinny import side_by_side  # noqa: E402


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(1, 256), (2, 256), (16, 1, 256), (5, 7, 256), (400, 256)])
def test_every_output_is_what_it_was(shape: tuple[int, ...]) -> None:
    layer, inputs = nn.Linear(256, 512, bias=False), torch.randn(shape)
    exact = layer(inputs)

    with torch.no_grad(), side_by_side(layer):
        found = layer(inputs)

    assert found.shape == exact.shape
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)
    assert "forward" not in vars(layer)


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(256, 512), nn.Linear(256, 126, bias=False), nn.Linear(256, 513, bias=False)],
    ids=["bias", "small", "odd"],
)
def test_what_cannot_be_split_stays_as_it_is(layer: nn.Linear) -> None:
    with side_by_side(layer):
        assert "forward" not in vars(layer)


def test_with_one_thread_and_in_other_formats_nothing_changes() -> None:
    with side_by_side(half := nn.Linear(256, 512, bias=False, dtype=torch.bfloat16)):
        assert "forward" not in vars(half)
    torch.set_num_threads(1)
    with side_by_side(layer := nn.Linear(256, 512, bias=False)):
        assert "forward" not in vars(layer)


def test_the_layers_come_back_after_an_error() -> None:
    layer = nn.Linear(256, 512, bias=False)

    def fail() -> None:
        with side_by_side(layer):
            assert "forward" in vars(layer)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "forward" not in vars(layer)
