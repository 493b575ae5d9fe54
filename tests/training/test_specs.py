"""Which settings of an algorithm go together."""

from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.core.spec import parse
from finery.training.specs import GrpoSpec

GRPO = {
    "algorithm": "grpo",
    "model": {"base": "tiny-char"},
    "data": {"train": "sums"},
    "rewards": [{"name": "exact"}],
}


@pytest.mark.parametrize("loss_type", ["grpo", "sapo", "luspo"])
def test_ratios_of_whole_completions_go_with_losses_per_completion(loss_type: str) -> None:
    spec: GrpoSpec = parse(GrpoSpec, GRPO | {"loss_type": loss_type, "ratio_level": "sequence"})

    assert (spec.loss_type, spec.ratio_level) == (loss_type, "sequence")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"loss_type": "dapo", "ratio_level": "sequence"}, "set loss_type: grpo, sapo or luspo"),
        ({"loss_type": "vespo", "ratio_level": "sequence"}, "set loss_type: grpo, sapo or luspo"),
        ({"loss_type": "luspo"}, "set ratio_level: sequence"),
        ({"micro_batch_size": 7}, "must be a multiple of micro_batch_size"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_would(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        parse(GrpoSpec, GRPO | settings)
