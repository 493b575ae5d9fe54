"""Turns the shards of one verl checkpoint into a folder in Hugging Face form. Runs under an interpreter that has verl.

`python -m finery.models.merging fsdp|megatron SHARDS TARGET`. Shards are read by verl's own merger, of which two steps
are done otherwise: verl's FSDP merger writes bfloat16, whatever was trained, and leaves the update of LoRA beside the
weights. The result is loaded by transformers before this process says that it is done.
"""

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import init_empty_weights
from peft import LoraConfig, get_peft_model
from torch.distributed.tensor import DTensor
from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger, merge_non_dtensor_shards

_LORA_A: Final = ".lora_A.default.weight"
_LORA_EMBEDDING_A: Final = ".lora_embedding_A.default"
_PREFIX: Final = "base_model.model."
_NOT_COPIED: Final = (".safetensors", ".bin", ".py", "config.json", ".index.json")
"""Of the folder with the tokenizer: weights, code, and what is written anew."""


class Merger(FSDPModelMerger):  # type: ignore[misc]
    """verl's merger of FSDP shards, with the dtype of training and the update of LoRA folded in."""

    def _load_and_merge_state_dicts(
        self, world_size: int, total_shards: int, mesh_shape: tuple[int, ...], mesh_dim_names: tuple[str, ...]
    ) -> dict[str, torch.Tensor]:
        """Name -> whole tensor. The files are mapped, so that a shard is in memory only while it is put together."""
        if len(mesh_shape) != 1:
            raise NotImplementedError(f"shards over {mesh_dim_names} in more than one dimension are not supported")
        folder = Path(self.config.local_dir)
        shards = [
            torch.load(
                folder / f"model_world_size_{world_size}_rank_{rank}.pt",
                map_location="cpu",
                weights_only=False,  # DTensors; the caller has checked that the file is the one that was sealed
                mmap=True,
            )
            for rank in range(total_shards)
        ]
        return {name: self._whole(name, [shard.pop(name) for shard in shards]) for name in sorted(shards[0])}

    def _whole(self, name: str, parts: list[Any]) -> torch.Tensor:
        if not isinstance(parts[0], DTensor):
            return merge_non_dtensor_shards(name, parts)  # type: ignore[no-any-return]
        placement = parts[0].placements[-1]  # those before are of whole copies
        locals_ = [part.to_local() for part in parts]
        merged: torch.Tensor = self._merge_by_placement(locals_, placement)
        if merged.shape != parts[0].shape:
            raise ValueError(f"{name} has the shape {tuple(merged.shape)}, expected {tuple(parts[0].shape)}")
        return merged

    def save_hf_model_and_tokenizer(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Write weights, configuration and tokenizer, and load the whole again."""
        config = self.model_config
        for name in ("attn_implementation", "_attn_implementation"):  # of the machine that trained, not of the model
            config.__dict__.pop(name, None)
        dtype = _dtype_of_most(state_dict)
        auto = self.get_transformers_auto_model_class()
        with init_empty_weights():
            model = auto.from_config(config, dtype=dtype, trust_remote_code=False)
        model = self.patch_model_generation_config(model)
        model = _filled(model, state_dict, self._load_lora_train_meta())
        target = Path(self.config.target_dir)
        model.save_pretrained(target)
        del model, state_dict
        for file in Path(self.hf_model_config_path).iterdir():
            if file.is_file() and (file.name == "tokenizer_config.json" or not file.name.endswith(_NOT_COPIED)):
                shutil.copyfile(file, target / file.name)
        _check(auto, target, dtype)


def _dtype_of_most(state_dict: dict[str, torch.Tensor]) -> torch.dtype:
    """The dtype of most weights; an update of LoRA may have another than the weights that it is folded into."""
    sizes: Counter[torch.dtype] = Counter()
    for name, tensor in state_dict.items():
        if ".lora_" not in name:
            sizes[tensor.dtype] += tensor.numel()
    if not sizes:
        raise ValueError("the shards hold the update of LoRA alone; save whole checkpoints (checkpoint.save_lora_only)")
    return sizes.most_common(1)[0][0]


def _filled(model: Any, state_dict: dict[str, torch.Tensor], lora: dict[str, Any] | None) -> Any:
    """The model with the weights; an update of LoRA is folded in."""
    targets = [
        name.removeprefix(_PREFIX).removesuffix(ending)
        for name in state_dict
        for ending in (_LORA_A, _LORA_EMBEDDING_A)
        if name.endswith(ending)
    ]
    if not targets:
        _load(model, state_dict)
        return model
    if not lora or not lora.get("r") or not lora.get("lora_alpha"):
        raise ValueError("the shards hold an update of LoRA, and lora_train_meta.json does not say its rank and alpha")
    adapted = get_peft_model(
        model,
        LoraConfig(r=lora["r"], lora_alpha=lora["lora_alpha"], target_modules=targets),
        low_cpu_mem_usage=True,
        autocast_adapter_dtype=False,
    )
    _load(adapted, state_dict)
    return adapted.merge_and_unload()


def _load(model: Any, state_dict: dict[str, torch.Tensor]) -> None:
    model.load_state_dict(state_dict, strict=False, assign=True)
    model.tie_weights()
    empty = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    unknown = state_dict.keys() - model.state_dict().keys()
    if empty or unknown:
        raise ValueError(f"the shards do not fit the model: without a value {empty[:3]}, unknown {sorted(unknown)[:3]}")


def _check(auto: Any, folder: Path, dtype: torch.dtype) -> None:
    """Load what was written as everybody will."""
    model, said = auto.from_pretrained(folder, dtype="auto", use_safetensors=True, output_loading_info=True)
    wrong = {what: names for what, names in said.items() if names}
    if wrong or model.dtype != dtype:
        raise ValueError(f"the export does not load as it should: dtype {model.dtype}, expected {dtype}; {wrong}")


def merge(backend: str, shards: Path, target: Path) -> None:
    """Convert one checkpoint.

    Args:
        backend: `fsdp` or `megatron`.
        shards: Folder with verl's files of the actor.
        target: Existing folder to write into.
    """
    nested = shards / "model" / "huggingface"
    config = ModelMergerConfig(
        operation="merge",
        backend=backend,
        local_dir=str(shards),
        hf_model_config_path=str(nested if nested.is_dir() else shards / "huggingface"),
        target_dir=str(target),
    )
    if backend == "fsdp":
        merger = Merger(config)
    else:
        from verl.model_merger.megatron_model_merger import MegatronModelMerger  # noqa: PLC0415 - imports Megatron

        merger = MegatronModelMerger(config)
    merger.merge_and_save()
    merger.cleanup()


if __name__ == "__main__":
    merge(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
