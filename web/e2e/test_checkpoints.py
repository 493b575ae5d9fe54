"""Checkpoints of a run in a browser: scores as they come, marks, what keeps one, and what can be asked of one."""

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.platform import Server, sft_job

PLAN: dict[str, Any] = {
    "every_steps": 20,
    "benchmarks": [{"benchmark": {"name": "arithmetic"}, "data": "asked", "limit": 12, "max_new_tokens": 4}],
    "cpu_threads": 1,
}


def _submit(server: Server, steps: int, **monitoring: Any) -> int:
    server.generate("sums", num_rows=100, format="sft")
    server.generate("asked", num_rows=20)
    made = {"checkpoint_interval": 100_000, "gradient_interval": 0, "keep_checkpoints": 2}
    return server.submit(sft_job(name="saved", steps=steps, monitoring=made | monitoring))


def test_scores_come_while_it_trains_and_a_checkpoint_is_kept_and_let_go(page: Page, server: Server) -> None:
    job_id = _submit(server, 5000, keep_best=1, evaluation=PLAN)
    page.goto(f"/runs/{job_id}")
    page.get_by_test_id("tab-checkpoints").click()

    chart = page.get_by_test_id("timeline")
    expect(chart).to_be_visible(timeout=90_000)
    expect(page.get_by_test_id("mark-best")).to_have_count(1)
    expect(page.get_by_test_id("mark-latest")).to_have_count(1)
    expect(chart).not_to_have_attribute("data-points", "1", timeout=90_000)

    server.ask(job_id, "pause")
    server.await_state(job_id, "paused")
    newest = server.client.get(f"/jobs/{job_id}/checkpoints")["checkpoints"][-1]["step"]
    row = page.get_by_test_id(f"checkpoint-{newest}")
    page.get_by_test_id(f"more-{newest}").click()
    page.get_by_test_id(f"keep-{newest}").click()
    expect(row).to_contain_text("by hand")
    page.get_by_test_id(f"more-{newest}").click()
    page.get_by_test_id(f"delete-{newest}").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("goes on from its newest checkpoint")).to_be_visible()
    page.get_by_test_id(f"more-{newest}").click()
    page.get_by_test_id(f"release-{newest}").click()
    expect(row).not_to_contain_text("by hand")
    page.get_by_test_id(f"evaluate-{newest}").click()
    expect(row).to_contain_text(re.compile("waits|evaluated|%"))

    page.get_by_test_id("show-deleted").click()
    expect(page.get_by_text("deleted", exact=True).first).to_be_visible()
    page.reload()
    expect(page.get_by_test_id("show-deleted")).to_be_checked()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280

    page.goto("/runs")
    expect(page.get_by_test_id(f"job-row-{job_id}")).to_be_visible()
    children = server.client.get("/jobs", query=f"parent:{job_id}")["jobs"]
    expect(page.get_by_test_id(f"job-row-{children[0]['id']}")).to_have_count(0)
    page.goto(f"/runs/{children[0]['id']}")
    expect(page.get_by_text("evaluates a checkpoint of")).to_be_visible()
    server.ask(job_id, "cancel")


def test_a_run_goes_back_to_a_checkpoint(page: Page, server: Server) -> None:
    job_id = _submit(server, 5000, checkpoint_interval=10, keep_checkpoints=1, keep_every=10)
    server.await_step(job_id, 30)
    page.goto(f"/runs/{job_id}?tab=checkpoints")
    expect(page.get_by_test_id("no-plan")).to_be_visible()

    page.get_by_test_id("more-10").click()
    page.get_by_test_id("rewind-10").click()
    expect(page.get_by_text("Going back to step 10 was asked for")).to_be_visible()
    server.await_attempt(job_id, 2)
    expect(page.get_by_test_id("mark-left").first).to_be_visible(timeout=60_000)
    server.await_state(job_id, "running")
    server.ask(job_id, "cancel")
    server.await_state(job_id, "cancelled")
