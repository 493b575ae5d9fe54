"""What `finery doctor` says of the engine verl: interpreter, clusters, and with --smoke a cluster that runs."""

import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from finery.cli import exercising
from finery.cli.findings import Finding
from finery.core.clusters import TOKEN_VARIABLE, ClusterConfig
from finery.core.environment import child_environment
from finery.core.errors import FineryError, Unavailable
from finery.core.settings import Settings
from finery.jobs import clusters
from finery.runtime.cluster.api import RayApi
from finery.runtime.cluster.local import LocalCluster
from finery.worker import gpus

_PROBE: Final = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try: found[name] = metadata.version(name)
    except metadata.PackageNotFoundError: pass
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""
_NEEDED: Final = {"verl": "the engine verl", "ray": "its processes", "torch": "its computation", "finery": "our part"}
_OPTIONAL: Final = {
    "vllm": "rollouts with `rollout.engine: vllm`",
    "sglang": "rollouts with `rollout.engine: sglang`",
    "megatron-core": "training with Megatron",
    "torch-npu": "training on Ascend",
}
_SMOKE_SECONDS: Final = 120.0


def findings(settings: Settings) -> list[Finding]:
    """The interpreter with its packages, and each configured cluster."""
    return [*_interpreter(settings), *(_cluster(name, one, settings) for name, one in settings.ray_clusters.items())]


def _interpreter(settings: Settings) -> Iterator[Finding]:
    path = settings.verl_interpreter
    if not path.is_file():
        hint = "the engine verl (clusters) cannot be used; `make verl` builds its environment"
        # Of one that was named somebody believes that it is there.
        yield Finding("verl", "problem" if settings.verl_python else "missing", absence(settings), hint)
        return
    try:
        answer = _asked(path)
    except Unavailable as error:
        yield Finding("verl", "problem", str(error), "no engine verl")
        return
    packages = answer["packages"]
    lacking = [name for name in _NEEDED if name not in packages]
    if lacking:
        costs = "; ".join(f"{name}: no {_NEEDED[name]}" for name in lacking)
        yield Finding("verl", "problem", f"{path} lacks {', '.join(lacking)}", f"{costs}; `make verl` installs it")
    else:
        shown = ", ".join(f"{name} {packages[name]}" for name in _NEEDED if name != "finery")
        yield Finding("verl", "ok", f"{shown} in Python {answer['python']} at {path}")
    for name, what in _OPTIONAL.items():
        if name in packages:
            yield Finding(f"verl: {name}", "ok", packages[name])
        else:
            yield Finding(f"verl: {name}", "missing", f"not in {path}", f"no {what}")


def absence(settings: Settings) -> str:
    """Why there is no verl to ask, of an interpreter that is not there, with the way out."""
    if settings.verl_python:
        return f"there is no interpreter at {settings.verl_python}, which FINERY_VERL_PYTHON names"
    return f"it is not installed: no interpreter at {settings.verl_interpreter} (`make verl`, or FINERY_VERL_PYTHON)"


def refuse_unusable(settings: Settings) -> None:
    """Raises `Unavailable` when no job can run under verl's interpreter: it is not there, or lacks what is needed."""
    path = settings.verl_interpreter
    if not path.is_file():
        raise Unavailable(f"the engine verl cannot be used: {absence(settings)}")
    packages = _asked(path)["packages"]
    lacking = [name for name in _NEEDED if name != "finery" and name not in packages]  # which the job brings itself
    if lacking:
        raise Unavailable(
            f"the engine verl cannot be used: {path} lacks {', '.join(lacking)}; `make verl` builds an environment "
            "that has all, or set FINERY_VERL_PYTHON to its interpreter"
        )


def _asked(path: Path) -> dict[str, Any]:
    """The version of verl's interpreter, and of its distributions that are needed. Raises `Unavailable`."""
    way_out = "set FINERY_VERL_PYTHON to the interpreter of an environment that has verl"
    argv = [str(path), "-P", "-c", _PROBE, *_NEEDED, *_OPTIONAL]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{path} does not start ({error}); {way_out}") from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise Unavailable(f"{path} does not start ({done.stderr.strip()[-200:]}); {way_out}") from error
    return answer


def _num_npus() -> int:
    """Ascend NPUs of this machine, as their driver shows them."""
    return len([path for path in Path("/dev").glob("davinci*") if path.name.removeprefix("davinci").isdigit()])


def _cluster(name: str, config: ClusterConfig, settings: Settings) -> Finding:
    try:
        token = clusters.config_token(config, settings).get(TOKEN_VARIABLE, "")
        api = RayApi(config.address, token)
        version, nodes = api.version(), [node for node in api.nodes() if node.is_alive]
    except FineryError as error:
        return Finding(f"cluster {name}", "problem", str(error), f"jobs with resources.cluster: {name} fail")
    total = sum(node.total.get("GPU", 0) + node.total.get("NPU", 0) for node in nodes)
    free = sum(node.free.get("GPU", 0) + node.free.get("NPU", 0) for node in nodes)
    detail = f"Ray {version} at {config.address}, {len(nodes)} nodes, {free:g} of {total:g} accelerators free"
    return Finding(f"cluster {name}", "ok", detail)


def smoke(settings: Settings) -> list[Finding]:
    """Start a cluster as a job's launcher does, run a small Ray job on it, and take it down."""
    began = time.monotonic()
    visible = gpus.visible(os.environ)
    num = len(visible) or 2
    python = str(settings.verl_interpreter)
    with tempfile.TemporaryDirectory(prefix="finery-smoke-") as folder:
        log, out = Path(folder) / "ray.log", Path(folder) / "seen.json"
        env = child_environment(os.environ, cpu_threads=1) | gpus.variables(visible or None, os.environ)
        try:
            cluster = LocalCluster.start(
                python, num_accelerators=num, accelerator="GPU", log=log, env=env, has_devices=bool(visible)
            )
        except FineryError as error:
            return [Finding("smoke: local cluster", "problem", str(error), "no job of the engine verl runs here")]
        found = [
            Finding("smoke: local cluster", "ok", f"up after {time.monotonic() - began:.0f} s, {num} GPUs counted")
        ]
        try:
            found.append(_smoke_job(cluster, python, out, is_on_gpu=bool(visible)))
        except FineryError as error:
            found.append(Finding("smoke: Ray job", "problem", str(error), "no job of the engine verl runs here"))
        finally:
            cluster.stop()
    left = cluster.folder.exists()
    detail = f"nothing left of it after {time.monotonic() - began:.0f} s"
    found.append(Finding("smoke: end", "problem" if left else "ok", f"{cluster.folder} is left" if left else detail))
    packages = _asked(settings.verl_interpreter)["packages"]
    return [*found, *exercising.exercised(packages.keys(), num_gpus=len(visible), num_npus=_num_npus())]


def _smoke_job(cluster: LocalCluster, python: str, out: Path, *, is_on_gpu: bool) -> Finding:
    name = "smoke: Ray job"
    command = shlex.join([python, "-P", "-m", "finery.runtime.cluster.smoke", str(out)])
    cluster.api.submit("finery-smoke", f"exec {command}", env={}, metadata={}, seconds=60)
    deadline = time.monotonic() + _SMOKE_SECONDS
    while not (job := cluster.api.job("finery-smoke")).is_over:
        if time.monotonic() > deadline:
            return Finding(name, "problem", f"is not over after {_SMOKE_SECONDS:g} s", "no job of the engine verl ends")
        time.sleep(0.3)
    if job.status != "SUCCEEDED":
        said = cluster.api.logs("finery-smoke").strip().splitlines()
        return Finding(name, "problem", said[-1] if said else job.message, "no job of the engine verl runs here")
    ranks = json.loads(out.read_text())["ranks"]
    expected = len(ranks) * (len(ranks) + 1) / 2
    is_right = all(rank["sum"] == expected for rank in ranks) and is_on_gpu == all(
        rank["device"] != "cpu" for rank in ranks
    )
    devices = ", ".join(rank["device"] for rank in ranks)
    detail = f"{len(ranks)} actors on {devices} added up {expected:g} over gloo"
    return Finding(
        name, "ok" if is_right else "problem", detail if is_right else f"{ranks}", "" if is_right else "wrong"
    )
