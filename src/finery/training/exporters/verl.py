"""A job for verl alone: configuration, command line, Ray job, data and reward function in one folder.

run.sh            the command; places are found from where the file lies
overrides.txt     its settings, one a line
ray_job.sh        sends the folder to a Ray cluster and runs run.sh there; ray_job.yaml is its environment
train.parquet     the data
rewards.py        the reward function
model/            a page that says what belongs there, where verl cannot find the model by its name
config.yaml       the whole configuration, composed and checked by verl, where an interpreter with verl is here
"""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from finery.core import console, parquet
from finery.core.errors import InvalidSpec, Problem
from finery.core.settings import Settings
from finery.models.resolving import BUILTIN
from finery.training.exporters import register
from finery.training.job import Job
from finery.training.specs import SftSpec
from finery.training.specs.base import Rewarded
from finery.training.verl import asking, checking, translating
from finery.training.verl.placing import MODEL
from finery.training.verl.sheet import Inputs, Translation

FOLDER: Final = "EXPORT_DIR"
"""Environment variable that run.sh sets to its own folder; settings refer to it."""
_PLACE: Final = f"${{oc.env:{FOLDER}}}"
_BOUND: Final = {"reward_model": "the weights that this job scores with", "python_file": "the file that it runs"}
"""Rewards that hold something of a run of ours."""
_RAY_JOB: Final = """\
#!/bin/sh
# Sends this folder to a Ray cluster and runs it there, until it ends: RAY_ADDRESS=http://head:8265 sh ray_job.sh
# Of a cluster with tokens: RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE before it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec ray job submit --address "${RAY_ADDRESS:-http://127.0.0.1:8265}" --working-dir "$here" \\
    --runtime-env "$here/ray_job.yaml" -- sh run.sh
"""
_REWARDS: Final = '''\
"""The rewards of the job, as verl asks for them. Needs the package finery in the environment of verl's workers."""

import json
import tempfile
from functools import cache
from pathlib import Path

try:
    from finery.core.rundir import Run, RunDir, RunSpec
    from finery.core.spec import parse
    from finery.training.scoring import Scorer, names
    from finery.training.specs import RewardSpec
except ImportError as error:
    raise ImportError(
        "these rewards are Finery's: `pip install pydantic orjson` and then `pip install --no-deps finery`, on "
        "each machine of the cluster"
    ) from error

REWARDS = json.loads(r"""@REWARDS@""")


@cache
def _scorer():
    folder = Path(tempfile.mkdtemp(prefix="rewards-"))
    job = {"task": {"rewards": REWARDS}}
    RunDir.create(folder, RunSpec(job_id="export", attempt=1, job=job, inputs={}, seed=@SEED@))
    specs = parse(tuple[RewardSpec, ...], REWARDS)
    return specs, Scorer(specs, Run.open(folder))


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    """`score`, the weighted sum, and each reward by its name."""
    specs, scorer = _scorer()
    row = json.loads((extra_info or {}).get("row") or json.dumps({"answer": ground_truth}))
    scores = [column[0] for column in scorer.score([solution_str], [row], step=1)]
    total = sum(spec.weight * score for spec, score in zip(specs, scores))
    return {"score": total, **dict(zip(names(specs), scores))}
'''


@register("verl")
def export(job: Job, out: Path, *, data_rows: Iterator[dict[str, Any]] | None = None) -> list[Path]:
    """verl 0.9.1: its configuration, the command line and the Ray job that run it without Finery's server.

    Args:
        job: With `engine: verl` or `auto`; on GPUs or NPUs, since what draws on a CPU is Finery's own.
        out: An empty folder that exists.
        data_rows: Rows of the data; None leaves the place of `train.parquet` empty.

    Returns:
        The files, run.sh first.

    Raises:
        InvalidSpec: verl cannot honour a field, or refuses the whole.
    """
    translation = translated(job)
    files = [_write(out / "run.sh", command(translation)), _write(out / "ray_job.sh", _RAY_JOB)]
    environment = {"env_vars": dict(translation.environment), "excludes": ["checkpoints/"]}
    files.append(_write(out / "ray_job.yaml", json.dumps(environment, indent=2) + "\n"))  # JSON is YAML, too
    files.append(_write(out / "overrides.txt", "".join(f"{line}\n" for line in translation.overrides)))
    task = job.task
    if isinstance(task, Rewarded):
        files.append(_write(out / "rewards.py", _reward_file(task, job.seed or 0)))
    if data_rows is not None:
        train = out / "train.parquet"
        if isinstance(task, SftSpec):
            parquet.write_sft(data_rows, train)
        else:
            parquet.write_rl(data_rows, train, data_source=task.data.train)
        files.append(train)
    if _is_to_be_filled(task.model.base):
        (out / "model").mkdir()
        files.append(_write(out / "model" / "README.md", _how_to_fill(task.model.base)))
        console.warn(f"the weights of {task.model.base} are not in the export; model/README.md says how to bring them")
    config = _composed(translation, out)
    return files if config is None else [*files, _write(out / "config.yaml", config)]


def translated(job: Job) -> Translation:
    """The job with all places below the folder that `EXPORT_DIR` names."""
    inputs = _inputs(job)
    translation = translating.translate(job, inputs=inputs)
    checking.check(translation, inputs=inputs, files=False)
    return translation


def command(translation: Translation) -> str:
    """run.sh."""
    nodes, per_node = translation.get("trainer.nnodes"), translation.get("trainer.n_gpus_per_node")
    lines = [
        "#!/bin/sh",
        f"# {translation.module} of verl 0.9.1 on {nodes} x {per_node} {translation.get('trainer.device')} devices.",
        *(f"# NOTE {note}" for note in translation.notes),
        "set -eu",
        f'{FOLDER}=$(cd "$(dirname "$0")" && pwd)',
        f"export {FOLDER}",
        *(f"export {name}={shlex.quote(value)}" for name, value in translation.environment.items()),
    ]
    model = f"{_PLACE}/model"
    if model in (translation.get(f"{MODEL}.path"), translation.get("model.path")):
        lines.append(f'[ -f "${FOLDER}/model/config.json" ] || {{ cat "${FOLDER}/model/README.md" >&2; exit 1; }}')
    start = f"exec python -m {translation.module}"
    if translation.entry == "sft":
        start = (
            f"exec torchrun --nnodes {nodes} --nproc_per_node {per_node} ${{TORCHRUN_ARGUMENTS:---standalone}} "
            f"-m {translation.module}"
        )
    arguments = translation.overrides
    if translation.config_name != "ppo_trainer" and translation.entry != "sft":
        arguments = [f"--config-name={translation.config_name}", *arguments]
    if translation.entry == "one_step_off":
        arguments.append("hydra.searchpath=[pkg://verl.trainer.config]")
    return "\n".join([*lines, " \\\n    ".join([start, *(shlex.quote(one) for one in arguments), '"$@"']), ""])


def _inputs(job: Job) -> Inputs:
    found = translating.assumed(job)
    if found.device == "cpu":
        raise InvalidSpec(
            "resources.gpus: what draws completions on a CPU is Finery's own, so verl alone needs GPUs or NPUs; set "
            "resources.gpus",
            (Problem("resources.gpus", "verl alone needs GPUs or NPUs; set how many each machine has"),),
        )
    return replace(
        found,
        is_ours=False,
        model=_model(job.task.model.base),
        train=Path(_PLACE) / "train.parquet",
        output=Path(_PLACE) / "checkpoints",
        reward_file=Path(_PLACE) / "rewards.py" if isinstance(job.task, Rewarded) else None,
        keep_checkpoints=job.monitoring.keep_checkpoints,
    )


def _model(base: str) -> Path:
    """Where verl finds the model: a local folder, a name on the hub, or the folder `model` of the export, for what
    only Finery knows by this name."""
    if Path(base).expanduser().is_dir():
        return Path(base).expanduser().resolve()
    return Path(_PLACE) / "model" if _is_to_be_filled(base) else Path(base)


def _is_to_be_filled(base: str) -> bool:
    """Whether somebody has to bring the weights: verl finds neither names of ours nor revisions of the hub."""
    return not Path(base).expanduser().is_dir() and (not _is_on_hub(base) or "@" in base)


def _is_on_hub(base: str) -> bool:
    return base.count("/") == 1 and ":" not in base and not base.startswith((".", "/"))


def _how_to_fill(base: str) -> str:
    """model/README.md."""
    name, _, revision = base.removeprefix("modelscope:").partition("@")
    at = f" --revision {revision}" if revision else ""
    if base in BUILTIN:
        build = f"from pathlib import Path; from finery.models import builtin; builtin.build({base!r}, Path('model'))"
        way = f"Where Finery is installed, in the folder of the export:\n\n    python -c {shlex.quote(build)}\n"
    elif base.startswith("modelscope:"):
        way = f"In the folder of the export:\n\n    modelscope download --model {name}{at} --local_dir model\n"
    elif _is_on_hub(base):
        way = f"In the folder of the export:\n\n    hf download {name}{at} --local-dir model\n"
    else:
        way = "The name holds on the machine where the job file was written; copy the files from there.\n"
    return (
        f"# The weights of {base}\n\nrun.sh expects them in this folder, in the form of Hugging Face: config.json, "
        f"*.safetensors and the tokenizer's files.\n\n{way}"
    )


def _reward_file(task: Rewarded, seed: int) -> str:
    for index, reward in enumerate(task.rewards):
        if reward.name in _BOUND:
            path, what = f"task.rewards.{index}", _BOUND[reward.name]
            message = (
                f"the reward {reward.name} needs {what}, which only a run of Finery has; export the job without it"
            )
            raise InvalidSpec(f"{path}: {message}", (Problem(path, message),))
    rewards = json.dumps([reward.model_dump(mode="json") for reward in task.rewards])
    return _REWARDS.replace("@REWARDS@", rewards).replace("@SEED@", str(seed))


def _composed(translation: Translation, out: Path) -> str | None:
    """The whole configuration from verl itself; None where no interpreter with verl is here."""
    python = Settings().verl_interpreter
    return asking.composed(translation, python, {FOLDER: str(out.resolve())}) if python.is_file() else None


def _write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    if path.suffix == ".sh":
        path.chmod(0o755)
    return path
