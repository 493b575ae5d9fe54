"""Gradients of a run in a browser: the heatmap, a cell in detail, two runs compared, what an address keeps."""

from typing import Any

from playwright.sync_api import Page, expect

from tests.platform import Server, sft_job

STEPS = 12


def _submit(server: Server, name: str, rate: float, interval: int) -> int:
    task: dict[str, Any] = sft_job()["task"] | {"optim": {"learning_rate": rate, "steps": STEPS}}
    return server.submit(sft_job(name=name, task=task, monitoring={"gradient_interval": interval}))


def test_layers_by_steps_a_cell_in_detail_and_two_runs(page: Page, server: Server) -> None:
    server.generate("sums", num_rows=100, format="sft")
    fast, slow, blind = (_submit(server, *one) for one in (("fast", 1e-3, 1), ("slow", 1e-4, 1), ("blind", 1e-4, 0)))
    for job_id in (fast, slow, blind):
        server.await_state(job_id, "completed")

    page.goto(f"/runs/{fast}")
    page.get_by_test_id("tab-gradients").click()
    heatmap = page.get_by_test_id("gradient-heatmap")
    expect(heatmap).to_have_attribute("data-columns", str(STEPS))
    expect(heatmap).to_have_attribute("data-rows", "5")
    page.get_by_test_id("gradient-by-tensor").click()
    expect(heatmap).to_have_attribute("data-rows", "35")
    page.get_by_test_id("gradient-by-layer").click()

    box = heatmap.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    expect(page.locator(".heatmap-tip")).to_contain_text("embedding")
    page.mouse.down()
    page.mouse.up()
    detail = page.get_by_test_id("gradient-detail")
    expect(detail).to_contain_text("Layer embedding")
    expect(page.get_by_test_id("gradient-histogram")).to_be_visible()
    expect(page.get_by_test_id("gradient-history")).to_have_attribute("data-points", str(STEPS))
    heatmap.focus()
    page.keyboard.press("ArrowDown")
    expect(detail).to_contain_text("Layer 0")

    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=4)
    page.mouse.up()
    expect(page.get_by_test_id("show-all")).to_be_visible()
    expect(heatmap).not_to_have_attribute("data-columns", str(STEPS))
    page.reload()
    expect(detail).to_contain_text("Layer 0")
    expect(heatmap).not_to_have_attribute("data-columns", str(STEPS))
    page.get_by_test_id("show-all").click()
    expect(heatmap).to_have_attribute("data-columns", str(STEPS))

    other = page.get_by_test_id("gradient-with")
    other.click()
    page.keyboard.type(f"#{slow}")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("gradient-heatmap-other")).to_have_attribute("data-columns", str(STEPS))
    page.get_by_test_id("gradient-mode-ratio").click()
    expect(page.get_by_test_id("gradient-ratio")).to_have_attribute("data-scale", "diverging")

    page.goto(f"/runs/{blind}?tab=gradients")
    expect(page.get_by_text("monitoring.gradient_interval is 0")).to_be_visible()


def test_gradients_come_while_a_run_trains(page: Page, server: Server) -> None:
    server.generate("sums", num_rows=100, format="sft")
    task: dict[str, Any] = sft_job()["task"] | {"optim": {"learning_rate": 1e-4, "steps": 3000}}
    job_id = server.submit(sft_job(name="alive", task=task, monitoring={"gradient_interval": 2}))

    page.goto(f"/runs/{job_id}?tab=gradients")
    heatmap = page.get_by_test_id("gradient-heatmap")
    expect(heatmap).to_be_visible(timeout=90_000)
    first = heatmap.get_attribute("data-columns")
    expect(heatmap).not_to_have_attribute("data-columns", str(first), timeout=60_000)

    server.ask(job_id, "cancel")
    server.await_state(job_id, "cancelled")
