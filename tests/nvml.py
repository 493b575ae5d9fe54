"""An imaginary NVIDIA driver, built from `nvml.c`, for processes that are started with it in LD_LIBRARY_PATH."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import need, shared_folder


@pytest.fixture(scope="session")
def imaginary_gpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process that is to see two GPUs."""
    compiler = shutil.which("cc")
    need("a C compiler", compiler is not None)
    folder = shared_folder(tmp_path_factory, "nvml")
    library = folder / "libnvidia-ml.so.1"
    if not library.exists():
        own = tmp_path_factory.mktemp("build") / library.name
        source = Path(__file__).with_suffix(".c")
        subprocess.run([str(compiler), "-shared", "-fPIC", "-Wall", "-Werror", "-o", own, source], check=True)
        shutil.copyfile(own, folder / f"{own.parent.name}.part").replace(library)
    return {"LD_LIBRARY_PATH": str(folder)}
