"""Which Ray cluster a job runs on. Pure, but for the token."""

from collections.abc import Mapping
from typing import Any

from finery.core.clusters import TOKEN_VARIABLE, ClusterConfig, ClusterTarget, read_token
from finery.core.errors import InvalidSpec, Unavailable
from finery.core.secrets import SecretStore
from finery.core.settings import Settings
from finery.training.specs import processes


def is_needed(job: Mapping[str, Any]) -> bool:
    """Whether a job, as plain data, runs on Ray."""
    return bool(job["kind"] == "train" and job["task"].get("engine") == "verl")


def is_elsewhere(job: Mapping[str, Any]) -> bool:
    """Whether it runs on a configured cluster, so that it takes nothing of this machine."""
    return is_needed(job) and job["resources"].get("cluster") is not None


def target(job: Mapping[str, Any], settings: Settings) -> ClusterTarget | None:
    """Where the child of a job's next attempt runs; None is beside its supervisor, as of every job without verl.

    Raises:
        InvalidSpec: `resources` names a cluster that is not configured, or several machines without one.
    """
    if not is_needed(job):
        return None
    resources = job["resources"]
    name, num_nodes = resources.get("cluster"), resources.get("nodes", 1)
    common = {
        "num_nodes": num_nodes,
        "num_accelerators": num_nodes * processes.number(gpus=resources["gpus"], processes=resources.get("processes")),
        "accelerator": "NPU" if resources.get("device") == "npu" else "GPU",
    }
    own_python = str(settings.verl_interpreter)
    if name is None:
        if num_nodes > 1:
            raise InvalidSpec(
                f"resources.nodes: {num_nodes} machines need a cluster; set resources.cluster to a configured one, or "
                "nodes: 1"
            )
        return ClusterTarget(python=own_python, **common)
    config = _config(name, settings)
    return ClusterTarget(name=name, address=config.address, python=config.python or own_python, **common)


def token(job: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    """The token of a job's configured cluster, by the variable in which a launcher is handed it.

    Raises:
        InvalidSpec: the cluster is not configured. NotFound: there is no such secret.
        Unavailable: the token cannot be read.
    """
    if not is_elsewhere(job):
        return {}
    return config_token(_config(job["resources"]["cluster"], settings), settings)


def config_token(config: ClusterConfig, settings: Settings) -> dict[str, str]:
    """The token of a configured cluster, as `token` gives it. Raises as that does."""
    try:
        found = SecretStore(settings).read(config.token_secret) if config.token_secret else read_token(config)
    except OSError as error:
        raise Unavailable(f"the token of cluster {config.address} cannot be read: {error}") from None
    return {TOKEN_VARIABLE: found} if found else {}


def _config(name: str, settings: Settings) -> ClusterConfig:
    try:
        return settings.ray_clusters[name]
    except KeyError:
        known = ", ".join(sorted(settings.ray_clusters)) or "none"
        raise InvalidSpec(
            f"resources.cluster: there is no cluster {name!r} (configured: {known}); FINERY_RAY_CLUSTERS names them; "
            "leave it out for one on this machine"
        ) from None
