"""What the exporter writes is what TensorBoard itself reads."""

import math
from importlib.util import find_spec
from pathlib import Path

import pytest

from finery.core.errors import InvalidSpec
from finery.exporting.exporters import Exporter, RunFacts, registry
from finery.importing import tensorboard
from tests.conftest import need


def opened(folder: Path) -> Exporter:
    facts = RunFacts("a run", "41", 1, {}, ())
    return registry.get("tensorboard").target(folder, facts, registry.params("tensorboard", {}))


def test_tensorboard_reads_every_scalar_with_its_step_and_time(tmp_path: Path) -> None:
    need("tensorboard", find_spec("tensorboard") is not None)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export = opened(tmp_path)
    for step in range(3000):
        export.write(step, {"loss": 1 / (step + 1), "reward/part_mean": -step, "größe/中": 0.0}, time=1000.5 + step)
    odd = {"nan": math.nan, "infinity": math.inf, "minus": -math.inf, "too_large": 1e300, "negative": -1e-3}
    export.write(2**40, odd, time=9.0)
    export.close(is_ok=True)
    board = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    board.Reload()

    assert set(board.Tags()["scalars"]) == {"loss", "reward/part_mean", "größe/中", *odd}
    losses = board.Scalars("loss")
    assert [(one.step, one.wall_time) for one in losses] == [(step, 1000.5 + step) for step in range(3000)]
    assert [one.value for one in losses] == pytest.approx([1 / (step + 1) for step in range(3000)], rel=1e-6)
    assert math.isnan(board.Scalars("nan")[0].value)
    found = {name: board.Scalars(name)[0] for name in odd}
    assert {one.step for one in found.values()} == {2**40}
    assert [found[name].value for name in ("infinity", "minus", "too_large")] == [math.inf, -math.inf, math.inf]
    assert found["negative"].value == pytest.approx(-1e-3)


def test_every_record_is_on_the_disk_once_it_is_written(tmp_path: Path) -> None:
    export = opened(tmp_path)
    export.write(7, {"loss": 0.5}, time=3.0)

    [run] = tensorboard.read(tmp_path)

    assert [(row.step, row.time, row.values) for row in run.rows] == [(7, 3.0, {"loss": 0.5})]


def test_an_exporter_has_a_docstring_and_refuses_parameters_that_it_does_not_have() -> None:
    assert [entry.name for entry in registry.all()] == ["tensorboard", "wandb"]
    assert all(entry.summary for entry in registry.all())
    with pytest.raises(InvalidSpec, match="exporter 'tensorboard' is not valid at speed: unknown key"):
        registry.params("tensorboard", {"speed": 1})
    with pytest.raises(InvalidSpec, match="unknown exporter 'neptune'; known: tensorboard, wandb"):
        registry.get("neptune")
