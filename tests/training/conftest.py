"""Fixtures of the training tests."""

from pathlib import Path

import pytest
import torch

from tests.training.driver import Bench


@pytest.fixture(scope="session")
def models_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny model is built, once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def bench(tmp_path: Path, models_home: Path) -> Bench:
    return Bench(tmp_path, models_home)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
