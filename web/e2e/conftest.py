"""Real Chromium against the real server running real tiny jobs."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from finery.api import static
from tests.conftest import need
from tests.platform import Server

expect.set_options(timeout=20_000)  # tests run side by side on machines that others use too

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


@contextlib.contextmanager
def logged_in(browser: Browser, at: Server, **options: Any) -> Iterator[Page]:
    """A logged-in page. A console error or a request to any other host fails the test."""
    options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", "reduced_motion": "reduce", **options}
    context = browser.new_context(base_url=at.client.url, **options)
    made = context.new_page()
    errors: list[str] = []
    foreign: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("request", lambda request: foreign.append(request.url) if at.client.url not in request.url else None)
    made.goto(at.client.post("/login-codes")["link"])
    made.wait_for_url(f"{at.client.url}/")
    yield made
    context.close()
    assert errors == []
    assert [url for url in foreign if not url.startswith(("data:", "blob:", "ws:"))] == []


@pytest.fixture
def server(shared: Server) -> Server:
    """What other tests have left on it is there too."""
    return shared


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with logged_in(browser, server) as made:
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
