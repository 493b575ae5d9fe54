"""Which Ray cluster a job runs on, and with which token."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from finery.core.clusters import ClusterConfig
from finery.core.environment import HUB_TOKENS, for_other_hosts, secret_variable
from finery.core.errors import InvalidSpec, Unavailable
from finery.core.secrets import SecretStore
from finery.core.settings import Settings
from finery.jobs import clusters
from finery.models.resolving import TOKENS


def job(engine: str = "verl", **resources: Any) -> dict[str, Any]:
    return {"kind": "train", "task": {"engine": engine}, "resources": {"gpus": 0, "processes": None, **resources}}


def settings(home: Path, **clusters_: Any) -> Settings:
    configs = {name: ClusterConfig(**config) for name, config in clusters_.items()}
    return Settings(home=home, ray_clusters=configs, verl_python="/opt/verl/python")


def test_only_a_training_job_of_the_engine_verl_runs_on_ray(home: Path) -> None:
    assert clusters.target(job("trl"), settings(home)) is None
    assert clusters.target(job("auto"), settings(home)) is None
    assert clusters.target({**job(), "kind": "evaluate"}, settings(home)) is None


def test_without_a_name_it_gets_a_cluster_of_its_own(home: Path) -> None:
    found = clusters.target(job(processes=2), settings(home))
    assert found is not None
    assert (found.name, found.address, found.python) == ("", "", "/opt/verl/python")
    assert found.num_accelerators == 2
    assert not clusters.is_elsewhere(job(processes=2))


def test_a_configured_cluster_is_found_by_its_name(home: Path) -> None:
    known = settings(home, lab={"address": "http://head:8265", "python": "/srv/verl/python"})
    wanted = job(gpus=8, nodes=2, device="npu", cluster="lab")
    found = clusters.target(wanted, known)
    assert found is not None
    assert (found.name, found.address, found.python) == ("lab", "http://head:8265", "/srv/verl/python")
    assert (found.num_nodes, found.num_accelerators, found.accelerator) == (2, 16, "NPU")
    assert clusters.is_elsewhere(wanted)


def test_an_unknown_cluster_is_refused_with_those_that_are_known(home: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"no cluster 'moon' \(configured: lab\)"):
        clusters.target(job(cluster="moon"), settings(home, lab={"address": "http://head:8265"}))


def test_several_machines_need_a_cluster(home: Path) -> None:
    with pytest.raises(InvalidSpec, match="2 machines need a cluster"):
        clusters.target(job(nodes=2), settings(home))


def test_a_token_comes_from_a_file_or_a_secret(home: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    file = settings(home, lab={"address": "http://head:8265", "token_file": str(tmp_path / "token")})
    assert clusters.token(job(cluster="lab"), file) == {"RAY_AUTH_TOKEN": "from-a-file"}
    secret = settings(home, lab={"address": "http://head:8265", "token_secret": "LAB"})
    SecretStore(secret).write("LAB", "from-a-secret")
    assert clusters.token(job(cluster="lab"), secret) == {"RAY_AUTH_TOKEN": "from-a-secret"}
    assert clusters.token(job(cluster="lab"), settings(home, lab={"address": "http://head:8265"})) == {}
    assert clusters.token(job(), file) == {}


def test_a_token_that_cannot_be_read_is_told(home: Path, tmp_path: Path) -> None:
    known = settings(home, lab={"address": "http://head:8265", "token_file": str(tmp_path / "absent")})
    with pytest.raises(Unavailable, match="cannot be read"):
        clusters.token(job(cluster="lab"), known)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"address": "head:8265"}, "address"),
        ({"address": "http://user@head:8265/x"}, "address"),
        ({"address": "http://head:8265", "token_file": "a", "token_secret": "B"}, "both name a token"),
        ({"address": "http://head:8265", "shared": False}, "mount FINERY_HOME"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ClusterConfig(**config)


def test_clusters_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINERY_RAY_CLUSTERS", '{"lab": {"address": "http://head:8265"}}')
    assert Settings().ray_clusters["lab"].address == "http://head:8265"


def test_another_host_is_handed_tokens_and_secrets_alone() -> None:
    given = {"HF_TOKEN": "t", secret_variable("KEY"): "k", "PATH": "/bin", "RAY_AUTH_TOKEN": "r", "FINERY_TOKEN": "f"}
    assert for_other_hosts(given) == {"HF_TOKEN": "t", secret_variable("KEY"): "k"}
    assert set(HUB_TOKENS) == set(TOKENS)
