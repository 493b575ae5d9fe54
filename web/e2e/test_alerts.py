"""Runs that watch themselves, in a browser: what rules did and its undo, rules tried on a run, live settings."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.platform import Server, sft_job, wait_for
from web.e2e.test_pages import violations

CUT = {
    "name": "cut",
    "when": "loss > 0 for 5 steps",
    "then": [{"name": "reduce_lr", "params": {"factor": 0.5}}, "notify"],
    "max_count": 1,
}
BACK = {
    "name": "back",
    "when": "learning_rate > 0.9e-3 for 12 steps",
    "then": [{"name": "rollback_checkpoint", "params": {"learning_rate_factor": 0.5}}],
    "max_count": 1,
}
RATE = 1e-3


def watched(server: Server, name: str, steps: int, *rules: dict[str, Any]) -> int:
    server.generate("sums", num_rows=100, format="sft")
    monitoring = {"checkpoint_interval": 5, "rules": list(rules)}
    return server.submit(sft_job(name=name, steps=steps, monitoring=monitoring))


def write(page: Page, text: str) -> None:
    """Replace what the editor of rules holds."""
    page.locator("[data-testid=rules-editor] .cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def row(page: Page, kind: str, text: str) -> Locator:
    return page.locator(f"[data-testid=story-{kind}]", has_text=text)


def test_what_a_rule_did_is_seen_and_undone_by_a_click(page: Page, server: Server) -> None:
    job_id = watched(server, "watched", 100_000, CUT)
    server.await_step(job_id, 8)

    page.goto(f"/runs/{job_id}")
    expect(page.get_by_test_id("alerts-count")).to_have_text("1", timeout=30_000)
    cut = page.get_by_test_id("effective-learning_rate")
    expect(cut).to_contain_text("Rule cut at step 5: 0.001 → 0.0005")
    page.get_by_test_id("tab-alerts").click()

    expect(page.get_by_test_id("rule-cut")).to_contain_text("loss > 0 for 5 steps")
    expect(page.get_by_test_id("rule-cut")).to_contain_text("reduce_lr (factor 0.5), notify")
    expect(page.get_by_test_id("rule-cut")).to_contain_text("1 of 1")
    expect(row(page, "alert", "loss > 0 for 5 steps (loss =")).to_contain_text("warning")
    expect(row(page, "action", "notify").get_by_role("button", name="Undo")).to_have_count(0)
    action = row(page, "action", "reduce_lr")
    expect(action.get_by_test_id("story-change")).to_have_text("learning_rate 0.001 → 0.0005")
    expect(action.get_by_test_id("story-outcome")).to_have_attribute("data-outcome", "applied")

    action.get_by_role("button", name="Undo reduce_lr of rule cut").click()
    expect(page.get_by_text("Sets learning_rate 0.001 from the next step on.")).to_be_visible()
    assert server.job(job_id)["controls"]["learning_rate"] == pytest.approx(RATE / 2)  # asking is not yet doing
    page.get_by_test_id("undo-confirm").click()

    expect(action.get_by_test_id("story-outcome")).to_have_attribute("data-outcome", "undone", timeout=30_000)
    expect(action.get_by_test_id("story-undone")).to_contain_text("a person in the browser")
    expect(action.get_by_role("button", name="Undo")).to_have_count(0)
    assert server.job(job_id)["controls"]["learning_rate"] == pytest.approx(RATE)
    assert violations(page) == []
    page.get_by_test_id("tab-overview").click()
    expect(page.get_by_test_id("live-learning_rate-value")).to_have_text("0.001")
    expect(cut).to_have_count(0)

    page.get_by_test_id("tab-alerts").click()
    action.get_by_role("link").click()
    expect(page).to_have_url(re.compile(r"tab=charts&zoom=0%7E30"))
    expect(page.get_by_test_id("chart-loss")).to_be_visible()
    server.ask(job_id, "cancel")
    server.await_state(job_id, "cancelled")


def test_going_back_is_shown_against_the_job_file_and_is_undone(page: Page, server: Server) -> None:
    job_id = watched(server, "goes-back", 100_000, BACK)
    server.await_attempt(job_id, 2)
    server.await_step(job_id, 13)

    page.goto(f"/runs/{job_id}")
    expect(page.get_by_test_id("effective-start")).to_contain_text(f"job:{job_id}/step:10")
    expect(page.get_by_test_id("effective-start")).to_contain_text("Rule back went back from step 12 to step 10.")
    expect(page.get_by_test_id("effective-learning_rate")).to_contain_text("0.001 → 0.0005 (carried from attempt 1)")
    expect(page.get_by_test_id("effective-skipped")).to_contain_text("without the batch of step 12")

    page.get_by_test_id("tab-alerts").click()
    asked = row(page, "action", "goes back to the checkpoint of step 10")
    asked.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("goes on from step 12, the state before the rule went back")).to_be_visible()
    page.get_by_test_id("undo-confirm").click()

    server.await_attempt(job_id, 3)
    server.await_step(job_id, 14)
    expect(asked.get_by_test_id("story-outcome")).to_have_attribute("data-outcome", "undone", timeout=30_000)
    expect(page.get_by_test_id("rule-back")).to_contain_text("keeps quiet")
    expect(page.locator("[data-testid=story-action] button")).to_have_count(0)  # its twin is undone with it
    server.ask(job_id, "cancel")
    server.await_state(job_id, "cancelled")
    page.reload()
    expect(page.get_by_test_id("rule-back")).to_contain_text("1 of 1")


def test_rules_are_tried_on_a_run_that_is_over(page: Page, server: Server) -> None:
    job_id = watched(server, "over", 30)
    server.await_state(job_id, "completed")

    page.goto(f"/runs/{job_id}?tab=alerts")
    expect(page.get_by_text("Nothing watches this run.")).to_be_visible()
    expect(page.get_by_text("No alert so far.")).to_be_visible()
    page.get_by_test_id("alerts-try").click()
    expect(page.locator("[data-testid=rules-editor] .cm-content")).to_contain_text("kl_divergence_high")

    write(page, "- name: high\n  when: loss >\n")
    page.get_by_test_id("try-run").click()
    problem = page.get_by_test_id("launch-problem")
    expect(problem).to_contain_text("0.when")
    assert problem.get_attribute("data-line") == "2"
    expect(page.locator("[data-testid=rules-editor] .cm-lint-marker-error")).to_have_count(1)
    write(page, "name: high")
    page.get_by_test_id("try-run").click()
    expect(page.get_by_test_id("try-refused")).to_contain_text("rules holds no list of rules")

    wanted = {"name": "high", "when": "loss > 0", "then": "[pause_training]", "cooldown_steps": 10, "max_count": 9}
    write(
        page, "- {" + ", ".join(f"{key}: {value}" for key, value in wanted.items()) + "}\n- {name: typo, when: los > 1}"
    )
    page.get_by_test_id("try-run").click()
    high = page.get_by_test_id("rehearsed-high")
    expect(high).to_contain_text("would have fired (3×)")
    expect(high).to_contain_text("pause_training")
    assert high.get_by_role("link").all_inner_texts() == ["1", "11", "21"]
    expect(page.get_by_text("This run has no metric los")).to_be_visible()
    expect(page.get_by_test_id("rehearsed-silent")).to_contain_text("typo")

    page.reload()
    expect(page.locator("[data-testid=rules-editor] .cm-content")).to_contain_text("max_count: 9")
    assert server.job(job_id)["state"] == "completed"


def test_a_live_setting_is_changed_on_the_page_and_comes_into_effect(page: Page, server: Server) -> None:
    job_id = watched(server, "live", 100_000)
    server.await_step(job_id, 2)

    page.goto(f"/runs/{job_id}")
    value = page.get_by_test_id("live-learning_rate-value")
    expect(value).to_have_text("0.001")
    page.get_by_role("button", name="Change learning_rate").click()
    field = page.get_by_label("New value of learning_rate")
    field.fill("fast")
    expect(page.get_by_test_id("live-learning_rate-problem")).to_have_text("Write a number, such as 5e-6.")
    expect(page.get_by_test_id("live-learning_rate-apply")).to_be_disabled()
    field.fill("5e-6")
    field.press("Enter")
    expect(value).to_have_text("5e-6", timeout=30_000)
    answer = page.get_by_test_id("live-learning_rate-answer")
    expect(answer).to_contain_text("set to 5e-6 by a person in the browser")
    expect(page.get_by_test_id("effective-learning_rate")).to_contain_text("Set by a person in the browser")

    page.get_by_test_id("live-checkpoint_interval-edit").click()
    page.get_by_test_id("live-checkpoint_interval-input").fill("2.5")
    page.get_by_test_id("live-checkpoint_interval-apply").click()
    refused = page.get_by_test_id("live-checkpoint_interval-answer")
    expect(refused).to_contain_text("is a number of steps, but it is 2.5", timeout=30_000)
    expect(page.get_by_test_id("live-checkpoint_interval-value")).to_have_text("5")
    page.reload()
    expect(refused).to_have_attribute("data-outcome", "rejected")

    server.ask(job_id, "pause")
    server.await_state(job_id, "paused")
    expect(page.get_by_test_id("live-settings")).to_have_count(0)
    server.ask(job_id, "resume")
    server.await_attempt(job_id, 2)
    changed = page.get_by_test_id("effective-learning_rate")
    expect(changed).to_contain_text("(carried from attempt 1)", timeout=60_000)
    expect(page.get_by_test_id("effective-start")).to_contain_text("Attempt 2 goes on from there.")
    wait_for("the old rate", lambda: server.job(job_id)["controls"]["learning_rate"] == pytest.approx(5e-6))
    server.ask(job_id, "cancel")
    server.await_state(job_id, "cancelled")


@contextlib.contextmanager
def held(server: Server, job_id: int) -> Iterator[None]:
    """The process that trains stands still, as in a step that takes long."""
    record = server.attempt(job_id).read_supervisor()
    assert record is not None
    assert record.child is not None
    child = psutil.Process(record.child.pid)
    child.suspend()
    try:
        yield
    finally:
        child.resume()


def test_a_request_stands_beside_what_is_in_effect_until_the_run_answers(page: Page, server: Server) -> None:
    job_id = watched(server, "waiting", 100_000)
    server.await_step(job_id, 2)
    page.goto(f"/runs/{job_id}")
    page.get_by_test_id("live-learning_rate-edit").click()
    page.get_by_test_id("live-learning_rate-input").fill("0.002")
    with held(server, job_id):
        page.get_by_test_id("live-learning_rate-apply").click()
        setting = page.get_by_test_id("live-learning_rate")
        expect(setting).to_contain_text("requested 0.002 · in effect 0.001")
    expect(page.get_by_test_id("live-learning_rate-value")).to_have_text("0.002", timeout=30_000)
    server.ask(job_id, "cancel")
    server.await_state(job_id, "cancelled")
