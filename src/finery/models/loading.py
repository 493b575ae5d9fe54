"""From a resolved reference to files on this machine, a model and a tokenizer. Runs in the child.

Weights are safetensors only and code of a repository is never run. What is built is written aside and renamed, under
a lock, so that two children that start at once build it once and a crash leaves nothing half-made.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, Literal

import orjson
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from finery.core import checkpoints
from finery.core.errors import Conflict, InvalidSpec
from finery.core.rundir import ResolvedInput
from finery.models import builtin, chat, downloading, exporting, huggingface, modelscope, resolving

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
ADAPTER: Final = "adapter_config.json"
QUANTIZED: Final = ("int8", "nf4")
"""Number formats of bitsandbytes."""
_STAMP = "finery.json"
_GENERATION: Final = "generation_config.json"
_FILES: Final = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "tokenizer*")
"""What is fetched of a hub's repository."""


def materialize(resolved: ResolvedInput, ref: str) -> Path:
    """The local folder, in Hugging Face form, of a resolved model.

    Args:
        resolved: What the reference stands for.
        ref: The reference as written in the job file; names the repository of a hub.

    Raises:
        Conflict: the folder, checkpoint or branch has changed since the job was submitted, or a checkpoint in the
            layout of its engine cannot be converted.
        Unavailable, Forbidden, NotFound: a download failed, or the interpreter for the conversion is missing.
    """
    path = Path(resolved.path)
    if resolved.kind == "builtin":
        return _build(path, resolved.sha256)
    if resolved.kind in ("hub", "modelscope"):
        return _download(ref, resolved)
    if resolved.kind == "checkpoint":
        if exporting.needs_export(path):
            return exporting.exported(path)
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

    The base is loaded whole even where the adapter was trained beside quantized weights.

    Args:
        path: Folder in Hugging Face form.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.

    Raises:
        InvalidSpec: it is a reward model.
    """
    check_writes(path)
    return _folded(path, resolve_dtype(dtype), _load)


def load_reward_model(path: Path, *, dtype: str = "auto") -> PreTrainedModel:
    """Load a reward model: `logits` of its output are one score per row.

    The score is read at the last token that is not padding; where padding is the end of sequence, that is the token
    before the end, whether or not padding follows. What padding is, an adapter's own tokenizer says: its base may say
    something else, or nothing.

    Args:
        path: Folder in Hugging Face form.
        dtype: As of `load_model`; or `int8` or `nf4`, for scoring and not for training.

    Raises:
        InvalidSpec: it is a language model.
    """
    if not is_reward_model(path):
        raise InvalidSpec(
            f"{path} is a language model, which has no head that scores; name the checkpoint of a job with "
            "algorithm: reward"
        )
    if dtype in QUANTIZED:
        from finery.models import quantization  # noqa: PLC0415 - it needs bitsandbytes

        return quantization.load_reward_model(path, "int8" if dtype == "int8" else "nf4")
    model = _folded(path, resolve_dtype(dtype), _load_scoring)
    if (path / ADAPTER).is_file():
        model.config.get_text_config().pad_token_id = load_tokenizer(path).pad_token_id
    return model


def start_reward_model(path: Path, *, dtype: str = "auto") -> PreTrainedModel:
    """A reward model to be trained: a whole language model with a new head, or a reward model that goes on learning."""
    return _load_scoring(path, resolve_dtype(dtype))


def check_writes(path: Path) -> None:
    """Refuse a folder that holds no language model.

    Raises:
        InvalidSpec: it is a reward model.
    """
    if is_reward_model(path):
        raise InvalidSpec(
            f"{path} is a reward model, which scores answers and writes none; name a language model, such as the one "
            "that it was trained from"
        )


def is_reward_model(path: Path) -> bool:
    """Whether the folder holds a reward model, whole or as an adapter."""
    adapter = path / ADAPTER
    if adapter.is_file():
        return bool(orjson.loads(adapter.read_bytes()).get("task_type") == "SEQ_CLS")
    config = path / "config.json"
    names = orjson.loads(config.read_bytes()).get("architectures") if config.is_file() else None
    return any(name.endswith("ForSequenceClassification") for name in names or ())


def load_tokenizer(path: Path, template: Template = "auto") -> PreTrainedTokenizerBase:
    """Load a tokenizer. It pads on the left, always has a padding token, and knows what ends an answer of its model.

    A template of ours begins with the token that the tokenizer puts before any text, where it has one. Where padding
    and end of sequence are the same token, masks must come from lengths, never from comparing tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if template == "chatml":
        tokenizer.chat_template = _first_token(tokenizer) + CHATML
    elif template == "plain" or tokenizer.chat_template is None:
        tokenizer.chat_template = _first_token(tokenizer) + PLAIN
    stops = {*tokenizer.init_kwargs.get(chat.STOPS, ()), *_stop_ids(path)}
    if stops:
        tokenizer.init_kwargs[chat.STOPS] = sorted(stops)  # saved with it, unlike an attribute
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


def _first_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The beginning of a template, where the tokenizer begins texts with a token."""
    ids = tokenizer("")["input_ids"]
    return "{{ bos_token }}" if ids and ids[0] == tokenizer.bos_token_id else ""


def _stop_ids(path: Path) -> list[int]:
    """Tokens at which generation ends by the model's own settings; of an adapter those of its base."""
    adapter = path / ADAPTER
    settings = (_base(adapter) if adapter.is_file() else path) / _GENERATION
    found = orjson.loads(settings.read_bytes()).get("eos_token_id") if settings.is_file() else None
    return found if isinstance(found, list) else [] if found is None else [found]


def _base(adapter: Path) -> Path:
    """The model that an adapter was trained beside."""
    return Path(orjson.loads(adapter.read_bytes())["base_model_name_or_path"])


def _load(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    return model


def _folded(path: Path, dtype: torch.dtype, load: Callable[[Path, torch.dtype], PreTrainedModel]) -> PreTrainedModel:
    """The model, with its adapter folded in where it has one."""
    adapter = path / ADAPTER
    if not adapter.is_file():
        return load(path, dtype)
    from peft import PeftModel  # noqa: PLC0415 - only LoRA checkpoints need it

    base = load(_base(adapter), dtype)
    merged: PreTrainedModel = PeftModel.from_pretrained(base, path).merge_and_unload()
    return merged.requires_grad_(True)  # peft has frozen it


def _load_scoring(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=1, dtype=dtype, use_safetensors=True, trust_remote_code=False
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


def _download(ref: str, resolved: ResolvedInput) -> Path:
    """Download a pinned model of a hub unless it is there. What an earlier try has brought is used."""
    repo, _, revision = ref.removeprefix("modelscope:").partition("@")
    folder = resolving.local_folder(ref, resolved)
    with _locked(folder):
        if folder.is_dir():
            return folder
        if resolved.kind == "hub":
            token = os.environ.get(huggingface.TOKEN)
            files, headers = huggingface.list_files(repo, resolved.sha256, token), huggingface.headers(token)
        else:
            token = os.environ.get(modelscope.TOKEN)
            files, headers = modelscope.list_files(repo, revision or None, token), modelscope.headers(token)
            if modelscope.digest(files) != resolved.sha256:
                raise Conflict(f"{ref} has changed since the job was submitted; submit it again")
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        downloading.download([file for file in files if _is_wanted(file.path)], unfinished, headers=headers, say=_say)
        os.rename(unfinished, folder)
    return folder


def _is_wanted(name: str) -> bool:
    """Whether a file of a repository is loaded: none of a subfolder, and no second copy of the weights."""
    return "/" not in name and not name.startswith("consolidated") and any(fnmatch(name, kind) for kind in _FILES)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the attempt's own log


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
