"""A real Prometheus scrapes a real platform; every panel of the dashboard then has something to show."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from finery.core.settings import Settings
from tests.conftest import need
from tests.platform import Inside, Server, end_strays, sft_job, wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "finery.json").read_text())
QUERIES = [
    (f"{panel['title']} {target['refId']} {panel['id']}", target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
VARIABLES = {"$job": ".*", "$metric": "loss|grad_norm", "$__rate_interval": "10s"}


class Prometheus:
    """The server of Debian's package, on a free port."""

    def __init__(self, folder: Path, target: str, credentials: Path):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
        [scrape] = config["scrape_configs"]
        scrape["authorization"]["credentials_file"] = str(credentials)
        scrape["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)
        self.log = folder / "prometheus.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str, **params: str) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            is_ready = self.http.get("/-/ready").is_success  # it answers 503 before
        except httpx.TransportError:
            return False
        return is_ready and bool(self.query('up{job="finery"} == 1'))

    def stop(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(timeout=20)


@pytest.fixture
def scraped(tmp_path: Path, imaginary_gpus: dict[str, str]) -> Iterator[tuple[Server, Prometheus, int]]:
    """A platform with a GPU, a running job on it, and the Prometheus that has scraped both for a while."""
    need("prometheus", shutil.which("prometheus") is not None)
    folder = tmp_path
    (folder / "home").mkdir()
    server = Server(folder / "home", **imaginary_gpus)
    server.generate("sums", num_rows=100, format="sft")
    monitoring = {"checkpoint_interval": 100_000, "resource_interval": 1.0}
    job_id = server.submit(sft_job(100_000, monitoring=monitoring, resources={"cpu_threads": 1, "gpus": 1}))
    prometheus = Prometheus(folder, server.client.url.removeprefix("http://"), folder / "home" / "metrics.token")
    try:
        wait_for("a scrape", prometheus.is_up)
        server.await_step(job_id, 3)
        wait_for("the job's steps", lambda: prometheus.query("finery_job_step > 2"))
        wait_for("what it uses", lambda: prometheus.query("finery_job_cpu_cores"))
        yield server, prometheus, job_id
    finally:
        prometheus.stop()
        server.stop()
        end_strays(folder / "home")


def test_every_query_of_the_dashboard_has_data_and_it_is_the_jobs(scraped: tuple[Server, Prometheus, int]) -> None:
    """One test of one platform: with one for each query, each process that runs tests would start its own."""
    server, prometheus, job_id = scraped
    empty = dict(QUERIES)

    def all_answer() -> bool:
        for name, query in list(empty.items()):
            found = prometheus.query(query)
            if found and all(one["value"][1] not in ("NaN", "+Inf", "-Inf") for one in found):
                del empty[name]
        return not empty

    try:
        wait_for("every query", all_answer, 45)
    finally:
        assert empty == {}
    what_the_variables_list_is_there(prometheus, job_id)
    the_values_are_those_of_the_job(server, prometheus, job_id)
    the_alerting_rules_can_be_evaluated(prometheus)


def test_the_dashboard_asks_its_own_data_source_and_variables_that_it_has() -> None:
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/finery.yaml").read_text())["datasources"][0]
    named = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())}
    variables = {f"${one['name']}" for one in DASHBOARD["templating"]["list"]}

    assert named == {source["uid"]}
    assert len(QUERIES) > 25
    used = set(re.findall(r"\$\w+", " ".join(query for _, query in QUERIES)))
    assert used - {"$__rate_interval"} <= variables <= set(VARIABLES)
    for one in DASHBOARD["templating"]["list"]:
        assert re.fullmatch(r"label_values\(\w+(\{.*\})?, \w+\)", one["definition"])


def what_the_variables_list_is_there(prometheus: Prometheus, job_id: int) -> None:
    assert prometheus.get("label/job_id/values") == [str(job_id)]
    assert {"loss", "grad_norm", "seconds_per_step"} <= set(prometheus.get("label/name/values"))


def the_values_are_those_of_the_job(server: Server, prometheus: Prometheus, job_id: int) -> None:
    before = server.job(job_id)["step"]
    [step] = wait_for("a later step", lambda: prometheus.query(f"finery_job_step > {before}"))

    assert before < float(step["value"][1]) <= server.job(job_id)["step"]
    assert step["metric"]["job"] == "finery"
    assert step["metric"]["job_id"] == str(job_id)
    [busy] = prometheus.query("finery_job_gpu_utilization_ratio")
    assert (busy["metric"]["gpu"], busy["value"][1]) == ("0", "0.87")


def the_alerting_rules_can_be_evaluated(prometheus: Prometheus) -> None:
    def evaluated() -> Any:
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = wait_for("an evaluation", evaluated)

    assert {rule["name"] for rule in rules} == {"FineryDown", "FineryNoWorker", "FineryJobSilent", "FineryDiskFull"}
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule["alerts"] and rule["name"] != "FineryDiskFull"] == []


def test_the_command_prints_the_token_that_the_server_knows(folder: Path, inside: Inside) -> None:
    first, second = (inside(folder, "token", "metrics") for _ in range(2))
    path = inside(folder, "token", "metrics", "--file").stdout.strip()

    assert (first.returncode, first.stdout) == (0, second.stdout)
    assert Path(path) == Settings(home=folder / "home").metrics_token_file
    assert Path(path).read_text() == first.stdout.strip()
    assert Path(path).stat().st_mode & 0o077 == 0
