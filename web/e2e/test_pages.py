"""Every page of a home in which real jobs have run: what it shows, what can be done on it, and who can use it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from tests.platform import Server, end_strays, sft_job
from web.e2e.conftest import logged_in

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
WCAG_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


class Seeded:
    """A server with runs of every kind."""

    def __init__(self, server: Server):
        self.server = server
        server.generate("sums", num_rows=100, format="sft")
        server.generate("problems", num_rows=20)
        slow, fast = (
            server.submit(
                sft_job(
                    name=name,
                    steps=12,
                    tags=["rates"],
                    monitoring={"checkpoint_interval": 6, "resource_interval": 0.5},
                    task={
                        "algorithm": "sft",
                        "model": {"base": "tiny-char"},
                        "data": {"train": "sums", "max_tokens": 64},
                        "optim": {"learning_rate": rate, "steps": 12},
                        "batch_size": 8,
                    },
                )
            )
            for name, rate in (("slow", 1e-4), ("fast", 1e-3))
        )
        self.slow, self.fast = slow, fast
        self.grpo = server.submit(grpo_job())
        self.score = server.submit(evaluation("score"))
        self.again = server.submit(evaluation("again"))
        for job_id in (slow, fast, self.grpo, self.score, self.again):
            server.await_state(job_id, "completed")
        stuck = sft_job(steps=5, name="stuck", resources={"gpus": 64})
        self.stuck = server.submit(stuck | {"task": stuck["task"] | {"batch_size": 64}})
        self.failed = server.submit(
            sft_job(steps=5, name="broken", task=sft_job()["task"] | {"batch_size": 1000, "native": {"bf16": True}})
        )


def grpo_job() -> dict[str, Any]:
    return {
        "name": "rollouts",
        "kind": "train",
        "task": {
            "algorithm": "grpo",
            "model": {"base": "tiny-char"},
            "data": {"train": "problems"},
            "rewards": [{"name": "exact"}, {"name": "format", "weight": 0.2, "params": {"pattern": ".*[0-9].*"}}],
            "optim": {"learning_rate": 1e-4, "steps": 3},
            "rollout": {"completions_per_prompt": 4, "max_new_tokens": 4},
            "prompts_per_step": 2,
        },
        "resources": {"cpu_threads": 1},
    }


def evaluation(name: str) -> dict[str, Any]:
    task = {
        "model": {"base": "tiny-char"},
        "benchmark": {"name": "arithmetic"},
        "data": "problems",
        "max_new_tokens": 4,
    }
    return {"name": name, "kind": "evaluate", "task": task, "resources": {"cpu_threads": 1}}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    home = tmp_path_factory.mktemp("seeded") / "home"
    home.mkdir()
    server = Server(home)
    yield Seeded(server)
    server.stop()
    end_strays(home)


@pytest.fixture
def page(browser: Browser, seeded: Seeded) -> Iterator[Page]:
    with logged_in(browser, seeded.server) as made:
        yield made


def row(page: Page, job_id: int) -> Any:
    return page.get_by_test_id(f"job-row-{job_id}")


def test_the_overview_says_what_ended_what_waits_and_why(page: Page, seeded: Seeded) -> None:
    page.goto("/")

    waiting = page.get_by_test_id("home-waiting")
    expect(waiting.get_by_test_id(f"home-job-{seeded.stuck}")).to_contain_text("needs 64 GPUs; this machine has")
    expect(page.get_by_test_id("home-finished").get_by_test_id(f"home-job-{seeded.fast}")).to_contain_text("completed")
    expect(page.get_by_test_id("devices").get_by_role("meter", name="Memory")).to_be_visible()
    page.get_by_test_id("home-finished").get_by_role("link", name="fast").click()
    page.wait_for_url(f"**/runs/{seeded.fast}")


def test_runs_are_found_sorted_grouped_and_put_in_columns(page: Page, seeded: Seeded) -> None:
    page.goto("/runs?q=tag:rates&sort=-task.optim.learning_rate&columns=task.optim.learning_rate")

    expect(row(page, seeded.fast)).to_be_visible()
    order = page.locator("[data-testid^=job-row-]").evaluate_all("rows => rows.map(row => row.dataset.testid)")
    assert order == [f"job-row-{seeded.fast}", f"job-row-{seeded.slow}"]
    expect(row(page, seeded.fast)).to_contain_text("0.001")
    page.goto(f"/runs?baseline={seeded.slow}&columns=loss&q=tag:rates")
    expect(row(page, seeded.fast).get_by_test_id("change")).to_contain_text("%")
    page.goto("/runs?q=tag:rates&group=task.optim.learning_rate&metric=loss")
    expect(page.get_by_text("Mean loss")).to_be_visible()
    page.goto("/runs?q=task.optim.learning_rate>quick")
    expect(page.get_by_text("That did not work")).to_be_visible()


def test_runs_are_tagged_and_archived_and_that_is_undone(page: Page, seeded: Seeded) -> None:
    page.goto("/runs")
    row(page, seeded.slow).get_by_role("checkbox").click()

    page.get_by_role("button", name="Archive them").click()
    expect(row(page, seeded.slow)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row(page, seeded.slow)).to_be_visible()
    assert seeded.server.job(seeded.slow)["is_archived"] is False


def test_two_runs_are_compared_by_curve_and_by_what_differs(page: Page, seeded: Seeded) -> None:
    page.goto("/runs")
    for job_id in (seeded.slow, seeded.fast):
        row(page, job_id).get_by_role("checkbox").click()
    page.get_by_role("link", name="Compare").or_(page.get_by_role("button", name="Compare")).first.click()
    page.wait_for_url("**/compare?**")

    expect(
        page.get_by_test_id("overlay-loss").or_(page.get_by_role("img", name=re.compile("loss of 2 runs")))
    ).to_be_visible()
    page.get_by_role("tab", name="Config").click()
    expect(page.get_by_text("optim.learning_rate", exact=False).first).to_be_visible()
    for tab in ("Scatter", "Parallel"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel").last).to_be_visible()


def test_a_run_shows_its_machine_its_checkpoints_and_its_rollouts(page: Page, seeded: Seeded) -> None:
    page.goto(f"/runs/{seeded.fast}?tab=system")
    expect(page.get_by_test_id("system-memory")).to_be_visible()
    assert int(page.get_by_test_id("system-memory").get_attribute("data-points") or 0) > 0
    expect(page.get_by_test_id("data-wait")).to_contain_text("of its time for its rows")

    page.get_by_test_id("tab-checkpoints").click()
    expect(page.get_by_text(f"job:{seeded.fast}/step:12")).to_be_visible()
    page.get_by_test_id("evaluate-12").click()
    page.wait_for_url("**/launch**")
    expect(page.get_by_text(f"job:{seeded.fast}/step:12").first).to_be_visible()

    page.goto(f"/runs/{seeded.grpo}?tab=samples")
    expect(page.get_by_test_id("sample-group").first).to_contain_text("What is")


def test_charts_are_filtered_enlarged_zoomed_and_saved(page: Page, seeded: Seeded) -> None:
    page.goto(f"/runs/{seeded.fast}?tab=charts")
    expect(page.get_by_test_id("chart-loss")).to_be_visible()
    page.get_by_text("Tokens", exact=True).click()
    expect(page).to_have_url(re.compile("x=tokens"))

    page.locator("[data-testid=metric-filter] input, input[data-testid=metric-filter]").first.fill("^(loss|grad_norm)")
    expect(page.locator("[data-testid^=chart-]")).to_have_count(2)
    chart = page.get_by_test_id("chart-loss")
    chart.focus()
    page.keyboard.press("+")
    expect(page.get_by_test_id("show-all")).to_be_visible()
    page.keyboard.press("0")
    expect(page.get_by_test_id("show-all")).to_have_count(0)

    for button, ending in (("loss: save every point as CSV", ".csv"), ("loss: save as PNG", ".png")):
        with page.expect_download() as saved:
            page.get_by_label(button).click()
        assert saved.value.suggested_filename.endswith(ending)
        content = Path(saved.value.path()).read_bytes()
        assert content.count(b"\n") == 13 if ending == ".csv" else content.startswith(b"\x89PNG")

    page.get_by_label("loss: full screen").click()
    expect(page.get_by_test_id("full-chart")).to_be_visible()
    page.reload()
    expect(page.get_by_test_id("full-chart")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("full-chart")).to_have_count(0)


def test_everything_opens_by_name(page: Page, seeded: Seeded) -> None:
    page.goto("/datasets")
    expect(page.get_by_role("heading", name="Datasets")).to_be_visible()
    page.keyboard.press("Control+k")
    page.get_by_test_id("palette").fill("rollouts")
    expect(page.get_by_text(f"rollouts #{seeded.grpo}")).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{seeded.grpo}")


def test_a_shared_run_can_be_read_by_a_stranger_and_nothing_else(page: Page, browser: Browser, seeded: Seeded) -> None:
    listed: list[tuple[Route, APIResponse]] = []
    page.route("**/api/shares?*", lambda route: listed.append((route, route.fetch())), times=1)
    page.goto(f"/runs/{seeded.fast}")
    page.get_by_test_id("share").click()
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.get_by_test_id("share-make").click()
    for route, before in listed:  # a list that was asked for before and comes after is of no account
        route.fulfill(response=before)
    link = page.get_by_test_id("share-link").inner_text()

    context = browser.new_context(base_url=seeded.server.client.url)
    guest = context.new_page()
    guest.goto(link)
    expect(guest.get_by_role("heading", name="fast")).to_be_visible()
    assert "key=" not in guest.url
    expect(guest.get_by_test_id("guest")).to_be_visible()
    expect(guest.get_by_role("navigation")).to_have_count(0)
    expect(guest.locator("[data-testid^=verb-]")).to_have_count(0)
    guest.reload()
    guest.get_by_test_id("tab-charts").click()
    expect(guest.get_by_test_id("chart-loss")).to_be_visible()
    guest.goto(f"/runs/{seeded.slow}")
    expect(guest.get_by_test_id("login-required")).to_be_visible()

    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_role("button", name="Withdraw")).to_have_count(0)
    guest.goto(link)
    expect(guest.get_by_test_id("share-ended")).to_be_visible()
    context.close()


def test_a_section_that_cannot_be_loaded_takes_nothing_with_it(page: Page) -> None:
    page.goto("/runs")
    page.route(re.compile(r"/assets/SettingsPage|/$"), lambda route: route.abort())
    page.get_by_role("menuitem", name="Settings").click()

    card = page.get_by_role("alert").filter(has_text="The server does not answer")
    expect(card).to_be_visible()
    card.get_by_role("button", name="Try again").click()
    expect(card).to_be_visible()
    page.unroute_all()
    card.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()


def test_a_page_of_an_older_build_loads_the_new_one(page: Page) -> None:
    page.goto("/runs")
    newer = '<script type="module" src="/assets/index-newer.js"></script>'
    page.route("**/assets/SettingsPage*", lambda route: route.fulfill(content_type="text/html"), times=1)
    page.route(re.compile(r"/$"), lambda route: route.fulfill(body=newer, content_type="text/html"), times=1)

    with page.expect_event("load"):
        page.get_by_role("menuitem", name="Settings").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()


def test_data_and_scores_have_their_pages(page: Page, seeded: Seeded) -> None:
    page.goto("/datasets/problems@1")
    expect(page.get_by_text("What is").first).to_be_visible()
    page.goto("/evaluate")
    expect(page.get_by_role("link", name=f"score #{seeded.score}")).to_be_visible()
    page.goto(f"/runs?pick={seeded.score},{seeded.again}")
    expect(page.get_by_text("Not distinguishable at 5 %.")).to_be_visible()


PAGES = [
    "/",
    "/runs",
    "/runs?group=kind&metric=loss",
    "/runs/{fast}",
    "/runs/{fast}?tab=charts",
    "/runs/{fast}?tab=gradients&with={slow}&cell=1%400",
    "/runs/{grpo}?tab=samples",
    "/runs/{score}?tab=samples",
    "/runs/{fast}?tab=checkpoints",
    "/runs/{fast}?tab=alerts",
    "/runs/{fast}?tab=alerts&alerts=try",
    "/runs/{fast}?tab=system",
    "/runs/{fast}?tab=logs",
    "/compare?runs={slow},{fast}",
    "/compare?runs={slow},{fast}&tab=config",
    "/compare?runs={slow},{fast}&tab=scatter",
    "/launch",
    "/datasets",
    "/datasets/problems@1",
    "/evaluate",
    "/planner",
    "/planner?alg=ppo&lora=0&n=32&sh=megatron&vs=-",
    "/chat",
    "/settings",
]


@pytest.mark.parametrize(("theme", "language"), [("light", "en"), ("dark", "zh")])
def test_every_page_meets_wcag_aa(browser: Browser, seeded: Seeded, theme: str, language: str) -> None:
    locale = {"en": "en-GB", "zh": "zh-CN"}[language]
    found: list[str] = []
    with logged_in(browser, seeded.server, color_scheme=theme, locale=locale) as page:
        for pattern in PAGES:
            path = pattern.format(**{name: getattr(seeded, name) for name in ("fast", "slow", "grpo", "score")})
            page.goto(path)
            page.wait_for_load_state("networkidle") if "/runs" not in path and path != "/" else page.wait_for_timeout(
                800
            )
            expect(page.locator(".ant-skeleton")).to_have_count(0)
            found += [f"{path}: {problem}" for problem in violations(page)]

    assert not found, "\n".join(found)


def violations(page: Page) -> list[str]:
    """What axe finds on the page as it is: rule, and the elements that break it."""
    page.evaluate(AXE.read_text())
    result = page.evaluate("tags => axe.run({ runOnly: { type: 'tag', values: tags } })", WCAG_AA)
    return [
        f"{item['id']} ({item['impact']}): " + "; ".join(node["html"][:140] for node in item["nodes"][:4])
        for item in result["violations"]
    ]
