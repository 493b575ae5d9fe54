"""The `trainer_state.json` of the Hugging Face Trainer and of everything built on it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from finery.core.errors import InvalidSpec
from finery.importing.records import ForeignRun, MetricRow

_FILE: Final = "trainer_state.json"
_CHECKPOINT: Final = "checkpoint-"
_NOT_CONFIG: Final = frozenset({"log_history", "stateful_callbacks"})


def matches(path: Path) -> bool:
    """Whether the path is a trainer state, or a folder that holds one or checkpoints with one."""
    if path.is_dir():
        return (path / _FILE).is_file() or bool(_checkpoint_states(path))
    return path.suffix == ".json" and path.is_file()


def read(path: Path) -> list[ForeignRun]:
    """Read the newest trainer state of a training run.

    Args:
        path: The file, its folder, or an output folder. Of the state in the output folder and those of its
            `checkpoint-<step>` folders, the one of the highest step is read.

    Returns:
        One run, named like its output folder, with one row per entry of `log_history` (a step at which training and
        evaluation were both logged has two rows). Rows have no time. Entries of a log that are not numbers are left
        out. The config is what else the file says, such as `max_steps` and `train_batch_size`.

    Raises:
        InvalidSpec: There is no trainer state, or it is not whole; the message names the file and the place.
    """
    file, state = _newest(path)
    history = state["log_history"]
    rows = sorted((_row(file, index, entry) for index, entry in enumerate(history)), key=lambda row: row.step)
    folder = file.resolve().parent
    name = folder.parent.name if folder.name.startswith(_CHECKPOINT) else folder.name
    config = {key: value for key, value in state.items() if key not in _NOT_CONFIG and value is not None}
    return [ForeignRun(name, f"trainer_state:{file.resolve()}", config, (), tuple(rows))]


def _newest(path: Path) -> tuple[Path, dict[str, Any]]:
    if not path.is_dir():
        return path, _load(path)
    checkpoints = _checkpoint_states(path)
    newest_step = max(checkpoints, default=None)
    own = path / _FILE
    if own.is_file():
        state = _load(own)
        if newest_step is None or state.get("global_step", newest_step) >= newest_step:
            return own, state
    if newest_step is None:
        raise InvalidSpec(
            f"{path} holds no {_FILE}, and none of its {_CHECKPOINT}* folders does; name the output_dir of the Trainer."
        )
    return checkpoints[newest_step], _load(checkpoints[newest_step])


def _checkpoint_states(folder: Path) -> dict[int, Path]:
    """By step."""
    states = {}
    for file in folder.glob(f"{_CHECKPOINT}*/{_FILE}"):
        step = file.parent.name.removeprefix(_CHECKPOINT)
        if step.isdecimal():
            states[int(step)] = file
    return states


def _load(file: Path) -> dict[str, Any]:
    try:
        # Not orjson: the Trainer writes a diverged loss as the bare word NaN.
        state = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise InvalidSpec(
            f"{file} is not JSON at line {error.lineno}, column {error.colno} ({error.msg}); expected a whole {_FILE}, "
            "so if a run is still writing it, import it once the checkpoint is complete."
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{file} is not text at byte {error.start}; expected a {_FILE}, copy it again.") from error
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise InvalidSpec(f"{file} has no list `log_history`; expected a {_FILE} that the Trainer wrote.")
    if not isinstance(state.get("global_step", 0), int):
        raise InvalidSpec(f"{file} has a `global_step` that is not a whole number; expected what the Trainer wrote.")
    return state


def _row(file: Path, index: int, entry: Any) -> MetricRow:
    step = entry.get("step") if isinstance(entry, Mapping) else None
    if not isinstance(step, int) or isinstance(step, bool):
        raise InvalidSpec(
            f"{file} has no whole number `step` in log_history[{index}]; expected an object with `step` and metrics, "
            "so remove that entry or copy the file again."
        )
    values = {key: float(value) for key, value in entry.items() if key != "step" and isinstance(value, int | float)}
    return MetricRow(step, None, values)
