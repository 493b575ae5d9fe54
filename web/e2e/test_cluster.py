"""The Ray cluster under a run, in a browser: its machines, what is taken of them, where the run's processes are."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from finery.core import processes
from finery.core.rundir import CLUSTER, ExitRecord, Run
from tests.platform import Server
from web.e2e.conftest import logged_in
from web.e2e.test_pages import violations


def node(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"node{number}",
        "host": f"gpu-{number}",
        "address": f"10.0.0.{number}",
        "is_alive": True,
        "is_head": number == 1,
        "total": {"CPU": 64.0, "GPU": 8.0, "memory": 512e9},
        "free": {"CPU": 48.0, "GPU": 0.0, "memory": 12e9},
        **changes,
    }


def rank(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"WorkerDict_0:{number}",
        "kind": "WorkerDict",
        "state": "ALIVE",
        "node": "node1",
        "pid": 4000 + number,
        "resources": {"GPU": 1.0, "CPU": 1.0},
        "cause": "",
        **changes,
    }


SERVER = rank(7, name="vllm_server_0", kind="vLLMHttpServer", node="node2", state="PENDING_CREATION")
FIRST = {"nodes": [node(1), node(2)], "actors": [SERVER, rank(10), rank(2)]}
DEAD = {
    "nodes": [node(1), node(2, is_alive=False)],
    "actors": [SERVER, rank(10, state="DEAD", cause="out of memory: SIGKILL <b>"), rank(2)],
}


class Recorded:
    """A run whose events come from here: it stands on a cluster that nobody else has to start."""

    def __init__(self, server: Server, name: str):
        body = {
            "spec": {"name": name, "kind": "external", "task": {}},
            "process": processes.identify().model_dump(),
        }
        begun = server.client.post("/jobs/external", body)
        self.job_id = int(begun["job"]["id"])
        self.own = Run.open(Path(begun["run_dir"]))
        self._launcher = Run.open(Path(begun["run_dir"]), CLUSTER)
        self._server = server
        self.is_over = False

    def tell(self, **changes: Any) -> None:
        event = {"name": "lab", "address": "http://gpu-1:8265", "is_reachable": True, **FIRST, **changes}
        self._launcher.events.emit("cluster", **event)

    def finish(self) -> None:
        self.is_over = True
        self.own.status("completed", "")
        for run in (self.own, self._launcher):
            run.events.close()
        now = time.time()
        end = ExitRecord(
            code=0, signal=None, oom_kills=0, last_heartbeat=now, ended_at=now, cause="", recorded_by="script"
        )
        self.own.dir.write_exit(end)
        self._server.await_state(self.job_id, "completed")


@pytest.fixture
def recorded(server: Server) -> Iterator[Recorded]:
    made = Recorded(server, "on-a-cluster")
    made.own.log({"loss": 0.5}, 1)
    made.tell()
    yield made
    if not made.is_over:
        made.finish()


def test_machines_and_processes_of_a_cluster_as_they_change(page: Page, recorded: Recorded) -> None:
    page.goto(f"/runs/{recorded.job_id}?tab=system")

    card = page.get_by_test_id("cluster")
    expect(card).to_contain_text("lab", timeout=30_000)
    expect(card).to_contain_text("http://gpu-1:8265")
    expect(card.get_by_test_id("cluster-age")).to_contain_text("changed")
    head = card.get_by_test_id("node-node1")
    expect(head).to_contain_text("gpu-1")
    expect(head).to_contain_text("head")
    expect(head.get_by_role("meter", name="GPU")).to_have_attribute("aria-valuetext", "8 / 8")
    expect(head.get_by_role("meter", name="CPU")).to_have_attribute("aria-valuetext", "16 / 64")
    expect(head.get_by_role("meter", name="memory")).to_have_attribute("aria-valuetext", "500 GB / 512 GB")
    actors = card.locator("[data-testid^=actor-]")
    expect(actors).to_have_count(3)
    expect(actors.nth(0)).to_contain_text("Training WorkerDict_0:2gpu-140021 GPU, 1 CPUalive")
    expect(actors.nth(2)).to_contain_text("Generation vllm_server_0gpu-2")
    expect(actors.nth(2)).to_contain_text("starting")
    assert violations(page) == []

    recorded.tell(**DEAD)

    lost = card.get_by_test_id("node-node2")
    expect(lost.locator("[data-tone=error]")).to_have_text("dead")
    expect(lost.get_by_role("meter")).to_have_count(0)
    expect(actors.nth(0)).to_contain_text("WorkerDict_0:10")
    expect(actors.nth(0).locator("[data-tone=error]")).to_have_text("dead")
    expect(actors.nth(0)).to_contain_text("out of memory: SIGKILL <b>")

    recorded.tell(**DEAD, is_reachable=False)
    expect(page.get_by_test_id("cluster-unreachable")).to_contain_text("does not answer")
    expect(card.locator("[data-tone=good]")).to_have_count(0)

    recorded.finish()
    expect(page.get_by_test_id("cluster-past")).to_contain_text("attempt 1 last saw it")
    expect(page.get_by_test_id("cluster-unreachable")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_cluster_in_chinese_by_day_and_by_night(
    browser: Browser, server: Server, recorded: Recorded, scheme: str
) -> None:
    recorded.tell(**DEAD)
    with logged_in(browser, server, locale="zh-CN", color_scheme=scheme) as page:
        page.goto(f"/runs/{recorded.job_id}?tab=system")

        expect(page.get_by_test_id("cluster")).to_contain_text("集群", timeout=30_000)
        expect(page.get_by_test_id("node-node2")).to_contain_text("已死亡")
        assert violations(page) == []


def test_a_run_without_a_cluster_has_no_such_card(page: Page, server: Server) -> None:
    run = Recorded(server, "alone")
    run.own.log({"loss": 0.5}, 1)
    run.finish()

    page.goto(f"/runs/{run.job_id}?tab=system")

    expect(page.get_by_role("tabpanel")).to_be_visible()
    expect(page.get_by_test_id("cluster")).to_have_count(0)
