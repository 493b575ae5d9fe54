"""Checkpoints of verl become models that everybody can load: real shards, of real verl, over several ranks."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from finery.core import checkpoints
from finery.core.errors import Conflict, Unavailable
from finery.core.rundir import ResolvedInput
from finery.models import exporting, loading
from tests.verl.inside import sharded

ROOT = Path(__file__).parents[3]
SAVED = {
    "two ranks": (2, "float32", "full", 2),
    "lora, uneven": (3, "float32", "lora", 3),
    "lora in bfloat16, two copies of two": (4, "bfloat16", "lora", 2),
}
Sealed = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What verl has saved, each kind once."""
    folder, found = tmp_path_factory.mktemp("shards"), {}
    for number, (name, (ranks, dtype, kind, per_copy)) in enumerate(SAVED.items()):
        target = folder / str(number)
        command = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={ranks}",
            "-m",
            "tests.verl.inside.sharded",
        ]
        subprocess.run(
            [sys.executable, *command, str(target), dtype, kind, str(per_copy)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
        found[name] = target
    return found


@pytest.fixture
def sealed(saved: dict[str, Path], tmp_path: Path) -> Sealed:
    """A sealed checkpoint of one of the kinds, as the engine lays it out for RL (`actor`) or for SFT."""

    def make(name: str, *, is_sft: bool = False) -> Path:
        path = checkpoints.directory(tmp_path / "checkpoints", 2)
        shutil.copytree(saved[name], path if is_sft else path / "actor")
        size = SAVED[name][0]
        checkpoints.seal(path, engine="verl", format="verl-fsdp", step=2, attempt=1, world_size=size, now=time.time())
        return path

    return make


def trained(folder: Path, ranks: int) -> dict[str, torch.Tensor]:
    """The weights as they were trained, put together by hand: each shard by its place."""
    parts = [
        torch.load(folder / f"model_world_size_{ranks}_rank_{rank}.pt", weights_only=False) for rank in range(ranks)
    ]
    found = {}
    for name, first in parts[0].items():
        placement = first.placements[-1]
        per_copy = first.device_mesh.mesh.shape[-1]
        found[name] = torch.cat([part[name].to_local() for part in parts[:per_copy]], dim=placement.dim)
    return found


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(3, 15).reshape(2, 6)).logits.float()
    return found


def load(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype="auto", use_safetensors=True)


def test_the_export_has_exactly_the_weights_that_were_trained_and_goes_with_the_checkpoint(sealed: Sealed) -> None:
    path = sealed("two ranks")
    before = (path / checkpoints.MANIFEST).read_bytes()

    folder = exporting.exported(path)

    model = load(folder)

    weights = trained(path / "actor", 2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key]), key
    whole = sharded.model(torch.float32, is_tied=True)
    start = logits(whole)
    whole.load_state_dict(weights)
    assert torch.allclose(logits(model), logits(whole), atol=1e-6)
    assert not torch.allclose(logits(model), start, atol=1e-3), "nothing was trained, so nothing was shown"
    assert checkpoints.verify(path) == []
    assert (path / checkpoints.MANIFEST).read_bytes() == before
    assert checkpoints.existing(path.parent) == [(2, path)]
    checkpoints.remove(path)
    assert not folder.exists()


@pytest.mark.parametrize(("name", "tolerance"), [("lora, uneven", 1e-6), ("lora in bfloat16, two copies of two", 0.05)])
def test_the_update_of_lora_is_folded_in_and_the_dtype_stays(sealed: Sealed, name: str, tolerance: float) -> None:
    path = sealed(name)
    ranks, dtype, *_ = SAVED[name]

    model = load(exporting.exported(path))

    weights = trained(path / "actor", ranks)
    by_hand = sharded.model(torch.float32, is_tied=False)
    start = logits(by_hand)
    own = by_hand.state_dict()
    for key, value in weights.items():
        plain = key.removeprefix("base_model.model.").replace(".base_layer", "")
        if "lora_" not in key:
            own[plain] = value.float()
    for key, value in weights.items():
        if ".lora_A.default" in key:
            update = weights[key.replace("lora_A", "lora_B")].float() @ value.float() * (8 / 4)
            own[key.removeprefix("base_model.model.").replace(".lora_A.default", "")] += update
    by_hand.load_state_dict(own)
    assert {str(p.dtype) for p in model.parameters()} == {f"torch.{dtype}"}
    assert not any("lora" in key for key in model.state_dict())
    assert (logits(model) - logits(by_hand)).abs().max() < tolerance
    assert (logits(by_hand) - start).abs().max() > 0.1, "the update is too small to show anything"


def test_the_platform_loads_a_checkpoint_of_verl_as_any_other(sealed: Sealed) -> None:
    path = sealed("two ranks", is_sft=True)
    resolved = ResolvedInput(kind="checkpoint", path=str(path), sha256="0" * 64)

    folder = loading.materialize(resolved, "job:1/step:2")

    assert loading.load_model(folder, dtype="float32").dtype == torch.float32
    tokenizer = loading.load_tokenizer(folder)
    assert tokenizer.chat_template == sharded.TEMPLATE
    assert AutoTokenizer.from_pretrained(folder)("1+2")["input_ids"] == sharded.tokenizer()("1+2")["input_ids"]


def test_two_that_ask_at_once_convert_once_and_a_damaged_export_is_made_anew(sealed: Sealed) -> None:
    path = sealed("two ranks")

    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(exporting.exported, [path, path]))
    weights = folders[0] / "model.safetensors"
    good, written = weights.read_bytes(), weights.stat()
    exporting.exported(path)

    assert folders[0] == folders[1]
    assert weights.stat().st_ino == written.st_ino

    weights.write_bytes(good[:-8] + bytes(8))
    exporting.exported(path)

    assert weights.read_bytes() == good


def test_torch_files_that_are_not_those_that_were_sealed_are_not_loaded(sealed: Sealed) -> None:
    path = sealed("two ranks")
    (path / "actor" / "model_world_size_2_rank_0.pt").write_bytes(b"other")

    with pytest.raises(Conflict, match=r"model_world_size_2_rank_0\.pt has 5 bytes"):
        exporting.exported(path)

    assert not (path / "hf").exists()


def test_a_checkpoint_that_cannot_be_converted_says_why_and_leaves_nothing(sealed: Sealed) -> None:
    path = sealed("lora, uneven")
    (path / "actor" / "lora_train_meta.json").unlink()
    (path / checkpoints.MANIFEST).unlink()
    checkpoints.seal(path, engine="verl", format="verl-fsdp", step=2, attempt=1, world_size=3, now=time.time())

    with pytest.raises(Conflict, match=r"lora_train_meta\.json does not say its rank and alpha"):
        exporting.exported(path)

    assert not [file for file in path.iterdir() if file.name in ("hf", ".hf.unfinished")]


def test_without_an_interpreter_that_has_verl_the_way_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make verl"):
        exporting.interpreter({"FINERY_VERL_PYTHON": str(tmp_path / "python")})
