"""verl's own verdict on a translation: composed by hydra, and checked by the code that verl runs first.

Runs under verl's interpreter, in a process of its own: verl keeps hydra's state and much else in modules.

    python -m finery.training.verl.composing

reads a translation as JSON and prints, as its last line, `{"config": YAML}` or `{"message": ..., "problems": [...]}`;
`asking` is the other end.
"""

import contextlib
import importlib.util
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import verl
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from verl.trainer.config.algorithm import RolloutCorrectionConfig
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from finery.core.errors import InvalidSpec, Problem
from finery.core.spec import parse
from finery.training.verl.sheet import CONFIG_FOLDERS, Translation, raise_problems

_KEY = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")
_SAID = re.compile(r"\b([a-z]\w*_\w+)\b")
_SEARCH = "hydra.searchpath=[pkg://verl.trainer.config]"
_NATIVE: Final = "task.native."
_FAILURES = (HydraException, OmegaConfBaseException, AssertionError, ValueError, TypeError, NotImplementedError)
"""What hydra, OmegaConf and verl's checks raise."""


def compose(translation: Translation) -> DictConfig:
    """verl's whole configuration of a job, from scratch, after all checks that verl makes before it starts.

    Returns:
        Resolved: no value refers to another.

    Raises:
        InvalidSpec: hydra or verl refuses it; names the field of the job file where the key is known.
    """
    try:
        config = _composed(translation)
    except _FAILURES as error:
        raise_problems(_unknown(translation))
        raise _invalid(error, translation) from error
    try:
        _validate(config, translation)
    except _FAILURES as error:
        raise _invalid(error, translation) from error
    return config


def _composed(translation: Translation) -> DictConfig:
    overrides = translation.overrides
    if translation.entry == "one_step_off":  # its own search path is relative to the working directory
        overrides = [*overrides, _SEARCH]
    GlobalHydra.instance().clear()
    with initialize_config_dir(_folder(translation), version_base=None):
        config = hydra_compose(translation.config_name, overrides=overrides)
    OmegaConf.resolve(config)
    return config


def _folder(translation: Translation) -> str:
    """Where the entry's YAML files are; not all of these folders are packages."""
    return str(Path(verl.__file__).parent.joinpath(*CONFIG_FOLDERS[translation.entry].split("/")))


def _validate(config: DictConfig, translation: Translation) -> None:
    if translation.entry == "sft":
        for part in ("optim", "engine", "checkpoint"):
            omega_conf_to_dataclass(config[part])
        return
    if translation.entry == "one_step_off":  # as its main does
        config.actor_rollout_ref.rollout.nnodes = config.rollout.nnodes
        config.actor_rollout_ref.rollout.n_gpus_per_node = config.rollout.n_gpus_per_node
    checked = config.copy()
    _leave_out_files(checked)
    with contextlib.redirect_stdout(io.StringIO()):
        validate_config(checked, use_reference_policy=need_reference_policy(checked), use_critic=need_critic(checked))
    for part in (checked.actor_rollout_ref.rollout, _as_worker(checked), checked.algorithm):
        omega_conf_to_dataclass(part)
    omega_conf_to_dataclass(checked.algorithm.rollout_correction, dataclass_type=RolloutCorrectionConfig)


def _leave_out_files(config: DictConfig) -> None:
    """Take out what verl's checks would read files or import vLLM for: the critic's model, and where vLLM is not
    installed the rank of LoRA, which verl compares with vLLM's bound."""
    with open_dict(config):
        config.critic.model = None
        if importlib.util.find_spec("vllm") is None:
            config.actor_rollout_ref.model.lora_rank = 0
            config.actor_rollout_ref.model.lora.rank = 0


def _as_worker(config: DictConfig) -> DictConfig:
    """The reference's part under the names that verl's worker gives it (verl 0.9.1, workers/engine_workers.py)."""
    ref = config.actor_rollout_ref.ref
    with open_dict(ref):
        ref.ppo_mini_batch_size = config.actor_rollout_ref.actor.ppo_mini_batch_size
        ref.ppo_micro_batch_size = ref.pop("log_prob_micro_batch_size", None)
        ref.ppo_micro_batch_size_per_gpu = ref.pop("log_prob_micro_batch_size_per_gpu", None)
        ref.use_dynamic_bsz = ref.pop("log_prob_use_dynamic_bsz", False)
        ref.ppo_max_token_len_per_gpu = ref.pop("log_prob_max_token_len_per_gpu", None)
    return ref


def _unknown(translation: Translation) -> list[Problem]:
    """Keys of `native` that are none of verl's, each with the nearest that are."""
    native = {key for key, origin in translation.origins.items() if origin.startswith(_NATIVE)}
    rest = {key: value for key, value in translation.settings.items() if key not in native and key[0] != "+"}
    try:
        known = dict(_keys(OmegaConf.to_container(_composed(replace(translation, settings=rest)))))
    except _FAILURES:  # it is not, or not alone, the keys of `native`
        return []
    problems = []
    for key in sorted(native & translation.settings.keys()):
        plain, value = key.lstrip("~"), translation.settings[key]
        inside = [below for below, _ in _keys(value, plain)] if isinstance(value, Mapping) and known.get(plain) else []
        for one in [plain, *inside]:
            if one not in known:
                path = f"{translation.origins[key]}{one.removeprefix(plain)}"
                problems.append(Problem(path, f"verl has no option {one}{_near(one, known)}"))
                break
    return problems


def _keys(config: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key of each part of a configuration, and the part."""
    for name, value in config.items() if isinstance(config, Mapping) else ():
        key = f"{above}.{name}" if above else str(name)
        yield key, value
        yield from _keys(value, key)


def _near(key: str, known: Mapping[str, Any]) -> str:
    """Options beside it that are spelled alike, else those of this name elsewhere; and how to add one."""
    parent, _, name = key.rpartition(".")
    beside = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == parent}
    near = [beside[one] for one in get_close_matches(name, beside, n=3)]
    near = near or [other for other in known if other.endswith(f".{name}")][:3]
    if not near:
        top, *rest = key.split(".")
        tops = [other for other in known if "." not in other]
        near = [".".join([one, *rest]) for one in get_close_matches(top, tops, n=1) if ".".join([one, *rest]) in known]
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return f"{hint or ';'} write +{key} to add it all the same"


def _invalid(error: Exception, translation: Translation) -> InvalidSpec:
    """What was refused, with the field of the job file: that of the key that the message names."""
    causes = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    said = "; ".join(dict.fromkeys(" ".join(text.split()) for text in causes if text)) or type(error).__name__
    path = _field(said, translation)
    return InvalidSpec(f"verl refuses this job: {said}", (Problem(path, f"verl refuses it: {said}"),))


def _field(said: str, translation: Translation) -> str:
    origins = translation.origins
    for key in _KEY.findall(said):
        if key in origins:
            return origins[key]
    for word in _SAID.findall(said):
        ends = [origin for key, origin in origins.items() if key.endswith(f".{word}") or key == word]
        if ends:
            return ends[0]
    return ""


def main() -> int:
    """Compose what standard input asks for."""
    translation: Translation = parse(Translation, json.loads(sys.stdin.read()), what="translation")
    try:
        config = compose(translation)
    except InvalidSpec as error:
        found = [{"path": one.path, "message": one.message} for one in error.problems]
        answer = {"message": str(error), "problems": found}
    else:
        answer = {"config": OmegaConf.to_yaml(config)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    return 0 if "config" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
