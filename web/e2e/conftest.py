"""Real Chromium against the real server running real tiny jobs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from finery.api import static
from tests.conftest import need
from tests.flows.conftest import Server, server  # noqa: F401 - the fixture

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    need("chromium", chromium is not None)
    need("the built web UI (make web)", static.find() is not None)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:  # noqa: F811 - the fixture
    """A logged-in page. A console error or a request to any other host fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB", base_url=server.client.url)
    made = context.new_page()
    errors: list[str] = []
    foreign: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("request", lambda request: foreign.append(request.url) if server.client.url not in request.url else None)
    made.goto(server.client.post("/login-codes")["link"])
    made.wait_for_url("**/runs")
    yield made
    context.close()
    assert errors == []
    assert [url for url in foreign if not url.startswith(("data:", "blob:", "ws:"))] == []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
