"""Asks the interpreter that has verl what verl makes of a translation."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from finery.core.errors import InvalidSpec, Problem, Unavailable
from finery.training.verl.sheet import Translation


def composed(translation: Translation, python: Path, environment: Mapping[str, str] | None = None) -> str:
    """verl's whole configuration of a job as YAML, checked by the code that verl itself runs first.

    Args:
        translation: Of a job.
        python: The interpreter of the environment that has verl.
        environment: Variables that the settings refer to.

    Raises:
        InvalidSpec: verl refuses it; with the field of the job file where it is known.
        Unavailable: verl cannot be asked.
    """
    source = str(Path(__file__).parents[3])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    try:
        done = subprocess.run(
            [str(python), "-m", "finery.training.verl.composing"],
            input=json.dumps(asdict(translation)),
            capture_output=True,
            text=True,
            env={**inherited, **(environment or {}), "PYTHONPATH": source, "CUDA_VISIBLE_DEVICES": ""},
            check=False,
        )
    except OSError as error:
        raise Unavailable(f"{python} does not start: {error.strerror}") from error
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise Unavailable(f"{python} could not compose verl's configuration: {done.stderr.strip()[-1000:]}")
    answer = json.loads(lines[-1])
    if "config" in answer:
        return str(answer["config"])
    problems = tuple(Problem(one["path"], one["message"]) for one in answer["problems"])
    raise InvalidSpec(answer["message"], problems)
