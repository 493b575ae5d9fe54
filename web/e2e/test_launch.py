"""The launch page: a form and a text over one job file, recipes, the dry run, and a real job at the end."""

import re

from playwright.sync_api import Page, TimeoutError, expect

from tests.platform import Server
from web.e2e.test_runs import write

SFT = """# A first try.
name: from-the-form
kind: train
task:
  algorithm: sft
  model: {base: tiny-char}
  data: {train: sums, max_tokens: 64}
  optim: {learning_rate: 1.0e-3, steps: 5}   # short
  batch_size: 8
resources: {cpu_threads: 1}
"""


def text(page: Page) -> str:
    """What the editor shows."""
    return "\n".join(page.locator("[data-testid=launch-editor] .cm-line").all_inner_texts())


def field(page: Page, path: str) -> str:
    return f"[data-testid='field-{path}']"


def choose(page: Page, path: str, name: str) -> None:
    """Pick an option of a select; it closes when the form is drawn anew for a text that was just written."""
    option = page.locator(".ant-select-item-option", has_text=re.compile(f"^{name}")).last
    for _ in range(5):
        page.locator(field(page, path)).click()
        try:
            option.click(timeout=5000)
        except TimeoutError:
            page.keyboard.press("Escape")
        else:
            return
    raise AssertionError(f"{path} does not offer {name}")


def test_the_form_and_the_text_are_one(page: Page, server: Server) -> None:
    server.generate("sums", num_rows=40, format="sft")
    page.goto("/launch")
    write(page, SFT)

    steps = page.locator(f"input{field(page, 'task.optim.steps')}")
    expect(steps).to_have_value("5")
    steps.fill("7")
    expect(page.locator(".cm-content")).to_contain_text("steps: 7}   # short")
    page.locator(f"input{field(page, 'task.optim.warmup_steps')}").fill("2")
    expect(page.locator(".cm-content")).to_contain_text("steps: 7, warmup_steps: 2} # short")
    assert "# A first try." in text(page)
    assert "learning_rate: 1.0e-3" in text(page)

    page.get_by_test_id("reset-task.optim.warmup_steps").click()
    expect(page.locator(".cm-content")).not_to_contain_text("warmup_steps")
    page.locator(field(page, "task.model.lora")).click()
    page.locator(f"input{field(page, 'task.model.lora.rank')}").fill("4")
    expect(page.locator(".cm-content")).to_contain_text("lora: {rank: 4}")

    write(page, SFT.replace("1.0e-3", "2.0e-3"))
    expect(page.locator(f"input{field(page, 'task.optim.learning_rate')}")).to_have_value("0.002")
    page.reload()
    expect(page.locator(".cm-content")).to_contain_text("learning_rate: 2.0e-3")


def test_another_algorithm_takes_out_what_it_does_not_have(page: Page, server: Server) -> None:
    page.goto("/launch")
    write(page, SFT)

    choose(page, "task.algorithm", "grpo")

    expect(page.get_by_test_id("section-task.rewards")).to_be_visible()
    expect(page.locator(".cm-content")).not_to_contain_text("batch_size")
    expect(page.get_by_test_id("launch-submit")).to_be_enabled()
    page.get_by_test_id("add-task.rewards").click()
    choose(page, "task.rewards.1.name", "format")
    page.locator(field(page, "task.rewards.1.params.pattern")).fill("[0-9]+")
    expect(page.locator(".cm-content")).to_contain_text('pattern: "[0-9]+"')
    expect(page.get_by_test_id("launch-submit")).to_be_enabled()


def test_what_is_wrong_stands_at_the_field_and_at_the_line(page: Page, server: Server) -> None:
    page.goto("/launch")
    write(page, SFT.replace("steps: 5", "steps: 0"))

    expect(page.get_by_test_id("problem-task.optim.steps")).to_contain_text("greater than or equal to 1")
    expect(page.get_by_test_id("launch-problem")).to_have_attribute("data-line", "8")
    expect(page.get_by_test_id("launch-submit")).to_be_disabled()
    page.locator(f"input{field(page, 'task.optim.steps')}").fill("3")
    expect(page.get_by_test_id("problem-task.optim.steps")).to_have_count(0)
    expect(page.get_by_test_id("launch-submit")).to_be_enabled()
    write(page, "name: [\n")
    expect(page.get_by_test_id("launch-unreadable")).to_be_visible()
    expect(page.locator(f"input{field(page, 'task.optim.steps')}")).to_be_disabled()


def test_from_a_recipe_to_a_finished_run(page: Page, server: Server) -> None:
    server.generate("sums", num_rows=40, format="sft")
    before = server.client.get("/jobs")["total"]
    page.goto("/launch?recipe=tiny_sft")
    expect(page.locator(".cm-content")).to_contain_text("recipe: tiny_sft")
    write(page, SFT)
    page.get_by_test_id("launch-save").click()
    page.get_by_test_id("launch-save-name").fill("short_sft")
    page.get_by_test_id("launch-save-ok").click()
    expect(page.locator(".cm-content")).to_contain_text("recipe: short_sft")
    page.wait_for_url("**/launch?recipe=short_sft")
    assert server.client.get("/recipes/short_sft")["text"] == SFT

    page.locator(f"input{field(page, 'task.optim.steps')}").fill("4")
    page.get_by_test_id("launch-tab-command").click()
    expect(page.get_by_test_id("launch-command").last).to_contain_text("--set task.optim.steps=4")
    page.get_by_test_id("launch-tab-data").click()
    expect(page.get_by_test_id("launch-rows")).to_contain_text("sums@")
    page.get_by_test_id("launch-tab-dry-run").click()
    expect(page.get_by_test_id("dry-run-fine")).to_be_visible()
    expect(page.get_by_test_id("dry-run-from-the-form")).to_contain_text("tiny-char")
    assert server.client.get("/jobs")["total"] == before

    page.get_by_test_id("launch-submit").click()
    page.wait_for_url(re.compile(r"/runs/\d+"))
    job_id = int(page.url.rsplit("/", 1)[1])
    expect(page.get_by_test_id("recipe-card")).to_contain_text("task.optim.steps")
    done = server.await_state(job_id, "completed")
    assert done["step"] == 4

    page.get_by_test_id("launch-copy").click()
    page.wait_for_url("**/launch?recipe=short_sft")
    expect(page.locator(f"input{field(page, 'task.optim.steps')}")).to_have_value("4")
    page.get_by_test_id("launch-reset").click()
    expect(page.locator(f"input{field(page, 'task.optim.steps')}")).to_have_value("5")
    page.get_by_test_id("launch-undo").click()
    expect(page.locator(f"input{field(page, 'task.optim.steps')}")).to_have_value("4")


def test_the_jobs_of_a_pipeline_are_forms_of_their_own(page: Page, server: Server) -> None:
    page.goto("/launch?recipe=tiny_pipeline")

    page.get_by_test_id("launch-job").get_by_text("grpo", exact=True).click()
    page.locator(f"input{field(page, 'jobs.1.task.optim.steps')}").fill("9")

    expect(page.locator(".cm-content")).to_contain_text("optim: {learning_rate: 1.0e-4, steps: 9}")
    expect(page.get_by_test_id("launch-submit")).to_be_enabled()
