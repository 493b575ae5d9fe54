"""Launch, watch the curve move, pause, resume, open a sample: in a browser, on a real job."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.platform import Server, sft_job, wait_for

GRPO = """name: from-the-page
kind: train
task:
  algorithm: grpo
  model: {base: tiny-char}
  data: {train: sums}
  rewards: [{name: exact}, {name: format, weight: 0.2, params: {pattern: '.*[0-9].*'}}]
  optim: {learning_rate: 1.0e-4, steps: 400}
  rollout: {completions_per_prompt: 4, max_new_tokens: 6}
  prompts_per_step: 4
resources: {cpu_threads: 1}
"""


def write(page: Page, text: str) -> None:
    """Replace what the editor holds."""
    content = page.locator("[data-testid=launch-editor] .cm-content")
    expect(content).to_contain_text(re.compile(r"\S"))  # the first recipe comes a moment after the page
    content.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def points(page: Page, metric: str) -> int:
    return int(page.get_by_test_id(f"chart-{metric}").get_attribute("data-points") or 0)


def test_the_main_job_from_the_page(page: Page, server: Server) -> None:
    server.generate("sums", num_rows=100)

    page.goto("/launch")
    write(page, GRPO.replace("steps: 400", "stepz: 400"))
    problem = page.get_by_test_id("launch-problem")
    expect(problem).to_contain_text("stepz")
    assert problem.get_attribute("data-line") == "8"
    expect(page.get_by_test_id("launch-submit")).to_be_disabled()
    write(page, GRPO)
    expect(page.get_by_test_id("launch-submit")).to_be_enabled()
    page.get_by_test_id("launch-submit").click()
    page.wait_for_url(re.compile(r"/runs/\d+"))
    job_id = int(page.url.rsplit("/", 1)[1])

    page.get_by_test_id("tab-charts").click()
    expect(page.get_by_test_id("chart-reward_mean")).to_be_visible(timeout=60_000)
    before = points(page, "reward_mean")
    wait_for("the curve to move", lambda: points(page, "reward_mean") > before + 5)

    page.get_by_test_id("verb-pause").click()
    expect(page.get_by_test_id("run-header").get_by_test_id("state")).to_have_attribute(
        "data-state", "paused", timeout=60_000
    )
    expect(page.get_by_test_id("verb-pause")).to_have_count(0)
    paused_at = server.job(job_id)["step"]
    page.get_by_test_id("verb-resume").click()
    wait_for("steps of the second attempt", lambda: (server.job(job_id)["step"] or 0) > paused_at)
    assert server.job(job_id)["attempt"] == 2

    page.get_by_test_id("tab-samples").click()
    expect(page.get_by_test_id("sample-row").first).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id("sample-group").first).to_contain_text("What is")

    page.get_by_test_id("tab-logs").click()
    expect(page.get_by_test_id("log-view")).to_contain_text("step ", timeout=30_000)
    page.reload()
    expect(page.get_by_test_id("log-view")).to_contain_text("step ", timeout=30_000)
    page.get_by_test_id("verb-cancel").click()
    expect(page.get_by_test_id("run-header").get_by_test_id("state")).to_have_attribute(
        "data-state", "cancelled", timeout=60_000
    )


def test_the_page_says_that_it_is_stale_and_goes_on_after_the_server_came_back(page: Page, server: Server) -> None:
    server.generate("sums", num_rows=200, format="sft")
    job_id = server.submit(sft_job(steps=1500))
    page.goto(f"/runs/{job_id}?tab=charts")
    expect(page.get_by_test_id("chart-loss")).to_be_visible(timeout=60_000)

    dead = server.kill("api")
    expect(page.get_by_test_id("stale-banner")).to_be_visible(timeout=15_000)
    server.await_restart("api", dead)

    expect(page.get_by_test_id("stale-banner")).to_have_count(0, timeout=30_000)
    before = points(page, "loss")
    wait_for("the curve to go on", lambda: points(page, "loss") > before)
    step = server.job(job_id)["step"]
    wait_for("every step to be drawn once", lambda: points(page, "loss") >= step)
    server.ask(job_id, "cancel")
    done = server.await_state(job_id, "cancelled")
    wait_for("the end of the curve", lambda: points(page, "loss") == done["step"])


def test_a_stranger_is_told_how_to_log_in_and_a_link_works_once(browser: Browser, server: Server) -> None:
    context = browser.new_context(base_url=server.client.url)
    page = context.new_page()
    page.goto("/runs")
    expect(page.get_by_test_id("login-required")).to_contain_text("finery login-link")
    link = server.client.post("/login-codes")["link"]
    page.goto(link)
    page.wait_for_url(f"{server.client.url}/")
    assert "code" not in page.url
    other = browser.new_context(base_url=server.client.url).new_page()
    other.goto(link)
    expect(other.get_by_test_id("login-required")).to_contain_text("expired", ignore_case=True)
    context.close()


def test_text_from_users_and_models_is_text(page: Page, server: Server) -> None:
    """A prompt that would run as HTML is shown as it is."""
    server.client.post(
        "/datasets/generate",
        {
            "generator": "arithmetic",
            "name": "evil",
            "params": {"num_rows": 20, "prompt": "<img src=x onerror=\"document.title='owned'\"> {left}+{right}"},
        },
    )
    page.goto("/datasets/evil@1")

    expect(page.get_by_text("<img src=x").first).to_be_visible()
    assert page.title() == "Finery"


def test_languages_themes_and_keys(page: Page, server: Server) -> None:
    server.generate("sums", num_rows=50, format="sft")
    job_id = server.submit(sft_job(steps=3))
    server.await_state(job_id, "completed")
    page.goto("/runs")
    expect(page.get_by_test_id(f"job-row-{job_id}")).to_be_visible()
    page.get_by_test_id("language").click()
    page.get_by_text("中文", exact=True).last.click()
    expect(page.get_by_role("heading", name="运行")).to_be_visible()
    page.get_by_text("深色", exact=True).click()
    assert page.evaluate("document.documentElement.style.colorScheme") == "dark"
    page.reload()
    expect(page.get_by_role("heading", name="运行")).to_be_visible()
    expect(page.get_by_test_id(f"job-row-{job_id}")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{job_id}")
