"""From a resolved reference to files on this machine, a model and a tokenizer. Runs in the child.

Weights are safetensors only and code of a repository is never run. What is built is written aside and renamed, under
a lock, so that two children that start at once build it once and a crash leaves nothing half-made.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import orjson
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from finery.core import checkpoints
from finery.core.errors import Conflict, Unavailable
from finery.core.rundir import ResolvedInput
from finery.models import builtin, resolving

CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with nothing added: no system prompt that the user did not write."""

PLAIN: Final = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)
"""The text alone."""

Template = Literal["auto", "chatml", "plain"]
_STAMP = "finery.json"
_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "tokenizer*"]


def materialize(resolved: ResolvedInput, ref: str) -> Path:
    """The local folder, in Hugging Face form, of a resolved model.

    Args:
        resolved: What the reference stands for.
        ref: The reference as written in the job file; names the repository of a hub.

    Raises:
        Conflict: the folder or checkpoint has changed since the job was submitted.
        Unavailable: a download failed.
    """
    path = Path(resolved.path)
    if resolved.kind == "builtin":
        return _build(path, resolved.sha256)
    if resolved.kind == "hub":
        return _download_hub(ref.partition("@")[0], resolved)
    if resolved.kind == "modelscope":
        return _download_modelscope(ref.removeprefix("modelscope:").partition("@")[0], resolved)
    if resolved.kind == "checkpoint":
        problems = checkpoints.verify(path)
        if problems:
            raise Conflict(f"the checkpoint {ref} cannot be used: {'; '.join(problems)}")
        return path
    resolving.check_folder(path)
    if resolving.folder_sha256(path) != resolved.sha256:
        raise Conflict(f"{path} has changed since the job was submitted; submit it again")
    return path


def load_model(path: Path, *, dtype: str = "auto") -> PreTrainedModel:
    """Load a causal language model; the adapter of a LoRA checkpoint is folded into its base.

    Args:
        path: Folder in Hugging Face form.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
    """
    number = resolve_dtype(dtype)
    adapter = path / "adapter_config.json"
    if not adapter.is_file():
        return _load(path, number)
    from peft import PeftModel  # noqa: PLC0415 - only LoRA checkpoints need it

    base = _load(Path(orjson.loads(adapter.read_bytes())["base_model_name_or_path"]), number)
    merged: PreTrainedModel = PeftModel.from_pretrained(base, path).merge_and_unload()
    return merged


def load_tokenizer(path: Path, template: Template = "auto") -> PreTrainedTokenizerBase:
    """Load a tokenizer. It pads on the left and always has a padding token.

    Where padding and end of sequence are the same token, masks must come from lengths, never from comparing tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if template == "chatml":
        tokenizer.chat_template = CHATML
    elif template == "plain" or tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN
    return tokenizer


def resolve_dtype(name: str) -> torch.dtype:
    """`auto` is bfloat16 where the hardware computes in it, else float32."""
    if name != "auto":
        found: torch.dtype = getattr(torch, name)
        return found
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _cpu_computes_in_bf16() else torch.float32


def device() -> torch.device:
    """Where models of this process go."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")


def _cpu_computes_in_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _load(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    return model


def _build(folder: Path, recipe: str) -> Path:
    """Build a built-in model unless it is there; written aside and renamed."""
    with _locked(folder):
        stamp = folder / _STAMP
        if stamp.is_file() and orjson.loads(stamp.read_bytes()).get("recipe") == recipe:
            return folder
        aside = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            builtin.build(folder.name, aside)
            (aside / _STAMP).write_bytes(orjson.dumps({"recipe": recipe}))
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def _download_hub(repo: str, resolved: ResolvedInput) -> Path:
    from httpx2 import HTTPError  # noqa: PLC0415 - the hub library's HTTP client
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only hub models need it

    try:
        found = snapshot_download(
            repo,
            revision=resolved.sha256,
            cache_dir=resolved.path,
            allow_patterns=_FILES,
            endpoint=os.environ.get("HF_ENDPOINT"),
            token=os.environ.get("HF_TOKEN"),
        )
    except (OSError, HTTPError) as error:  # a connection that breaks is an HTTPError and no OSError
        raise Unavailable(
            f"{repo} at {resolved.sha256[:12]} could not be downloaded ({error}); "
            "a retry fetches the files that are not complete"
        ) from error
    return Path(found)


def _download_modelscope(repo: str, resolved: ResolvedInput) -> Path:
    from modelscope import snapshot_download  # noqa: PLC0415 - optional

    try:
        found = snapshot_download(repo, revision=resolved.sha256, cache_dir=resolved.path, allow_patterns=_FILES)
    except OSError as error:
        raise Unavailable(f"{repo} could not be downloaded from ModelScope ({error}); a retry goes on") from error
    return Path(found)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
