"""A short supervised run against the curve that is recorded in `sft_curve.json`.

A change that is meant to alter the numbers records a new one: `python -m tests.numerics.test_sft_curve`.
"""

import json
import tempfile
from pathlib import Path

import pytest
import torch

from tests.training import driver
from tests.training.driver import SFT_ROWS, Bench

REFERENCE = Path(__file__).with_name("sft_curve.json")
NAMES = ("loss", "grad_norm", "entropy", "token_accuracy", "learning_rate")
OPTIM = {"steps": 20, "learning_rate": 1e-3, "warmup_steps": 5, "schedule": "cosine", "weight_decay": 0.01}
TASK = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4}


def _curve(bench: Bench) -> dict[str, list[float]]:
    run_dir = bench.attempt(TASK, SFT_ROWS, seed=7)
    driver.run_here(run_dir)
    steps = [values for _, values in sorted(driver.metrics(run_dir).items())]
    return {name: [values[name] for values in steps] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_supervised_training_follows_the_recorded_curve(curve: dict[str, list[float]], name: str) -> None:
    reference = json.loads(REFERENCE.read_text())

    assert len(reference[name]) == OPTIM["steps"]
    assert curve[name] == pytest.approx(reference[name], rel=1e-4)


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory, models_home: Path) -> dict[str, list[float]]:
    torch.set_num_threads(1)
    return _curve(Bench(tmp_path_factory.mktemp("curve"), models_home))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = _curve(Bench(Path(folder), Path(folder)))
    REFERENCE.write_text(json.dumps(found, indent=1) + "\n")
