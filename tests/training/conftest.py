"""Fixtures of the training tests."""

from pathlib import Path

import pytest
import torch

from tests.training import driver
from tests.training.driver import Bench


@pytest.fixture(scope="session")
def models_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny model is built, once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def bench(tmp_path: Path, models_home: Path) -> Bench:
    return Bench(tmp_path, models_home)


@pytest.fixture(scope="session")
def talkative(tmp_path_factory: pytest.TempPathFactory, models_home: Path) -> Path:
    """A checkpoint that ends some of its answers within six tokens, and not others."""
    torch.set_num_threads(1)
    bench = Bench(tmp_path_factory.mktemp("talkative"), models_home)
    task = {"algorithm": "sft", "optim": {"steps": 12, "learning_rate": 1e-3}, "batch_size": 6}
    run_dir = bench.attempt(task, driver.SFT_ROWS)
    driver.run_here(run_dir)
    return driver.checkpoint(run_dir, 12)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
