"""Linear layers in 8 bits for a while: near the exact ones within, the exact ones again afterwards."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from finery.models.int8 import int8_linears  # noqa: E402


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256, bias=False), nn.Linear(256, 8)).to(dtype)


@pytest.mark.parametrize("rows", [1, 32])
def test_what_comes_out_is_within_three_hundredths_and_afterwards_the_same_bytes(rows: int) -> None:
    layers, inputs = model(), torch.randn(rows, 256)
    exact = layers(inputs)

    with torch.no_grad(), int8_linears(layers):
        rounded = layers(inputs)

    assert 0 < (rounded - exact).norm() / exact.norm() < 0.03
    assert torch.equal(layers(inputs), exact)


def test_a_weight_that_changed_is_rounded_anew() -> None:
    layers, inputs = model(), torch.randn(4, 256)
    with torch.no_grad():
        for changed in (False, True):
            if changed:
                layers[0].weight.mul_(2)
            with int8_linears(layers):
                rounded = layers(inputs)
            exact = layers(inputs)
            assert (rounded - exact).norm() / exact.norm() < 0.03


def test_small_layers_and_those_in_other_formats_stay_exact() -> None:
    for layers, inputs in ((model(torch.bfloat16), torch.randn(4, 256).bfloat16()), (model()[3], torch.randn(4, 256))):
        exact = layers(inputs)
        with torch.no_grad(), int8_linears(layers):
            assert torch.equal(layers(inputs), exact)


def test_the_exact_layers_come_back_after_an_error() -> None:
    layers = model()
    with pytest.raises(ZeroDivisionError), int8_linears(layers):
        raise ZeroDivisionError
    assert all("forward" not in vars(layer) for layer in layers)
