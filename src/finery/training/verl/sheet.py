"""What a translation is made from, what it is, and the sheet that it is written on. Pure."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from finery.core.errors import InvalidSpec, Problem

Device = Literal["cpu", "cuda", "npu"]
Entry = Literal["ppo", "ppo_legacy", "one_step_off", "sft"]

MODULES: Final[dict[str, str]] = {
    "ppo": "verl.trainer.main_ppo",
    "ppo_legacy": "verl.trainer.main_ppo",
    "one_step_off": "verl.experimental.one_step_off_policy.main_ppo",
    "sft": "verl.trainer.sft_trainer",
}
"""What `python -m` runs, by entry. `ppo_legacy` is verl's older trainer, for estimators that its newer one lacks."""
CONFIG_FOLDERS: Final[dict[str, str]] = {
    "ppo": "trainer/config",
    "ppo_legacy": "trainer/config",
    "one_step_off": "experimental/one_step_off_policy/config",
    "sft": "trainer/config",
}
"""Folder within verl that holds the entry's YAML files."""
_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*")
"""Texts that hydra reads as they stand."""
NO_BOUND: Final = 1e9
"""Stands for no bound where verl wants a number: above every ratio it can compute (exp(20))."""


@dataclass(frozen=True)
class Inputs:
    """What a job file does not say: places, and the machines that were found for it."""

    model: Path
    """Folder in Hugging Face's form, tokenizer and chat template included."""
    train: Path
    """Parquet file in verl's form."""
    output: Path
    """Folder for verl's checkpoints."""
    seed: int
    device: Device
    processes_per_node: int
    """Processes of the whole job on each machine, those that only draw included."""
    nodes: int = 1
    reward_file: Path | None = None
    """Python file with the reward function; needed unless the task is sft."""
    reward_function: str = "compute_score"
    """Its name. It gives a dict of `score` and each reward by its name."""
    validation: Path | None = None
    """Parquet file; None takes the first row of `train`, which verl wants to have and never looks at."""
    resume_from: Path | None = None
    """Folder `global_step_N` to go on from."""
    keep_checkpoints: int | None = None
    """Checkpoints that verl keeps; None keeps all."""
    num_rows: int | None = None
    """Of `train`, where it is known."""
    is_ours: bool = False
    """Our own trainer runs it, which brings rows in their order, tokens and masks. verl's alone can do less."""

    @property
    def num_processes(self) -> int:
        """Of the job, on all machines."""
        return self.nodes * self.processes_per_node


@dataclass(frozen=True)
class Translation:
    """A job in verl's words."""

    entry: Entry
    config_name: str
    """Of the YAML file that the settings change."""
    settings: Mapping[str, Any]
    """Key -> value. A key with `+` before it is not in the YAML file; one without a dot may choose a group."""
    environment: Mapping[str, str]
    """Environment variables of every process."""
    origins: Mapping[str, str]
    """Key, without `+` -> dotted path of the job file's field that it stands for; keys of ours alone are absent."""
    notes: tuple[str, ...] = ()
    """What is otherwise than on the other engine, within what the job file leaves open."""

    @property
    def module(self) -> str:
        """What `python -m` runs."""
        return MODULES[self.entry]

    @property
    def overrides(self) -> list[str]:
        """The settings as arguments of a command line."""
        return [override(key, value) for key, value in self.settings.items()]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, whether it is in the YAML file or not."""
        return self.settings.get(key, self.settings.get(f"+{key}", default))


@dataclass
class Sheet:
    """Settings as they come together, with the field that each came from and what is wrong."""

    is_ours: bool = False
    """As in `Inputs`."""
    settings: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    suggested: set[str] = field(default_factory=set)

    def suggest(self, key: str, value: Any) -> None:
        """Set a key that changes no mathematics, so that `native` may set it otherwise."""
        self.put(key, value)
        self.suggested.add(key.removeprefix("+"))

    def put(self, key: str, value: Any, origin: str = "") -> None:
        """Set a key; `origin` is the job file's field."""
        self.settings[key] = value
        if origin:
            self.origins[key.removeprefix("+")] = origin

    def refuse(self, path: str, message: str) -> None:
        """Say that a field cannot be honoured, and what would be right."""
        self.problems.append(Problem(path, message))

    def finish(self) -> None:
        """Raise what was refused.

        Raises:
            InvalidSpec: with one problem for each field.
        """
        raise_problems(self.problems)


def raise_problems(problems: list[Problem]) -> None:
    """Raise InvalidSpec with these problems, if there are any."""
    if not problems:
        return
    first = problems[0]
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    raise InvalidSpec(f"engine verl: {first.path}: {first.message}{more}", tuple(problems))


def override(key: str, value: Any) -> str:
    """A setting in the grammar of hydra's command line, whatever the value holds."""
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else json.dumps(str(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(name)}:{_written(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_written(part) for part in value) + "]"
    text = str(value)
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in ("true", "false", "null", "nan", "inf")
    return text if is_plain else _quoted(text)


def _key(name: object) -> str:
    text = str(name)
    return text if _PLAIN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    """In single quotes, within which hydra leaves everything alone but a quote and the backslashes before it. A
    reference, such as `${oc.env:HOME}` or `${trainer.nnodes}`, stays one."""
    *parts, last = (part + "\\" * _trailing(part) for part in text.split("'"))
    return "'" + "".join(part + "\\'" for part in parts) + last + "'"


def _trailing(text: str) -> int:
    """Backslashes at the end."""
    return len(text) - len(text.rstrip("\\"))
