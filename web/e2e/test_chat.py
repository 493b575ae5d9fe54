"""The chat page: real models answer in a real browser, one alone or two side by side."""

import json
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.flows.test_chat_api import children
from tests.platform import Server, end_strays, sft_job
from web.e2e.conftest import logged_in
from web.e2e.test_pages import violations


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one run that has saved checkpoints."""
    home = tmp_path_factory.mktemp("chat") / "home"
    home.mkdir()
    server = Server(home)
    server.generate("sums", num_rows=100, format="sft")
    assert server.submit(sft_job(steps=4, name="talker", monitoring={"checkpoint_interval": 2})) == 1
    server.await_state(1, "completed")
    yield server
    server.stop()
    end_strays(home)


@pytest.fixture
def page(browser: Browser, seeded: Server) -> Iterator[Page]:
    with logged_in(browser, seeded) as made:
        yield made


def say(page: Page, text: str) -> None:
    field = page.get_by_test_id("message")
    field.fill(text)
    field.press("Enter")


def await_answers(page: Page) -> None:
    expect(page.get_by_test_id("send")).to_be_visible(timeout=60_000)


def short(page: Page, tokens: int = 12) -> None:
    page.get_by_test_id("set-max_new_tokens").fill(str(tokens))
    page.get_by_test_id("set-seed").fill("1")


def test_a_checkpoint_is_talked_to_from_its_run(page: Page) -> None:
    page.goto("/runs/1?tab=checkpoints")
    page.get_by_test_id("chat-4").click()

    expect(page).to_have_url(re.compile(r"/chat\?a=job%3A1%2Fstep%3A4$"))
    short(page)
    say(page, "1+1=")
    await_answers(page)
    answer = page.get_by_test_id("answer")
    expect(answer).to_contain_text("job:1/step:4")
    expect(answer).to_contain_text(re.compile(r"\d+ tokens, .* tokens/s"))
    expect(page.get_by_test_id("message")).to_have_value("")


def test_a_model_is_chosen_by_its_name_or_written(page: Page) -> None:
    page.goto("/chat")
    expect(page.get_by_test_id("send")).to_be_disabled()
    field = page.get_by_role("combobox", name="Model", exact=True)
    field.fill("talker")
    page.get_by_text("talker, step 2").click()
    expect(page).to_have_url(re.compile(r"a=job%3A1%2Fstep%3A2"))

    field.fill("tiny-chat")
    field.press("Enter")
    expect(page).to_have_url(re.compile(r"a=tiny-chat$"))
    say(page, "hello")

    expect(page.get_by_test_id("answer").get_by_role("alert")).to_contain_text("did you mean tiny-char?")


def test_two_models_answer_the_same_side_by_side_and_are_saved(page: Page) -> None:
    page.goto("/chat?a=job:1/step:4")
    page.get_by_test_id("compare").click()
    expect(page).to_have_url(re.compile(r"b=job%3A1%2Fstep%3A2"))
    short(page)
    page.get_by_test_id("system").fill("be brief")
    for number, text in enumerate(("one", "two"), start=1):
        say(page, text)
        await_answers(page)
        for side in ("a", "b"):
            log = page.get_by_test_id(f"log-{side}")
            expect(log.get_by_test_id("answer")).to_have_count(number)
            expect(log).to_contain_text(text)

    with page.expect_download() as found:
        page.get_by_test_id("save").click()
    kept = [json.loads(line) for line in found.value.path().read_text().splitlines()]
    assert [one["model"] for one in kept] == ["job:1/step:4", "job:1/step:2"]
    for one in kept:
        assert [turn["role"] for turn in one["messages"]] == ["system", "user", "assistant", "user", "assistant"]
        assert one["sampling"] == {"max_new_tokens": 12, "seed": 1}
    page.get_by_test_id("reset").click()
    expect(page.get_by_test_id("answer")).to_have_count(0)
    page.get_by_role("button", name="Take out the second model").click()
    expect(page).to_have_url(re.compile(r"a=job[^&]*$"))


def test_shift_enter_begins_a_line_and_what_is_written_is_text(page: Page) -> None:
    page.goto("/chat?a=tiny-char")
    short(page)
    page.get_by_test_id("message").fill("<img src=x onerror=alert(1)>")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("2+2=")
    expect(page.get_by_test_id("answer")).to_have_count(0)
    page.keyboard.press("Enter")
    await_answers(page)

    expect(page.get_by_test_id("log-a")).to_contain_text("<img src=x onerror=alert(1)> 2+2=")
    assert page.get_by_test_id("log-a").locator("img[src=x]").count() == 0


def test_an_answer_can_be_stopped(page: Page, seeded: Server) -> None:
    page.goto("/chat?a=tiny-char")
    short(page)
    say(page, "load")
    await_answers(page)
    held = children(seeded)
    for process in held:  # so that the answer does not end while this test looks
        process.suspend()
    try:
        say(page, "hello")
        page.get_by_test_id("stop").click()

        expect(page.get_by_test_id("answer").nth(1)).to_contain_text("stopped")
        expect(page.get_by_test_id("send")).to_be_visible()
    finally:
        for process in held:
            process.resume()
    say(page, "again")
    await_answers(page)
    expect(page.get_by_test_id("answer").nth(2)).to_contain_text("tokens/s")


def test_a_conversation_outlives_other_pages_and_the_server(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("restart") / "home"
    home.mkdir()
    server = Server(home)
    try:
        with logged_in(browser, server) as page:
            page.goto("/chat?a=tiny-char")
            short(page)
            say(page, "one")
            await_answers(page)
            page.get_by_role("menuitem", name="Runs").click()
            page.get_by_role("menuitem", name="Chat").click()
            expect(page.get_by_test_id("answer")).to_have_count(1)
            expect(page).to_have_url(re.compile(r"a=tiny-char$"))

            server.process.send_signal(signal.SIGSTOP)  # so that the API is not started again yet
            dead = server.kill("api")
            say(page, "two")
            failed = page.get_by_test_id("answer").nth(1).get_by_role("alert")
            expect(failed).to_contain_text("The server does not answer")
            server.process.send_signal(signal.SIGCONT)
            server.await_restart("api", dead)
            failed.get_by_role("button", name="Try again").click()
            await_answers(page)
            expect(page.get_by_test_id("answer").nth(1)).to_contain_text("tokens/s")
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.stop()
        end_strays(home)


@pytest.mark.parametrize(("theme", "language"), [("light", "en"), ("dark", "zh")])
def test_a_conversation_meets_wcag_aa(browser: Browser, seeded: Server, theme: str, language: str) -> None:
    locale, title, send = {"en": ("en-GB", "Chat", "Send"), "zh": ("zh-CN", "\u5bf9\u8bdd", "\u53d1\u9001")}[language]
    with logged_in(browser, seeded, color_scheme=theme, locale=locale) as page:
        page.goto("/chat?a=tiny-char&b=job:1/step:4")
        expect(page.get_by_role("heading", name=title)).to_be_visible()
        short(page)
        say(page, "1+1=")
        await_answers(page)
        expect(page.get_by_test_id("send")).to_have_text(re.compile(r"\s*".join(send)))
        say(page, "1" * 600)
        await_answers(page)
        expect(page.get_by_role("alert")).to_have_count(2)

        assert not violations(page)
