"""The settings page: a channel is set up, tried, changed and removed, and its secrets are typed once and never seen."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.notifying.receivers import Receiver, receiving
from tests.platform import Server, end_strays
from web.e2e.conftest import logged_in
from web.e2e.test_pages import violations

TOKEN = "T0KEN-nobody-may-see"


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may send to this machine."""
    home = tmp_path_factory.mktemp("telling") / "home"
    home.mkdir()
    server = Server(home, FINERY_ALLOW_PRIVATE_ADDRESSES="true")
    yield server
    server.stop()
    end_strays(home)


@pytest.fixture
def page(browser: Browser, telling: Server) -> Iterator[Page]:
    with logged_in(browser, telling) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as made:
        yield made


def field(page: Page, name: str) -> str:
    return f"input[data-testid='field-{name}'], [data-testid='field-{name}'] input"


def test_a_channel_is_set_up_tried_changed_and_removed(page: Page, telling: Server, receiver: Receiver) -> None:
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_text("Nobody is told yet")).to_be_visible()

    page.get_by_test_id("channel-add").click()
    page.get_by_test_id("channel-name").fill("team")
    page.locator(field(page, "url")).fill("not an address")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_test_id("problem-url")).to_contain_text("url is no address")
    page.locator(field(page, "url")).fill(receiver.url)
    expect(page.locator(field(page, "url"))).to_have_attribute("type", "password")
    page.get_by_role("button", name="Save").click()

    expect(page.get_by_test_id("channel-team")).to_contain_text("slack")
    page.get_by_test_id("test-team").click()
    expect(page.get_by_test_id("outcome-team")).to_contain_text("Sent")
    assert receiver.taken[0].json["text"] == "Finery · Test message"
    receiver.answers = [(410, "channel_is_archived")]
    page.get_by_test_id("test-team").click()
    expect(page.get_by_test_id("outcome-team")).to_contain_text("Not taken: status 410: channel_is_archived")
    assert violations(page) == []

    page.get_by_test_id("edit-team").click()
    expect(page.locator(field(page, "url"))).to_have_value("")
    assert TOKEN not in page.content()
    expect(page.locator(field(page, "url"))).to_have_attribute("placeholder", re.compile("stored"))
    page.locator("label", has_text="Language of messages").wait_for()
    page.locator("#channel-language").click()
    page.locator(".ant-select-item-option", has_text="中文").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    receiver.answers = [(200, "ok")]
    page.get_by_test_id("test-team").click()
    expect(page.get_by_test_id("outcome-team")).to_contain_text("Sent")
    assert receiver.taken[-1].json["text"] == "Finery · 测试消息"
    page.get_by_role("switch").click()
    expect(page.get_by_role("switch")).not_to_be_checked()

    page.get_by_test_id("remove-team").click()
    expect(page.get_by_test_id("channel-team")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_test_id("channel-team")).to_be_visible()
    assert telling.client.get("/channels")["channels"][0]["is_enabled"] is False
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        page.get_by_test_id("remove-team").click()
        expect(page.get_by_text("Nobody is told yet")).to_be_visible()
    assert telling.client.get("/channels")["channels"] == []
    assert [
        path for path in Path(telling.home).rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ] == []


def test_what_was_told_leads_to_the_run(page: Page, browser: Browser, telling: Server, receiver: Receiver) -> None:
    telling.client.post("/channels", {"name": "team", "kind": "webhook", "secrets": {"url": receiver.url}})
    code = "import finery, sys; print(finery.init(name='bold').id, flush=True); sys.exit(3)"
    script = subprocess.run([sys.executable, "-c", code], env=telling.environment, capture_output=True, text=True)
    job_id = int(script.stdout)
    telling.await_state(job_id, "failed")

    page.goto("/settings")
    expect(page.get_by_text("sent").first).to_be_visible()
    page.get_by_role("link", name=f"bold #{job_id}").click()
    page.wait_for_url(f"**/runs/{job_id}")
    with logged_in(browser, telling, color_scheme="dark", locale="zh-CN") as dark:
        dark.goto("/settings")
        expect(dark.get_by_text("已送达").first).to_be_visible()
        assert violations(dark) == []
        dark.get_by_test_id("channel-add").click()
        expect(dark.get_by_test_id("channel-name")).to_be_visible()
        dark.wait_for_timeout(400)  # the dialog is half transparent while it comes
        assert violations(dark) == []
    telling.client.delete("/channels/team")
